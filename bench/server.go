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
	s := &server{http: &http.Client{Transport: &http.Transport{
		MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true,
	}}}
	if o.server != "" {
		s.url = strings.TrimSuffix(o.server, "/")
		return s, s.waitReady(ctx)
	}
	dir, err := os.MkdirTemp("", "troupe-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a data directory: %w", err)
	}
	s.dir = dir
	binary := o.binary
	if binary == "" {
		binary = filepath.Join(dir, "troupe")
		fmt.Fprintln(stderr, "bench: building the server")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/troupe") //nolint:gosec // into our own directory
		build.Stderr = stderr
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("build the server: %w", err)
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	s.url = "http://" + address
	s.stderr = new(bytes.Buffer)
	//nolint:gosec // our own binary
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "serve", "--listen", address, "--data", filepath.Join(dir, "data"), "--log-level", "warn")
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
	var u usage
	proc := "/proc/" + strconv.Itoa(s.pid)
	if stat, err := os.ReadFile(proc + "/stat"); err == nil { //nolint:gosec // of our own child
		// Behind the name in brackets: field 12 and 13 are user and system ticks
		// of a hundredth of a second.
		if i := bytes.LastIndexByte(stat, ')'); i > 0 {
			fields := strings.Fields(string(stat[i+1:]))
			if len(fields) > 13 {
				user, _ := strconv.ParseFloat(fields[11], 64)
				system, _ := strconv.ParseFloat(fields[12], 64)
				u.cpu = (user + system) / 100
			}
		}
	}
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
