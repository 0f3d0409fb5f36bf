package storetest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/task"
)

// Limits of the whole cluster: an attempt begins with all its tokens or its task
// is parked, and is called again when there is room.

func keyOf(name string) task.LimitName {
	return task.LimitName{Scope: task.OfKey, Namespace: "acme", Name: name}
}

// limited is a spec with a concurrency key.
func (s *suite) limited(key string, limit int, change ...func(*task.Spec)) task.Spec {
	return s.spec(append(change, func(p *task.Spec) { p.ConcurrencyKey, p.ConcurrencyLimit = key, limit })...)
}

// wants is what a task asks for where its queue has settings and some resources
// are the cluster's.
func wants(t task.Task, q task.Queue, pools ...string) []task.Token {
	tokens := t.Wants(q, task.Kind{}, 0, func(name string) bool { return slices.Contains(pools, name) })
	slices.SortFunc(tokens, func(a, b task.Token) int { return a.Limit.Compare(b.Limit) })
	return tokens
}

// try starts a held task with tokens, and says whether it got them.
func (s *suite) try(t task.Task, tokens ...task.Token) (task.Task, bool) {
	s.Helper()
	if len(tokens) == 0 {
		tokens = wants(t, task.Queue{})
	}
	step, err := t.Start(epoch.Add(time.Hour), "node", "worker", tokens...)
	if err != nil {
		s.Fatal(err)
	}
	switch out := s.append(step.Mutation())[0]; {
	case out.Err == nil:
		return step.Task, true
	case errors.Is(out.Err, task.ErrParked):
		return t, false
	default:
		s.Fatal(out.Err)
		return t, false
	}
}

// claimed claims until nothing more comes; who is called is there for one claim
// alone.
func (s *suite) claimed(holder task.Incarnation) (all []task.Task) {
	s.Helper()
	for {
		got := s.claim(task.Claim{Holder: holder})
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
	}
}

func (s *suite) setGPUs(capacity *task.Quantity) {
	s.Helper()
	s.ok(task.Mutation{Op: task.SetPool, Pool: task.PoolChange{Name: "gpu", Capacity: capacity}})
}

func (s *suite) setQueue(c task.QueueChange) {
	s.Helper()
	c.Namespace = "acme"
	s.ok(task.Mutation{Op: task.SetQueue, Queue: c})
}

func (s *suite) setKind(c task.KindChange) {
	s.Helper()
	c.Namespace = "acme"
	s.ok(task.Mutation{Op: task.SetKind, Kind: c})
}

func noPool(string) bool { return false }

