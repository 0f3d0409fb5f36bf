package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// crowd counts how many handlers run at once.
type crowd struct {
	mu        sync.Mutex
	now, most map[string]int
	ran       map[task.ID]int
}

func newCrowd() *crowd {
	return &crowd{now: map[string]int{}, most: map[string]int{}, ran: map[task.ID]int{}}
}

// handler runs for so long, counted under a name.
func (c *crowd) handler(d time.Duration, name func(task.Task) string) Handler {
	return func(ctx context.Context, j *Job) (json.RawMessage, error) {
		c.mu.Lock()
		of := name(*j.Task)
		c.now[of]++
		c.most[of] = max(c.most[of], c.now[of])
		c.ran[j.Task.ID]++
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			c.now[of]--
			c.mu.Unlock()
		}()
		end := time.NewTimer(d)
		defer end.Stop()
		select {
		case <-end.C:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func byKey(t task.Task) string { return t.ConcurrencyKey }

// atMost says that no name was held by more than so many at once, and that of the
// busy ones as many ran as may.
func (c *crowd) atMost(tb testing.TB, most int, busy ...string) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range c.most {
		if n > most {
			tb.Errorf("%d ran at once of %q, of which %d may", n, name, most)
		}
	}
	for _, name := range busy {
		if c.most[name] != most {
			tb.Errorf("of %q %d ran at once, and there was room for %d", name, c.most[name], most)
		}
	}
}

// trio is three nodes on one store, with a handler of the kind work.
func trio(tb testing.TB, h Handler) []*Node {
	tb.Helper()
	store, w := memory.NewShared(), newWires()
	var nodes []*Node
	for _, name := range []string{"a", "b", "c"} {
		n := peer(tb, store, w, name, func(c *Config) { c.Lease = 10 * time.Second }) // none dies
		n.Handle("work", h)
		nodes = append(nodes, n)
	}
	acquainted(tb, nodes...)
	return nodes
}

func awaitAll(tb testing.TB, n *Node, ids []task.ID) {
	tb.Helper()
	for _, id := range ids {
		awaitState(tb, n, id, task.Succeeded)
	}
}

func TestConcurrencyKeyHoldsInTheWholeCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		c := newCrowd()
		nodes := trio(t, c.handler(5*time.Millisecond, byKey))
		var ids []task.ID
		for i := range 120 {
			ids = append(ids, submitOne(t, nodes[i%3], "work", `0`, func(s *task.Spec) {
				s.ConcurrencyKey, s.ConcurrencyLimit = fmt.Sprint("k", i%3), 2
			}).ID)
		}
		awaitAll(t, nodes[0], ids)
		c.atMost(t, 2, "k0", "k1", "k2")
		for _, id := range ids {
			if c.ran[id] != 1 {
				t.Errorf("task %s ran %d times", id, c.ran[id])
			}
		}
	})
}

func TestQueueAndPoolBoundsHoldInTheWholeCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		c := newCrowd()
		nodes := trio(t, c.handler(5*time.Millisecond, func(k task.Task) string { return k.Queue }))
		if _, err := nodes[0].SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "narrow", Concurrency: new(3)}); err != nil {
			t.Fatal(err)
		}
		if err := nodes[1].SetPool(t.Context(), task.PoolChange{Name: "openai", Capacity: new(task.Quantity(3000))}); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			eventually(t, "the settings to be known", func() bool {
				return n.isPool("openai") && n.queue(task.DefaultNamespace, "narrow").Concurrency == 3
			})
		}
		var ids []task.ID
		for i := range 60 {
			ids = append(ids, submitOne(t, nodes[i%3], "work", `0`, func(s *task.Spec) { s.Queue = "narrow" }).ID)
			ids = append(ids, submitOne(t, nodes[i%3], "work", `0`, func(s *task.Spec) {
				s.Queue, s.Resources = "pooled", task.Resources{task.SlotResource: 1000, "openai": 1000}
			}).ID)
		}
		awaitAll(t, nodes[2], ids)
		c.atMost(t, 3, "narrow", "pooled")
		o, err := nodes[0].cfg.Store.Overview(t.Context(), task.Scope{})
		if err != nil || len(o.Pools) != 1 || o.Pools[0].Used != 0 {
			t.Errorf("%+v, %v", o.Pools, err)
		}
	})
}

