package actors

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// elsewhere is a worker of a test, and its connection. It keeps what it is told.
type elsewhere struct {
	tb      testing.TB
	n       *Node
	session *WorkerSession
	reg     task.Registration

	mu        sync.Mutex
	runs      []task.Assignment
	cancelled []string // reasons
	drained   int
	goodbyes  int
	closed    bool
	reached   time.Time
	changed   chan struct{}
}

// comes registers a worker for some kinds.
func comes(tb testing.TB, n *Node, slots int, kinds []string, change ...func(*task.Registration)) *elsewhere {
	tb.Helper()
	w := &elsewhere{tb: tb, n: n, changed: make(chan struct{}, 1)}
	w.reg = task.Registration{Namespace: task.DefaultNamespace, Name: "w", Kinds: kinds, Slots: slots}
	for _, c := range change {
		c(&w.reg)
	}
	checked, err := w.reg.Check()
	if err != nil {
		tb.Fatal(err)
	}
	w.reg = checked
	if err := w.register(n); err != nil {
		tb.Fatal(err)
	}
	return w
}

func (w *elsewhere) register(n *Node) error {
	s, err := n.RegisterWorker(context.Background(), w.reg, w)
	if err == nil {
		w.session = s
		s.Begin()
	}
	return err
}

// back is the same worker on a new connection.
func (w *elsewhere) back(known ...string) *elsewhere {
	w.tb.Helper()
	next := &elsewhere{tb: w.tb, n: w.n, reg: w.reg, changed: make(chan struct{}, 1)}
	next.reg.Resume, next.reg.Running = w.session.Registered().Session, known
	if err := next.register(w.n); err != nil {
		w.tb.Fatal(err)
	}
	return next
}

func (w *elsewhere) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *elsewhere) Run(a task.Assignment) { w.note(func() { w.runs = append(w.runs, a) }) }
func (w *elsewhere) Cancel(_ task.AttemptRef, reason string) {
	w.note(func() { w.cancelled = append(w.cancelled, reason) })
}
func (w *elsewhere) Drain(string)          { w.note(func() { w.drained++ }) }
func (w *elsewhere) Goodbye(time.Duration) { w.note(func() { w.goodbyes++ }) }
func (w *elsewhere) Close()                { w.note(func() { w.closed = true }) }
func (w *elsewhere) Reached() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached
}

// await waits until what it was told is so.
func (w *elsewhere) await(what string, is func() bool) {
	w.tb.Helper()
	late := time.After(patience)
	for {
		w.mu.Lock()
		done := is()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.changed:
		case <-late:
			w.tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// run waits for the i-th attempt it is given.
func (w *elsewhere) run(i int) task.Assignment {
	w.tb.Helper()
	w.await("an attempt", func() bool { return len(w.runs) > i })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[i]
}

// given is how many attempts it was given.
func (w *elsewhere) given() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.runs)
}

func (w *elsewhere) call(token string, call task.WorkerCall) (task.WorkerAnswer, error) {
	w.tb.Helper()
	type answered struct {
		answer task.WorkerAnswer
		err    error
	}
	done := make(chan answered, 2)
	w.session.Call(token, call, func(a task.WorkerAnswer, err error) { done <- answered{a, err} })
	select {
	case a := <-done:
		return a.answer, a.err
	case <-time.After(patience):
		w.tb.Fatalf("no answer to %#v", call)
		return task.WorkerAnswer{}, nil
	}
}

func (w *elsewhere) must(token string, call task.WorkerCall) task.WorkerAnswer {
	w.tb.Helper()
	a, err := w.call(token, call)
	if err != nil {
		w.tb.Fatalf("%#v: %v", call, err)
	}
	return a
}

