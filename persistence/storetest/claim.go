package storetest

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

var claimRules = []rule{
	{"ClaimTakesLowestRankFirstOverAllLanes", func(s *suite) {
		var want []task.Task
		for i := range 30 {
			want = append(want, s.insert(s.spec(func(p *task.Spec) {
				p.Priority = i % 3
				p.Queue = fmt.Sprintf("q%d", i%4)
				p.Resources = task.Resources{"slots": task.Quantity(1000 * (i % 2))}
			}), time.Duration(i*7919%30)*time.Second, 0))
		}
		slices.SortFunc(want, func(a, b task.Task) int { return int(a.Rank() - b.Rank()) })
		for len(want) > 0 {
			n := min(7, len(want))
			got := s.claim(task.Claim{Holder: 5, Limit: n})
			for i := range want[:n] {
				want[i].Holder = 5
			}
			s.same(got, want[:n])
			s.stored(want[0])
			want = want[n:]
		}
		s.same(s.claim(task.Claim{Holder: 5}), []task.Task(nil))
	}},
	{"ClaimLeavesOutWhatItMayNotTake", func(s *suite) {
		in := func(kind, queue string, slots task.Quantity) task.Task {
			return s.insert(s.spec(func(p *task.Spec) {
				p.Kind, p.Queue, p.Resources = kind, queue, task.Resources{"slots": slots}
			}), 0, 0)
		}
		other, paused, full, fit := in("other", "a", 1000), in("work", "b", 1000), in("work", "a", 2000), in("work", "a", 1000)
		s.insert(s.spec(), 0, 9)                                                      // held
		s.insert(s.spec(func(p *task.Spec) { p.RunAt = epoch.Add(time.Hour) }), 0, 0) // scheduled
		s.ok(task.Mutation{Op: task.SetQueue, Queue: task.QueueChange{Namespace: "acme", Name: "b", Paused: new(true)}})
		s.same(ids(s.claim(task.Claim{Holder: 5, Full: []task.Lane{full.Lane()}})), []task.ID{fit.ID})
		s.same(ids(s.claim(task.Claim{Holder: 5})), []task.ID{full.ID})
		s.ok(task.Mutation{Op: task.SetQueue, Queue: task.QueueChange{Namespace: "acme", Name: "b", Paused: new(false)}})
		s.same(ids(s.claim(task.Claim{Holder: 5})), []task.ID{paused.ID})
		s.same(ids(s.claim(task.Claim{Holder: 5, Kinds: []string{"none", "other"}})), []task.ID{other.ID})
		if none, err := s.store.Claim(s.ctx, task.Claim{Holder: 5, Limit: 5}); err != nil || len(none) > 0 {
			s.Errorf("claim of no kind: %v, %v", none, err)
		}
	}},
	{"ClaimAboveARankTakesOnlyLowerOnes", func(s *suite) {
		low, high := s.insert(s.spec(), 0, 0), s.insert(s.spec(), time.Second, 0)
		above := low.Rank()
		s.same(ids(s.claim(task.Claim{Holder: 5, Above: &above})), []task.ID(nil))
		above = high.Rank()
		s.same(ids(s.claim(task.Claim{Holder: 5, Above: &above})), []task.ID{low.ID})
		s.same(ids(s.claim(task.Claim{Holder: 5})), []task.ID{high.ID})
	}},
	{"ReleasedTaskCanBeClaimedAgain", func(s *suite) {
		t := s.insert(s.spec(), 0, 0)
		held := s.claim(task.Claim{Holder: 5})[0]
		s.ok(held.Release().Mutation())
		s.stored(t)
		s.reopen()
		s.same(ids(s.claim(task.Claim{Holder: 6})), []task.ID{t.ID})
	}},
	{"DueTaskCanBeClaimed", func(s *suite) {
		t := s.insert(s.spec(func(p *task.Spec) { p.RunAt = epoch.Add(time.Second) }), 0, 0)
		s.same(ids(s.claim(task.Claim{Holder: 5})), []task.ID(nil))
		s.step(t.Due(epoch.Add(time.Second)))
		s.same(ids(s.claim(task.Claim{Holder: 5})), []task.ID{t.ID})
	}},
	{"EachTaskIsClaimedOnce", func(s *suite) {
		const tasks, claimers = 200, 8
		var ms []task.Mutation
		for i := range tasks {
			ms = append(ms, insertion(task.New(s.spec(func(p *task.Spec) { p.Queue = fmt.Sprintf("q%d", i%5) }), epoch, 0)))
		}
		s.ok(ms...)
		var mu sync.Mutex
		holders := map[task.ID][]task.Incarnation{}
		s.together(claimers, func(n int) error {
			holder := task.Incarnation(n + 1)
			for {
				got, err := s.store.Claim(s.ctx, task.Claim{Holder: holder, Kinds: []string{"work"}, Limit: 7})
				if err != nil || len(got) == 0 {
					return err
				}
				mu.Lock()
				for _, t := range got {
					holders[t.ID] = append(holders[t.ID], holder)
				}
				mu.Unlock()
			}
		})
		if len(holders) != tasks {
			s.Errorf("%d of %d tasks claimed", len(holders), tasks)
		}
		for id, by := range holders {
			if len(by) != 1 {
				s.Errorf("task %s was claimed by %v", id, by)
			}
		}
	}},
	{"OfManyEndsOneHolds", func(s *suite) {
		const tasks, writers = 40, 8
		var running []task.Task
		for range tasks {
			running = append(running, s.start(s.insert(s.spec(), 0, 3), 0))
		}
		var mu sync.Mutex
		held := map[task.ID]int{}
		s.together(writers, func(n int) error {
			for _, t := range running {
				step, _ := t.Cancel(epoch.Add(time.Duration(n)*time.Second), strconv.Itoa(n))
				out, err := s.store.Append(s.ctx, []task.Mutation{step.Mutation()})
				if err != nil {
					return err
				}
				if out[0].Err == nil {
					mu.Lock()
					held[t.ID]++
					mu.Unlock()
				} else if !is(out[0].Err, task.ErrStale) {
					return out[0].Err
				}
			}
			return nil
		})
		for _, t := range running {
			if held[t.ID] != 1 {
				s.Errorf("%d ends of task %s held", held[t.ID], t.ID)
			}
			s.same(len(s.events(t)), 3)
		}
		s.same(s.overview(task.Scope{}).Counts, []task.Count{{Namespace: "acme", Queue: "default", State: task.Cancelled, Tasks: tasks}})
	}},
	{"OfManySameInsertsOneIsNew", func(s *suite) {
		spec := s.spec(func(p *task.Spec) { p.UniqueKey = "u" })
		var mu sync.Mutex
		made := 0
		s.together(8, func(n int) error {
			mine := spec
			mine.ID = id(1000 + n)
			m := insertion(task.New(mine, epoch, 0))
			m.Request = task.Request{Key: strconv.Itoa(n % 2), Expires: epoch.Add(time.Hour)}
			out, err := s.store.Append(s.ctx, []task.Mutation{m})
			mu.Lock()
			defer mu.Unlock()
			if err == nil && out[0].Err == nil && out[0].Existing == nil {
				made++
			}
			return err
		})
		if made != 1 {
			s.Errorf("%d tasks were made", made)
		}
	}},
}

// together runs f in n goroutines and waits for them.
func (s *suite) together(n int, f func(n int) error) {
	s.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := f(i); err != nil {
				s.Error(err)
			}
		})
	}
	all.Wait()
}
