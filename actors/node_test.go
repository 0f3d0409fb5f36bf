package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// patience is how long a test waits for what must come. Only those that fail wait so
// long, so it is more than a slow machine ever needs.
const patience = 2 * time.Minute

// startNode starts a node on s with the handlers the tests use, and stops it
// with the test.
func startNode(tb testing.TB, s task.Store, change ...func(*Config)) *Node {
	tb.Helper()
	cfg := Config{
		Store: s, Log: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelError})), Metrics: prometheus.NewRegistry(), Name: "test",
		Capacity: task.Resources{task.SlotResource: 16_000},
	}
	cfg.Tenants, _ = s.(Tenants)
	for _, c := range change {
		c(&cfg)
	}
	n, err := Start(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	n.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
	n.Handle("hang", func(ctx context.Context, j *Job) (json.RawMessage, error) {
		if err := j.Progress(nil, "hanging"); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	n.Handle("fail", func(context.Context, *Job) (json.RawMessage, error) { return nil, errors.New("no") })
	n.Handle("panic", func(context.Context, *Job) (json.RawMessage, error) { panic("boom") })
	n.Handle("stream", func(_ context.Context, j *Job) (json.RawMessage, error) {
		var count int
		if err := json.Unmarshal(j.Task.Payload, &count); err != nil {
			return nil, err
		}
		for i := range count {
			chunk, _ := json.Marshal(i)
			if err := j.Emit(chunk); err != nil {
				return nil, err
			}
			if i%10 == 0 {
				f := float64(i) / float64(count)
				if err := j.Progress(&f, ""); err != nil {
					return nil, err
				}
			}
		}
		return nil, nil
	})
	return n
}

func spec(kind, payload string, change ...func(*task.Spec)) task.Submission {
	s := task.Spec{ID: task.ID(uuid.Must(uuid.NewV7())), Kind: kind, Payload: json.RawMessage(payload)}
	for _, c := range change {
		c(&s)
	}
	checked, err := task.Limits{}.Check(s, time.Now())
	if err != nil {
		panic(err)
	}
	return task.Submission{Spec: checked}
}

func submitOne(tb testing.TB, n *Node, kind, payload string, change ...func(*task.Spec)) task.Task {
	tb.Helper()
	answer := n.Submit(context.Background(), []task.Submission{spec(kind, payload, change...)})[0]
	if answer.Err != nil {
		tb.Fatal(answer.Err)
	}
	return answer.Task
}

// submitMany submits them all at once, which takes less than one after the other.
func submitMany(tb testing.TB, n *Node, many int, kind string, change ...func(*task.Spec)) []task.ID {
	tb.Helper()
	subs, ids := make([]task.Submission, many), make([]task.ID, many)
	for i := range subs {
		subs[i] = spec(kind, `0`, change...)
		ids[i] = subs[i].Spec.ID
	}
	for _, answer := range n.Submit(context.Background(), subs) {
		if answer.Err != nil {
			tb.Fatal(answer.Err)
		}
	}
	return ids
}

// box is an outbox that keeps what it is given and can be told to refuse.
type box struct {
	mu      sync.Mutex
	frames  []*task.Frame
	refuse  func(*task.Frame) bool
	refused bool
	changed chan struct{}
}

func newBox() *box { return &box{changed: make(chan struct{}, 1)} }

func (b *box) Offer(f *task.Frame) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := f.Kind == task.Subscribed || f.Kind == task.Refused || f.Kind == task.Goodbye
	if !answer && b.refuse != nil && b.refuse(f) {
		b.refused = true
	} else {
		b.frames = append(b.frames, f)
		answer = true
	}
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return answer
}

// await returns all frames once done says so of them.
func (b *box) await(tb testing.TB, s *Session, what string, done func([]*task.Frame) bool) []*task.Frame {
	tb.Helper()
	timeout := time.After(patience)
	for {
		b.mu.Lock()
		frames, refused := slices.Clone(b.frames), b.refused
		over := done(frames)
		b.refused = refused && over // whoever awaits next says that there is room
		b.mu.Unlock()
		if over {
			return frames
		}
		if refused {
			s.Drained()
		}
		select {
		case <-b.changed:
		case <-timeout:
			tb.Fatalf("no %s; frames so far: %s", what, show(frames))
		}
	}
}

func show(frames []*task.Frame) string {
	var text strings.Builder
	for _, f := range frames[max(0, len(frames)-20):] {
		fmt.Fprintf(&text, "%d %s\n", f.Kind, f.Event.AppendJSON(nil))
	}
	return text.String()
}

func has(kind task.FrameKind) func([]*task.Frame) bool {
	return func(fs []*task.Frame) bool {
		return slices.ContainsFunc(fs, func(f *task.Frame) bool { return f.Kind == kind })
	}
}

func ended(fs []*task.Frame) bool { return has(task.Ended)(fs) || has(task.Refused)(fs) }

// follow watches a task from a cursor to its end and returns its events.
func followTask(tb testing.TB, n *Node, id task.ID, after *task.Cursor) []task.Event {
	tb.Helper()
	b := newBox()
	s := n.OpenSession(task.DefaultNamespace, b)
	defer s.Close()
	s.Subscribe(task.Topic{Task: id}, after, nil)
	return events(b.await(tb, s, "end of the task", ended))
}

func events(fs []*task.Frame) []task.Event {
	var es []task.Event
	for _, f := range fs {
		if f.Kind == task.Happened {
			es = append(es, f.Event)
		}
	}
	return es
}

// checkSeen fails unless es is what may be seen behind a cursor: in order,
// nothing twice, and without a hole within an attempt.
func checkSeen(tb testing.TB, after task.Cursor, es []task.Event) {
	tb.Helper()
	at := after
	for _, e := range es {
		if !e.Cursor.Follows(at) {
			tb.Fatalf("event %s follows %s", e.Cursor, at)
		}
		at = e.Cursor
	}
}

func awaitState(tb testing.TB, n *Node, id task.ID, want task.State) task.Task {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for {
		got, err := n.cfg.Store.Task(context.Background(), task.DefaultNamespace, id)
		if err != nil {
			tb.Fatal(err)
		}
		if got.State == want {
			return got
		}
		if time.Now().After(deadline) {
			tb.Fatalf("task is %s after attempt %d, want %s; failure %v", got.State, got.Attempt, want, got.Failure)
		}
		time.Sleep(time.Millisecond)
	}
}

func states(tb testing.TB, es []task.Event) []string {
	tb.Helper()
	var out []string
	for _, e := range es {
		if e.Type != task.EventState {
			continue
		}
		var d task.StateData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			tb.Fatal(err)
		}
		out = append(out, e.Cursor.String()+" "+d.State.String())
	}
	return out
}

func TestTaskRunsToItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		one := submitOne(t, n, "echo", `{"big":12345678901234567890}`)
		es := followTask(t, n, one.ID, nil)
		checkSeen(t, task.Cursor{}, es)
		if got, want := states(t, es), []string{"0.1 queued", "1.1 running", "1.2 succeeded"}; !slices.Equal(got, want) {
			t.Errorf("states %v, want %v", got, want)
		}
		row := awaitState(t, n, one.ID, task.Succeeded)
		if string(row.Result) != `{"big":12345678901234567890}` || row.Holder != 0 || row.Attempt != 1 {
			t.Errorf("row %+v", row)
		}
	})
}

func TestPanicOfAHandlerIsAFailedAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		one := submitOne(t, n, "panic", `0`, func(s *task.Spec) { s.MaxAttempts = 1 })
		es := followTask(t, n, one.ID, nil)
		checkSeen(t, task.Cursor{}, es)
		row := awaitState(t, n, one.ID, task.Failed)
		if row.Failure.Code != task.CodePanic || len(row.Failures) != 1 {
			t.Errorf("failure %+v, failures %v", row.Failure, row.Failures)
		}
	})
}

func TestCancelEndsATaskWhereverItIs(t *testing.T) {
	for name, submission := range map[string]func() task.Submission{
		"running": func() task.Submission { return spec("hang", `0`) },
		"waiting": func() task.Submission {
			return spec("echo", `0`, func(s *task.Spec) { s.Resources = task.Resources{task.SlotResource: 17_000} })
		},
		"scheduled": func() task.Submission {
			return spec("echo", `0`, func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) })
		},
		"unserved": func() task.Submission { return spec("nobody", `0`) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				t.Helper()
				n, one := startNode(t, memory.New()), submission()
				answer := n.Submit(t.Context(), []task.Submission{one})[0]
				if answer.Err != nil {
					t.Fatal(answer.Err)
				}
				if name == "running" {
					awaitState(t, n, one.Spec.ID, task.Running)
				}
				got, err := n.Cancel(t.Context(), task.DefaultNamespace, one.Spec.ID, "enough")
				if err != nil || got.State != task.Cancelled {
					t.Fatalf("cancel: %v, %s", err, got.State)
				}
				checkSeen(t, task.Cursor{}, followTask(t, n, one.Spec.ID, nil))
				if _, err := n.Cancel(t.Context(), task.DefaultNamespace, one.Spec.ID, "again"); !errors.Is(err, task.ErrTerminal) {
					t.Errorf("second cancel: %v", err)
				}
				if _, err := n.Cancel(t.Context(), "other", one.Spec.ID, "not mine"); !errors.Is(err, task.ErrNotFound) {
					t.Errorf("cancel by another namespace: %v", err)
				}
				again, err := n.Rerun(t.Context(), task.DefaultNamespace, one.Spec.ID)
				if err != nil || again.State != task.Queued {
					t.Errorf("rerun: %v, %s", err, again.State)
				}
			})
		})
	}
}

func TestCheckpointComesBackInTheNextAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		n.Handle("steps", func(_ context.Context, j *Job) (json.RawMessage, error) {
			if j.Task.Checkpoint != nil {
				return j.Task.Checkpoint, nil
			}
			if err := j.Checkpoint(json.RawMessage(`"half way"`)); err != nil {
				return nil, err
			}
			return nil, errors.New("stop here")
		})
		one := submitOne(t, n, "steps", `0`, func(s *task.Spec) { s.Retry = task.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond} })
		row := awaitState(t, n, one.ID, task.Succeeded)
		if string(row.Result) != `"half way"` || row.Attempt != 2 {
			t.Errorf("result %s after attempt %d", row.Result, row.Attempt)
		}
	})
}

func TestEventLogOfAnAttemptIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New(), func(c *Config) { c.Limits.Log = 10_000 })
		var got error
		n.Handle("shout", func(_ context.Context, j *Job) (json.RawMessage, error) {
			for got == nil {
				got = j.EmitText("a line of some twenty bytes")
			}
			return json.RawMessage("null"), nil
		})
		one := submitOne(t, n, "shout", `0`)
		es := followTask(t, n, one.ID, nil)
		checkSeen(t, task.Cursor{}, es)
		if !errors.Is(got, task.ErrLogFull) {
			t.Errorf("the handler was told %v", got)
		}
		if last := es[len(es)-2]; last.Type != task.EventLog || len(es) > 300 {
			t.Errorf("%d events, the last but one %s", len(es), last.AppendJSON(nil))
		}
	})
}