func TestKindBoundsAndKeyRatesHoldInTheWholeCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		c := newCrowd()
		nodes := trio(t, c.handler(5*time.Millisecond, func(k task.Task) string { return k.Kind }))
		if _, err := nodes[0].SetKind(t.Context(), task.KindChange{Namespace: task.DefaultNamespace, Name: "work", Concurrency: new(3)}); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			eventually(t, "the setting to be known", func() bool { return n.kind(task.DefaultNamespace, "work").Concurrency == 3 })
		}
		var ids []task.ID
		began := time.Now()
		for i := range 60 {
			ids = append(ids, submitOne(t, nodes[i%3], "work", `0`, func(s *task.Spec) {
				s.Queue = fmt.Sprint("q", i%4)
				if i%3 == 0 {
					s.RateKey, s.Rate = "customer", task.Rate{Count: 20, Per: time.Second, Burst: 5}
				}
			}).ID)
		}
		awaitAll(t, nodes[2], ids)
		c.atMost(t, 3, "work")
		if took := time.Since(began); took < 700*time.Millisecond { // 15 behind the burst, 50 ms apart
			t.Errorf("20 with the key have run within %v", took)
		}
	})
}

func TestExplainNamesTheLimitATaskWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		c := newCrowd()
		nodes := trio(t, c.handler(time.Hour, byKey))
		if err := nodes[0].SetPool(t.Context(), task.PoolChange{Name: "openai", Capacity: new(task.Quantity(1000))}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pool to be known", func() bool { return nodes[1].isPool("openai") })
		pooled := func(amount task.Quantity) func(*task.Spec) {
			return func(s *task.Spec) { s.Resources = task.Resources{task.SlotResource: 1000, "openai": amount} }
		}
		keyed := func(s *task.Spec) { s.ConcurrencyKey, s.ConcurrencyLimit = "k", 1 }
		awaitState(t, nodes[0], submitOne(t, nodes[0], "work", `0`, keyed).ID, task.Running)
		awaitState(t, nodes[0], submitOne(t, nodes[0], "work", `0`, pooled(1000)).ID, task.Running)
		for _, tt := range []struct {
			change func(*task.Spec)
			want   task.Waiting
		}{
			{keyed, task.Waiting{Reason: task.WaitsForLimit, Most: 1000, Limit: task.LimitName{Scope: task.OfKey, Namespace: task.DefaultNamespace, Name: "k"}}},
			{pooled(500), task.Waiting{
				Reason: task.WaitsForResource, Resource: "openai", Needed: 500, Most: 1000, Limit: task.LimitName{Scope: task.OfPool, Name: "openai"},
			}},
			{pooled(2000), task.Waiting{
				Reason: task.WaitsForever, Resource: "openai", Needed: 2000, Free: 1000, Most: 1000, Limit: task.LimitName{Scope: task.OfPool, Name: "openai"},
			}},
		} {
			one := submitOne(t, nodes[1], "work", `0`, tt.change)
			eventually(t, "it to be parked", func() bool {
				k, err := nodes[0].cfg.Store.Task(t.Context(), one.Namespace, one.ID)
				return err == nil && k.Parked != nil
			})
			k, _ := nodes[0].cfg.Store.Task(t.Context(), one.Namespace, one.ID)
			if w, err := nodes[2].Explain(t.Context(), k); err != nil || !cmp.Equal(*w, tt.want) {
				t.Errorf("%+v, %v; want %+v", w, err, tt.want)
			}
			if _, err := nodes[2].Cancel(t.Context(), one.Namespace, one.ID, ""); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestQueueRateIsKept is in virtual time.
func TestQueueRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Start(context.Background(), Config{
			Store: memory.New(), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "n",
			Capacity: task.Resources{task.SlotResource: 1000_000},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = n.Stop(context.Background())
			time.Sleep(quieted)
		}()
		starts := make(chan time.Time, 1000)
		n.Handle("work", func(context.Context, *Job) (json.RawMessage, error) {
			starts <- time.Now()
			return nil, nil
		})
		if _, err := n.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "default", Rate: &task.Rate{Count: 50, Per: time.Second}}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 200 {
			submitOne(t, n, "work", `0`)
		}
		var all []time.Time
		for len(all) < 200 {
			all = append(all, <-starts)
		}
		took := time.Since(began)
		if took < 3900*time.Millisecond || took > 4300*time.Millisecond {
			t.Errorf("200 started within %v at 50 a second", took)
		}
		for i := range len(all) - 55 {
			if within := all[i+55].Sub(all[i]); within < time.Second { // the burst is five
				t.Fatalf("56 started within %v", within)
			}
		}
	})
}