var limitRules = []rule{
	{"WithoutItsTokensATaskIsParkedAsItWas", func(s *suite) {
		first := s.insert(s.limited("k", 1), 0, 5)
		second := s.insert(s.limited("k", 1), time.Second, 5)
		running, ok := s.try(first)
		if !ok {
			s.Fatal("the first does not start")
		}
		s.stored(running)
		if _, ok := s.try(second); ok {
			s.Fatal("two run")
		}
		parked := second
		parked.Holder, parked.Parked = 0, &task.Parked{Limit: keyOf("k"), Used: 1000, Most: 1000}
		s.stored(parked)
		s.same(len(s.events(second)), 1)
		s.same(s.overview(task.Scope{}).Counts, []task.Count{
			{Namespace: "acme", Queue: "default", State: task.Queued, Tasks: 1},
			{Namespace: "acme", Queue: "default", State: task.Running, Tasks: 1},
		})
		s.same(s.claimed(6), []task.Task(nil))
		s.reopen()
		s.stored(running)
		s.stored(parked)

		s.succeed(running, 2*time.Hour)
		called := second
		called.Holder, called.Called = 6, true
		s.same(s.claimed(6), []task.Task{called})
		s.stored(called)
		if _, ok := s.try(called); !ok {
			s.Fatal("the second does not start either")
		}
	}},
	{"WhateverEndsAnAttemptGivesItsTokensBack", func(s *suite) {
		at := epoch.Add(2 * time.Hour)
		fail := task.Failure{Code: "x", Message: "x", Retryable: true}
		for i, end := range []func(task.Task) (task.Step, error){
			func(t task.Task) (task.Step, error) { return t.Succeed(at, nil) },
			func(t task.Task) (task.Step, error) { return t.Fail(at, fail, 0.5) },
			func(t task.Task) (task.Step, error) { return t.Fail(at, task.Failure{Code: "x"}, 0.5) },
			func(t task.Task) (task.Step, error) { return t.Cancel(at, "") },
			func(t task.Task) (task.Step, error) { return t.HandBack(at) },
			func(t task.Task) (task.Step, error) { return t.Expire(epoch.Add(4 * time.Hour)) },
			func(t task.Task) (task.Step, error) { return t.Lost(at, task.CodeNodeLost, 0.5, mostCrashes), nil },
		} {
			running, ok := s.try(s.insert(s.limited("k", 1, func(p *task.Spec) { p.Deadline = epoch.Add(3 * time.Hour) }), 0, 5))
			if !ok {
				s.Fatalf("end %d left a token behind", i-1)
			}
			next := s.step(end(running))
			s.stored(next)
			if next.Tokens != nil {
				s.Errorf("end %d: the row still has %v", i, next.Tokens)
			}
			if cancel, err := next.Cancel(at, ""); err == nil {
				s.ok(cancel.Mutation())
			}
		}
	}},
	{"RefusedWriteTakesAndGivesNothing", func(s *suite) {
		running, _ := s.try(s.insert(s.limited("k", 2), 0, 5))
		end, _ := running.Succeed(epoch.Add(time.Hour), nil)
		end.Guard.Attempt = 7
		s.refused(end.Mutation(), task.ErrStale)
		start, _ := s.insert(s.limited("k", 2), 0, 5).Start(epoch, "node", "worker", running.Tokens...)
		start.Guard.Holder = 6
		s.refused(start.Mutation(), task.ErrStale)
		second, ok := s.try(s.insert(s.limited("k", 2), 0, 5))
		if !ok {
			s.Fatal("a stale start took a token")
		}
		if _, ok := s.try(s.insert(s.limited("k", 2), 0, 5)); ok {
			s.Fatal("a stale end gave one back")
		}
		s.succeed(second, 0)
	}},
	{"ParkedTasksComeInTheirOrderAndNobodyPasses", func(s *suite) {
		running, _ := s.try(s.insert(s.limited("k", 1), 0, 5))
		var parked []task.Task
		for i := range 4 {
			t := s.insert(s.limited("k", 1, func(p *task.Spec) { p.Priority = i % 2 }), time.Duration(i)*time.Second, 5)
			s.try(t)
			parked = append(parked, t)
		}
		slices.SortFunc(parked, func(a, b task.Task) int { return cmp.Compare(a.Rank(), b.Rank()) })
		for _, next := range parked {
			s.succeed(running, 0)
			late := s.insert(s.limited("k", 1), time.Hour, 5)
			if _, ok := s.try(late); ok {
				s.Fatal("one that came late passed those that wait")
			}
			s.cancelled(late)
			got := s.claimed(5)
			s.same(ids(got), []task.ID{next.ID})
			var ok bool
			if running, ok = s.try(got[0]); !ok {
				s.Fatal("the one that was called does not start")
			}
		}
		s.succeed(running, 0)
		if _, ok := s.try(s.insert(s.limited("k", 1), time.Hour, 5)); !ok {
			s.Fatal("with nobody before it, it does not start")
		}
	}},
	{"MoreUrgentOneDoesNotWaitBehindTheParked", func(s *suite) {
		running, _ := s.try(s.insert(s.limited("k", 1), 0, 5))
		s.try(s.insert(s.limited("k", 1), time.Second, 5))
		s.succeed(running, 0)
		if _, ok := s.try(s.insert(s.limited("k", 1, func(p *task.Spec) { p.Priority = 5 }), 2*time.Second, 5)); !ok {
			s.Error("it is parked")
		}
	}},
	{"ParkedTaskCanBeCancelledAndExpires", func(s *suite) {
		running, _ := s.try(s.insert(s.limited("k", 1), 0, 5))
		a := s.insert(s.limited("k", 1, func(p *task.Spec) { p.Deadline = epoch.Add(time.Hour) }), 0, 5)
		b := s.insert(s.limited("k", 1), time.Second, 5)
		s.try(a)
		s.try(b)
		due, _, err := s.store.Due(s.ctx, epoch.Add(time.Hour), 10)
		if err != nil {
			s.Fatal(err)
		}
		s.same(ids(due), []task.ID{a.ID})
		s.stored(s.step(due[0].Expire(epoch.Add(time.Hour))))
		s.stored(s.step(s.read(b).Cancel(epoch.Add(time.Hour), "")))
		s.succeed(running, 0)
		s.same(s.claimed(5), []task.Task(nil))
		if _, ok := s.try(s.insert(s.limited("k", 1), 0, 5)); !ok {
			s.Error("the key is not free")
		}
	}},
	{"TaskTakesAllItsTokensOrNone", func(s *suite) {
		s.setGPUs(new(task.Quantity(2000)))
		gpus := func(n task.Quantity) func(*task.Spec) {
			return func(p *task.Spec) { p.Resources = task.Resources{"slots": 1000, "gpu": n} }
		}
		run := func(spec task.Spec) (task.Task, bool) {
			t := s.insert(spec, 0, 5)
			return s.try(t, wants(t, task.Queue{}, "gpu")...)
		}
		one, _ := run(s.limited("k", 2, gpus(1500)))
		if _, ok := run(s.limited("k", 2, gpus(1000))); ok {
			s.Fatal("more GPUs are in use than there are")
		}
		if _, ok := run(s.limited("k", 2)); !ok {
			s.Fatal("the one that was parked for a GPU has the key's token")
		}
		s.same(s.overview(task.Scope{}).Pools, []task.Pool{{Name: "gpu", Capacity: 2000, Used: 1500}})
		s.succeed(one, 0)
		s.same(s.overview(task.Scope{}).Pools, []task.Pool{{Name: "gpu", Capacity: 2000}})
	}},
	{"WhoAsksForMoreThanThereIsBarsNobodysWay", func(s *suite) {
		s.setGPUs(new(task.Quantity(2000)))
		run := func(after time.Duration, n task.Quantity) (task.Task, bool) {
			t := s.insert(s.spec(func(p *task.Spec) { p.Resources = task.Resources{"slots": 0, "gpu": n} }), after, 5)
			return s.try(t, wants(t, task.Queue{}, "gpu")...)
		}
		giant, ok := run(0, 3000)
		if ok {
			s.Fatal("it got more than there is")
		}
		if _, ok := run(time.Second, 1000); !ok {
			s.Fatal("others wait behind it")
		}
		s.same(s.claimed(5), []task.Task(nil))
		s.setGPUs(new(task.Quantity(4000)))
		s.same(ids(s.claimed(5)), []task.ID{giant.ID})
	}},
	{"BigOneIsNotPassedByTheSmallForEver", func(s *suite) {
		s.setGPUs(new(task.Quantity(4000)))
		run := func(after time.Duration, n task.Quantity) (task.Task, bool) {
			t := s.insert(s.spec(func(p *task.Spec) { p.Resources = task.Resources{"slots": 0, "gpu": n} }), after, 5)
			return s.try(t, wants(t, task.Queue{}, "gpu")...)
		}
		a, _ := run(0, 2000)
		b, _ := run(0, 1000) // so that one is free, as long as it takes
		big, _ := run(time.Second, 3000)
		small, ok := run(2*time.Second, 2000)
		if ok {
			s.Fatal("the small one passed the big one that waits")
		}
		s.succeed(b, 0)
		s.same(s.claimed(5), []task.Task(nil)) // 2 of 4 are free, the first needs 3
		s.succeed(a, 0)
		got := s.claimed(5)
		s.same(ids(got), []task.ID{big.ID})
		if big, ok = s.try(got[0], wants(got[0], task.Queue{}, "gpu")...); !ok {
			s.Fatal("the big one does not start")
		}
		s.same(s.claimed(5), []task.Task(nil))
		s.succeed(big, 0)
		s.eventually("the small one is called", func() bool {
			got := s.claimed(5)
			return len(got) == 1 && got[0].ID == small.ID
		})
	}},
	{"QueueSettingsChangeOneByOne", func(s *suite) {
		s.setQueue(task.QueueChange{Name: "a", Concurrency: new(3)})
		s.setQueue(task.QueueChange{Name: "a", Rate: new(task.Rate{Count: 100, Per: time.Second})})
		s.setQueue(task.QueueChange{Name: "a", Paused: new(true)})
		want := task.Queue{Namespace: "acme", Name: "a", Paused: true, Concurrency: 3, Rate: task.Rate{Count: 100, Per: time.Second}}
		s.same(s.overview(task.Scope{Namespace: "acme"}).Queues, []task.Queue{want})
		s.reopen()
		s.same(s.overview(task.Scope{}).Queues, []task.Queue{want})
		s.same(s.overview(task.Scope{Namespace: "other"}).Queues, []task.Queue(nil))
		s.setQueue(task.QueueChange{Name: "a", Concurrency: new(0), Rate: new(task.Rate{}), Paused: new(false)})
		s.same(s.overview(task.Scope{}).Queues, []task.Queue{{Namespace: "acme", Name: "a"}})
		more := task.Queue{Namespace: "acme", Name: "a", Weight: 0.25, Policy: task.PolicyDeadline, Placement: task.PlacementPack, MaxQueued: 7}
		more.Rate.Burst = 9
		s.setQueue(task.QueueChange{Name: "a", Burst: new(9), Weight: new(0.5), MaxQueued: new(7)})
		s.setQueue(task.QueueChange{Name: "a", Policy: new(task.PolicyDeadline), Placement: new(task.PlacementPack), Weight: new(0.25)})
		s.reopen()
		s.same(s.overview(task.Scope{}).Queues, []task.Queue{more})
		more.Rate.Count, more.Rate.Per = 10, time.Second
		s.setQueue(task.QueueChange{Name: "a", Rate: new(task.Rate{Count: 10, Per: time.Second})})
		s.same(s.overview(task.Scope{}).Queues, []task.Queue{more})
	}},
	{"KindSettingsChangeOneByOne", func(s *suite) {
		want := task.Kind{
			Namespace: "acme", Name: "work", Concurrency: 3, RetryBudget: 0.25,
			Breaker: task.Breaker{Failures: 5, Window: time.Minute, OpenFor: time.Second},
		}
		s.setKind(task.KindChange{Name: "work", Concurrency: new(3)})
		s.setKind(task.KindChange{Name: "work", Breaker: &want.Breaker})
		s.setKind(task.KindChange{Name: "work", RetryBudget: new(0.25)})
		s.setKind(task.KindChange{Name: "play", Concurrency: new(1)})
		play := task.Kind{Namespace: "acme", Name: "play", Concurrency: 1}
		s.same(s.overview(task.Scope{Namespace: "acme"}).Kinds, []task.Kind{play, want})
		s.reopen()
		s.same(s.overview(task.Scope{}).Kinds, []task.Kind{play, want})
		s.same(s.overview(task.Scope{Namespace: "other"}).Kinds, []task.Kind(nil))
		s.setKind(task.KindChange{Name: "play", Concurrency: new(0)})
		s.setKind(task.KindChange{Name: "work", Breaker: &task.Breaker{}})
		want.Breaker, play.Concurrency = task.Breaker{}, 0
		s.same(s.overview(task.Scope{}).Kinds, []task.Kind{play, want})
	}},
	{"OfAKindNoMoreRunThanMayInWhateverQueue", func(s *suite) {
		k := task.Kind{Namespace: "acme", Name: "work", Concurrency: 2}
		s.setKind(task.KindChange{Name: k.Name, Concurrency: new(2)})
		var running []task.Task
		for i := range 5 {
			t := s.insert(s.spec(func(p *task.Spec) { p.Queue = "q" + strconv.Itoa(i%3) }), time.Duration(i)*time.Second, 5)
			if t, ok := s.try(t, t.Wants(task.Queue{}, k, 0, noPool)...); ok {
				running = append(running, t)
			}
		}
		s.same(len(running), 2)
		s.same(len(s.claimed(5)), 0)
		s.succeed(running[0], 0)
		s.same(len(s.claimed(5)), 1)
		s.setKind(task.KindChange{Name: k.Name, Concurrency: new(0)})
		s.same(len(s.claimed(5)), 2)
	}},
	{"ABurstStartsAtOnceAndTheRestAtItsRate", func(s *suite) {
		rate := task.Rate{Count: 6, Per: time.Hour, Burst: 3}
		q := task.Queue{Namespace: "acme", Name: "default", Rate: rate}
		s.setQueue(task.QueueChange{Name: q.Name, Rate: &rate, Burst: &rate.Burst})
		started := 0
		for range 6 {
			if _, ok := s.try(s.insert(s.spec(), 0, 5), wants(s.insert(s.spec(), 0, 5), q)...); ok {
				started++
			}
		}
		s.same(started, 3)
	}},
	{"EachRateKeyHasARateOfItsOwn", func(s *suite) {
		paced := func(key string, burst int) task.Task {
			return s.insert(s.spec(func(p *task.Spec) {
				p.RateKey, p.Rate = key, task.Rate{Count: 6, Per: time.Hour, Burst: burst}
			}), 0, 5)
		}
		started := map[string]int{}
		for range 4 {
			for key, burst := range map[string]int{"slow": 0, "bursty": 3} {
				if _, ok := s.try(paced(key, burst)); ok {
					started[key]++
				}
			}
		}
		s.same(started, map[string]int{"slow": 1, "bursty": 3})
		other := s.insert(s.spec(func(p *task.Spec) {
			p.Namespace, p.RateKey, p.Rate = "other", "slow", task.Rate{Count: 6, Per: time.Hour}
		}), 0, 5)
		if _, ok := s.try(other); !ok {
			s.Error("a key is shared between namespaces")
		}
		if _, err := s.store.Sweep(s.ctx, task.Retention{Now: epoch}, 10); err != nil {
			s.Fatal(err)
		}
		if _, ok := s.try(paced("other", 0)); !ok {
			s.Error("a key waits for another")
		}
		if _, ok := s.try(paced("slow", 0)); ok {
			s.Error("a key that is behind was forgotten")
		}
	}},
	{"ParkedOnManyRatesSomeOfWhichAreOpen", func(s *suite) {
		rate := func(key string, per time.Duration) task.Task {
			return s.insert(s.spec(func(p *task.Spec) { p.RateKey, p.Rate = key, task.Rate{Count: 1, Per: per} }), 0, 5)
		}
		for i := range 120 { // more than are called for at once
			s.try(rate(strconv.Itoa(i), time.Hour))
			s.try(rate(strconv.Itoa(i), time.Hour))
		}
		waits := rate("quick", time.Second)
		for started := true; started; { // until two come within a second
			_, started = s.try(waits)
			if started {
				waits = rate("quick", time.Second)
			}
		}
		s.eventually("the one whose rate is open is called", func() bool {
			got := s.claimed(5)
			return len(got) == 1 && got[0].ID == waits.ID
		})
	}},
	{"RaisedOrLiftedLimitLetsThoseGoThatWait", func(s *suite) {
		q := task.Queue{Namespace: "acme", Name: "default", Concurrency: 1}
		s.setQueue(task.QueueChange{Name: q.Name, Concurrency: new(1)})
		for i := range 5 {
			t := s.insert(s.spec(), time.Duration(i)*time.Second, 5)
			s.try(t, wants(t, q)...)
		}
		s.same(len(s.claimed(5)), 0)
		s.setQueue(task.QueueChange{Name: q.Name, Concurrency: new(3)})
		called := s.claimed(5)
		s.same(len(called), 2)
		for _, t := range called {
			if _, ok := s.try(t, wants(t, q)...); !ok {
				s.Error("there is room, and it does not start")
			}
		}
		s.same(len(s.claimed(5)), 0)
		s.setQueue(task.QueueChange{Name: q.Name, Concurrency: new(0)})
		s.same(len(s.claimed(5)), 2)
	}},
	{"TasksOfAQueueStartNoFasterThanItsRate", func(s *suite) {
		rate := task.Rate{Count: 50, Per: time.Second} // bursts of five
		q := task.Queue{Namespace: "acme", Name: "default", Rate: rate}
		s.setQueue(task.QueueChange{Name: q.Name, Rate: &rate})
		for i := range 20 {
			s.insert(s.spec(), time.Duration(i)*time.Millisecond, 0)
		}
		var order []task.ID
		began := time.Now()
		s.eventually("all start", func() bool {
			for _, t := range s.claimed(5) {
				if _, ok := s.try(t, wants(t, q)...); ok {
					order = append(order, t.ID)
				}
			}
			return len(order) == 20
		})
		if took := time.Since(began); took < 290*time.Millisecond { // 15 behind the burst, 20 ms apart
			s.Errorf("20 started within %v", took)
		}
		if !slices.IsSortedFunc(order, func(a, b task.ID) int { return slices.Compare(a[:], b[:]) }) {
			s.Error("they did not start in their order")
		}
	}},
	{"DueSaysWhenARateLetsTheNextGo", func(s *suite) {
		rate := task.Rate{Count: 60, Per: time.Hour} // one a minute
		q := task.Queue{Namespace: "acme", Name: "default", Rate: rate}
		s.setQueue(task.QueueChange{Name: q.Name, Rate: &rate})
		before := time.Now()
		for range 2 {
			t := s.insert(s.spec(), 0, 5)
			s.try(t, wants(t, q)...)
		}
		after := time.Now()
		_, next, err := s.store.Due(s.ctx, epoch, 10)
		if err != nil || next.Before(before.Add(59*time.Second)) || next.After(after.Add(61*time.Second)) {
			s.Errorf("between %v and %v one started, and the next may at %v, %v", before, after, next, err)
		}
	}},
	{"TestingForRoomTakesNoTokens", func(s *suite) {
		running, _ := s.try(s.insert(s.limited("k", 1), 0, 5))
		t := s.insert(s.limited("k", 1), 0, 5)
		s.refused(t.Park(running.Tokens).Mutation(), task.ErrParked)
		s.succeed(running, 0)
		got := s.claimed(5)
		s.same(ids(got), []task.ID{t.ID})
		s.ok(got[0].Park(running.Tokens).Mutation()) // there is room: it is only let go
		s.same(ids(s.claimed(5)), []task.ID{t.ID})
	}},
	{"LimitsOfOthersAreOthers", func(s *suite) {
		for _, change := range []func(*task.Spec){
			func(*task.Spec) {},
			func(p *task.Spec) { p.Namespace = "other" },
			func(p *task.Spec) { p.ConcurrencyKey = "k2" },
		} {
			if _, ok := s.try(s.insert(s.spec(func(p *task.Spec) {
				p.ConcurrencyKey, p.ConcurrencyLimit = "k", 1
				change(p)
			}), 0, 5)); !ok {
				s.Error("a key is shared")
			}
		}
	}},
	{"KeysNobodyUsesAreForgotten", func(s *suite) {
		for i := range 20 {
			running, _ := s.try(s.insert(s.limited(strconv.Itoa(i%4), 1), 0, 5))
			s.succeed(running, 0)
			if _, err := s.store.Sweep(s.ctx, task.Retention{Now: epoch}, 10); err != nil {
				s.Fatal(err)
			}
		}
	}},
	{"NeverMoreRunThanMayAndNobodyIsForgotten", func(s *suite) {
		const keys, each, workers = 3, 12, 6
		var ms []task.Mutation
		for i := range keys * each {
			ms = append(ms, insertion(task.New(s.limited(strconv.Itoa(i%keys), 1+i%keys), epoch.Add(time.Duration(i)*time.Second), 0)))
		}
		s.ok(ms...)
		var running [keys]atomic.Int64
		var done atomic.Int64
		var once sync.Map
		s.together(workers, func(n int) error {
			holder := task.Incarnation(n + 1)
			for late := time.Now().Add(patience); done.Load() < keys*each; {
				if time.Now().After(late) {
					return fmt.Errorf("%d of %d have run", done.Load(), keys*each)
				}
				got, err := s.store.Claim(s.ctx, task.Claim{Holder: holder, Kinds: []string{"work"}, Limit: 4})
				if err != nil {
					return err
				}
				var starts []task.Mutation
				for _, t := range got {
					step, err := t.Start(epoch, "node", "worker", wants(t, task.Queue{})...)
					if err != nil {
						return err
					}
					starts = append(starts, step.Mutation())
				}
				out, err := s.store.Append(s.ctx, starts)
				if err != nil {
					return err
				}
				var ends []task.Mutation
				for i, o := range out {
					if errors.Is(o.Err, task.ErrParked) {
						continue
					} else if o.Err != nil {
						return o.Err
					}
					t := starts[i].Task
					if _, twice := once.LoadOrStore(t.ID, nil); twice {
						return fmt.Errorf("task %s ran twice", t.ID)
					}
					key, _ := strconv.Atoi(t.ConcurrencyKey)
					if now := running[key].Add(1); now > int64(t.ConcurrencyLimit) {
						return fmt.Errorf("%d run with key %d, of which %d may", now, key, t.ConcurrencyLimit)
					}
					step, err := t.Succeed(epoch, json.RawMessage("1"))
					if err != nil {
						return err
					}
					ends = append(ends, step.Mutation())
				}
				for _, m := range ends {
					key, _ := strconv.Atoi(m.Task.ConcurrencyKey)
					running[key].Add(-1)
				}
				if out, err = s.store.Append(s.ctx, ends); err != nil {
					return err
				}
				for _, o := range out {
					if o.Err != nil {
						return o.Err
					}
				}
				done.Add(int64(len(ends)))
			}
			return nil
		})
	}},
	{"WhateverHappensTokensAreThoseOfWhatRuns", proveTokens},
}

