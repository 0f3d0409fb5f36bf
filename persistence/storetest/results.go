package storetest

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Results that others may use: a success leaves one until its time is over.

// cached is a task with a cache that runs, held by node 5.
func (s *suite) cached(ttl time.Duration, change ...func(*task.Spec)) task.Task {
	s.Helper()
	spec := s.spec(append([]func(*task.Spec){func(p *task.Spec) { p.Cache = task.Cache{Key: "k", TTL: ttl} }}, change...)...)
	running, ok := s.try(s.insert(spec, 0, 5))
	if !ok {
		s.Fatal("it does not start")
	}
	return running
}

// success ends a running task after a while with a result.
func (s *suite) success(t task.Task, after time.Duration, result string) task.Task {
	s.Helper()
	return s.step(t.Succeed(epoch.Add(after), json.RawMessage(result)))
}

// found says that at a time the result of a task is there for tasks like it.
func (s *suite) found(t task.Task, after time.Duration) {
	s.Helper()
	kept, found, err := s.store.Result(s.ctx, t.Namespace, t.Kind, t.Cache.Key, epoch.Add(after))
	if err != nil || !found || kept.Of != t.ID || string(kept.Result) != string(t.Result) {
		s.Fatalf("%.100s of %s, %v, %v; want %.100s of %s", kept.Result, kept.Of, found, err, t.Result, t.ID)
	}
	if want := t.ResultExpires().Truncate(time.Microsecond).UTC(); kept.Expires != want {
		s.Fatalf("until %s; want %s", kept.Expires, want)
	}
}

func (s *suite) missed(namespace, kind, key string, after time.Duration) {
	s.Helper()
	if kept, found, err := s.store.Result(s.ctx, namespace, kind, key, epoch.Add(after)); err != nil || found {
		s.Fatalf("%.100s of %s, %v", kept.Result, kept.Of, err)
	}
}

