package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is the measured server: a process of its own.
type server struct {
	url    string
	http   *http.Client
	pid    int
	cmd    *exec.Cmd
	dir    string
	stderr *bytes.Buffer
}

// startServer builds the binary and starts it on a fresh data directory, or
// takes the server it is told.
func startServer(ctx context.Context, o options, stderr io.Writer) (*server, error) {
	if o.server != "" {
		s := &server{url: strings.TrimSuffix(o.server, "/"), http: newHTTP()}
		return s, s.waitReady(ctx)
	}
	dir, err := os.MkdirTemp("", "troupe-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a data directory: %w", err)
	}
	binary := o.binary
	if binary == "" {
		binary, err = build(ctx, dir, stderr)
	}
	var s *server
	if err == nil {
		s, err = launch(ctx, binary, "--data", filepath.Join(dir, "data"))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.dir = dir
	return s, nil
}

// build makes the troupe binary in dir.
func build(ctx context.Context, dir string, stderr io.Writer) (string, error) {
	fmt.Fprintln(stderr, "bench: building the server")
	binary := filepath.Join(dir, "troupe")
	//nolint:gosec // into our own directory
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/troupe-run/troupe/cmd/troupe")
	build.Stderr = stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build the server: %w", err)
	}
	return binary, nil
}

// launch starts a server on a free port and waits until it is ready.
func launch(ctx context.Context, binary string, args ...string) (*server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	s := &server{url: "http://" + address, http: newHTTP(), stderr: new(bytes.Buffer)}
	args = append([]string{"serve", "--listen", address, "--log-level", "warn"}, args...)
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, args...) //nolint:gosec // our own binary
	s.cmd.Stderr = s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	s.pid = s.cmd.Process.Pid
	if err := s.waitReady(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("%w; it said: %s", err, s.stderr)
	}
	return s, nil
}

func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true,
	}}
}

func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := s.http.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("the server does not become ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// usage is what the server process has used so far.
type usage struct {
	cpu    float64 // seconds
	memory float64 // MiB resident
}

// usage reads the kernel's account of the server; zeros for a foreign one.
func (s *server) usage() usage {
	if s.pid == 0 {
		return usage{}
	}
	u := usage{cpu: processTime(s.pid)}
	proc := "/proc/" + strconv.Itoa(s.pid)
	if status, err := os.ReadFile(proc + "/status"); err == nil { //nolint:gosec // of our own child
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				u.memory = kib / 1024
			}
		}
	}
	return u
}

// processTime is the CPU time of a process and of its children that are gone, in
// seconds; zero when it is gone itself.
func processTime(pid int) float64 {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// Behind the name in brackets: user and system ticks of a hundredth of a second,
	// its own and those of its children.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	sum := 0.0
	for _, field := range fields[11:15] {
		ticks, _ := strconv.ParseFloat(field, 64)
		sum += ticks
	}
	return sum / 100
}

// fsyncRate is this machine's limit for durable writes one after the other:
// 4 KiB and a sync, for half a second, in syncs a second.
func fsyncRate() (float64, error) {
	f, err := os.CreateTemp("", "troupe-fsync-")
	if err != nil {
		return 0, fmt.Errorf("probe the disk: %w", err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	block := make([]byte, 4096)
	began, n := time.Now(), 0
	for time.Since(began) < 500*time.Millisecond {
		if _, err := f.WriteAt(block, int64(n%256)*4096); err != nil {
			return 0, fmt.Errorf("probe the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("probe the disk: %w", err)
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