func (s *suite) cancelled(t task.Task) {
	s.Helper()
	s.step(s.read(t).Cancel(epoch.Add(time.Hour), ""))
}

// eventually waits for something that time brings about.
func (s *suite) eventually(what string, done func() bool) {
	s.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-late.C:
			s.Fatalf("waited in vain: %s", what)
		}
	}
}

// proveTokens walks at random, each time with a pool of its own, and holds against
// what runs how much the pool says is in use. In the end everything is let go, and
// everything must run.
func proveTokens(s *suite) {
	fewWalks(s.T)
	walks := 0
	rapid.Check(s.T, func(rt *rapid.T) {
		walks++
		newTokenWalk(s, rt, "own"+strconv.Itoa(walks)).run()
	})
}

type tokenWalk struct {
	*suite

	rt            *rapid.T
	name          string // of the pool and of the tasks' kind
	capacity      task.Quantity
	running, held map[task.ID]task.Task
}

func newTokenWalk(s *suite, rt *rapid.T, name string) *tokenWalk {
	w := &tokenWalk{suite: s, rt: rt, name: name, running: map[task.ID]task.Task{}, held: map[task.ID]task.Task{}}
	w.setCapacity(3000)
	return w
}

func (w *tokenWalk) setCapacity(q task.Quantity) {
	w.capacity = q
	w.ok(task.Mutation{Op: task.SetPool, Pool: task.PoolChange{Name: w.name, Capacity: &q}})
}

