package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/runtime/task"
)

// The library counts what a node could not deliver, for a second, in a goroutine.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

const canary = "sk-c4n4ry-5ecret"

var errAgain = errors.New("again")

// recorder keeps what a handler said.
type recorder struct {
	mu     sync.Mutex
	pieces []string
	lines  []string
	kept   json.RawMessage // the checkpoint
	waits  []time.Duration
	refuse func(what string) error
}

func (r *recorder) say(what string, keep func()) error {
	if r.refuse != nil {
		if err := r.refuse(what); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keep()
	return nil
}

func (r *recorder) EmitText(text string) error {
	return r.say("text", func() { r.pieces = append(r.pieces, text) })
}

func (r *recorder) Log(_ slog.Level, message string, args ...any) error {
	return r.say("log", func() { r.lines = append(r.lines, fmt.Sprint(message, args)) })
}

func (r *recorder) Checkpoint(v any) error {
	return r.say("checkpoint", func() { r.kept, _ = json.Marshal(v) })
}

func (r *recorder) Restore(v any) (bool, error) {
	if r.kept == nil {
		return false, nil
	}
	return true, json.Unmarshal(r.kept, v)
}

func (r *recorder) Again(d time.Duration) error {
	r.waits = append(r.waits, d)
	return errAgain
}

// all is everything that was said.
func (r *recorder) all() string {
	return strings.Join(r.pieces, "") + strings.Join(r.pieces, "|") + strings.Join(r.lines, "|") + string(r.kept)
}

func open(t *testing.T, cfg Config) *Models {
	t.Helper()
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// asking is the payload of these tests, changed by what is given.
func asking(provider string, change ...func(map[string]any)) json.RawMessage {
	p := map[string]any{
		"provider": provider, "model": "m-1", "system": "be brief",
		"messages": []map[string]string{{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "why?"}},
	}
	for _, c := range change {
		c(p)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return raw
}

func with(name string, value any) func(map[string]any) {
	return func(p map[string]any) { p[name] = value }
}

func wantFailure(t *testing.T, err error, code string, retryable bool) {
	t.Helper()
	_ = failure(t, err, code, retryable)
}

func failure(t *testing.T, err error, code string, retryable bool) *task.Failure {
	t.Helper()
	f, ok := errors.AsType[*task.Failure](err)
	if !ok || f.Code != code || f.Retryable != retryable {
		t.Fatalf("got %v (%+v), want %s", err, f, code)
	}
	return f
}
