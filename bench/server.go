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
	url, profiles string // where it is reached, and where its profiles are
	http          *http.Client
	pid           int
	cmd           *exec.Cmd
	stderr        *bytes.Buffer
	binary        string
	args          []string
	drop          func() error // what it kept; nil: others see to it
}

// build makes the troupe binary in dir.
func build(ctx context.Context, dir string, stderr io.Writer) (string, error) {
	fmt.Fprintln(stderr, "bench: building the server")
	binary := filepath.Join(dir, "troupe")
	// As make build does: what is measured is what is shipped, and most of it is compiled.
	//nolint:gosec // into our own directory
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "github.com/troupe-run/troupe/cmd/troupe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build the server: %w", err)
	}
	return binary, nil
}

// launch starts a server on free ports and waits until it is ready.
func launch(ctx context.Context, binary string, args ...string) (*server, error) {
	address, profiles, err := freeAddresses(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{
		url: "http://" + address, profiles: "http://" + profiles + "/debug/pprof/", http: newHTTP(), binary: binary,
		args: append([]string{"serve", "--listen", address, "--pprof", profiles, "--log-level", "warn"}, args...),
	}
	return s, s.begin(ctx)
}

// freeAddresses finds two ports at a time, since they must differ.
func freeAddresses(ctx context.Context) (one, other string, err error) {
	a, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	b, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", errors.Join(fmt.Errorf("find a free port: %w", err), a.Close())
	}
	return a.Addr().String(), b.Addr().String(), errors.Join(a.Close(), b.Close())
}

// begin starts the process, or starts it again.
func (s *server) begin(ctx context.Context) error {
	s.stderr = new(bytes.Buffer)
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.binary, s.args...) //nolint:gosec // our own binary
	s.cmd.Stderr = s.stderr
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	s.pid = s.cmd.Process.Pid
	if err := s.waitReady(ctx); err != nil {
		_ = s.stop()
		return fmt.Errorf("%w%s", err, s.lastSaid())
	}
	return nil
}

// kill ends the process without a warning.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.http.CloseIdleConnections()
}

func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true,
	}}
}

// readyWithin is long: a server may have a large store to read.
const readyWithin = 5 * time.Minute

func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
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
		if s.cmd.ProcessState == nil && !alive(s.pid) {
			return errors.New("the server has ended")
		}
		if pause(ctx, 5*time.Millisecond) != nil {
			return errors.New("the server does not become ready")
		}
	}
}

// alive says whether a child still runs, and has not ended unnoticed.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func (s *server) stop() error {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
	}
	s.http.CloseIdleConnections()
	if s.drop == nil {
		return nil
	}
	return s.drop()
}

// usage is what the server process has used so far.
type usage struct {
	cpu    float64 // seconds
	memory float64 // MiB resident
}

// usage reads the kernel's account of the server.
func (s *server) usage() usage {
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