func (w *tokenWalk) used() (sum task.Quantity) {
	for _, t := range w.running {
		sum += t.Resources[w.name]
	}
	return sum
}

func (w *tokenWalk) start(t task.Task) {
	delete(w.held, t.ID)
	r, ok := w.try(t, wants(t, task.Queue{}, w.name)...)
	if !ok {
		return
	}
	w.running[t.ID] = r
	if now := w.used(); now > w.capacity {
		w.rt.Fatalf("%s of %s are in use", now, w.capacity)
	}
}

func (w *tokenWalk) end(t task.Task) {
	w.succeed(t, 0)
	delete(w.running, t.ID)
}

func (w *tokenWalk) take() {
	for _, t := range w.claim(task.Claim{Holder: 5, Kinds: []string{w.name}}) {
		w.held[t.ID] = t
	}
}

func (w *tokenWalk) anyOf(from map[task.ID]task.Task) task.Task {
	all := slices.SortedFunc(maps.Keys(from), func(a, b task.ID) int { return slices.Compare(a[:], b[:]) })
	return from[rapid.SampledFrom(all).Draw(w.rt, "task")]
}

func (w *tokenWalk) run() {
	for range rapid.IntRange(1, 40).Draw(w.rt, "steps") {
		switch what := rapid.IntRange(0, 6).Draw(w.rt, "what"); {
		case what == 0 || len(w.held)+len(w.running) == 0:
			t := w.insert(w.spec(func(p *task.Spec) {
				p.Kind = w.name
				p.Resources = task.Resources{"slots": 0, w.name: task.Quantity(rapid.IntRange(1, 4).Draw(w.rt, "amount")) * 1000}
				p.Priority = rapid.IntRange(0, 2).Draw(w.rt, "priority")
			}), time.Duration(w.made)*time.Second, 5)
			w.held[t.ID] = t
		case what <= 2 && len(w.held) > 0:
			w.start(w.anyOf(w.held))
		case what == 3 && len(w.running) > 0:
			w.end(w.anyOf(w.running))
		case what == 4 && len(w.held) > 0:
			t := w.anyOf(w.held)
			w.ok(t.Release().Mutation())
			delete(w.held, t.ID)
		case what == 5:
			w.setCapacity(task.Quantity(rapid.IntRange(1, 5).Draw(w.rt, "capacity")) * 1000)
		default:
			w.take()
		}
		pools := w.overview(task.Scope{}).Pools
		w.same(pools[slices.IndexFunc(pools, func(p task.Pool) bool { return p.Name == w.name })],
			task.Pool{Name: w.name, Capacity: w.capacity, Used: w.used()})
	}
	w.setCapacity(4000)
	w.eventually("everybody runs once there is room", func() bool {
		w.take()
		for _, t := range w.held {
			w.start(t)
		}
		for _, t := range w.running {
			w.end(t)
		}
		left, _, err := w.store.Tasks(w.ctx, task.Filter{Namespace: "acme", Kind: w.name, States: []task.State{task.Queued}, Limit: 1})
		return err == nil && len(left) == 0
	})
	w.ok(task.Mutation{Op: task.SetPool, Pool: task.PoolChange{Name: w.name}})
}
