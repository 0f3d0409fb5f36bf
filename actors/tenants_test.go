package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// setTenant sets what a namespace may take up, and has the node know it.
func setTenant(tb testing.TB, n *Node, t access.Tenant) {
	tb.Helper()
	accounts, ok := n.cfg.Store.(access.Accounts)
	if !ok {
		tb.Fatalf("%T keeps no accounts", n.cfg.Store)
	}
	act := access.Audit{ID: task.ID(uuid.Must(uuid.NewV7())), At: time.Now(), Namespace: task.DefaultNamespace, Action: "tenant.set"}
	if err := accounts.SetTenant(context.Background(), t, act); err != nil {
		tb.Fatal(err)
	}
	if err := n.TenantsChanged(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

func ofTenant(namespace string) func(*task.Spec) {
	return func(s *task.Spec) { s.Namespace = namespace }
}

func TestWhatANamespaceMayRunHoldsInTheWholeCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		c := newCrowd()
		nodes := trio(t, c.handler(5*time.Millisecond, func(k task.Task) string { return k.Namespace }))
		setTenant(t, nodes[0], access.Tenant{Namespace: "acme", Running: 3})
		if got := nodes[0].Tenant("acme"); got != (access.Tenant{Namespace: "acme", Running: 3}) {
			t.Errorf("the node on which it was set takes it for %+v", got)
		}
		for _, n := range nodes {
			eventually(t, "the tenant to be known", func() bool { return n.Tenant("acme").Running == 3 })
		}
		var ids, free []task.ID
		for i := range 60 {
			ids = append(ids, submitOne(t, nodes[i%3], "work", `0`, ofTenant("acme"), func(s *task.Spec) { s.Queue = fmt.Sprint("q", i%4) }).ID)
			free = append(free, submitOne(t, nodes[i%3], "work", `0`).ID)
		}
		awaitAll(t, nodes[1], free)
		eventually(t, "all to have run", func() bool {
			for _, id := range ids {
				if k, err := nodes[2].cfg.Store.Task(t.Context(), "acme", id); err != nil || k.State != task.Succeeded {
					return false
				}
			}
			return true
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.most["acme"] != 3 {
			t.Errorf("%d ran at once, of which 3 may", c.most["acme"])
		}
		if c.most[task.DefaultNamespace] <= 3 {
			t.Errorf("of another namespace no more than %d ran at once", c.most[task.DefaultNamespace])
		}
	})
}

func TestExplainSaysThatANamespaceRunsAllItMay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		setTenant(t, n, access.Tenant{Namespace: "acme", Running: 1})
		first := submitOne(t, n, "hang", `0`, ofTenant("acme"))
		eventually(t, "the first to run", func() bool {
			k, err := n.cfg.Store.Task(t.Context(), "acme", first.ID)
			return err == nil && k.State == task.Running
		})
		one := submitOne(t, n, "hang", `0`, ofTenant("acme"))
		var k task.Task
		eventually(t, "it to be parked", func() (parked bool) {
			k, _ = n.cfg.Store.Task(t.Context(), "acme", one.ID)
			return k.Parked != nil
		})
		want := &task.Waiting{Reason: task.WaitsForLimit, Most: 1000, Limit: task.NamespaceLimit("acme")}
		if w, err := n.Explain(t.Context(), k); err != nil || !cmp.Equal(w, want) {
			t.Errorf("%+v, %v", w, err)
		}
		setTenant(t, n, access.Tenant{Namespace: "acme"})
		eventually(t, "it to run once nothing bounds it", func() bool {
			k, err := n.cfg.Store.Task(t.Context(), "acme", one.ID)
			return err == nil && k.State == task.Running
		})
	})
}

