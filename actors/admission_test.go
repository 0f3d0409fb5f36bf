package actors

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// submitAll submits tasks of a kind in one call and says how many were taken, and
// why others were not.
func submitAll(tb testing.TB, n *Node, count int, change ...func(*task.Submission)) (taken int, why error) {
	tb.Helper()
	subs := make([]task.Submission, count)
	for i := range subs {
		subs[i] = spec("hang", "1")
		for _, c := range change {
			c(&subs[i])
		}
	}
	for _, answer := range n.Submit(context.Background(), subs) {
		if answer.Err == nil {
			taken++
		} else {
			why = answer.Err
		}
	}
	return taken, why
}

func asOne(s *task.Submission) { s.Together = true }

// waitingIn counts what waits in the default queue.
func waitingIn(tb testing.TB, s task.Store) (n int64) {
	tb.Helper()
	o, err := s.Overview(context.Background(), task.Scope{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range o.Counts {
		if c.State == task.Queued || c.State == task.Scheduled || c.State == task.Blocked {
			n += c.Tasks
		}
	}
	return n
}

func TestAFullQueueTakesNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store, func(c *Config) { c.Capacity, c.MaxQueued = task.Resources{task.SlotResource: 1000}, 4 })
		running := submitOne(t, n, "hang", "1")
		eventually(t, "it to run", func() bool { return waitingIn(t, store) == 0 })
		if taken, why := submitAll(t, n, 5, asOne); taken != 0 || !errors.Is(why, task.ErrQueueFull) {
			t.Errorf("of five together %d were taken: %v", taken, why)
		}
		taken, why := submitAll(t, n, 7)
		full, ok := errors.AsType[*task.FullError](why)
		if taken != 4 || !ok || full.Queue != task.DefaultQueue || full.After < time.Second || full.After > time.Minute {
			t.Errorf("%d were taken: %+v", taken, why)
		}
		if taken, _ := submitAll(t, n, 1, func(s *task.Submission) { s.Spec.Queue, s.Spec.RunAt = "other", time.Now().Add(time.Hour) }); taken != 1 {
			t.Error("a full queue keeps another one from taking tasks")
		}
		if _, err := n.SetQueue(context.Background(), task.QueueChange{
			Namespace: task.DefaultNamespace, Name: task.DefaultQueue, MaxQueued: new(6),
		}); err != nil {
			t.Fatal(err)
		}
		if taken, _ := submitAll(t, n, 7); taken != 2 {
			t.Errorf("with room for two more %d were taken", taken)
		}
		if _, err := n.Cancel(context.Background(), running.Namespace, running.ID, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the next to start", func() bool { return waitingIn(t, store) == 6 }) // one of them in another queue
		if taken, why := submitAll(t, n, 3, asOne); taken != 0 {
			t.Errorf("room for one was taken by three: %v", why)
		}
		if taken, _ := submitAll(t, n, 3); taken != 1 {
			t.Errorf("one has started, and %d were taken", taken)
		}
	})
}

// What comes at once from many must not slip in between a look and a commit.
func TestABoundIsExactUnderAFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store, func(c *Config) { c.Capacity, c.MaxQueued = task.Resources{}, 100 })
		var taken atomic.Int64
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				for range 5 {
					k, _ := submitAll(t, n, 1)
					taken.Add(int64(k))
				}
			})
		}
		group.Wait()
		if waits := waitingIn(t, store); taken.Load() != 100 || waits != 100 {
			t.Errorf("%d were taken and %d wait, where 100 may", taken.Load(), waits)
		}
	})
}

func TestAFloodOfAllNodesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, w := memory.NewShared(), newWires()
		nodes := make([]*Node, 3)
		for i := range nodes {
			nodes[i] = peer(t, store, w, "n"+string(rune(48+i)), func(c *Config) { c.MaxQueued = 99 })
		}
		acquainted(t, nodes...)
		var group sync.WaitGroup
		for _, n := range nodes {
			for range 5 {
				group.Go(func() {
					for range 10 {
						_, _ = submitAll(t, n, 9)
					}
				})
			}
		}
		group.Wait()
		time.Sleep(time.Second)
		for _, n := range nodes {
			_, _ = submitAll(t, n, 99)
		}
		if waits := waitingIn(t, store); waits < 99 || waits > 99*5/3 {
			t.Errorf("%d wait, where 99 may and each node takes a third of what is left", waits)
		}
	})
}

