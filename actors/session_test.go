package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// Whenever watchers come, from whatever cursor, however often their outbox is
// full: they see everything behind it once and in order, but for superseded
// progress, and the end.
func TestWatchersSeeEverythingOnceAndInOrder(t *testing.T) {
	n := startNode(t, memory.New())
	rapid.Check(t, func(rt *rapid.T) {
		count := rapid.IntRange(0, 1500).Draw(rt, "outputs")
		one := submitOne(t, n, "stream", strconv.Itoa(count))
		watchers := rapid.IntRange(1, 5).Draw(rt, "watchers")
		for w := range watchers {
			after := task.Cursor{Attempt: 1, Seq: rapid.IntRange(0, count).Draw(rt, fmt.Sprintf("after%d", w))}
			if after.Seq == 0 {
				after = task.Cursor{}
			}
			refusals := rapid.Float64Range(0, 0.4).Draw(rt, fmt.Sprintf("refusals%d", w))
			b := newBox()
			chance := rand.New(rand.NewPCG(uint64(w), uint64(count)))
			b.refuse = func(*task.Frame) bool { return chance.Float64() < refusals }
			s := n.OpenSession(task.DefaultNamespace, b)
			s.Subscribe(task.Topic{Task: one.ID}, &after, "tag")
			fs := b.await(t, s, "end", ended)
			s.Close()
			if fs[0].Kind == task.Refused {
				if !errors.Is(fs[0].Err, task.ErrCursorAhead) {
					rt.Fatalf("refused: %v", fs[0].Err)
				}
				continue // it came before its cursor had been
			}
			if fs[0].Kind != task.Subscribed || fs[0].Tag != "tag" || fs[0].Task.ID != one.ID {
				rt.Fatalf("first frame %+v", fs[0])
			}
			checkWatched(rt, after, count, events(fs), refusals > 0)
		}
	})
}

func checkWatched(rt *rapid.T, after task.Cursor, count int, es []task.Event, slow bool) {
	at := after
	output := -1
	for _, e := range es {
		if !at.Before(e.Cursor) {
			rt.Fatalf("event %s behind %s", e.Cursor, at)
		}
		if !slow && !e.Cursor.Follows(at) {
			rt.Fatalf("event %s follows %s", e.Cursor, at)
		}
		at = e.Cursor
		if e.Type != task.EventOutput {
			continue
		}
		var d struct{ Chunk int }
		if err := json.Unmarshal(e.Data, &d); err != nil {
			rt.Fatal(err)
		}
		if output >= 0 && d.Chunk != output+1 {
			rt.Fatalf("output %d follows %d", d.Chunk, output)
		}
		output = d.Chunk
	}
	if state, over := es[len(es)-1].Ended(); !over || state != task.Succeeded {
		rt.Fatalf("the last event is %s", es[len(es)-1].AppendJSON(nil))
	}
	if after.IsZero() && count > 0 && output != count-1 {
		rt.Fatalf("the last output is %d of %d", output, count)
	}
}

func TestWatcherGetsAResultLargerThanTheMemoryOfItsLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		gate := make(chan struct{})
		n.Handle("large", func(context.Context, *Job) (json.RawMessage, error) {
			<-gate
			return json.RawMessage(`"` + strings.Repeat("x", 1<<20-2) + `"`), nil
		})
		one := submitOne(t, n, "large", `0`)
		awaitState(t, n, one.ID, task.Running)
		b := newBox()
		s := n.OpenSession(task.DefaultNamespace, b)
		defer s.Close()
		s.Subscribe(task.Topic{Task: one.ID}, nil, nil)
		b.await(t, s, "snapshot", has(task.Subscribed))
		close(gate)
		checkSeen(t, task.Cursor{}, events(b.await(t, s, "end", ended)))
	})
}

