//go:build unix

package exec

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var errStop = errors.New("somebody cancelled it")

func TestStatusZeroIsSuccess(t *testing.T) {
	got, err := newRunner(Config{}).run(t.Context(), newRecorder(), command("true"))
	if err != nil || got.ExitStatus != 0 || got.Truncated {
		t.Fatalf("true: %+v, %v", got, err)
	}
	if _, err := time.ParseDuration(got.Duration); err != nil {
		t.Error(err)
	}
}

func TestOtherEndsAreFailures(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"plain": "text", "broken": "#!/no/such/interpreter\n", "garbage": "\x00\x01"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "plain" {
			if err := os.Chmod(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	tests := []struct {
		name      string
		p         payload
		code      string
		details   string
		retryable bool
	}{
		{"status 1", payload{Command: []string{"false"}}, "exit_status", `{"exit_status":1}`, true},
		{"status 255", payload{Command: []string{"sh", "-c", "exit 255"}}, "exit_status", `{"exit_status":255}`, true},
		{"killed", payload{Command: []string{"sh", "-c", "kill -9 $$"}}, "signal", `{"signal":"killed","exit_status":137}`, true},
		{"terminated", payload{Command: []string{"sh", "-c", "kill $$"}}, "signal", `{"signal":"terminated","exit_status":143}`, true},
		{"nowhere in PATH", payload{Command: []string{"no-such-program"}}, "exec_not_found", `{"exit_status":127}`, false},
		{"a path of nothing", payload{Command: []string{in("nothing")}}, "exec_not_found", `{"exit_status":127}`, false},
		{"no interpreter", payload{Command: []string{in("broken")}}, "exec_not_found", `{"exit_status":127}`, false},
		{"no program, by path", payload{Command: []string{in("plain")}}, "exec_failed", `{"exit_status":126}`, false},
		{"no program, in PATH", payload{Command: []string{"plain"}, Env: map[string]string{"PATH": dir}}, "exec_failed", `{"exit_status":126}`, false},
		{"not of this machine", payload{Command: []string{in("garbage")}}, "exec_failed", `{"exit_status":126}`, false},
		{"a directory", payload{Command: []string{dir}}, "exec_failed", `{"exit_status":126}`, false},
		{"no such directory", payload{Command: []string{"true"}, Dir: in("nothing")}, "exec_failed", `{"exit_status":126}`, false},
		{"a file as directory", payload{Command: []string{"true"}, Dir: in("plain")}, "exec_failed", `{"exit_status":126}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newRunner(Config{}).run(t.Context(), newRecorder(), encode(tt.p))
			wantFailure(t, err, tt.code, tt.details, tt.retryable)
		})
	}
}

func TestAShortageIsWorthAnotherTry(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.EMFILE, syscall.ETXTBSY} {
		err := notStarted("x", &fs.PathError{Op: "fork/exec", Path: "/secret/place/x", Err: errno})
		wantFailure(t, err, "exec_failed", `{"exit_status":126}`, true)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v names a path that the task did not", err)
		}
	}
}

func TestCancelKillsTheWholeGroup(t *testing.T) {
	pipe := fifo(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRecorder()
	// Child and grandchild ignore SIGTERM. All of them, and every sleep, hold the FIFO.
	end := begin(ctx, Config{Grace: 20 * time.Millisecond}, r, shell(`
		trap "" TERM
		exec 3>`+pipe+`
		sh -c 'trap "" TERM; echo up; while :; do sleep 100; done' &
		while :; do sleep 100; done`))
	dead := make(chan struct{})
	go func() { defer close(dead); awaitDeath(t, pipe) }()
	<-r.heard
	cancel(errStop)
	if _, err := end(); !errors.Is(err, errStop) {
		t.Errorf("ended with %v, want why its context ended", err)
	}
	<-dead
}

func TestATimeoutIsAReasonToo(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errStop)
	defer cancel()
	if _, err := newRunner(Config{}).run(ctx, newRecorder(), command("sleep", "1000")); !errors.Is(err, errStop) {
		t.Errorf("ended with %v, want why its context ended", err)
	}
}

func TestACommandMayEndByItself(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRecorder()
	end := begin(ctx, Config{Grace: time.Hour}, r, shell(`
		trap "echo bye; exit 0" TERM
		echo up
		while :; do sleep 0.01; done`))
	<-r.heard
	cancel(errStop)
	if _, err := end(); !errors.Is(err, errStop) {
		t.Errorf("ended with %v, want why its context ended", err)
	}
	if got := r.output(); got != "up\nbye\n" {
		t.Errorf("wrote %q", got)
	}
}

func TestNothingOfTheGroupOutlivesTheCommand(t *testing.T) {
	pipe := fifo(t)
	end := begin(t.Context(), Config{}, newRecorder(), shell(`
		exec 3>`+pipe+`
		trap "" TERM HUP
		sleep 1000 &`))
	awaitDeath(t, pipe)
	if _, err := end(); err != nil {
		t.Error(err)
	}
}

func TestNobodyWaitsForADaemon(t *testing.T) {
	left, gate := fifo(t), fifo(t)
	r := newRecorder()
	// It leaves the group and keeps the pipe to us open until the gate opens.
	if _, err := newRunner(Config{}).run(t.Context(), r, shell(`
		setsid sh -c 'echo yes >`+left+`; exec cat `+gate+`' &
		cat `+left)); err != nil {
		t.Error(err)
	}
	if got := r.output(); got != "yes\n" {
		t.Errorf("wrote %q", got)
	}
	if err := os.WriteFile(gate, nil, 0); err != nil {
		t.Error(err)
	}
}

func TestCancelWhileNobodyTakesTheOutput(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRecorder()
	stuck := make(chan struct{}, 1)
	r.emit = func() error {
		stuck <- struct{}{}
		<-ctx.Done() // as the runtime does when the disk is far behind
		return context.Cause(ctx)
	}
	end := begin(ctx, Config{}, r, command("yes"))
	<-stuck
	cancel(errStop)
	if _, err := end(); !errors.Is(err, errStop) {
		t.Errorf("ended with %v", err)
	}
}