func TestANamespaceThatHasUsedUpItsQuotaSubmitsNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store, func(c *Config) { c.Capacity = task.Resources{} })
		setTenant(t, n, access.Tenant{Namespace: task.DefaultNamespace, Queued: 4})
		if taken, why := submitAll(t, n, 5, asOne); taken != 0 || !errors.Is(why, task.ErrQuota) {
			t.Errorf("of five together %d were taken: %v", taken, why)
		}
		queue := 0
		taken, why := submitAll(t, n, 7, func(s *task.Submission) {
			s.Spec.Queue = fmt.Sprint("q", queue%3)
			queue++
		})
		quota, ok := errors.AsType[*task.QuotaError](why)
		if taken != 4 || !ok || quota.Quota != task.QuotaQueued || quota.Most != 4 || quota.After < time.Second || quota.After > time.Minute {
			t.Errorf("%d were taken: %+v", taken, why)
		}
		if taken, _ := submitAll(t, n, 1, func(s *task.Submission) { s.Spec.Namespace = "other" }); taken != 1 {
			t.Error("another namespace is kept from submitting")
		}
		setTenant(t, n, access.Tenant{Namespace: task.DefaultNamespace, Queued: 6})
		if _, err := n.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "q0", MaxQueued: new(1)}); err != nil {
			t.Fatal(err)
		}
		if taken, why := submitAll(t, n, 1, func(s *task.Submission) { s.Spec.Queue = "q0" }); taken != 0 || !errors.Is(why, task.ErrQueueFull) {
			t.Errorf("the queue is full, its namespace not: %d were taken, %v", taken, why)
		}
		if taken, _ := submitAll(t, n, 7); taken != 2 {
			t.Errorf("with room for two more %d were taken", taken)
		}
		setTenant(t, n, access.Tenant{Namespace: task.DefaultNamespace})
		if taken, why := submitAll(t, n, 7); taken != 7 {
			t.Errorf("without a quota %d were taken: %v", taken, why)
		}
	})
}

func TestTheQuotaOfANamespaceIsExactUnderAFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store, func(c *Config) { c.Capacity = task.Resources{} })
		setTenant(t, n, access.Tenant{Namespace: task.DefaultNamespace, Queued: 100})
		var taken atomic.Int64
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				for range 5 {
					k, _ := submitAll(t, n, 1, func(s *task.Submission) { s.Spec.Queue = fmt.Sprint("q", i%5) })
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

func TestAWeightThatIsSetOfATenantGoesBeforeTheFlag(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var mu sync.Mutex
		starts := map[string]int{}
		n.Handle("work", func(_ context.Context, j *Job) (json.RawMessage, error) {
			mu.Lock()
			starts[j.Task.Namespace]++
			mu.Unlock()
			time.Sleep(time.Second)
			return nil, nil
		})
		setTenant(t, n, access.Tenant{Namespace: "acme", Weight: 3})
		for range 1000 {
			for _, namespace := range []string{"acme", "other"} {
				submitOne(t, n, "work", `0`, ofTenant(namespace))
			}
		}
		share := func() float64 {
			mu.Lock()
			clear(starts)
			mu.Unlock()
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			return float64(starts["acme"]) / float64(starts["acme"]+starts["other"])
		}
		if got := share(); got < 0.72 || got > 0.78 {
			t.Errorf("with a weight of 3 it had %.2f", got)
		}
		setTenant(t, n, access.Tenant{Namespace: "acme"})
		if got := share(); got < 0.17 || got > 0.23 {
			t.Errorf("with the flag's quarter it had %.2f", got)
		}
	}, func(c *Config) {
		c.Capacity, c.Weights = task.Resources{task.SlotResource: 8000}, map[string]float64{"acme": 0.25}
	})
}

