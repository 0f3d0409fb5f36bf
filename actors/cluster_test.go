package actors

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// peer starts a node that speaks with the others of its store. It has no
// handlers.
func peer(tb testing.TB, s task.Store, w *wires, name string, change ...func(*Config)) *Node {
	tb.Helper()
	cfg := Config{
		Store: s, Log: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Metrics: prometheus.NewRegistry(), Name: name, Capacity: task.Resources{task.SlotResource: 16_000},
		Lease: 600 * time.Millisecond, Line: end{w, name},
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
	return n
}

// wires is a network in memory.
type wires struct {
	mu    sync.Mutex
	nodes map[string]func(*anypb.Any)
	lose  func(from, to string) bool // nil: nothing is lost
}

func newWires() *wires { return &wires{nodes: map[string]func(*anypb.Any){}} }

// end is one node's end of it.
type end struct {
	*wires

	name string
}

func (e end) Peer() string      { return e.name }
func (e end) Learn([]task.Node) {}

func (e end) Attach(deliver func(*anypb.Any), _ func(context.Context) ([]task.Node, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nodes[e.name] = deliver
}

func (e end) Send(address string, packed *anypb.Any) {
	e.mu.Lock()
	deliver, lost := e.nodes[address], e.lose != nil && e.lose(e.name, address)
	e.mu.Unlock()
	if deliver != nil && !lost {
		deliver(packed)
	}
}

func (w *wires) losing(f func(from, to string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = f
}

// acquainted waits until each node knows all others.
func acquainted(tb testing.TB, nodes ...*Node) {
	tb.Helper()
	for _, n := range nodes {
		eventually(tb, "the nodes to meet", func() bool { return n.others.Load() == int64(len(nodes)-1) })
	}
}

func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	late := time.After(patience)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-late:
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// talk emits a chunk for each thing it gets until it is closed.
func talker(chunks <-chan string) Handler {
	return func(ctx context.Context, j *Job) (json.RawMessage, error) {
		for {
			select {
			case c, more := <-chunks:
				if !more {
					return nil, nil
				}
				if err := j.EmitText(c); err != nil {
					return nil, err
				}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
}

func outputs(n int) func([]*task.Frame) bool {
	return func(fs []*task.Frame) bool {
		for _, e := range events(fs) {
			if e.Type == task.EventOutput {
				n--
			}
		}
		return n <= 0
	}
}

func TestWatcherOnAnotherNodeSeesATaskLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		a, b := peer(t, store, w, "a"), peer(t, store, w, "b")
		chunks := make(chan string)
		a.Handle("talk", talker(chunks))
		acquainted(t, a, b)
		one := submitOne(t, a, "talk", `1`)
		out := newBox()
		s := b.OpenSession(task.DefaultNamespace, out)
		defer s.Close()
		s.Subscribe(task.Topic{Task: one.ID}, nil, "tag")
		// What is said is seen before it is stored: the store stands still.
		chunks <- "first"
		out.await(t, s, "first output", outputs(1))
		release := make(chan struct{})
		store.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
			if call == "Append" {
				<-release
			}
			return nil
		}})
		for range 50 {
			chunks <- "more"
		}
		out.await(t, s, "output that is not stored yet", outputs(51))
		close(release)
		close(chunks)
		es := events(out.await(t, s, "end", ended))
		checkSeen(t, task.Cursor{}, es)
		if state, over := es[len(es)-1].Ended(); !over || state != task.Succeeded || len(es) != 54 {
			t.Errorf("%d events, the last %s", len(es), es[len(es)-1].AppendJSON(nil))
		}
		if n := len(followTask(t, b, one.ID, &es[20].Cursor)); n != 54-21 {
			t.Errorf("%d events behind the 21st", n)
		}
	})
}

func TestWatcherGoesOnWhenTheHolderDies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		a, b := peer(t, store, w, "a"), peer(t, store, w, "b")
		chunks := make(chan string)
		a.Handle("talk", talker(chunks))
		acquainted(t, a, b)
		one := submitOne(t, a, "talk", `1`, func(s *task.Spec) { s.Retry.Initial = time.Millisecond })
		out := newBox()
		s := b.OpenSession(task.DefaultNamespace, out)
		defer s.Close()
		s.Subscribe(task.Topic{Task: one.ID}, nil, "tag")
		chunks <- "from a"
		out.await(t, s, "first output", outputs(1))
		b.Handle("talk", talker(chunks))
		// a is not heard of any more, and says nothing to the store.
		store.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
			if call == "Append" && len(ms) > 0 && ms[0].Guard.Holder == a.Incarnation() && ms[0].Task.Holder == a.Incarnation() {
				return task.ErrUnavailable
			}
			return nil
		}})
		a.fence("the test says so")
		eventually(t, "another attempt", func() bool {
			select {
			case chunks <- "from b":
			default:
			}
			return outputs(2)(out.await(t, s, "anything", outputs(1)))
		})
		close(chunks)
		es := events(out.await(t, s, "end", ended))
		checkSeen(t, task.Cursor{}, es)
		if state, over := es[len(es)-1].Ended(); !over || state != task.Succeeded {
			t.Errorf("the last event is %s", es[len(es)-1].AppendJSON(nil))
		}
		if got := awaitState(t, b, one.ID, task.Succeeded); got.Attempt != 2 || got.Node != "b" {
			t.Errorf("attempt %d on %s", got.Attempt, got.Node)
		}
	})
}

