package actors

import (
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// shaky is a kind whose tasks fail as long as they are told to, and take a second.
type shaky struct {
	broken  atomic.Bool
	started atomic.Int64
}

func (s *shaky) run(ctx context.Context, _ *Job) (json.RawMessage, error) {
	s.started.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.broken.Load() {
		return nil, &task.Failure{Code: "down", Message: "no", Retryable: true}
	}
	return nil, nil
}

func fused(t *testing.T, n *Node, failures int) {
	t.Helper()
	_, err := n.SetKind(t.Context(), task.KindChange{
		Namespace: task.DefaultNamespace, Name: "shaky",
		Breaker: &task.Breaker{Failures: failures, Window: time.Minute, OpenFor: 30 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func tripped(t *testing.T, n *Node) []task.Tripped {
	t.Helper()
	workers, err := n.Workers(t.Context(), task.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	return workers[0].Tripped
}

func TestAKindThatFailsIsNotStartedForAWhile(t *testing.T) {
	alone(t, func(t *testing.T, store *memory.Store, n *Node) {
		t.Helper()
		var s shaky
		s.broken.Store(true)
		n.Handle("shaky", s.run)
		n.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
		fused(t, n, 3)
		once := func(p *task.Spec) { p.MaxAttempts = 1 }
		for range 3 {
			submitOne(t, n, "shaky", "1", once)
		}
		began := time.Now()
		time.Sleep(1500 * time.Millisecond)
		waiting := make([]task.Task, 5)
		for i := range waiting {
			waiting[i] = submitOne(t, n, "shaky", "1", once, func(p *task.Spec) { p.Priority = i })
		}
		for range 3 {
			awaitState(t, n, submitOne(t, n, "echo", "1").ID, task.Succeeded)
		}
		time.Sleep(20 * time.Second)
		if s.started.Load() != 3 {
			t.Errorf("%d started, of a kind whose breaker is open", s.started.Load())
		}
		open := tripped(t, n)
		want := task.Tripped{Namespace: task.DefaultNamespace, Kind: "shaky", Code: "down", Until: began.Add(31 * time.Second)}
		if len(open) != 1 || open[0].Until.Sub(want.Until).Abs() > time.Second {
			t.Fatalf("%+v; want %+v", open, want)
		}
		k, err := store.Task(t.Context(), task.DefaultNamespace, waiting[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		w, err := n.Explain(t.Context(), k)
		if err != nil || w == nil || w.Reason != task.WaitsForBreaker || !w.Until.Equal(open[0].Until) {
			t.Errorf("%+v, %v", w, err)
		}
		stats, err := n.Stats(t.Context())
		if err != nil || stats.Waiting != 5 {
			t.Errorf("%d wait, %v", stats.Waiting, err)
		}

		time.Sleep(10 * time.Second) // half open: the most urgent one shows that it still fails
		if s.started.Load() != 4 {
			t.Errorf("%d have started", s.started.Load())
		}
		awaitState(t, n, waiting[4].ID, task.Failed)
		if len(tripped(t, n)) != 1 {
			t.Error("it has closed by a failure")
		}
		s.broken.Store(false)
		if _, err := n.Cancel(t.Context(), task.DefaultNamespace, waiting[3].ID, ""); err != nil { // one that stands aside
			t.Fatal(err)
		}
		time.Sleep(30*time.Second + 500*time.Millisecond)
		if s.started.Load() != 5 {
			t.Errorf("%d have started, where one more was to show that it works", s.started.Load())
		}
		time.Sleep(2 * time.Second)
		for _, one := range waiting[:3] {
			awaitState(t, n, one.ID, task.Succeeded)
		}
		if open := tripped(t, n); len(open) != 0 {
			t.Errorf("%+v", open)
		}
	})
}

func TestAProbeThatComesToNothingLetsAnotherStart(t *testing.T) {
	alone(t, func(t *testing.T, _ *memory.Store, n *Node) {
		t.Helper()
		var s shaky
		s.broken.Store(true)
		n.Handle("shaky", s.run)
		fused(t, n, 1)
		submitOne(t, n, "shaky", "1", func(p *task.Spec) { p.MaxAttempts = 1 })
		time.Sleep(2 * time.Second)
		ids := make([]task.ID, 4)
		for i := range ids {
			ids[i] = submitOne(t, n, "shaky", strconv.Itoa(i)).ID
		}
		time.Sleep(29*time.Second + 500*time.Millisecond)
		if s.started.Load() != 2 {
			t.Fatalf("%d have started", s.started.Load())
		}
		s.broken.Store(false)
		if _, err := n.Cancel(t.Context(), task.DefaultNamespace, ids[0], ""); err != nil { // while it runs
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if s.started.Load() != 3 {
			t.Errorf("%d have started", s.started.Load())
		}
		for _, id := range ids[1:] {
			awaitState(t, n, id, task.Succeeded)
		}
	})
}

func TestABreakerThatIsTurnedOffLetsAllStart(t *testing.T) {
	alone(t, func(t *testing.T, _ *memory.Store, n *Node) {
		t.Helper()
		var s shaky
		s.broken.Store(true)
		n.Handle("shaky", s.run)
		fused(t, n, 1)
		submitOne(t, n, "shaky", "1", func(p *task.Spec) { p.MaxAttempts = 1 })
		time.Sleep(2 * time.Second)
		s.broken.Store(false)
		one := submitOne(t, n, "shaky", "1")
		time.Sleep(time.Second)
		if s.started.Load() != 1 {
			t.Fatalf("%d have started", s.started.Load())
		}
		if _, err := n.SetKind(t.Context(), task.KindChange{Namespace: task.DefaultNamespace, Name: "shaky", Breaker: &task.Breaker{}}); err != nil {
			t.Fatal(err)
		}
		awaitState(t, n, one.ID, task.Succeeded)
		if open := tripped(t, n); len(open) != 0 {
			t.Errorf("%+v", open)
		}
		fused(t, n, 1)
		s.broken.Store(true)
		submitOne(t, n, "shaky", "1", func(p *task.Spec) { p.MaxAttempts = 1 })
		time.Sleep(2 * time.Second)
		aside := submitOne(t, n, "shaky", "1")
		n.Drain(t.Context())
		k, err := n.cfg.Store.Task(t.Context(), task.DefaultNamespace, aside.ID)
		if err != nil || k.Holder != 0 || k.State != task.Queued {
			t.Errorf("a node that has drained holds %+v, %v", k.State, err)
		}
	})
}
