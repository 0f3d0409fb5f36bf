package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// slowToRead is a store that reads a task at once and takes its time to say so.
type slowToRead struct {
	task.Store
	reads atomic.Int32
}

const slowly = 10 * time.Millisecond

func (s *slowToRead) Task(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	s.reads.Add(1)
	t, err := s.Store.Task(ctx, namespace, id)
	time.Sleep(slowly)
	return t, err
}

func TestWhoComesBackAtOnceSharesReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := &slowToRead{Store: memory.New()}
		n := startNode(t, store)
		over := submitOne(t, n, "echo", `1`)
		awaitState(t, n, over.ID, task.Succeeded)
		store.reads.Store(0)
		var boxes []*box
		var sessions []*Session
		for range 100 {
			b := newBox()
			s := n.OpenSession(task.DefaultNamespace, b)
			defer s.Close()
			s.Subscribe(task.Topic{Task: over.ID}, &task.Cursor{}, nil)
			boxes, sessions = append(boxes, b), append(sessions, s)
		}
		for i, b := range boxes {
			if got := events(b.await(t, sessions[i], "end of the task", ended)); len(got) != 3 {
				t.Fatalf("a watcher sees %d events", len(got))
			}
		}
		if got := store.reads.Load(); got > 10 {
			t.Errorf("100 watchers of one task made %d reads", got)
		}
	})
}

// TestWhoComesDuringAReadIsNotShownItsPage has a task end while its log is being read: who
// comes after that may not be shown the task as it was.
func TestWhoComesDuringAReadIsNotShownItsPage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := &slowToRead{Store: memory.New()}
		n := startNode(t, store)
		waits := submitOne(t, n, "echo", `1`, func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) })
		shown := make(chan page, 2)
		pid := n.root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			if msg, ok := ctx.Message().(page); ok {
				shown <- msg
			}
		}))
		defer n.root.Stop(pid)
		at := place{namespace: waits.Namespace, task: waits.ID}
		n.pages.read(at, reader{pid, 1})
		time.Sleep(slowly / 2)
		if err := store.end(waits); err != nil {
			t.Fatal(err)
		}
		n.pages.read(at, reader{pid, 2})
		for i, want := range []task.State{task.Scheduled, task.Cancelled} {
			if got := <-shown; got.gen != uint64(i+1) || got.task.State != want {
				t.Errorf("reader %d is shown %s, want %s", got.gen, got.task.State, want)
			}
		}
	})
}

// end ends a task that nobody holds, as another node might.
func (s *slowToRead) end(t task.Task) error {
	step, err := t.Cancel(time.Now(), "")
	if err != nil {
		return err
	}
	out, err := s.Append(context.Background(), []task.Mutation{step.Mutation()})
	if err == nil {
		err = out[0].Err
	}
	return err
}