func TestRemoteWorkerRunsWhatItServes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 1, []string{"away"})
		first := submitOne(t, n, "away", `{"n":1}`)
		a := w.run(0)
		second := submitOne(t, n, "away", `{"n":2}`)
		if a.Task != first.ID || a.Attempt != 1 || string(a.Row.Payload) != `{"n":1}` || a.Row.Worker != w.session.Registered().Worker {
			t.Fatalf("given %+v", a)
		}
		half := 0.5
		w.must(a.Token, task.SayProgress{Fraction: &half, Message: "half"})
		w.must(a.Token, task.SayLog{Level: "info", Message: "hello"})
		text := "out"
		w.must(a.Token, task.SayOutput{Text: &text})
		w.must(a.Token, task.SayCheckpoint{Value: json.RawMessage(`7`)})
		if got := w.given(); got != 1 {
			t.Fatalf("%d attempts on one slot", got)
		}
		waitsFor(t, n, second, task.WaitsForWorkers)
		if got, err := n.Explain(t.Context(), second); err != nil || got == nil || got.Reason != task.WaitsForWorkers || got.Slots != 1 {
			t.Errorf("the second waits as %+v, %v", got, err)
		}
		w.must(a.Token, task.Succeed{Result: json.RawMessage(`"done"`)})
		// Answered: it is on disk.
		got, err := n.cfg.Store.Task(t.Context(), task.DefaultNamespace, first.ID)
		if err != nil || got.State != task.Succeeded || string(got.Result) != `"done"` || got.Progress == nil || got.Progress.Message != "half" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := w.call(a.Token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
			t.Errorf("it ended twice: %v", err)
		}
		b := w.run(1)
		w.must(b.Token, task.FailWith{Failure: task.Failure{Code: "bad", Message: "no"}})
		if got := awaitState(t, n, second.ID, task.Failed); got.Failure.Code != "bad" {
			t.Errorf("%+v", got.Failure)
		}
		kinds := make([]string, 0, 8)
		for _, e := range followTask(t, n, first.ID, nil) {
			kinds = append(kinds, string(e.Type))
		}
		if want := []string{"state", "state", "progress", "log", "output", "state"}; !slices.Equal(kinds, want) {
			t.Errorf("events %v, want %v", kinds, want)
		}
	})
}

func requires(zone string) func(*task.Spec) {
	return func(s *task.Spec) { s.Affinity.Require = in(zone) }
}

func labelled(zone string) func(*task.Registration) {
	return func(r *task.Registration) { r.Labels = map[string]string{"zone": zone} }
}

func of(namespace string) func(*task.Registration) {
	return func(r *task.Registration) { r.Namespace = namespace }
}

func reasonOf(tb testing.TB, n *Node, t task.Task) string {
	tb.Helper()
	t, err := n.cfg.Store.Task(tb.Context(), t.Namespace, t.ID)
	if err != nil {
		tb.Fatal(err)
	}
	w, err := n.Explain(tb.Context(), t)
	if err != nil {
		tb.Fatal(err)
	}
	if w == nil {
		return t.State.String()
	}
	return w.Reason
}

// waitsFor waits until that is why a task does.
func waitsFor(tb testing.TB, n *Node, t task.Task, reason string) {
	tb.Helper()
	eventually(tb, "it to wait for "+reason, func() bool { return reasonOf(tb, n, t) == reason })
}

func TestWorkerOfOneNamespaceGetsNothingOfAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		a, b := comes(t, n, 2, []string{"away"}, of("a")), comes(t, n, 2, []string{"away"}, of("b"))
		var theirs task.Task
		for range 5 {
			theirs = submitOne(t, n, "away", `"b"`, func(s *task.Spec) { s.Namespace = "b" })
		}
		nobodys := submitOne(t, n, "away", `"c"`, func(s *task.Spec) { s.Namespace = "c" })
		submitOne(t, n, "away", `"a"`, func(s *task.Spec) { s.Namespace = "a" })
		if got := a.run(0); got.Row.Namespace != "a" {
			t.Errorf("a got a task of %s", got.Row.Namespace)
		}
		for i := range 2 {
			if got := b.run(i); got.Row.Namespace != "b" {
				t.Errorf("b got a task of %s", got.Row.Namespace)
			}
		}
		// A slot that is free is no reason.
		if waitsFor(t, n, theirs, task.WaitsForWorkers); a.given() != 1 {
			t.Errorf("a was given %d", a.given())
		}
		waitsFor(t, n, nobodys, task.WaitsForHandler)
		if _, err := a.call(b.run(0).Token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
			t.Errorf("a ended an attempt of b: %v", err)
		}
		for namespace, want := range map[string]int{"a": 2, "b": 2, "c": 1} {
			if all, err := n.Workers(t.Context(), namespace); err != nil || len(all) != want {
				t.Errorf("%s sees %d workers, %v", namespace, len(all), err)
			}
		}
		if err := n.DrainWorker(t.Context(), "a", b.session.Registered().Worker); !errors.Is(err, task.ErrNoWorker) {
			t.Errorf("a drains a worker of b: %v", err)
		}
	})
}