// chatter emits so many chunks.
func chatter(chunks int) Handler {
	return func(_ context.Context, j *Job) (json.RawMessage, error) {
		for i := range chunks {
			if err := j.EmitText(strconv.Itoa(i)); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

func TestHandlersSayNoMoreInASecondThanTheirNamespaceMay(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		n.Handle("chat", chatter(50))
		setTenant(t, n, access.Tenant{Namespace: "acme", Events: 20})
		began := time.Now()
		ended := func(namespace string, ids ...task.ID) time.Duration {
			for _, id := range ids {
				for {
					k, err := n.cfg.Store.Task(t.Context(), namespace, id)
					if err != nil {
						t.Fatal(err)
					}
					if k.State == task.Succeeded {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
			return time.Since(began)
		}
		one, two := submitOne(t, n, "chat", `0`, ofTenant("acme")), submitOne(t, n, "chat", `0`, ofTenant("acme"))
		if took := ended("other", submitOne(t, n, "chat", `0`, ofTenant("other")).ID); took > time.Second {
			t.Errorf("another namespace was slowed to %v", took)
		}
		if took := ended("acme", one.ID, two.ID); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("a hundred events, of which twenty come at once and twenty a second, took %v", took)
		}
		events, err := n.cfg.Store.Events(t.Context(), "acme", one.ID, task.Cursor{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		said := 0
		for _, e := range events {
			if e.Type == task.EventOutput {
				said++
			}
		}
		if said != 50 {
			t.Errorf("of 50 chunks %d are kept", said)
		}
	})
}

func TestWhoWaitsToSpeakIsHeldToTheNewestBound(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		n.Handle("chat", chatter(5000))
		setTenant(t, n, access.Tenant{Namespace: "acme", Events: 1})
		one := submitOne(t, n, "chat", `0`, ofTenant("acme"))
		time.Sleep(10 * time.Second)
		setTenant(t, n, access.Tenant{Namespace: "acme", Events: 1000})
		time.Sleep(6 * time.Second)
		if k, err := n.cfg.Store.Task(t.Context(), "acme", one.ID); err != nil || k.State != task.Succeeded {
			t.Errorf("%v, %v", k.State, err)
		}
		setTenant(t, n, access.Tenant{Namespace: "acme", Events: 1})
		two := submitOne(t, n, "chat", `0`, ofTenant("acme"))
		time.Sleep(time.Second)
		if _, err := n.Cancel(t.Context(), "acme", two.ID, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if len(n.voices.of) != 1 {
			t.Errorf("%d namespaces are paced, of which one is bounded", len(n.voices.of))
		}
		setTenant(t, n, access.Tenant{Namespace: "acme"})
		if len(n.voices.of) != 0 {
			t.Error("a namespace that is not bounded any more is remembered")
		}
	})
}

func TestWhoIsCutOffWhileItWaitsToSpeakHearsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &voices{}
		v.learn(map[string]access.Tenant{"acme": {Events: 1}})
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := v.wait(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, func() { cancel(ErrTimeout) })
		if err := v.wait(ctx, "acme"); !errors.Is(err, ErrTimeout) {
			t.Errorf("%v", err)
		}
		// Its turn is another's.
		began := time.Now()
		if err := v.wait(t.Context(), "acme"); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A tenant that floods a node beyond all its bounds costs others nothing.
func TestATenantAtItsBoundsSlowsNobody(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var mu sync.Mutex
		began := map[string][]time.Time{}
		n.Handle("work", func(_ context.Context, j *Job) (json.RawMessage, error) {
			mu.Lock()
			began[j.Task.Namespace] = append(began[j.Task.Namespace], time.Now())
			mu.Unlock()
			for range 10 {
				if err := j.EmitText("x"); err != nil {
					return nil, err
				}
			}
			time.Sleep(time.Second)
			return nil, nil
		})
		setTenant(t, n, access.Tenant{Namespace: "flood", Running: 2, Queued: 500, Events: 50})
		refused := 0
		for range 60 {
			for range 20 {
				if answer := n.Submit(t.Context(), []task.Submission{spec("work", `0`, ofTenant("flood"))})[0]; answer.Err != nil {
					refused++
				}
			}
			came := time.Now()
			submitOne(t, n, "work", `0`, ofTenant("single"))
			time.Sleep(time.Second)
			mu.Lock()
			last := began["single"][len(began["single"])-1]
			mu.Unlock()
			if late := last.Sub(came); late < 0 || late > 100*time.Millisecond {
				t.Fatalf("it has waited %v", late)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if n := len(began["flood"]); n < 90 || n > 125 {
			t.Errorf("of the flood %d have run in a minute, two at a time for a second each", n)
		}
		if refused < 500 {
			t.Errorf("of 1200 only %d were refused, where 500 may wait", refused)
		}
	}, func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 4000} })
}

// mute is a store whose tenants cannot be read.
type mute struct {
	*memory.Store
	shut atomic.Bool
}

func (m *mute) Tenants(ctx context.Context) ([]access.Tenant, error) {
	if m.shut.Load() {
		return nil, task.ErrUnavailable
	}
	return m.Store.Tenants(ctx)
}

func TestTenantsThatCannotBeReadStayWhatTheyWere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := &mute{Store: memory.NewShared()}
		n := peer(t, store, newWires(), "a", func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
		setTenant(t, n, access.Tenant{Namespace: "acme", Running: 1})
		store.shut.Store(true)
		if err := n.TenantsChanged(t.Context()); !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		if n.Tenant("acme").Running != 1 {
			t.Error("what was known is forgotten")
		}
		cfg := Config{Store: store, Tenants: store, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "b"}
		if other, err := Start(t.Context(), cfg); !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("%v, %v", other, err)
		}
	})
}

