package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/transport/client"
)

// patience is how long a server may take to come up, and a task to end. It only passes
// where something is wrong: a machine may be slow, or stand still for seconds.
const patience = 3 * time.Minute

// server is a real one, in a process of its own, that tests in any language
// kill and start.
type server struct {
	address, data, binary string
	key                   string   // of an administrator
	args                  []string // of serve, beside those
	log                   *os.File

	mu      sync.Mutex
	process *exec.Cmd // nil while it is dead
}

// shared is a folder for what all tests share.
var shared string

func TestMain(m *testing.M) {
	var err error
	if shared, err = os.MkdirTemp("", "troupe-sdk-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(shared)
	os.Exit(status)
}

// program is the server's binary.
var program = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(shared, "troupe")
	// It outlives the test that asks for it first.
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-o", binary, "../../cmd/troupe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does, which has compiled most of it
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return binary, nil
})

// serve starts a server, and a control by which tests kill it.
func serve(t *testing.T, args ...string) (s *server, control string) {
	t.Helper()
	binary, fault := program()
	if fault != nil {
		t.Fatal(fault)
	}
	dir := t.TempDir()
	s = &server{address: place(t), data: filepath.Join(dir, "data"), binary: binary, args: args}
	var err error
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		_ = s.log.Close()
		if t.Failed() {
			t.Logf("the server said:\n%s", s.said())
		}
	})
	s.firstKey(t)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /kill", func(http.ResponseWriter, *http.Request) { s.kill() })
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
		if err := s.start(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	c := httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return s, c.URL
}

// place is an address that nobody listens at. Its port is none that systems give to who
// asks for any: somebody else would get it while the server is dead.
func place(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(20_000))); err == nil {
			_ = l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal(err)
	return ""
}

// firstKey makes the server one that nobody uses without a key.
func (s *server) firstKey(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.binary, "keys", "create", "--local", "--data", s.data, "--name", "tests", "--scope", "admin")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make the first key: %v\n%s", err, errs.String())
	}
	s.key = strings.TrimSpace(string(out))
}

// env is how a client finds the server, and is let in.
func (s *server) env() []string { return []string{"TROUPE_SERVER=" + s.url(), "TROUPE_KEY=" + s.key} }

// client is one in Go.
func (s *server) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(s.url(), client.Options{Key: s.key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *server) url() string { return "http://" + s.address }

// start starts it where it is dead, and returns when it is ready.
func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return nil
	}
	// Not CommandContext: it dies by our hand or that is a fault.
	args := append([]string{"serve", "--listen", s.address, "--data", s.data, "--max-crashes", "1000", "--log-level", "warn"}, s.args...)
	cmd := exec.Command(s.binary, args...)
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process = cmd
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url()+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the server does not come up: %w\n%s", errors.Join(err, ctx.Err()), s.said())
		}
	}
}

// kill is kill -9: the server gets no chance to say or store anything.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
}

// said is the end of what it logged.
func (s *server) said() string {
	all, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(all), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "")
}