func TestOneCountOfSlotsForAllKinds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 2, []string{"x", "y", "z"})
		for i := range 9 {
			submitOne(t, n, []string{"x", "y", "z"}[i%3], `1`)
		}
		for i := range 9 {
			a := w.run(i)
			if running := w.given() - i; running > 2 {
				t.Fatalf("%d attempts on two slots", running)
			}
			w.must(a.Token, task.Succeed{Result: json.RawMessage(`1`)})
			awaitState(t, n, a.Task, task.Succeeded)
		}
	})
}

func TestTaskGoesToAWorkerWithItsLabels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New(), func(c *Config) { c.Labels = map[string]string{"zone": "home"} })
		a, b := comes(t, n, 9, []string{"away"}, labelled("a")), comes(t, n, 1, []string{"away"}, labelled("b"))
		stuck := submitOne(t, n, "away", `1`, requires("c"))
		home := submitOne(t, n, "away", `1`, requires("home")) // of which the node is, but no worker
		inB := submitOne(t, n, "away", `1`, requires("b"))
		if got := b.run(0); got.Task != inB.ID {
			t.Errorf("b got %s", got.Task)
		}
		second := submitOne(t, n, "away", `1`, requires("b"))
		for task, want := range map[*task.Task]string{&stuck: task.WaitsForPlacement, &second: task.WaitsForWorkers, &home: task.WaitsForPlacement} {
			waitsFor(t, n, *task, want)
		}
		if a.given() != 0 {
			t.Errorf("a got %d", a.given())
		}
		rather := submitOne(t, n, "away", `1`, func(s *task.Spec) { s.Affinity.Prefer = in("b") })
		if got := a.run(0); got.Task != rather.ID { // b is full
			t.Errorf("a got %s", got.Task)
		}
		b.must(b.run(0).Token, task.Succeed{})
		if got := b.run(1); got.Task != second.ID {
			t.Errorf("b got %s", got.Task)
		}
		b.must(b.run(1).Token, task.Succeed{})
		eventually(t, "its slot to be free", func() bool { return n.remote(b.session.Registered().Worker).free.Load() == 1000 })
		rather = submitOne(t, n, "away", `1`, func(s *task.Spec) { s.Affinity.Prefer = in("b") })
		if got := b.run(2); got.Task != rather.ID {
			t.Errorf("b got %s", got.Task)
		}
		c := comes(t, n, 1, []string{"away"}, labelled("c"))
		if got := c.run(0); got.Task != stuck.ID {
			t.Errorf("c got %s", got.Task)
		}
	})
}

func TestWorkersResourcesBoundWhatRunsThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New(), func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 1000, "licence": 1000} })
		w := comes(t, n, 9, []string{"away"}, func(r *task.Registration) { r.Resources = task.Resources{"gpu": 2000} })
		with := func(r task.Resources) func(*task.Spec) { return func(s *task.Spec) { s.Resources = r } }
		// Slots of the node are none of the worker's.
		for range 3 {
			submitOne(t, n, "away", `1`, with(task.Resources{task.SlotResource: 3000}))
		}
		w.run(2)
		for i := range 3 {
			w.must(w.run(i).Token, task.Succeed{})
		}
		two := submitOne(t, n, "away", `1`, with(task.Resources{"gpu": 2000}))
		if got := w.run(3); got.Task != two.ID {
			t.Errorf("it got %s", got.Task)
		}
		one := submitOne(t, n, "away", `1`, with(task.Resources{"gpu": 1000}))
		waitsFor(t, n, one, task.WaitsForWorkers)
		w.must(w.run(3).Token, task.Succeed{})
		w.must(w.run(4).Token, task.Succeed{})
		// What the worker has nothing of is taken of the node.
		first := submitOne(t, n, "away", `1`, with(task.Resources{"licence": 1000}))
		if got := w.run(5); got.Task != first.ID {
			t.Errorf("it got %s", got.Task)
		}
		second := submitOne(t, n, "away", `1`, with(task.Resources{"licence": 1000}))
		if waitsFor(t, n, second, task.WaitsForWorkers); w.given() != 6 {
			t.Errorf("%d were given", w.given())
		}
		w.must(w.run(5).Token, task.Succeed{})
		w.must(w.run(6).Token, task.Succeed{})
		// And what neither has is waited for, with a reason.
		never := submitOne(t, n, "away", `1`, with(task.Resources{"gpu": 3000}))
		waitsFor(t, n, never, task.WaitsForever)
		none := submitOne(t, n, "away", `1`, with(task.Resources{"tpu": 1000}))
		waitsFor(t, n, none, task.WaitsForever)
		other := comes(t, n, 1, []string{"away"}, func(r *task.Registration) { r.Resources = task.Resources{"tpu": 1000} })
		if got := other.run(0); got.Task != none.ID {
			t.Errorf("the other got %s", got.Task)
		}
	})
}

