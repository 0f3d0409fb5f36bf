package actors

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// Each of these messages makes one kind of actor panic; nothing that can be sent
// does so to the others.
var bombs = map[string]struct {
	to   func(*Node) *actor.PID
	bomb any
}{
	"scheduler": {func(n *Node) *actor.PID { return n.scheduler }, ready{entry: schedule.Entry{ID: schedule.ID{1}}}},
	"claimer":   {func(n *Node) *actor.PID { return n.claimer }, claimed{}},
	"holder":    {func(n *Node) *actor.PID { return n.holder }, hold{tasks: []*task.Task{nil}}},
	"workers":   {func(n *Node) *actor.PID { return n.workers }, run{}},
}

func TestNodeSurvivesACrashOfAnyActor(t *testing.T) {
	for name, b := range bombs {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				t.Helper()
				n := startNode(t, memory.New())
				running := submitOne(t, n, "hang", `0`)
				awaitState(t, n, running.ID, task.Running)
				n.root.Send(b.to(n), b.bomb)
				for deadline := time.Now().Add(patience); testutil.ToFloat64(n.metrics.panics) == 0; {
					if time.Now().After(deadline) {
						t.Fatal("it did not panic")
					}
					time.Sleep(time.Millisecond)
				}
				for range 20 {
					one := submitOne(t, n, "echo", `1`)
					checkSeen(t, task.Cursor{}, followTask(t, n, one.ID, nil))
					awaitState(t, n, one.ID, task.Succeeded)
				}
				if row := awaitState(t, n, running.ID, task.Running); row.Attempt != 1 {
					t.Errorf("the task that was running is in attempt %d", row.Attempt)
				}
				if _, err := n.Cancel(t.Context(), task.DefaultNamespace, running.ID, ""); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestCrashedTaskActorCountsItsAttemptAndGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		var attempts atomic.Int32
		n.Handle("once", func(ctx context.Context, j *Job) (json.RawMessage, error) {
			if attempts.Add(1) > 1 {
				return json.RawMessage(`"done"`), nil
			}
			if err := j.EmitText("seen live"); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		b := newBox()
		s := n.OpenSession(task.DefaultNamespace, b)
		defer s.Close()
		one := submitOne(t, n, "once", `0`, func(s *task.Spec) { s.Retry = task.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond} })
		s.Subscribe(task.Topic{Task: one.ID}, nil, nil)
		b.await(t, s, "live output", func(fs []*task.Frame) bool {
			return slices.ContainsFunc(fs, func(f *task.Frame) bool { return f.Event.Type == task.EventOutput })
		})
		// A tick of no kind: an index out of range.
		n.root.Send(n.holder, forTask{id: one.ID, msg: tick{kind: tickKinds}})
		row := awaitState(t, n, one.ID, task.Succeeded)
		if row.Attempt != 2 || row.Crashes != 1 || row.Failures[0].Code != task.CodeWorkerCrashed {
			t.Errorf("attempt %d, crashes %d, failures %v", row.Attempt, row.Crashes, row.Failures)
		}
		checkSeen(t, task.Cursor{}, followTask(t, n, one.ID, nil))
	})
}

func TestInterruptedAttemptIsCountedByTheNextLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store)
		one := submitOne(t, n, "hang", `0`)
		b := newBox()
		s := n.OpenSession(task.DefaultNamespace, b)
		s.Subscribe(task.Topic{Task: one.ID}, nil, nil)
		seen := events(b.await(t, s, "live progress", func(fs []*task.Frame) bool {
			return slices.ContainsFunc(fs, func(f *task.Frame) bool { return f.Event.Type == task.EventProgress })
		}))
		last := seen[len(seen)-1].Cursor
		crash(t, n)

		again := startNode(t, store)
		again.Handle("hang", func(context.Context, *Job) (json.RawMessage, error) { return nil, nil })
		row := awaitState(t, again, one.ID, task.Succeeded)
		if row.Attempt != 2 || row.Crashes != 1 || row.Failures[0].Code != task.CodeNodeLost {
			t.Errorf("attempt %d, crashes %d, failures %v", row.Attempt, row.Crashes, row.Failures)
		}
		rest := followTask(t, again, one.ID, &last)
		checkSeen(t, last, rest)
		if rest[0].Cursor.Attempt != 2 {
			t.Errorf("the first event behind %s is %s", last, rest[0].Cursor)
		}
	})
}

