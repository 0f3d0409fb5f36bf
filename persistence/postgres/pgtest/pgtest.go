// Package pgtest runs a PostgreSQL server of a test's own: made anew in a
// temporary directory, on a port of its own, gone with the test. Tests and the
// benchmarks use it; nothing in the product does.
//
// It needs PostgreSQL's server programs, which .ci/services installs, and as
// root the user postgres that comes with them, as they refuse to run as root.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Server is one PostgreSQL server.
type Server struct {
	bin, dir string
	port     int
	as       *syscall.Credential // nil: ourselves
	settings []string

	mu        sync.Mutex
	process   *exec.Cmd
	gone      chan struct{} // closed when the process is
	databases atomic.Int64
}

// Start makes a server and starts it. settings are those of postgresql.conf,
// such as "max_connections=50". Without more it does not wait for the disk, so a
// crash of the machine would cost its data; one of the server does not.
func Start(settings ...string) (s *Server, err error) {
	s = &Server{settings: settings}
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	if s.as, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "troupe-pg-"); err != nil {
		return nil, fmt.Errorf("directory of the database: %w", err)
	}
	if err = s.init(); err == nil {
		err = s.Restart()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// New is Start for one test.
func New(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, err := Start(settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Main runs a package's tests with one server for all of them.
func Main(m *testing.M, use func(*Server)) int {
	s, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(s)
	code := m.Run()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// programs finds the folder of the newest PostgreSQL that is installed.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return v
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) > 0 {
		return filepath.Dir(found[0]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL server is installed; .ci/services does it: %w", err)
	}
	return filepath.Dir(path), nil
}

func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("a user to run PostgreSQL as: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("a port for PostgreSQL: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (s *Server) init() error {
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return fmt.Errorf("directory of the database: %w", err)
		}
	}
	out, err := s.command("initdb", "--pgdata", s.data(), "--username", "troupe", "--auth", "trust",
		"--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// Restart starts the server unless it runs, and waits until it answers.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return nil
	}
	args := []string{"-D", s.data()}
	for _, set := range slices.Concat([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(s.port), "unix_socket_directories=" + s.dir,
		"fsync=off", "full_page_writes=off", "max_connections=200", "log_min_messages=fatal",
	}, s.settings) {
		args = append(args, "-c", set)
	}
	cmd := s.command("postgres", args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	started, gone := make(chan error), make(chan struct{})
	go func() {
		// The death signal is the thread's, so that must live as long as we do.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(gone)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for !s.answers() {
		select {
		case <-gone:
			return fmt.Errorf("PostgreSQL did not start:\n%s", said.String())
		case <-late.C:
			_ = cmd.Process.Kill()
			return errors.New("PostgreSQL does not answer")
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.process, s.gone = cmd, gone
	return nil
}

func (s *Server) answers() bool {
	return s.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-t", "1").Run() == nil
}

// URL is the address of a database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://troupe@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Port is where it listens, on loopback.
func (s *Server) Port() int { return s.port }

// Database makes an empty database and gives its URL.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(tb, "postgres", "CREATE DATABASE "+name)
	return s.URL(name)
}

// Copy makes a database that is like another, to which nobody may be connected, and gives
// its URL. A schema is so made once for many tests.
func (s *Server) Copy(tb testing.TB, url string) string {
	tb.Helper()
	of, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(tb, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+of)
	return s.URL(name)
}

// Exec runs SQL by psql and gives what it prints.
func (s *Server) Exec(tb testing.TB, database, sql string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "psql"), "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1",
		"-d", s.URL(database), "-c", sql).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return string(bytes.TrimSpace(out))
}

// Shell runs a script in dir as an operator would, who has the database's URL in
// TROUPE_STORE and the client programs of the server's own version at hand.
func (s *Server) Shell(tb testing.TB, dir, url, script string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", "PATH="+s.bin+":$PATH\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TROUPE_STORE="+url)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// Kill is kill -9 of the server and all its children: it gets no chance to
// write anything.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop ends the server as an operator in a hurry does: connections are cut, and
// nothing is left to recover.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	pid := s.process.Process.Pid
	if sig == syscall.SIGKILL {
		// Held still, it cannot replace the children, which lead groups of their own.
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		for child := range bytes.FieldsSeq(raw) {
			if c, err := strconv.Atoi(string(child)); err == nil {
				_ = syscall.Kill(c, sig)
			}
		}
	}
	_ = syscall.Kill(pid, sig)
	<-s.gone
	s.process = nil
}

// Close ends the server and removes all it had.
func (s *Server) Close() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}

// Pooler starts a PgBouncer in transaction mode in front of the server, with a
// few connections for all, and gives the URL of a database through it.
func (s *Server) Pooler(tb testing.TB, url string) string {
	tb.Helper()
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "troupe-pool-") // not the test's own, which is closed to others
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=troupe
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits
`, s.port, port)
	config := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		tb.Fatal(err)
	}
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer"
	}
	if s.as != nil {
		for _, name := range []string{dir, config} {
			if err := os.Chown(name, int(s.as.Uid), int(s.as.Gid)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(tb.Context(), path, "-q", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start PgBouncer; .ci/services installs it: %v", err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return strings.Replace(url, fmt.Sprintf(":%d/", s.port), fmt.Sprintf(":%d/", port), 1)
}