func TestLocalHandlerAndWorkersServeOneKind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New(), func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 2000} })
		before := submitOne(t, n, "both", `1`)
		w := comes(t, n, 1, []string{"both"})
		if got := w.run(0); got.Task != before.ID {
			t.Errorf("the worker got %s", got.Task)
		}
		waiting := submitOne(t, n, "both", `1`)
		waitsFor(t, n, waiting, task.WaitsForWorkers)
		end := make(chan struct{})
		n.Handle("both", func(context.Context, *Job) (json.RawMessage, error) { <-end; return nil, nil })
		if got := awaitState(t, n, waiting.ID, task.Running); got.Worker != "local" {
			t.Errorf("it runs on %s", got.Worker)
		}
		others := submitOne(t, n, "both", `1`, func(s *task.Spec) { s.Namespace = "other" })
		eventually(t, "one of another namespace to run here", func() bool {
			got, err := n.cfg.Store.Task(t.Context(), "other", others.ID)
			return err == nil && got.State == task.Running
		})
		third := submitOne(t, n, "both", `1`)
		waitsFor(t, n, third, task.WaitsForResource)
		w.must(w.run(0).Token, task.Succeed{})
		if got := w.run(1); got.Task != third.ID {
			t.Errorf("the worker got %s", got.Task)
		}
		close(end)
		w.must(w.run(1).Token, task.Succeed{})
		all, err := n.Workers(t.Context(), task.DefaultNamespace)
		if err != nil || len(all) != 2 || !slices.Contains(all[0].Kinds, "both") || all[1].State != task.WorkerConnected {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// In virtual time: what a worker had is run again, counted, a lease after its
// connection broke, and what it then says is stale.
func TestWorkerThatStaysAwayLosesItsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		n := inBubble(t, store)
		w := comes(t, n, 1, []string{"away"})
		id := submitOne(t, n, "away", `1`).ID
		a := w.run(0)
		began := time.Now()
		w.session.Ended(false)
		synctest.Wait()
		if all, _ := n.Workers(t.Context(), task.DefaultNamespace); len(all) != 2 || all[1].State != task.WorkerAway {
			t.Errorf("%+v", all)
		}
		waiting := submitOne(t, n, "away", `2`)
		waitsFor(t, n, waiting, task.WaitsForWorkers)
		time.Sleep(DefaultWorkerLease - time.Second)
		synctest.Wait()
		if got, _ := store.Task(t.Context(), task.DefaultNamespace, id); got.State != task.Running {
			t.Errorf("it is %s before the lease is over", got.State)
		}
		other := comes(t, n, 2, []string{"away"})
		b := other.run(0)
		if b.Task != waiting.ID {
			t.Errorf("the other got %s", b.Task)
		}
		b = other.run(1)
		if took := time.Since(began); b.Task != id || b.Attempt != 2 || took < DefaultWorkerLease || took > DefaultWorkerLease+5*time.Second {
			t.Errorf("attempt %d of %s came after %s", b.Attempt, b.Task, took)
		}
		if f := b.Row.Failures; len(f) != 1 || f[0].Code != task.CodeWorkerLost {
			t.Errorf("failures %+v", f)
		}
		if _, err := w.call(a.Token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
			t.Errorf("the lost one ended it: %v", err)
		}
		if all, _ := n.Workers(t.Context(), task.DefaultNamespace); len(all) != 2 || all[1].ID != other.session.Registered().Worker {
			t.Errorf("%+v", all)
		}
		other.must(b.Token, task.Succeed{})
	})
}

// inBubble is a node in a bubble, which ends with the test: with the last timer that
// speaks to an actor, and the ticker that the actor library starts then.
func inBubble(t *testing.T, s task.Store) *Node {
	t.Helper()
	t.Cleanup(func() { time.Sleep(time.Minute) })
	return startNode(t, s)
}

func TestSilentWorkerIsGivenUpAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 1, []string{"away"})
		id := submitOne(t, n, "away", `1`, func(s *task.Spec) { s.MaxAttempts = 1 }).ID
		w.run(0)
		w.session.Ended(true)
		if got := awaitState(t, n, id, task.Failed); got.Failure.Code != task.CodeWorkerLost || !got.Failure.Retryable {
			t.Errorf("%+v", got.Failure)
		}
	})
}

func TestWorkerComesBackToWhatItHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 3, []string{"away"})
		submitOne(t, n, "away", `1`)
		submitOne(t, n, "away", `2`)
		a, b := w.run(0), w.run(1)
		w.must(a.Token, task.SayProgress{Message: "mine"})
		w.session.Ended(false)
		w = w.back()
		// Of the second nothing shows that it came through: it is sent anew.
		own := w.session.Registered().Attempts
		if len(own) != 1 || own[0].Token != a.Token {
			t.Fatalf("it has %+v", own)
		}
		if again := w.run(0); again.Token != b.Token || w.given() != 1 {
			t.Errorf("sent anew: %+v", again)
		}
		// One that says what it has is believed, and so is one that was heard to read.
		w.session.Ended(false)
		w = w.back(b.Token)
		if own := w.session.Registered().Attempts; len(own) != 1 || own[0].Token != b.Token {
			t.Errorf("it has %+v", own)
		}
		w.run(0)
		w.mu.Lock()
		w.reached = time.Now().Add(time.Second)
		w.mu.Unlock()
		next := w.back() // before the other is seen to be broken
		if own := next.session.Registered().Attempts; len(own) != 2 || next.given() != 0 {
			t.Errorf("it has %+v, and was given %d", own, next.given())
		}
		w.await("the connection before to be closed", func() bool { return w.closed })
		if _, err := w.call(a.Token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
			t.Errorf("the connection before ended an attempt: %v", err)
		}
		w.session.Ended(false) // says nothing of the next
		next.must(a.Token, task.Succeed{})
		next.must(b.Token, task.Succeed{})
		awaitState(t, n, a.Task, task.Succeeded)
		if got := awaitState(t, n, b.Task, task.Succeeded); got.Attempt != 1 {
			t.Errorf("it took %d attempts", got.Attempt)
		}
		// To somebody of another namespace it is as if there were no such session.
		stranger := &elsewhere{tb: t, n: n, reg: next.reg, changed: make(chan struct{}, 1)}
		stranger.reg.Namespace, stranger.reg.Resume = "other", next.session.Registered().Session
		if err := stranger.register(n); err != nil || stranger.session.Registered().Worker == next.session.Registered().Worker {
			t.Errorf("a stranger resumed: %v", err)
		}
		if next.closed {
			t.Error("the stranger closed its connection")
		}
	})
}

func TestWorkerThatHasNothingGoesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 1, []string{"away"})
		w.session.Drain()
		eventually(t, "it to drain", func() bool {
			r := n.remote(w.session.Registered().Worker)
			return r != nil && r.is() == task.WorkerDraining
		})
		waiting := submitOne(t, n, "away", `1`)
		if waitsFor(t, n, waiting, task.WaitsForWorkers); w.given() != 0 {
			t.Error("it was given what it did not want")
		}
		w.session.Ended(false)
		eventually(t, "it to go", func() bool { return n.remote(w.session.Registered().Worker) == nil })
		eventually(t, "nobody to serve it", func() bool { return reasonOf(t, n, waiting) == task.WaitsForHandler })
		// Given back, as it was: whoever comes has it.
		w = comes(t, n, 1, []string{"away"})
		if got := w.run(0); got.Task != waiting.ID || got.Attempt != 1 {
			t.Errorf("%+v", got)
		}
		if err := n.DrainWorker(t.Context(), task.DefaultNamespace, w.session.Registered().Worker); err != nil || w.drained != 1 {
			t.Errorf("told to drain %d times, %v", w.drained, err)
		}
		w.session.Ended(false)
		eventually(t, "its attempt to be kept", func() bool { r := n.remote(w.session.Registered().Worker); return r != nil && r.desk.running() == 1 })
		w = w.back(w.run(0).Token)
		w.must(waitingToken(w), task.Succeed{})
		awaitState(t, n, waiting.ID, task.Succeeded)
	})
}

