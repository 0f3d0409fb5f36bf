package actors

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/persistence/recent"
	"github.com/troupe-run/troupe/runtime/task"
)

// quieted is how long a test in virtual time waits behind the end of its nodes: until
// every timer of theirs that sends to an actor that is gone has fired, and the second is
// over in which the actor library counts such messages, in a goroutine.
const quieted = time.Minute + 500*time.Millisecond

// counting is a handler of which each run has another result.
func counting(runs *atomic.Int64) Handler {
	return func(context.Context, *Job) (json.RawMessage, error) {
		return strconv.AppendInt(nil, runs.Add(1), 10), nil
	}
}

func cachedFor(ttl time.Duration) func(*task.Spec) {
	return func(s *task.Spec) { s.Cache.TTL = ttl }
}

// came says how a task came to its result, and to which.
func came(tb testing.TB, n *Node, id task.ID, how task.CacheStatus, result string) {
	tb.Helper()
	if k := awaitState(tb, n, id, task.Succeeded); k.Cached != how || string(k.Result) != result {
		tb.Errorf("%q with %s; want %q with %s", k.Cached, k.Result, how, result)
	}
}

func TestIdenticalTasksRunOnceInTheWholeCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		var runs atomic.Int64
		begun, end := make(chan struct{}), make(chan struct{})
		nodes := trio(t, func(ctx context.Context, j *Job) (json.RawMessage, error) {
			close(begun)
			<-end
			return counting(&runs)(ctx, j)
		})
		ids := []task.ID{submitOne(t, nodes[0], "work", `{"a":1,"b":2}`, cachedFor(time.Hour)).ID}
		<-begun
		for i := range 49 {
			ids = append(ids, submitOne(t, nodes[i%3], "work", `{"b":2, "a":1}`, cachedFor(time.Hour)).ID)
		}
		waiting := ids[49]
		eventually(t, "one to be parked", func() bool {
			k, err := nodes[0].cfg.Store.Task(t.Context(), task.DefaultNamespace, waiting)
			return err == nil && k.Parked != nil
		})
		k, _ := nodes[0].cfg.Store.Task(t.Context(), task.DefaultNamespace, waiting)
		if w, err := nodes[1].Explain(t.Context(), k); err != nil || w.Reason != task.WaitsForResult {
			t.Errorf("%+v, %v", w, err)
		}
		close(end)
		came(t, nodes[0], ids[0], task.CacheMiss, "1")
		for _, id := range ids[1:] {
			if k := awaitState(t, nodes[0], id, task.Succeeded); k.Cached == task.CacheMiss || string(k.Result) != "1" || k.Attempt != 1 {
				t.Errorf("%q with %s in attempt %d", k.Cached, k.Result, k.Attempt)
			}
		}
		came(t, nodes[0], waiting, task.CacheShared, "1")
		came(t, nodes[0], submitOne(t, nodes[2], "work", `{"a":1,"b":2}`, cachedFor(time.Hour)).ID, task.CacheHit, "1")
		for _, id := range ids[1:2] {
			es := followTask(t, nodes[1], id, nil)
			var end task.StateData
			if err := json.Unmarshal(es[len(es)-1].Data, &end); err != nil || end.Cache == "" || end.Cache == task.CacheMiss {
				t.Errorf("%s, %v", es[len(es)-1].Data, err)
			}
		}
	})
}

func TestFailedOneLetsTheNextRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		var runs atomic.Int64
		begun, end := make(chan struct{}, 2), make(chan struct{})
		n := startNode(t, memory.New())
		n.Handle("work", func(context.Context, *Job) (json.RawMessage, error) {
			begun <- struct{}{}
			<-end
			if runs.Add(1) == 1 {
				return nil, errors.New("no")
			}
			return json.RawMessage(`"second"`), nil
		})
		first := submitOne(t, n, "work", `0`, cachedFor(time.Hour), func(s *task.Spec) { s.MaxAttempts = 1 })
		<-begun
		second, third := submitOne(t, n, "work", `0`, cachedFor(time.Hour)), submitOne(t, n, "work", `0`, cachedFor(time.Hour))
		close(end)
		awaitState(t, n, first.ID, task.Failed)
		for _, id := range []task.ID{second.ID, third.ID} {
			if k := awaitState(t, n, id, task.Succeeded); string(k.Result) != `"second"` {
				t.Errorf("%s", k.Result)
			}
		}
		if runs.Load() != 2 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestWhatIsNotIdenticalRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		var runs atomic.Int64
		n := startNode(t, memory.New())
		n.Handle("work", counting(&runs))
		n.Handle("other", counting(&runs))
		key := func(s *task.Spec) { s.Cache = task.Cache{Key: "k", TTL: time.Hour} }
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheMiss, "1")
		came(t, n, submitOne(t, n, "work", `"the key counts"`, key).ID, task.CacheHit, "1")
		came(t, n, submitOne(t, n, "other", `0`, key).ID, task.CacheMiss, "2")
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(time.Hour)).ID, task.CacheMiss, "3")
		came(t, n, submitOne(t, n, "work", `1`, cachedFor(time.Hour)).ID, task.CacheMiss, "4")
		came(t, n, submitOne(t, n, "work", `0`).ID, "", "5")
		elsewhere := submitOne(t, n, "work", `0`, key, func(s *task.Spec) { s.Namespace = "other" })
		eventually(t, "another namespace's own", func() bool {
			k, err := n.cfg.Store.Task(t.Context(), "other", elsewhere.ID)
			return err == nil && k.Cached == task.CacheMiss && string(k.Result) == "6"
		})
	})
}

// alone runs a test in virtual time, with one node on a store.
func alone(t *testing.T, test func(*testing.T, *memory.Store, *Node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		n, err := Start(context.Background(), Config{
			Store: store, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "n",
			Capacity: task.Resources{task.SlotResource: 1000_000},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = n.Stop(context.Background())
			time.Sleep(quieted)
		}()
		test(t, store, n)
	})
}

func TestResultServesNobodyWhenItsTimeIsOver(t *testing.T) {
	alone(t, func(t *testing.T, _ *memory.Store, n *Node) {
		t.Helper()
		var runs atomic.Int64
		n.Handle("work", counting(&runs))
		const ttl = 40 * time.Second // at which nothing is swept
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(ttl)).ID, task.CacheMiss, "1")
		time.Sleep(ttl - time.Second)
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(ttl)).ID, task.CacheHit, "1") // which does not lengthen it
		time.Sleep(time.Second)
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(ttl)).ID, task.CacheMiss, "2")
	})
}

// TestLookupThatTakesLongIsAMiss has the store answer when the attempt runs, and
// fail.
func TestLookupThatTakesLongIsAMiss(t *testing.T) {
	alone(t, func(t *testing.T, store *memory.Store, n *Node) {
		t.Helper()
		var runs atomic.Int64
		n.Handle("work", func(ctx context.Context, j *Job) (json.RawMessage, error) {
			time.Sleep(2 * recallWithin)
			return counting(&runs)(ctx, j)
		})
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(time.Hour)).ID, task.CacheMiss, "1")
		store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			if call == "Result" {
				time.Sleep(2 * recallWithin)
			}
			return nil
		}})
		began := time.Now()
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(time.Hour)).ID, task.CacheMiss, "2")
		if took := time.Since(began).Round(recallWithin); took != 3*recallWithin {
			t.Errorf("it took %v", took)
		}
		store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			if call == "Result" {
				return task.ErrUnavailable
			}
			return nil
		}})
		came(t, n, submitOne(t, n, "work", `0`, cachedFor(time.Hour)).ID, task.CacheMiss, "3")
	})
}