// TestNodeJoinsAStoreThatIsAwayForAMoment has it not answer, and then break off with
// the row of the node written.
func TestNodeJoinsAStoreThatIsAwayForAMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		tries := 0
		store.Hook(memory.Hooks{
			Before: func(call string, _ []task.Mutation) error {
				if call == "Renew" {
					if tries++; tries == 1 {
						return task.ErrUnavailable
					}
				}
				return nil
			},
			After: func(call string, _ []task.Mutation) error {
				if call == "Renew" && tries == 2 {
					return task.ErrUnknown
				}
				return nil
			},
		})
		n := peer(t, store, w, "a")
		if tries != 3 || n.Incarnation() != 2 {
			t.Errorf("it joined with try %d, as incarnation %d", tries, n.Incarnation())
		}
		n.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
		awaitState(t, n, submitOne(t, n, "echo", `1`).ID, task.Succeeded)
	})
}

func TestAnyNodeCancelsAndExplains(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		a, b := peer(t, store, w, "a", func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 1000} }), peer(t, store, w, "b")
		chunks := make(chan string)
		a.Handle("talk", talker(chunks))
		acquainted(t, a, b)
		running := submitOne(t, a, "talk", `1`)
		chunks <- "runs"
		waits := submitOne(t, a, "talk", `2`)
		out := newBox()
		s := b.OpenSession(task.DefaultNamespace, out)
		defer s.Close()
		s.Subscribe(task.Topic{Task: running.ID}, nil, nil)
		out.await(t, s, "first output", outputs(1))
		row, err := store.Task(t.Context(), task.DefaultNamespace, waits.ID)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the reason", func() bool {
			why, err := b.Explain(t.Context(), row)
			return err == nil && why != nil && why.Reason == "resources" && why.Resource == task.SlotResource
		})
		got, err := b.Cancel(t.Context(), task.DefaultNamespace, running.ID, "because")
		if err != nil || got.State != task.Cancelled {
			t.Fatalf("%s, %v", got.State, err)
		}
		es := events(out.await(t, s, "end", ended))
		checkSeen(t, task.Cursor{}, es)
		if _, err := b.Cancel(t.Context(), task.DefaultNamespace, running.ID, "again"); !errors.Is(err, task.ErrTerminal) {
			t.Errorf("cancelled twice: %v", err)
		}
		if _, err := b.Cancel(t.Context(), "other", waits.ID, ""); !errors.Is(err, task.ErrNotFound) {
			t.Errorf("cancelled from another namespace: %v", err)
		}
		close(chunks)
		awaitState(t, b, waits.ID, task.Succeeded)
	})
}

func TestFeedOnOneNodeShowsWhatHappensOnAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		a, b := peer(t, store, w, "a"), peer(t, store, w, "b")
		a.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
		acquainted(t, a, b)
		out := newBox()
		s := b.OpenSession(task.DefaultNamespace, out)
		defer s.Close()
		s.Subscribe(task.Topic{Queue: "default"}, nil, nil)
		out.await(t, s, "answer", has(task.Subscribed))
		want := map[task.ID]bool{}
		for range 20 {
			want[submitOne(t, a, "echo", `1`).ID] = true
		}
		out.await(t, s, "all ends, told or in a new view", func(fs []*task.Frame) bool {
			seen := map[task.ID]bool{}
			for _, f := range fs {
				for _, k := range f.Tasks {
					seen[k.ID] = seen[k.ID] || k.State.Terminal()
				}
				if _, over := f.Event.Ended(); over {
					seen[f.Event.Task] = true
				}
			}
			for id := range want {
				if !seen[id] {
					return false
				}
			}
			return true
		})
		eventually(t, "the other node to know", func() bool { return a.farFollowers.Load() == 1 })
		before := len(out.frames)
		one := submitOne(t, a, "echo", `1`)
		fs := out.await(t, s, "an event of another node", func(fs []*task.Frame) bool {
			for _, f := range fs[before:] {
				if _, over := f.Event.Ended(); over && f.Event.Task == one.ID {
					return true
				}
			}
			return false
		})
		if len(fs) == before {
			t.Error("nothing was told")
		}
	})
}

func TestIdleNodeGetsWorkOfABusyOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		oneSlot := func(c *Config) { c.Capacity, c.Lease = task.Resources{task.SlotResource: 1000}, 3*time.Second }
		a := peer(t, store, w, "a", oneSlot)
		hang := make(chan struct{})
		started := make(chan string, 100)
		handler := func(name string) Handler {
			return func(ctx context.Context, j *Job) (json.RawMessage, error) {
				started <- name
				select {
				case <-hang:
				case <-ctx.Done():
				}
				return nil, context.Cause(ctx)
			}
		}
		a.Handle("long", handler("a"))
		for range 50 {
			submitOne(t, a, "long", `1`)
		}
		if who := <-started; who != "a" {
			t.Fatal(who)
		}
		b := peer(t, store, w, "b", oneSlot)
		b.Handle("long", handler("b"))
		began := time.Now()
		if who := <-started; who != "b" {
			t.Fatal(who)
		}
		t.Logf("after %v", time.Since(began))
		close(hang)
	})
}

func TestQueuePausedOnOneNodeRestsOnAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		a, b := peer(t, store, w, "a"), peer(t, store, w, "b")
		b.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
		if _, err := a.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "default", Paused: new(true)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pause", func() bool { return b.isPaused(task.DefaultNamespace, "default") })
		one := submitOne(t, b, "echo", `1`)
		if _, err := a.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "default", Paused: new(false)}); err != nil {
			t.Fatal(err)
		}
		awaitState(t, b, one.ID, task.Succeeded)
	})
}

// TestNodeThatLosesItsLeaseStopsInTime is in virtual time: the store does not
// answer any more, and before the lease is over the attempt is cut off.
func TestNodeThatLosesItsLeaseStopsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, w := memory.NewShared(), newWires()
		n := peer(t, store, w, "a", func(c *Config) { c.Lease = 10 * time.Second })
		cut := make(chan error, 1)
		n.Handle("hang", func(ctx context.Context, _ *Job) (json.RawMessage, error) {
			<-ctx.Done()
			cut <- context.Cause(ctx)
			return nil, ctx.Err()
		})
		one := submitOne(t, n, "hang", `1`)
		time.Sleep(time.Minute) // many renewals
		synctest.Wait()
		if n.isLost() {
			t.Fatal("lost though it renews")
		}
		began := time.Now()
		store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			if call == "Renew" {
				return task.ErrUnavailable
			}
			return nil
		}})
		<-n.Lost()
		if took := time.Since(began); took > 10*time.Second || took < 5*time.Second {
			t.Errorf("gave up after %v", took)
		}
		if cause := <-cut; cause == nil {
			t.Error("the attempt goes on")
		}
		orphans, err := store.Orphans(t.Context(), 1)
		if err != nil || len(orphans) > 0 {
			t.Errorf("it was an orphan already: %v, %v", len(orphans), err)
		}
		if err := n.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		store.Hook(memory.Hooks{})
		time.Sleep(10 * time.Second)
		next, err := n.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := next.Stop(context.Background()); err != nil {
				t.Error(err)
			}
			time.Sleep(quieted)
		}()
		if next.Incarnation() <= n.Incarnation() {
			t.Errorf("incarnation %d after %d", next.Incarnation(), n.Incarnation())
		}
		next.Adopt(n)
		got := awaitVirtual(t, next, one.ID, task.Running)
		if got.Attempt != 2 || got.Holder != next.Incarnation() {
			t.Errorf("attempt %d of %d", got.Attempt, got.Holder)
		}
	})
}

func awaitVirtual(t *testing.T, n *Node, id task.ID, want task.State) task.Task {
	t.Helper()
	for range 1000 {
		got, err := n.cfg.Store.Task(context.Background(), task.DefaultNamespace, id)
		if err != nil {
			t.Fatal(err)
		}
		if got.State == want {
			return got
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the task is never %s", want)
	return task.Task{}
}

// TestLostMessagesCostTimeAndNothingElse has the network lose every third
// message, and then all.
func TestLostMessagesCostTimeAndNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		a, b := peer(t, store, w, "a"), peer(t, store, w, "b")
		chunks := make(chan string)
		a.Handle("talk", talker(chunks))
		acquainted(t, a, b)
		one := submitOne(t, a, "talk", `1`)
		out := newBox()
		s := b.OpenSession(task.DefaultNamespace, out)
		defer s.Close()
		s.Subscribe(task.Topic{Task: one.ID}, nil, nil)
		n := 0
		w.losing(func(string, string) bool { n++; return n%3 == 0 })
		for i := range 100 {
			chunks <- "more"
			if i == 50 {
				w.losing(func(string, string) bool { return true })
			}
		}
		close(chunks)
		es := events(out.await(t, s, "end", ended))
		checkSeen(t, task.Cursor{}, es)
		if len(es) != 103 {
			t.Errorf("%d events", len(es))
		}
	})
}