func waitingToken(w *elsewhere) string { return w.session.Registered().Attempts[0].Token }

func TestWorkerIsToldToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		n := inBubble(t, store)
		w := comes(t, n, 4, []string{"away"})
		begin := func(change ...func(*task.Spec)) task.Assignment {
			i := w.given()
			submitOne(t, n, "away", `1`, append(change, func(s *task.Spec) { s.MaxAttempts = 1 })...)
			return w.run(i)
		}
		state := func(id task.ID) task.Task {
			synctest.Wait()
			got, err := store.Task(t.Context(), task.DefaultNamespace, id)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		// Cancelled, and what it says then is stale.
		a := begin()
		if _, err := n.Cancel(t.Context(), task.DefaultNamespace, a.Task, "enough"); err != nil {
			t.Fatal(err)
		}
		w.await("the word", func() bool { return slices.Equal(w.cancelled, []string{"cancelled"}) })
		if _, err := w.call(a.Token, task.SayLog{Level: "info", Message: "still here"}); !errors.Is(err, task.ErrStale) {
			t.Errorf("a log behind the end: %v", err)
		}
		if _, err := w.call(a.Token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
			t.Errorf("an end behind the end: %v", err)
		}
		// Timed out, but done in time all the same.
		timed := func(s *task.Spec) { s.Timeout = time.Second }
		a = begin(timed)
		time.Sleep(2 * time.Second)
		w.await("the word", func() bool { return slices.Contains(w.cancelled, "timeout") })
		w.must(a.Token, task.Succeed{})
		if got := state(a.Task); got.State != task.Succeeded {
			t.Errorf("it is %s", got.State)
		}
		// Timed out, and it says nothing: the attempt ends without it, and its slot is free.
		a = begin(timed)
		time.Sleep(time.Second + graceAfterTimeout + time.Second)
		if got := state(a.Task); got.State != task.Failed || got.Failure.Code != task.CodeTimeout {
			t.Errorf("it is %s, %+v", got.State, got.Failure)
		}
		if got := n.remote(w.session.Registered().Worker); got.free.Load() != 4000 {
			t.Errorf("%d slots are free", got.free.Load())
		}
		// Its deadline passes.
		a = begin(func(s *task.Spec) { s.Deadline = time.Now().Add(time.Minute) })
		time.Sleep(61 * time.Second)
		w.await("the word", func() bool { return slices.Contains(w.cancelled, "deadline") })
		if got := state(a.Task); got.State != task.Failed || got.Failure.Code != task.CodeDeadline {
			t.Errorf("it is %s, %+v", got.State, got.Failure)
		}
	})
}

func TestDrainingNodeLetsWorkersFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store)
		w := comes(t, n, 2, []string{"away"})
		submitOne(t, n, "away", `1`)
		submitOne(t, n, "away", `2`)
		a, b := w.run(0), w.run(1)
		first, second := a.Task, b.Task
		late := submitOne(t, n, "away", `3`).ID
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.Drain(ctx)
		}()
		w.await("the word", func() bool { return w.drained == 1 })
		if _, err := n.RegisterWorker(t.Context(), w.reg, w); !errors.Is(err, task.ErrClosed) {
			t.Errorf("one came to a node that goes: %v", err)
		}
		w.must(a.Token, task.Succeed{})
		cancel() // it has had its time
		w.await("the other to be cut off", func() bool { return slices.Equal(w.cancelled, []string{"drained"}) })
		if _, err := w.call(b.Token, task.FailWith{Failure: task.Failure{Message: "cut off", Retryable: true}}); err != nil {
			t.Errorf("it hands back: %v", err)
		}
		<-done
		w.await("goodbye", func() bool { return w.goodbyes == 1 })
		for id, want := range map[task.ID]task.State{first: task.Succeeded, second: task.Queued, late: task.Queued} {
			got, err := store.Task(t.Context(), task.DefaultNamespace, id)
			if err != nil || got.State != want || got.Holder != 0 || got.Counted() != 0 && id != first {
				t.Errorf("%+v, %v; want %s", got, err, want)
			}
		}
	})
}

func TestWorkerStepsSleepsAndWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 1, []string{"away"})
		id := submitOne(t, n, "away", `1`).ID
		a := w.run(0)
		if len(a.Steps) != 0 {
			t.Errorf("steps before the first: %+v", a.Steps)
		}
		w.must(a.Token, task.KeepStep{Name: "one", Result: json.RawMessage(`1`)})
		w.must(a.Token, task.KeepStep{Name: "one", Result: json.RawMessage(`2`)}) // the answer was lost, say
		w.must(a.Token, task.KeepStep{Name: "two"})
		if got := w.must(a.Token, task.SleepFor{Name: "nap", For: time.Millisecond}); !got.Woken {
			t.Errorf("%+v", got)
		}
		if got := w.must(a.Token, task.AwaitSignal{Signal: "go", Name: "early", Timeout: 0}); !got.TimedOut {
			t.Errorf("%+v", got)
		}
		for _, bad := range []task.WorkerCall{
			task.KeepStep{Name: ""},
			task.KeepStep{Name: "x", Result: json.RawMessage(`{`)},
			task.SleepFor{Name: "\n"},
			task.SleepFor{For: 1 << 62},
			task.AwaitSignal{Signal: "No name"},
			task.AwaitSignal{Signal: "go", Name: "\n"},
			task.SayCheckpoint{Value: json.RawMessage(`{`)},
			task.Succeed{Result: json.RawMessage(`{`)},
			7,
		} {
			if _, err := w.call(a.Token, bad); err == nil || errors.Is(err, task.ErrStale) {
				t.Errorf("%#v: %v", bad, err)
			}
		}
		if got := w.must(a.Token, task.SleepFor{Name: "night", For: 1500 * time.Millisecond}); !got.Suspended || got.Woken {
			t.Errorf("%+v", got)
		}
		if _, err := w.call(a.Token, task.SayLog{Level: "info"}); !errors.Is(err, task.ErrStale) {
			t.Errorf("asleep, it speaks: %v", err)
		}
		a = w.run(1)
		if len(a.Steps) != 2 || a.Steps[0].Name != "one" || string(a.Steps[0].Data) != "1" || string(a.Steps[1].Data) != "null" || a.Attempt != 2 {
			t.Errorf("the second attempt has %+v", a)
		}
		if got := w.must(a.Token, task.SleepFor{Name: "night", For: 1500 * time.Millisecond}); !got.Woken {
			t.Errorf("%+v", got)
		}
		if got := w.must(a.Token, task.AwaitSignal{Signal: "go", Timeout: -1}); !got.Suspended {
			t.Errorf("%+v", got)
		}
		for _, v := range []string{`"first"`, `"second"`} {
			if err := n.Signal(t.Context(), task.DefaultNamespace, id, task.Signal{ID: spec("x", "1").Spec.ID, Name: "go", Data: json.RawMessage(v)}); err != nil {
				t.Fatal(err)
			}
		}
		a = w.run(2)
		if got := w.must(a.Token, task.AwaitSignal{Signal: "go", Timeout: -1}); string(got.Signal) != `"first"` || !got.Got {
			t.Errorf("%+v", got)
		}
		if got := w.must(a.Token, task.AwaitSignal{Signal: "go", Name: "other", Timeout: time.Hour}); string(got.Signal) != `"second"` {
			t.Errorf("%+v", got)
		}
		w.must(a.Token, task.Succeed{Result: json.RawMessage(`"all"`)})
		if got := awaitState(t, n, id, task.Succeeded); got.Counted() != 1 {
			t.Errorf("%d attempts counted", got.Counted())
		}
	})
}

func TestTokensOpenNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		key := make([]byte, 32)
		n := startNode(t, memory.New(), func(c *Config) { c.TokenKey = key })
		w, other := comes(t, n, 1, []string{"away"}), comes(t, n, 1, []string{"other"})
		id := submitOne(t, n, "away", `1`).ID
		a := w.run(0)
		raw, err := base64.RawURLEncoding.DecodeString(a.Token)
		if err != nil || len(raw) != tokenBytes {
			t.Fatalf("%d bytes, %v", len(raw), err)
		}
		forged := []string{"", "x", a.Token + "A", a.Token[1:], strings.Repeat("A", len(a.Token)), " " + a.Token[1:]}
		for i := range raw {
			flipped := slices.Clone(raw)
			flipped[i] ^= 1
			forged = append(forged, base64.RawURLEncoding.EncodeToString(flipped))
		}
		forged = append(forged, n.token(attemptKey{id, 2}, w.session.Registered().Worker), n.token(attemptKey{id, 1}, other.session.Registered().Worker))
		for _, token := range forged {
			if _, err := w.call(token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
				t.Errorf("%q: %v", token, err)
			}
		}
		if _, err := other.call(a.Token, task.Succeed{}); !errors.Is(err, task.ErrStale) {
			t.Errorf("another worker used it: %v", err)
		}
		if got := awaitState(t, n, id, task.Running); got.Attempt != 1 {
			t.Errorf("%+v", got)
		}
		w.must(a.Token, task.Succeed{})
	})
}

func TestSchedulerFindsWorkersAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 2, []string{"away"})
		for i := range 3 {
			submitOne(t, n, "away", strconv.Itoa(i))
		}
		a := w.run(0)
		w.run(1)
		n.root.Send(n.scheduler, bombs["scheduler"].bomb)
		eventually(t, "it to panic", func() bool { return testutil.ToFloat64(n.metrics.panics) > 0 })
		eventually(t, "the scheduler to know what runs", func() bool {
			all, err := n.Workers(t.Context(), task.DefaultNamespace)
			return err == nil && all[1].Running == 2 && n.remote(all[1].ID).free.Load() == 0
		})
		if w.given() != 2 {
			t.Fatalf("%d attempts on two slots", w.given())
		}
		w.must(a.Token, task.Succeed{})
		w.must(w.run(2).Token, task.Succeed{})
	})
}

func TestWorkerActorThatCrashesCostsItsAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		w := comes(t, n, 1, []string{"away"})
		id := submitOne(t, n, "away", `1`, func(s *task.Spec) { s.MaxAttempts = 1 }).ID
		w.run(0)
		n.root.Send(n.remote(w.session.Registered().Worker).actor, goodbye{within: -1}) // there is no such time
		w.await("the connection to be closed", func() bool { return w.closed })
		if got := awaitState(t, n, id, task.Failed); got.Failure.Code != task.CodeWorkerCrashed {
			t.Errorf("%+v", got.Failure)
		}
		eventually(t, "it to be gone", func() bool { return len(n.remotesNow()) == 0 })
		w = comes(t, n, 1, []string{"away"})
		submitOne(t, n, "away", `1`)
		w.must(w.run(0).Token, task.Succeed{})
	})
}

// On a cluster a task goes to the node that has the workers, namespace by namespace, and
// from one whose workers are busy to one whose are not.
func TestClusterSendsTasksWhereTheirWorkersAre(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		nodes := placed(t, store, "xyz")
		a, b := comes(t, nodes[0], 2, []string{"away"}, of("a")), comes(t, nodes[1], 2, []string{"away"}, of("b"))
		for i := range 12 {
			namespace := []string{"a", "b"}[i%2]
			submitOne(t, nodes[i%3], "away", `1`, func(s *task.Spec) { s.Namespace = namespace })
		}
		for i := range 6 {
			for namespace, w := range map[string]*elsewhere{"a": a, "b": b} {
				got := w.run(i)
				if got.Row.Namespace != namespace {
					t.Fatalf("%s got a task of %s", namespace, got.Row.Namespace)
				}
				w.must(got.Token, task.Succeed{})
			}
		}
		var last task.Task
		for range 5 {
			last = submitOne(t, nodes[1], "away", `1`, func(s *task.Spec) { s.Namespace = "a" })
		}
		a.run(7)
		eventually(t, "all nodes to say that the workers are busy", func() bool {
			for _, n := range nodes {
				if got := reasonOf(t, n, last); got != task.WaitsForWorkers {
					return false
				}
			}
			return true
		})
		// Another node's worker has room: what waits goes there.
		c := comes(t, nodes[2], 3, []string{"away"}, of("a"))
		c.run(2)
		if all, err := nodes[1].Workers(t.Context(), "a"); err != nil || len(all) != 5 {
			t.Errorf("a sees %d workers on all nodes, %v", len(all), err)
		}
		if err := nodes[1].DrainWorker(t.Context(), "a", c.session.Registered().Worker); err != nil || c.drained != 1 {
			t.Errorf("told to drain %d times, %v", c.drained, err)
		}
		if err := nodes[1].DrainWorker(t.Context(), "b", c.session.Registered().Worker); !errors.Is(err, task.ErrNoWorker) {
			t.Errorf("b drains a worker of a: %v", err)
		}
		for i := range 3 {
			c.must(c.run(i).Token, task.Succeed{})
		}
	})
}