func TestWatchingBeforeDuringAndAfter(t *testing.T) {
	run := func(name string, test func(*testing.T, *Node)) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				t.Helper()
				test(t, startNode(t, memory.New()))
			})
		})
	}
	run("a task nobody serves yet", func(t *testing.T, n *Node) {
		t.Helper()
		one := submitOne(t, n, "later", `0`)
		b := newBox()
		s := n.OpenSession(task.DefaultNamespace, b)
		defer s.Close()
		s.Subscribe(task.Topic{Task: one.ID}, nil, nil)
		b.await(t, s, "snapshot", has(task.Subscribed))
		n.Handle("later", n.handler("echo"))
		checkSeen(t, task.Cursor{}, events(b.await(t, s, "end", ended)))
	})
	run("a scheduled task", func(t *testing.T, n *Node) {
		t.Helper()
		one := submitOne(t, n, "echo", `0`, func(s *task.Spec) { s.RunAt = time.Now().Add(50 * time.Millisecond) })
		es := followTask(t, n, one.ID, nil)
		checkSeen(t, task.Cursor{}, es)
		if got, want := states(t, es), []string{"0.1 scheduled", "0.2 queued", "1.1 running", "1.2 succeeded"}; !slices.Equal(got, want) {
			t.Errorf("states %v, want %v", got, want)
		}
	})
	run("a task that has ended", func(t *testing.T, n *Node) {
		t.Helper()
		one := submitOne(t, n, "echo", `0`)
		row := awaitState(t, n, one.ID, task.Succeeded)
		checkSeen(t, task.Cursor{}, followTask(t, n, one.ID, nil))
		if es := followTask(t, n, one.ID, &row.Cursor); len(es) != 0 {
			t.Errorf("behind the last event came %v", es)
		}
	})
	run("no such task", func(t *testing.T, n *Node) {
		t.Helper()
		b := newBox()
		s := n.OpenSession(task.DefaultNamespace, b)
		defer s.Close()
		s.Subscribe(task.Topic{Task: task.ID(uuid.New())}, nil, nil)
		if fs := b.await(t, s, "refusal", ended); !errors.Is(fs[0].Err, task.ErrNotFound) {
			t.Errorf("%v", fs[0].Err)
		}
	})
	run("another namespace", func(t *testing.T, n *Node) {
		t.Helper()
		for _, kind := range []string{"hang", "nobody"} {
			one := submitOne(t, n, kind, `0`)
			b := newBox()
			s := n.OpenSession("other", b)
			s.Subscribe(task.Topic{Task: one.ID, Namespace: task.DefaultNamespace}, nil, nil)
			if fs := b.await(t, s, "refusal", ended); !errors.Is(fs[0].Err, task.ErrNotFound) {
				t.Errorf("%v", fs[0].Err)
			}
			s.Close()
		}
	})
	run("a cursor ahead of the log", func(t *testing.T, n *Node) {
		t.Helper()
		for _, kind := range []string{"hang", "nobody", "echo"} {
			one := submitOne(t, n, kind, `0`)
			b := newBox()
			s := n.OpenSession(task.DefaultNamespace, b)
			s.Subscribe(task.Topic{Task: one.ID}, &task.Cursor{Attempt: 7, Seq: 1}, nil)
			if fs := b.await(t, s, "refusal", ended); !errors.Is(fs[0].Err, task.ErrCursorAhead) {
				t.Errorf("%s: %v", kind, fs[0].Err)
			}
			s.Close()
		}
	})
}

// However late a watcher comes to a node that goes, it is told so.
func TestWatcherOfANodeThatGoesIsSentAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		early, late := newBox(), newBox()
		n.OpenSession(task.DefaultNamespace, early)
		n.root.Send(n.sessions, goodbye{})
		s := n.OpenSession(task.DefaultNamespace, late)
		late.await(t, s, "goodbye", has(task.Goodbye))
		early.await(t, s, "goodbye", has(task.Goodbye))

		other := startNode(t, memory.New())
		b := newBox()
		s = other.OpenSession(task.DefaultNamespace, b)
		crash(t, other)
		b.await(t, s, "goodbye", has(task.Goodbye))
		after := newBox()
		s = other.OpenSession(task.DefaultNamespace, after)
		after.await(t, s, "goodbye", has(task.Goodbye))
	})
}

func TestFeedShowsItsTasksMove(t *testing.T) {
	batch := task.ID(uuid.New())
	mine := func(s *task.Spec) { s.BatchID, s.Queue, s.Labels = batch, "mine", map[string]string{"team": "a"} }
	for name, topic := range map[string]task.Topic{
		"batch":  {Batch: batch},
		"queue":  {Queue: "mine"},
		"filter": {Filter: &task.Filter{Labels: map[string]string{"team": "a"}, States: []task.State{task.Running}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				t.Helper()
				n := startNode(t, memory.New())
				before := submitOne(t, n, "echo", `0`, mine)
				awaitState(t, n, before.ID, task.Succeeded)
				submitOne(t, n, "echo", `0`, mine, func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) }) // or the batch had ended
				b := newBox()
				refuse := 0
				b.refuse = func(*task.Frame) bool { refuse++; return refuse%3 == 0 }
				s := n.OpenSession(task.DefaultNamespace, b)
				defer s.Close()
				s.Subscribe(topic, nil, nil)
				first := b.await(t, s, "snapshot", has(task.Subscribed))[0]
				if name != "filter" && !slices.ContainsFunc(first.Tasks, func(v task.Task) bool { return v.ID == before.ID }) {
					t.Errorf("the view lacks the task that was there")
				}
				var ids []task.ID
				for range 20 {
					ids = append(ids, submitOne(t, n, "echo", `0`, mine).ID)
					submitOne(t, n, "echo", `0`) // not mine
				}
				fs := b.await(t, s, "20 ends", func(fs []*task.Frame) bool { return len(terminal(fs)) >= 20 })
				if got := terminal(fs); !sameIDs(got, ids) {
					t.Errorf("ends of %v, want %v", got, ids)
				}
			})
		})
	}
}

