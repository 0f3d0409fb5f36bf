//go:build unix

package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/runtime/task"
)

// asNode as its first argument makes the test binary a node with the limits that
// the second names, which runs the command of the others; asHelper a helper.
const (
	asNode   = "as-node"
	asHelper = "as-helper"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asHelper {
		fmt.Fprintln(os.Stderr, Child(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == asNode {
		os.Exit(node(os.Args[2], os.Args[3:]))
	}
	code := m.Run()
	if err := leaked(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// helper is this binary, also where its file is out of reach.
func helper() []string {
	program := os.Args[0]
	if goruntime.GOOS == "linux" {
		program = "/proc/self/exe"
	}
	return []string{program, asHelper}
}

// node runs one command as a node does. What the command writes comes to standard
// output, why it failed to standard error.
func node(limits string, argv []string) int {
	hide()
	keepFiles()
	cfg := Config{Helper: helper()}
	var err error
	if cfg.Limits, err = ParseLimits(strings.FieldsFunc(limits, func(r rune) bool { return r == ',' })); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	r := newRecorder()
	r.live = os.Stdout
	_, err = newRunner(cfg).run(context.Background(), r, command(argv...))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// leaked is what is left running when the tests are over. A node's dead letters
// keep a goroutine of the actor library for a second, longer than one look takes.
func leaked() (err error) {
	for range 5 {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	return err
}

type said struct {
	stream string // "output" or the level of a log event
	text   string
	fields string
}

// recorder keeps what a handler said. heard gets each piece of output when it comes.
type recorder struct {
	mu     sync.Mutex
	events []said
	heard  chan string
	emit   func() error // set: asked before a piece of output is taken
	live   io.Writer    // set: gets all text as well
}

func newRecorder() *recorder { return &recorder{heard: make(chan string, 100_000)} }

func (r *recorder) EmitBytes(b []byte) error {
	if r.emit != nil {
		if err := r.emit(); err != nil {
			return err
		}
	}
	r.add(said{stream: "output", text: string(b)})
	r.heard <- string(b)
	return nil
}

func (r *recorder) Log(level slog.Level, message string, args ...any) error {
	r.add(said{stream: level.String(), text: message, fields: strings.TrimSpace(fmt.Sprintln(args...))})
	return nil
}

func (r *recorder) add(s said) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, s)
	if r.live != nil {
		fmt.Fprintln(r.live, strings.TrimSuffix(s.text, "\n"))
	}
}

func (r *recorder) of(stream string) (all []said) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.stream == stream {
			all = append(all, e)
		}
	}
	return all
}

func (r *recorder) output() string {
	var b strings.Builder
	for _, e := range r.of("output") {
		b.WriteString(e.text)
	}
	return b.String()
}

func command(argv ...string) json.RawMessage { return encode(payload{Command: argv}) }

func shell(script string) json.RawMessage { return command("sh", "-c", script) }

func encode(p payload) json.RawMessage {
	raw, err := json.Marshal(map[string]any{"command": p.Command, "dir": p.Dir, "env": p.Env, "stdin": p.Stdin})
	if err != nil {
		panic(err)
	}
	return raw
}

// begin runs a command and returns what waits for its end.
func begin(ctx context.Context, c Config, r *recorder, raw json.RawMessage) (end func() (result, error)) {
	var (
		got  result
		err  error
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		got, err = newRunner(c).run(ctx, r, raw)
	}()
	return func() (result, error) {
		<-done
		return got, err
	}
}

func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// awaitDeath returns when no process has the FIFO open for writing any more.
func awaitDeath(t *testing.T, name string) {
	t.Helper()
	if _, err := os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
}

func wantFailure(t *testing.T, err error, code, details string, retryable bool) {
	t.Helper()
	f, ok := errors.AsType[*task.Failure](err)
	if !ok || f.Code != code || string(f.Details) != details || f.Retryable != retryable {
		t.Errorf("got %v (%+v), want %s with %s", err, f, code, details)
	}
}