func TestANamespaceThatKeepsAllTheBytesItMaySubmitsNoMore(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		n.Handle("write", func(_ context.Context, j *Job) (json.RawMessage, error) {
			return nil, j.EmitText(strings.Repeat("x", 50_000))
		})
		large := func(s *task.Submission) {
			s.Spec.Kind, s.Spec.Payload = "none", json.RawMessage(`"`+strings.Repeat("x", 9_990)+`"`)
		}
		setTenant(t, n, access.Tenant{Namespace: task.DefaultNamespace, Bytes: 100_000})
		if taken, why := submitAll(t, n, 11, large, asOne); taken != 0 || !errors.Is(why, task.ErrQuota) {
			t.Errorf("of eleven together %d were taken: %v", taken, why)
		}
		taken, why := submitAll(t, n, 4, large)
		if taken != 4 {
			t.Errorf("%d were taken: %v", taken, why)
		}
		// What runs is not cut off, whatever it says.
		writer := submitOne(t, n, "write", `0`)
		two := submitOne(t, n, "write", `0`)
		time.Sleep(10 * time.Second)
		for _, id := range []task.ID{writer.ID, two.ID} {
			if k, err := n.cfg.Store.Task(t.Context(), task.DefaultNamespace, id); err != nil || k.State != task.Succeeded {
				t.Errorf("%v, %v", k.State, err)
			}
		}
		usage, err := n.Usage(t.Context(), task.DefaultNamespace)
		if err != nil || usage.Queued != 4 || usage.Running != 0 || usage.Bytes < 140_000 || usage.Bytes > 145_000 {
			t.Errorf("%+v, %v", usage, err)
		}
		taken, why = submitAll(t, n, 1)
		quota, ok := errors.AsType[*task.QuotaError](why)
		if taken != 0 || !ok || *quota != (task.QuotaError{Quota: task.QuotaBytes, Most: 100_000, After: time.Minute}) {
			t.Errorf("%d were taken: %+v", taken, why)
		}
		if err := n.Delete(t.Context(), task.DefaultNamespace, writer.ID); err != nil {
			t.Fatal(err)
		}
		if taken, why := submitAll(t, n, 2, large); taken != 0 || !errors.Is(why, task.ErrQuota) {
			t.Errorf("what was deleted made no room for a large one, and %d were taken: %v", taken, why)
		}
		if taken, why := submitAll(t, n, 1); taken != 1 {
			t.Errorf("something was deleted, and a small one is not taken: %v", why)
		}
	})
}

func TestBytesOfANamespaceAreBoundedUnderAFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store, func(c *Config) { c.Capacity = task.Resources{} })
		setTenant(t, n, access.Tenant{Namespace: task.DefaultNamespace, Bytes: 200_000})
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				for i := range 20 {
					_, _ = submitAll(t, n, 1, func(s *task.Submission) {
						s.Spec.Payload = json.RawMessage(`"` + strings.Repeat("x", 1000*(i%5)) + `"`)
					})
				}
			})
		}
		group.Wait()
		if u, err := n.Usage(t.Context(), task.DefaultNamespace); err != nil || u.Bytes > 200_000 || u.Bytes < 195_000 {
			t.Errorf("%+v, %v", u, err)
		}
	})
}