// TestBatchEndsOnce follows a batch from before its end, through a full outbox, and
// from behind it.
func TestBatchEndsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		nodes := []*Node{peer(t, store, w, "a"), peer(t, store, w, "b")}
		goOn := make(chan struct{})
		for _, n := range nodes {
			n.Handle("gate", func(context.Context, *Job) (json.RawMessage, error) {
				<-goOn
				return nil, nil
			})
		}
		batch := task.ID(uuid.New())
		topic := task.Topic{Batch: batch}
		var boxes []*box
		var all []*Session
		follow := func(n *Node, refuse func(*task.Frame) bool) {
			b := newBox()
			b.refuse = refuse
			s := n.OpenSession(task.DefaultNamespace, b)
			t.Cleanup(s.Close)
			s.Subscribe(topic, nil, nil)
			b.await(t, s, "snapshot", has(task.Subscribed))
			boxes, all = append(boxes, b), append(all, s)
		}
		refusals := 0
		follow(nodes[0], nil) // before there is a task
		const tasks = 10
		for i := range tasks {
			submitOne(t, nodes[i%2], "gate", `0`, func(s *task.Spec) { s.BatchID = batch })
		}
		follow(nodes[1], func(*task.Frame) bool { refusals++; return refusals%2 == 1 })
		close(goOn)
		for i, b := range boxes {
			b.await(t, all[i], "end", has(task.Ended))
		}
		follow(nodes[0], nil)
		boxes[2].await(t, all[2], "end", has(task.Ended))
		submitOne(t, nodes[0], "gate", `0`, func(s *task.Spec) { s.BatchID = batch }) // an end more, which nobody follows
		for i, b := range boxes {
			fs := b.await(t, all[i], "end", has(task.Ended))
			last := fs[len(fs)-1]
			if n := len(fs) - len(slices.DeleteFunc(slices.Clone(fs), func(f *task.Frame) bool { return f.Kind == task.Ended })); n != 1 || last.Kind != task.Ended {
				t.Errorf("watcher %d: %d ends, last %+v", i, n, last)
			}
			if len(last.Counts) != 1 || last.Counts[0].State != task.Succeeded || last.Counts[0].Tasks != tasks {
				t.Errorf("watcher %d: %+v", i, last.Counts)
			}
		}
	})
}

func TestFeedThatFellTooFarBehindBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		b := newBox()
		stuck := true
		b.refuse = func(*task.Frame) bool { return stuck }
		s := n.OpenSession(task.DefaultNamespace, b)
		defer s.Close()
		s.Subscribe(task.Topic{Filter: &task.Filter{}}, nil, nil)
		b.await(t, s, "snapshot", has(task.Subscribed))
		for _, id := range submitMany(t, n, feedMissed/3+100, "echo") { // three events each
			awaitState(t, n, id, task.Succeeded)
		}
		b.mu.Lock()
		stuck = false
		b.mu.Unlock()
		fs := b.await(t, s, "new view", has(task.Reset))
		view := slices.IndexFunc(fs, func(f *task.Frame) bool { return f.Kind == task.Reset }) // what happened since may stand behind it
		if got := len(fs[view].Tasks); got != feedSnapshot {
			t.Errorf("the new view has %d tasks", got)
		}
	})
}

func terminal(fs []*task.Frame) []task.ID {
	var ids []task.ID
	for _, f := range fs {
		if _, over := f.Event.Ended(); f.Kind == task.Happened && over {
			ids = append(ids, f.Event.Task)
		}
	}
	return ids
}

func sameIDs(a, b []task.ID) bool {
	count := map[task.ID]int{}
	for _, id := range a {
		count[id]++
	}
	for _, id := range b {
		count[id]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