// crash stops a node without a drain, and lets none of its last words through.
func crash(tb testing.TB, n *Node) {
	tb.Helper()
	if err := n.Stop(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

func TestFullDiskRefusesNewTasksAndLosesNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store)
		release := make(chan struct{})
		n.Handle("gate", func(context.Context, *Job) (json.RawMessage, error) { <-release; return nil, nil })
		one := submitOne(t, n, "gate", `0`)
		awaitState(t, n, one.ID, task.Running)

		full := memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			if call == "Append" {
				return task.ErrUnavailable
			}
			return nil
		}}
		store.Hook(full)
		answer := n.Submit(t.Context(), []task.Submission{spec("echo", `1`)})[0]
		if !errors.Is(answer.Err, task.ErrUnavailable) {
			t.Fatalf("submit on a full disk: %v", answer.Err)
		}
		close(release) // its end cannot be stored now
		answer = n.Submit(t.Context(), []task.Submission{spec("echo", `1`)})[0]
		if !errors.Is(answer.Err, task.ErrUnavailable) {
			t.Fatalf("submit on a full disk: %v", answer.Err)
		}
		store.Hook(memory.Hooks{})
		awaitState(t, n, one.ID, task.Succeeded)
		later := submitOne(t, n, "echo", `2`)
		awaitState(t, n, later.ID, task.Succeeded)
	})
}

func TestBatchOfUnknownFateIsReadBack(t *testing.T) {
	for name, kept := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				t.Helper()
				store := memory.New()
				n := startNode(t, store)
				var lost atomic.Bool
				fate := func(call string, _ []task.Mutation) error {
					if call == "Append" && lost.CompareAndSwap(false, true) {
						return task.ErrUnknown
					}
					return nil
				}
				if kept {
					store.Hook(memory.Hooks{After: fate})
				} else {
					store.Hook(memory.Hooks{Before: fate})
				}
				one := submitOne(t, n, "echo", `1`)
				row := awaitState(t, n, one.ID, task.Succeeded)
				if !lost.Load() || row.Attempt != 1 {
					t.Errorf("fate was lost: %v, attempt %d", lost.Load(), row.Attempt)
				}
				checkSeen(t, task.Cursor{}, followTask(t, n, one.ID, nil))
			})
		})
	}
}

func TestDrainLetsAttemptsFinishAndHandsTheRestBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store)
		finishing := make(chan struct{})
		n.Handle("finish", func(ctx context.Context, _ *Job) (json.RawMessage, error) {
			select {
			case <-finishing:
				return json.RawMessage(`"in time"`), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})
		inTime := submitOne(t, n, "finish", `0`)
		tooLong := submitOne(t, n, "hang", `0`)
		waits := submitOne(t, n, "echo", `0`, func(s *task.Spec) { s.Resources = task.Resources{"gpu": 1000} })
		awaitState(t, n, inTime.ID, task.Running)
		awaitState(t, n, tooLong.ID, task.Running)
		b := newBox()
		s := n.OpenSession(task.DefaultNamespace, b)
		s.Subscribe(task.Topic{Task: tooLong.ID}, nil, nil)
		b.await(t, s, "snapshot", has(task.Subscribed))

		bound, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		time.AfterFunc(50*time.Millisecond, func() { close(finishing) })
		n.Drain(bound)

		frames := b.await(t, s, "goodbye", has(task.Goodbye))
		checkSeen(t, task.Cursor{}, events(frames))
		if row := awaitState(t, n, inTime.ID, task.Succeeded); string(row.Result) != `"in time"` {
			t.Errorf("result %s", row.Result)
		}
		row := awaitState(t, n, tooLong.ID, task.Queued)
		if row.Attempt != 1 || row.Counted() != 0 || row.Holder != 0 || len(row.Failures) != 0 {
			t.Errorf("handed back: attempt %d counted %d holder %d failures %v", row.Attempt, row.Counted(), row.Holder, row.Failures)
		}
		if row := awaitState(t, n, waits.ID, task.Queued); row.Holder != 0 {
			t.Errorf("a waiting task is still held")
		}
		if answer := n.Submit(t.Context(), []task.Submission{spec("echo", `1`)})[0]; !errors.Is(answer.Err, task.ErrClosed) {
			t.Errorf("submit to a draining node: %v", answer.Err)
		}
		if n.Ready() == nil {
			t.Error("a draining node calls itself ready")
		}
	})
}

// spawner has a child more for every message, and is sent some when it stops.
type spawner struct {
	node    *Node
	spawned chan struct{}
}

func (s *spawner) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case string:
		ctx.Spawn(s.node.ownProps(func() actor.Actor { return actor.ReceiveFunc(func(actor.Context) {}) }))
		s.spawned <- struct{}{}
	case *actor.Stopping:
		for range cap(s.spawned) {
			ctx.Send(ctx.Self(), "one more")
		}
	}
}

func TestStoppingActorTakesNothingMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		spawned := make(chan struct{}, 10)
		pid := n.root.Spawn(n.props(func() actor.Actor { return &spawner{node: n, spawned: spawned} }, supervisor{log: n.log}))
		n.root.Send(pid, "one")
		<-spawned
		if err := n.root.StopFuture(pid).Wait(); err != nil {
			t.Fatal(err)
		}
		if len(spawned) > 0 {
			t.Error("it took messages while it stopped")
		}
	})
}