// slow is a node with one slot, at which a task of the kind second takes one.
func slow(t *testing.T) (*Node, *memory.Store) {
	t.Helper()
	t.Cleanup(func() { time.Sleep(5 * time.Second) }) // the actor library counts what it could not deliver for a second
	store := memory.New()
	n := startNode(t, store, func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 1000} })
	n.Handle("second", func(ctx context.Context, _ *Job) (json.RawMessage, error) {
		select {
		case <-time.After(time.Second):
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	return n, store
}

func by(d time.Duration) func(*task.Spec) {
	return func(s *task.Spec) { s.Deadline = time.Now().Add(d) }
}

func TestADeadlineThatCannotBeMetIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := slow(t)
		submit := func(change ...func(*task.Spec)) error {
			return n.Submit(t.Context(), []task.Submission{spec("second", "1", change...)})[0].Err
		}
		for range 60 {
			submitOne(t, n, "second", "1")
		}
		if err := submit(by(5 * time.Second)); err != nil {
			t.Errorf("nothing was learned, and it is refused: %v", err)
		}
		time.Sleep(30*time.Second + 500*time.Millisecond)
		waits := waitingIn(t, store)
		if waits < 25 || waits > 35 {
			t.Fatalf("%d wait", waits)
		}
		err := submit(by(10 * time.Second))
		late, ok := errors.AsType[*task.LateError](err)
		if !ok || !errors.Is(err, task.ErrTooLate) {
			t.Fatalf("thirty stand before it, and it has ten seconds: %v", err)
		}
		if start := time.Until(late.Start).Seconds(); start < 20 || start > 40 || late.After < time.Second || late.After > time.Minute {
			t.Errorf("it is to start in %.0f s and come again in %v", start, late.After)
		}
		if waitingIn(t, store) != waits {
			t.Error("something was stored of what was refused")
		}
		late2 := spec("second", "1", by(10*time.Second))
		late2.Late = true
		for name, err := range map[string]error{
			"a deadline that can be met": submit(by(time.Minute)),
			"late":                       n.Submit(t.Context(), []task.Submission{late2})[0].Err,
			"a priority":                 submit(by(10*time.Second), func(s *task.Spec) { s.Priority = 2 }),
			"another queue":              submit(by(10*time.Second), func(s *task.Spec) { s.Queue = "other" }),
			"one that waits for others":  submit(by(10*time.Second), func(s *task.Spec) { s.DependsOn = []task.ID{submitOne(t, n, "second", "1").ID} }),
			"one whose time is not yet":  submit(by(10*time.Second), func(s *task.Spec) { s.RunAt = time.Now().Add(5 * time.Second) }),
			"one that has no deadline":   submit(),
		} {
			if err != nil {
				t.Errorf("%s is refused: %v", name, err)
			}
		}
		if err := submit(by(100*time.Millisecond), func(s *task.Spec) { s.Queue = "other" }); !errors.Is(err, task.ErrTooLate) {
			t.Errorf("such a task takes a second, and has a tenth: %v", err)
		}
		for name, change := range map[string]task.QueueChange{
			"paused": {Paused: new(true)}, "by deadline": {Paused: new(false), Policy: new(task.PolicyDeadline)},
		} {
			change.Namespace, change.Name = task.DefaultNamespace, task.DefaultQueue
			if _, err := n.SetQueue(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			if err := submit(by(10 * time.Second)); err != nil {
				t.Errorf("%s: nobody can tell, and it is refused: %v", name, err)
			}
		}
	})
}

// blind is a store whose counts cannot be read.
type blind struct {
	task.Store
	shut atomic.Bool
}

func (b *blind) Overview(ctx context.Context, s task.Scope) (task.Overview, error) {
	if b.shut.Load() {
		return task.Overview{}, task.ErrUnavailable
	}
	return b.Store.Overview(ctx, s)
}

func TestWhereNothingCanBeCountedNothingIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := &blind{Store: memory.New()}
		n := startNode(t, store, func(c *Config) { c.MaxQueued, c.Capacity = 1, task.Resources{} })
		store.shut.Store(true)
		if taken, why := submitAll(t, n, 3); taken != 3 {
			t.Errorf("%d of 3: %v", taken, why)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		d := n.admission.visit(queueName{task.DefaultNamespace, task.DefaultQueue})
		d.turn <- struct{}{}
		if answer := n.Submit(ctx, []task.Submission{spec("hang", "1")})[0]; !errors.Is(answer.Err, context.Canceled) {
			t.Errorf("who gave up while others had the turn: %v", answer.Err)
		}
		<-d.turn
	})
}

func TestDoorsAreForgotten(t *testing.T) {
	a := newAdmission(1)
	kept := a.visit(queueName{"a", "kept"})
	for i := range 3 * mostDoors {
		a.part(a.visit(queueName{"a", string(rune('a'+i%26)) + time.Duration(i).String()}))
	}
	if len(a.doors) > mostDoors+1 || a.visit(queueName{"a", "kept"}) != kept {
		t.Errorf("%d doors, of which one was in use", len(a.doors))
	}
}

// Who submits again because the answer was lost must not hear that there is no room.
func TestAFullQueueStillKnowsWhatItTook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New(), func(c *Config) { c.Capacity, c.MaxQueued = task.Resources{}, 3 })
		named, keyed, unique := spec("hang", "1"), spec("hang", "1"), spec("hang", "1", func(s *task.Spec) { s.UniqueKey = "u" })
		named.Named = true
		keyed.Request = task.Request{Key: "k", Hash: [32]byte{1}, Expires: time.Now().Add(time.Hour)}
		for _, sub := range []task.Submission{named, keyed, unique} {
			if answer := n.Submit(t.Context(), []task.Submission{sub})[0]; answer.Err != nil || !answer.Created {
				t.Fatalf("%+v", answer)
			}
		}
		again, same, other := spec("hang", "1"), spec("hang", "1", func(s *task.Spec) { s.UniqueKey = "u" }), spec("hang", "2")
		again.Request, other.Spec.ID, other.Named = keyed.Request, named.Spec.ID, true
		reused := again
		reused.Request.Hash = [32]byte{2}
		for i, answer := range n.Submit(t.Context(), []task.Submission{named, again, same, other, reused, spec("hang", "1")}) {
			want := []struct {
				id  task.ID
				err error
			}{
				{id: named.Spec.ID},
				{id: keyed.Spec.ID},
				{id: unique.Spec.ID},
				{err: task.ErrExists},
				{err: task.ErrKeyReused},
				{err: task.ErrQueueFull},
			}[i]
			if !errors.Is(answer.Err, want.err) || want.err == nil && (answer.Created || answer.Task.ID != want.id) {
				t.Errorf("%d: %+v", i, answer)
			}
		}
	})
}

func TestWhatOnlyLooksForATaskTellsNothingOfABatch(t *testing.T) {
	store := memory.New()
	made, asks := task.New(spec("hang", "1").Spec, time.Now(), 0), task.New(spec("hang", "1").Spec, time.Now(), 0)
	look := task.Mutation{Op: task.Insert, Known: true, Task: asks.Task, Events: asks.Events}
	kept := task.Mutation{Op: task.Insert, Task: made.Task, Events: made.Events}
	if outcomes, err := readBack(t.Context(), store, []task.Mutation{look}); outcomes != nil || err != nil {
		t.Errorf("%+v, %v", outcomes, err)
	}
	if _, err := store.Append(t.Context(), []task.Mutation{look, kept}); err != nil {
		t.Fatal(err)
	}
	outcomes, err := readBack(t.Context(), store, []task.Mutation{look, kept})
	if err != nil || len(outcomes) != 2 || !errors.Is(outcomes[0].Err, task.ErrUnknown) || outcomes[1].Err != nil {
		t.Errorf("%+v, %v", outcomes, err)
	}
}
