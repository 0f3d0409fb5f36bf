package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server that we started. It ends with us, however we end.
type process struct {
	pid  int
	said bytes.Buffer
	gone chan struct{}
}

// start runs a program that is to serve until it is stopped.
func start(ctx context.Context, program string, args ...string) (*process, error) {
	return startWith(ctx, "", program, args...)
}

// startWith has it read something first.
func startWith(ctx context.Context, stdin, program string, args ...string) (*process, error) {
	p := &process{gone: make(chan struct{})}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) //nolint:gosec // programs of our own choice; stop ends them
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &p.said, &p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The death signal is the thread's, so that must live as long as we do.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.gone)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

const readyWithin, stopWithin = 20 * time.Second, 10 * time.Second

// await waits until a server answers.
func (p *process) await(ctx context.Context, answers func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("the server ended; it said: %s", &p.said)
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("the server does not answer: %w; it said: %s", err, &p.said)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop asks first.
func (p *process) stop() {
	_ = syscall.Kill(p.pid, syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(stopWithin):
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.gone
	}
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// ownTime is the CPU time of this process, in seconds.
func ownTime() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// treeTime is the CPU time of a process, of its children, and of those of them that
// are gone, in seconds.
func treeTime(pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// Behind the name in brackets: user and system ticks of a hundredth of a second,
	// its own and those of its children that are gone.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	sum := 0.0
	for _, field := range fields[11:15] {
		ticks, _ := strconv.ParseFloat(field, 64)
		sum += ticks / 100
	}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // of whichever thread made them
	for _, list := range lists {
		raw, _ := os.ReadFile(list) //nolint:gosec // the kernel's
		for child := range strings.FieldsSeq(string(raw)) {
			if pid, err := strconv.Atoi(child); err == nil {
				sum += treeTime(pid)
			}
		}
	}
	return sum
}

var errNoMemory = errors.New("the kernel does not tell the server's memory")

// resident is what a process holds of memory, in KiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoMemory, err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, errNoMemory
}
