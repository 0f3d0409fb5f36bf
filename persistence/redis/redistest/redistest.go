// Package redistest runs a Redis server of a test's own: on a port of its own,
// gone with the test. It keeps nothing on disk, so a restart empties it. Tests
// use it; nothing in the product does.
//
// It needs redis-server and redis-cli, which .ci/services installs.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is one Redis server.
type Server struct {
	dir  string
	port string
	args []string

	mu      sync.Mutex
	process *exec.Cmd
	gone    chan struct{} // closed when the process is
}

// New makes a server for one test and starts it. args are settings as its command
// line has them, such as "--requirepass", "secret".
func New(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := &Server{dir: tb.TempDir(), args: args}
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("a port for Redis: %v", err)
	}
	s.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	tb.Cleanup(s.Kill)
	s.Restart(tb)
	return s
}

// Restart starts the server unless it runs, and waits until it answers.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return
	}
	// It ends with Kill, and not with a context.
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), "redis-server", append([]string{ //nolint:gosec // arguments of a test's own
		"--bind", "127.0.0.1", "--port", s.port, "--dir", s.dir, "--save", "", "--appendonly", "no",
	}, s.args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
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
		tb.Fatalf("start Redis; .ci/services installs it: %v", err)
	}
	s.process, s.gone = cmd, gone
	within, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if _, err := s.run(within, "PING"); err == nil {
			return
		}
		select {
		case <-again.C:
		case <-gone:
			tb.Fatalf("Redis did not start:\n%s", said.String())
		case <-within.Done():
			tb.Fatal("Redis does not answer")
		}
	}
}

// URL is the address of its first database, with credentials such as "user:pass"
// or none.
func (s *Server) URL(credentials string) string {
	if credentials != "" {
		credentials += "@"
	}
	return fmt.Sprintf("redis://%s127.0.0.1:%s/0", credentials, s.port)
}

// Addr is where it listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.port) }

// Do runs a command by redis-cli and gives what it prints.
func (s *Server) Do(tb testing.TB, args ...string) string {
	tb.Helper()
	within, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	said, err := s.run(within, args...)
	if err != nil {
		tb.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return said
}

func (s *Server) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "redis-cli", append([]string{"-p", s.port, "--no-auth-warning"}, args...)...) //nolint:gosec // arguments of a test's own
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// Flush makes the server forget all it has.
func (s *Server) Flush(tb testing.TB) {
	tb.Helper()
	s.Do(tb, "FLUSHALL")
}

// Kill is kill -9.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.gone
	s.process = nil
}

// Stop makes the server hang: it takes connections and answers nothing, until
// Continue.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGSTOP)
}

// Continue has a stopped server go on, with all that has been waiting for it.
func (s *Server) Continue(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGCONT)
}

func (s *Server) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.New("it does not run")
	if s.process != nil {
		err = s.process.Process.Signal(sig)
	}
	if err != nil {
		tb.Fatalf("signal Redis: %v", err)
	}
}
