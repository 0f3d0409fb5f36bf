package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// keyed is a new task with a sticky key, held by holder.
func (s *suite) keyed(key string, holder task.Incarnation) task.Task {
	s.Helper()
	return s.insert(s.spec(func(p *task.Spec) { p.StickyKey = key }), 0, holder)
}

// begin asks for the start of a task at its holder: whether it has, and who else has
// its key.
func (s *suite) begin(t task.Task) (started task.Task, elsewhere task.Incarnation) {
	s.Helper()
	tokens := t.Wants(task.Queue{}, task.Kind{}, 0, func(string) bool { return false })
	step, err := t.Start(epoch, "node", "worker", tokens...)
	if err != nil {
		s.Fatal(err)
	}
	out := s.append(step.Mutation())[0]
	switch {
	case out.Err == nil:
		return step.Task, 0
	case out.Bound == 0 || out.Limit != tokens[0].Limit:
		s.Fatalf("outcome %+v", out)
	}
	return t, out.Bound
}

func (s *suite) mustBegin(t task.Task) task.Task {
	s.Helper()
	started, elsewhere := s.begin(t)
	if elsewhere != 0 {
		s.Fatalf("bound to %d", elsewhere)
	}
	return started
}

var stickyRules = []rule{
	{"StickyKeyMovesWhenItsNodeIsNoMore", func(s *suite) {
		home := s.join()
		held := s.mustBegin(s.keyed("k", home))
		var waits task.Task
		if s.subject.Shared {
			waits = s.keyed("k", s.join())
			if _, at := s.begin(waits); at != home {
				s.Fatalf("bound to %d", at)
			}
		}
		if _, err := s.store.Renew(s.ctx, task.Node{Incarnation: home, Name: "node", Started: epoch, Seen: epoch, Left: true}); err != nil {
			s.Fatal(err)
		}
		heir, other := s.join(), task.Incarnation(0)
		if s.subject.Shared {
			other = s.join()
			got := s.claim(task.Claim{Holder: heir})
			s.same(ids(got), []task.ID{waits.ID})
			s.mustBegin(got[0])
		} else {
			s.mustBegin(s.keyed("k", heir))
		}
		// What the dead one held of the key is given back, and is none of the heir's.
		s.ok(held.Lost(epoch, task.CodeNodeLost, 0, mostCrashes).Mutation())
		if s.subject.Shared {
			if _, at := s.begin(s.keyed("k", other)); at != heir {
				s.Errorf("the key is at %d, not %d", at, heir)
			}
		}
	}},
}

// stickyRulesOfMany are for stores that many nodes have at once.
var stickyRulesOfMany = []rule{
	{"TaskStartsOnlyWhereItsStickyKeyIs", func(s *suite) {
		home, other := s.join(), s.join()
		first := s.mustBegin(s.keyed("k", home))
		s.mustBegin(s.keyed("k", home))
		s.mustBegin(s.keyed("other", other))
		second := s.keyed("k", other)
		before := time.Now()
		if _, at := s.begin(second); at != home {
			s.Fatalf("bound to %d, not %d", at, home)
		}
		after := time.Now()
		bound := s.read(second)
		if bound.Holder != 0 || bound.State != task.Queued || bound.Bound != home || bound.Lane().Bound != home {
			s.Fatalf("it stands as %+v", bound)
		}
		if until := bound.BoundUntil; until.Before(before.Add(task.BoundFor/2)) || until.After(after.Add(task.BoundFor+time.Minute)) {
			s.Errorf("bound between %v and %v, it waits until %v", before, after, until)
		}
		s.reopen()
		s.same(ids(s.claim(task.Claim{Holder: other})), []task.ID(nil))
		got := s.claim(task.Claim{Holder: home})
		s.same(ids(got), []task.ID{second.ID})
		if got[0].Bound != 0 || !got[0].BoundUntil.IsZero() {
			s.Errorf("claimed and still bound: %+v", got[0])
		}
		s.succeed(s.mustBegin(got[0]), 0)
		s.succeed(first, 0)
		// Nothing may run with it now, but it is still at home there.
		if _, at := s.begin(s.keyed("k", other)); at != home {
			s.Errorf("it moved to %d", at)
		}
	}},
	{"BoundTaskIsEndedAndFreedAsAnyOther", func(s *suite) {
		home, other := s.join(), s.join()
		s.mustBegin(s.keyed("k", home))
		bind := func() task.Task {
			t := s.keyed("k", other)
			if _, at := s.begin(t); at != home {
				s.Fatalf("bound to %d", at)
			}
			return s.read(t)
		}
		cancelled := bind()
		s.stored(s.step(cancelled.Cancel(epoch, "because")))
		free := bind()
		due, _, err := s.store.Due(s.ctx, time.Now().Add(2*task.BoundFor), 10)
		if err != nil {
			s.Fatal(err)
		}
		s.same(ids(due), []task.ID{free.ID})
		s.stored(s.step(due[0].Unbind(time.Now().Add(2 * task.BoundFor))))
		s.same(ids(s.claim(task.Claim{Holder: other})), []task.ID{free.ID})
	}},
	{"StickyKeyIsAtOneNodeHoweverManyAsk", func(s *suite) {
		nodes := []task.Incarnation{s.join(), s.join(), s.join()}
		var mu sync.Mutex
		homes := map[string]map[task.Incarnation]bool{}
		var all sync.WaitGroup
		for round := range 10 {
			for _, n := range nodes {
				var tasks []task.Task
				for k := range 4 {
					tasks = append(tasks, s.keyed(fmt.Sprintf("k%d.%d", round, k), n))
				}
				all.Go(func() {
					for _, t := range tasks {
						step, err := t.Start(epoch, "node", "worker", t.Wants(task.Queue{}, task.Kind{}, 0, func(string) bool { return false })...)
						if err != nil {
							s.Error(err)
							continue
						}
						out, err := s.store.Append(s.ctx, []task.Mutation{step.Mutation()})
						if err != nil {
							s.Error(err)
							continue
						}
						at := n
						if out[0].Bound != 0 {
							at = out[0].Bound
						}
						mu.Lock()
						if homes[t.StickyKey] == nil {
							homes[t.StickyKey] = map[task.Incarnation]bool{}
						}
						homes[t.StickyKey][at] = true
						mu.Unlock()
					}
				})
			}
		}
		all.Wait()
		for key, at := range homes {
			if len(at) != 1 {
				s.Errorf("%s is at home on %v", key, at)
			}
		}
	}},
}