// TestTokensOfADeadNodeComeBackWithItsTasks has a node go without a word while it
// holds all there is.
func TestTokensOfADeadNodeComeBackWithItsTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		c := newCrowd()
		store, w := memory.NewShared(), newWires()
		a := peer(t, store, w, "a")
		a.Handle("work", func(ctx context.Context, _ *Job) (json.RawMessage, error) { <-ctx.Done(); return nil, ctx.Err() })
		key := func(s *task.Spec) { s.ConcurrencyKey, s.ConcurrencyLimit, s.Retry.Initial = "k", 2, 0 }
		var ids []task.ID
		for range 6 {
			ids = append(ids, submitOne(t, a, "work", `0`, key).ID)
		}
		var running []task.Task
		eventually(t, "two to run", func() bool {
			running, _, _ = store.Tasks(t.Context(), task.Filter{Namespace: task.DefaultNamespace, States: []task.State{task.Running}, Limit: 10})
			return len(running) == 2
		})
		a.end() // it does nothing more, and does not say so
		b := peer(t, store, w, "b")
		b.Handle("work", c.handler(2*time.Millisecond, byKey))
		awaitAll(t, b, ids)
		c.atMost(t, 2)
		k, err := store.Task(t.Context(), task.DefaultNamespace, running[0].ID)
		if err != nil || k.Attempt != 2 || k.Crashes != 1 {
			t.Errorf("attempt %d, %d crashes, %v", k.Attempt, k.Crashes, err)
		}
	})
}

// TestCancelMeetsAStartThatIsRefused has a task cancelled while the store makes up
// its mind about its tokens.
func TestCancelMeetsAStartThatIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store)
		key := func(s *task.Spec) { s.ConcurrencyKey, s.ConcurrencyLimit = "k", 1 }
		first := submitOne(t, n, "hang", `0`, key)
		awaitState(t, n, first.ID, task.Running)
		held, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		store.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
			if call == "Append" && len(ms) > 0 && len(ms[0].Take) > 0 {
				once.Do(func() {
					close(held)
					<-release
				})
			}
			return nil
		}})
		second := submitOne(t, n, "hang", `0`, key)
		<-held
		done := make(chan error)
		go func() {
			_, err := n.Cancel(context.Background(), second.Namespace, second.ID, "because")
			done <- err
		}()
		close(release)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		awaitState(t, n, second.ID, task.Cancelled)
		if k := awaitState(t, n, first.ID, task.Running); k.Attempt != 1 {
			t.Errorf("the other is in attempt %d", k.Attempt)
		}
		third := submitOne(t, n, "echo", `0`, key)
		if _, err := n.Cancel(t.Context(), first.Namespace, first.ID, ""); err != nil {
			t.Fatal(err)
		}
		awaitState(t, n, third.ID, task.Succeeded)
	})
}

// TestUnknownFateOfAStartIsReadBack has the store lose its answer to a start that
// was granted, and to one that was not.
func TestUnknownFateOfAStartIsReadBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store)
		lost := 0
		store.Hook(memory.Hooks{After: func(call string, ms []task.Mutation) error {
			if call == "Append" && len(ms) > 0 && len(ms[0].Take) > 0 && lost < 2 {
				lost++
				return fmt.Errorf("the answer is lost: %w", task.ErrUnknown)
			}
			return nil
		}})
		key := func(s *task.Spec) { s.ConcurrencyKey, s.ConcurrencyLimit = "k", 1 }
		first := submitOne(t, n, "hang", `0`, key)
		awaitState(t, n, first.ID, task.Running)
		second := submitOne(t, n, "echo", `0`, key)
		eventually(t, "the second to be parked", func() bool {
			k, err := store.Task(t.Context(), second.Namespace, second.ID)
			return err == nil && k.Parked != nil
		})
		if _, err := n.Cancel(t.Context(), first.Namespace, first.ID, ""); err != nil && !errors.Is(err, task.ErrTerminal) {
			t.Fatal(err)
		}
		if k := awaitState(t, n, second.ID, task.Succeeded); k.Attempt != 1 || lost != 2 {
			t.Errorf("attempt %d, %d answers lost", k.Attempt, lost)
		}
	})
}

func TestReportsOfAllNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		nodes := trio(t, newCrowd().handler(0, byKey))
		gauges, err := nodes[1].Resources(t.Context())
		seen := map[string]bool{}
		for _, g := range gauges {
			seen[g.Node] = seen[g.Node] || g.Name == task.SlotResource && g.Capacity == 16_000
		}
		if err != nil || !seen["a"] || !seen["b"] || !seen["c"] {
			t.Errorf("%+v, %v", gauges, err)
		}
		one := submitOne(t, nodes[0], "work", `0`)
		awaitState(t, nodes[0], one.ID, task.Succeeded)
		if s, err := nodes[1].Stats(t.Context()); err != nil || s.Submitted != 1 || s.Ended[task.Succeeded] != 1 {
			t.Errorf("%+v, %v", s, err)
		}
		workers, err := nodes[2].Workers(t.Context(), task.DefaultNamespace)
		if err != nil || len(workers) != 3 {
			t.Errorf("%+v, %v", workers, err)
		}
	})
}

func TestTaskThatKillsItsNodesIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		var one task.Task
		for i := range 3 {
			n := peer(t, store, w, fmt.Sprint("n", i), func(c *Config) { c.Limits.Crashes = 2 })
			if i == 0 {
				one = submitOne(t, n, "kill", `0`, func(s *task.Spec) { s.MaxAttempts, s.Retry.Initial = 50, 0 })
			}
			if i == 2 {
				break
			}
			n.Handle("kill", func(ctx context.Context, _ *Job) (json.RawMessage, error) { <-ctx.Done(); return nil, ctx.Err() })
			eventually(t, "it to run here", func() bool {
				k, err := store.Task(t.Context(), one.Namespace, one.ID)
				return err == nil && k.State == task.Running && k.Holder == n.Incarnation()
			})
			n.end()
		}
		eventually(t, "it to be given up", func() bool {
			k, err := store.Task(t.Context(), one.Namespace, one.ID)
			return err == nil && k.State == task.Failed && k.Failure.Code == task.CodeNodeLost && k.Crashes == 2
		})
	})
}

// TestSettingsAreKnownElsewhereAtOnce goes by messages: by itself a node would look
// only after a second.
func TestSettingsAreKnownElsewhereAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w := memory.NewShared(), newWires()
		slow := func(c *Config) { c.Lease = time.Minute }
		a, b := peer(t, store, w, "a", slow), peer(t, store, w, "b", slow)
		acquainted(t, a, b)
		began := time.Now()
		const times = 10
		for i := range times {
			if _, err := a.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "q", Concurrency: new(i + 1)}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the other to know", func() bool { return b.queue(task.DefaultNamespace, "q").Concurrency == i+1 })
		}
		if took := time.Since(began); took > times*time.Second/2 {
			t.Errorf("%d settings took %v, one after the other", times, took)
		}
	})
}

// hub carries hints between nodes of a test.
type hub struct {
	mu    sync.Mutex
	ears  map[string]func([]string)
	hints int
}

type mouth struct {
	*hub

	name string
}

func (m mouth) Tell(kinds []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hints++
	for name, told := range m.ears {
		if name != m.name {
			told(kinds)
		}
	}
}

func (m mouth) Listen(ctx context.Context, told func([]string)) {
	m.mu.Lock()
	m.ears[m.name] = told
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ears, m.name)
}

// TestHintsReachWhereLinesDoNot has two nodes whose lines are cut: one takes tasks
// it cannot run, and the other looks by itself only after a second.
func TestHintsReachWhereLinesDoNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store, w, h := memory.NewShared(), newWires(), &hub{ears: map[string]func([]string){}}
		w.losing(func(string, string) bool { return true })
		with := func(name string) func(*Config) {
			return func(c *Config) { c.Hints, c.Lease = mouth{h, name}, time.Minute }
		}
		a, b := peer(t, store, w, "a", with("a")), peer(t, store, w, "b", with("b"))
		b.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
		began := time.Now()
		const tasks = 10
		for range tasks {
			awaitState(t, a, submitOne(t, a, "echo", `1`).ID, task.Succeeded)
		}
		if took := time.Since(began); took > tasks*time.Second/2 {
			t.Errorf("%d tasks took %v, one after the other", tasks, took)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.hints == 0 {
			t.Error("nothing was told")
		}
	})
}