var resultRules = []rule{
	{"SuccessLeavesItsResultUntilItsTimeIsOver", func(s *suite) {
		s.missed("acme", "work", "k", 0)
		done := s.success(s.cached(time.Hour), time.Minute, `{"n": 1.50}`)
		s.stored(done)
		s.found(done, time.Minute)
		s.reopen()
		s.stored(done)
		s.found(done, time.Hour+time.Minute-time.Microsecond)
		s.missed("acme", "work", "k", time.Hour+time.Minute)
		s.missed("other", "work", "k", 0)
		s.missed("acme", "other", "k", 0)
		s.missed("acme", "work", "k2", 0)
		s.missed("acme", "work", "", 0)
	}},
	{"NewestResultIsFoundAndOthersKeepTheirs", func(s *suite) {
		other := s.success(s.cached(time.Hour, func(p *task.Spec) { p.Namespace = "other" }), 0, `"theirs"`)
		s.success(s.cached(2*time.Hour), 0, `"first"`)
		second := s.success(s.cached(time.Hour), time.Minute, `"second"`)
		s.found(second, time.Minute)
		s.missed("acme", "work", "k", 90*time.Minute) // the first one's time is not over, but it is replaced
		s.found(other, time.Minute)
	}},
	{"ResultsOfOneTransactionAreKeptAndTheLastWins", func(s *suite) {
		var ms []task.Mutation
		var last [3]task.Task
		for i := range 9 {
			t := s.start(s.insert(s.spec(func(p *task.Spec) {
				p.Cache = task.Cache{Key: string(rune('a' + i%3)), TTL: time.Hour}
			}), 0, 5), 0)
			end, err := t.Succeed(epoch, json.RawMessage(`"`+strings.Repeat("r", 1+i*10_000)+`"`))
			if err != nil {
				s.Fatal(err)
			}
			ms, last[i%3] = append(ms, end.Mutation()), end.Task
		}
		s.ok(ms...)
		for _, t := range last {
			s.found(t, 0)
		}
	}},
	{"OnlyASuccessThatRanLeavesAResult", func(s *suite) {
		for _, end := range []func(task.Task) (task.Step, error){
			func(t task.Task) (task.Step, error) { return t.Fail(epoch, task.Failure{Code: "x"}, 0) },
			func(t task.Task) (task.Step, error) {
				return t.Fail(epoch, task.Failure{Code: "x", Retryable: true}, 0)
			},
			func(t task.Task) (task.Step, error) { return t.Cancel(epoch, "") },
			func(t task.Task) (task.Step, error) { return t.HandBack(epoch) },
			func(t task.Task) (task.Step, error) { return t.Lost(epoch, task.CodeNodeLost, 0, mostCrashes), nil },
			func(t task.Task) (task.Step, error) { return t.Reuse(epoch, json.RawMessage("1"), false) },
			func(t task.Task) (task.Step, error) { return t.Reuse(epoch, json.RawMessage("1"), true) },
		} {
			s.stored(s.step(end(s.cached(time.Hour))))
			s.missed("acme", "work", "k", 0)
		}
		plain := s.start(s.insert(s.spec(), 0, 5), 0)
		s.success(plain, 0, "1")
		s.missed("acme", "work", "", 0)
	}},
	{"StaleSuccessLeavesNoResult", func(s *suite) {
		running := s.cached(time.Hour)
		end, _ := running.Succeed(epoch, json.RawMessage(`"late"`))
		done := s.success(running, 0, `"first"`)
		s.refused(end.Mutation(), task.ErrStale)
		s.found(done, 0)
		other := s.cached(time.Hour, func(p *task.Spec) { p.Cache.Key = "k2" })
		end, _ = other.Succeed(epoch, json.RawMessage(`1`))
		end.Guard.Holder = 6
		s.refused(end.Mutation(), task.ErrStale)
		end.Guard.Holder, end.Task.Namespace = 5, "other"
		s.refused(end.Mutation(), task.ErrNotFound)
		s.missed("acme", "work", "k2", 0)
		s.missed("other", "work", "k2", 0)
	}},
	{"ResultWithACheckpointBeforeItIsKept", func(s *suite) {
		t := s.cached(time.Hour)
		t.Checkpoint = json.RawMessage(`"` + strings.Repeat("c", 10_000) + `"`)
		s.ok(task.Mutation{Op: task.Save, Task: t, Guard: t.Guard(), Checkpoint: true})
		s.found(s.success(t, 0, `"done"`), 0)
	}},
	{"ResultOutlivesItsTask", func(s *suite) {
		done := s.success(s.cached(time.Hour), 0, `"done"`)
		s.ok(task.Mutation{Op: task.Delete, Task: done, Guard: done.Guard()})
		s.gone(done)
		s.found(done, 0)
	}},
	{"IdenticalTasksRunOneAtATime", func(s *suite) {
		running := s.cached(time.Hour)
		like := func(change ...func(*task.Spec)) task.Task {
			return s.insert(s.spec(append(change, func(p *task.Spec) { p.Cache.TTL = time.Minute })...), 0, 5)
		}
		second := like(func(p *task.Spec) { p.Cache.Key = "k" })
		if _, ok := s.try(second); ok {
			s.Fatal("two run")
		}
		s.same(s.read(second).Parked.Limit.Scope, task.OfCache)
		if _, ok := s.try(like(func(p *task.Spec) { p.Cache.Key = "k2" })); !ok {
			s.Error("one with another key is parked")
		}
		s.success(running, 0, "1")
		s.same(ids(s.claimed(5)), []task.ID{second.ID})
	}},
	{"SpecWithAnotherCacheIsAnotherSpec", func(s *suite) {
		t := s.insert(s.spec(func(p *task.Spec) { p.Cache = task.Cache{Key: "k", TTL: time.Hour} }), 0, 0)
		for _, change := range []func(*task.Spec){
			func(p *task.Spec) { p.Cache.Key = "k2" },
			func(p *task.Spec) { p.Cache.TTL++ },
			func(p *task.Spec) { p.Cache = task.Cache{} },
		} {
			other := t.Spec
			change(&other)
			s.refused(insertion(task.New(other, epoch, 0)), task.ErrExists)
		}
	}},
	{"SweepForgetsExpiredResults", func(s *suite) {
		var done []task.Task
		for i := range 30 {
			done = append(done, s.success(s.cached(time.Hour+time.Duration(i/20)*time.Hour, func(p *task.Spec) {
				p.Cache.Key = strings.Repeat("k", i+1)
			}), 0, "1"))
		}
		s.swept(task.Retention{Now: epoch.Add(time.Hour)}, 3, 0)
		for i, t := range done {
			if i < 20 {
				s.missed("acme", "work", t.Cache.Key, 0) // as if its time were not over
			} else {
				s.found(t, 0)
			}
		}
	}},
}