// TestAttemptThatLooksForAResultCanBeStopped ends it in the middle of the lookup,
// which then finds a result.
func TestAttemptThatLooksForAResultCanBeStopped(t *testing.T) {
	for name, stop := range map[string]struct {
		by   func(*testing.T, *Node, task.Task)
		want func(task.Task) bool
	}{
		"cancel": {
			func(t *testing.T, n *Node, k task.Task) {
				t.Helper()
				if _, err := n.Cancel(t.Context(), k.Namespace, k.ID, ""); err != nil {
					t.Error(err)
				}
			},
			func(k task.Task) bool { return k.State == task.Cancelled },
		},
		"deadline": {
			func(*testing.T, *Node, task.Task) {},
			func(k task.Task) bool { return k.State == task.Failed && k.Failure.Code == task.CodeDeadline },
		},
		"drain": {
			func(t *testing.T, n *Node, _ task.Task) {
				t.Helper()
				hurried, cancel := context.WithCancel(t.Context())
				cancel()
				n.Drain(hurried)
			},
			func(k task.Task) bool { return k.State == task.Queued && k.Holder == 0 && k.Forgiven == 1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				t.Helper()
				var runs atomic.Int64
				store := memory.New()
				n := startNode(t, store)
				n.Handle("work", counting(&runs))
				came(t, n, submitOne(t, n, "work", `0`, cachedFor(time.Hour)).ID, task.CacheMiss, "1")
				looking, release := make(chan struct{}), make(chan struct{})
				free := sync.OnceFunc(func() { close(release) })
				defer free()
				store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
					if call == "Result" {
						close(looking)
						<-release
					}
					return nil
				}})
				one := submitOne(t, n, "work", `0`, cachedFor(time.Hour), func(s *task.Spec) {
					if name == "deadline" {
						s.Deadline = time.Now().Add(300 * time.Millisecond)
					}
				})
				<-looking
				stop.by(t, n, one)
				stopped := func() bool {
					k, err := store.Task(t.Context(), one.Namespace, one.ID)
					return err == nil && stop.want(k)
				}
				eventually(t, "it to stop", stopped)
				free()
				store.Hook(memory.Hooks{})
				if name != "drain" { // its token came back
					came(t, n, submitOne(t, n, "work", `0`, cachedFor(time.Hour)).ID, task.CacheHit, "1")
				}
				if !stopped() || runs.Load() != 1 {
					t.Errorf("it went on, and %d ran", runs.Load())
				}
			})
		})
	}
}

// shelf is results beside the store.
type shelf struct {
	mu   sync.Mutex
	kept map[string]json.RawMessage
	down bool
	ttl  time.Duration
}

func (s *shelf) Get(_ context.Context, namespace, kind, key string) (json.RawMessage, time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result, ok := s.kept[namespace+" "+kind+" "+key]
	return result, 0, ok && !s.down
}

func (s *shelf) Put(_ context.Context, namespace, kind, key string, result json.RawMessage, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[namespace+" "+kind+" "+key], s.ttl = result, ttl
}

func (s *shelf) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func TestResultIsLookedForBesideTheStoreAndThenInIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		var runs, asked atomic.Int64
		store, beside := memory.New(), &shelf{kept: map[string]json.RawMessage{}}
		n := startNode(t, store, func(c *Config) { c.Results = beside })
		n.Handle("work", counting(&runs))
		key := func(s *task.Spec) { s.Cache = task.Cache{Key: "k", TTL: time.Hour} }
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheMiss, "1")
		eventually(t, "the result to be put beside", func() bool {
			result, _, ok := beside.Get(t.Context(), task.DefaultNamespace, "work", "k")
			return ok && string(result) == "1"
		})
		beside.change(func() {
			if beside.ttl > time.Hour || beside.ttl < 59*time.Minute {
				t.Errorf("for %v", beside.ttl)
			}
		})
		store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			if call == "Result" {
				asked.Add(1)
			}
			return nil
		}})
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheHit, "1")
		if asked.Load() != 0 {
			t.Error("the store was asked for what stands beside it")
		}
		beside.change(func() { beside.down = true })
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheHit, "1")
		beside.change(func() { beside.down, beside.kept["default work k"] = false, json.RawMessage(`{`) })
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheHit, "1")
		if asked.Load() != 2 {
			t.Errorf("the store was asked %d times", asked.Load())
		}
	})
}

func TestResultInMemoryIsTakenFirstAndAFoundOneIsKeptThere(t *testing.T) {
	alone(t, func(t *testing.T, store *memory.Store, n *Node) {
		t.Helper()
		var runs, asked atomic.Int64
		results, err := recent.New(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		n.cfg.Recent = results
		n.Handle("work", counting(&runs))
		store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			if call == "Result" {
				asked.Add(1)
			}
			return nil
		}})
		key := func(s *task.Spec) { s.Cache = task.Cache{Key: "k", TTL: time.Hour} }
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheMiss, "1")
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheHit, "1")
		if asked.Load() != 1 {
			t.Errorf("the store was asked %d times for what is in memory", asked.Load())
		}
		if n.cfg.Recent, err = recent.New(1 << 20); err != nil { // another node's, which has not heard of it
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		for range 3 {
			came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheHit, "1")
		}
		if asked.Load() != 2 {
			t.Errorf("the store was asked %d times for what it had given", asked.Load())
		}
		time.Sleep(31 * time.Minute)
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheMiss, "2")
		came(t, n, submitOne(t, n, "work", `0`, key).ID, task.CacheHit, "2")
	})
}
