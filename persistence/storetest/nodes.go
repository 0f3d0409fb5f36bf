package storetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

var nodeRules = []rule{
	{"JoiningGivesANumberGreaterThanAny", func(s *suite) {
		last := task.Incarnation(0)
		for range 4 {
			n := s.join()
			if n <= last {
				s.Fatalf("incarnation %d after %d", n, last)
			}
			last = n
			if _, err := s.store.Sweep(s.ctx, task.Retention{Now: epoch.Add(1000 * time.Hour)}, 10); err != nil {
				s.Fatal(err)
			}
			s.reopen()
		}
	}},
	{"NodeIsAsItLastSaid", func(s *suite) {
		n, err := s.store.Renew(s.ctx, task.Node{
			Name: "n", Address: "a:1", Started: epoch, Seen: epoch, Labels: map[string]string{"zone": "a", "os": "plan9"}, Lease: longLease,
		})
		if err != nil {
			s.Fatal(err)
		}
		if (n.Lease > 0) != s.subject.Shared {
			s.Errorf("granted a lease of %v", n.Lease)
		}
		n.Lease = 0 // not read back
		s.same(s.overview(task.Scope{}).Nodes, []task.Node{n})
		n.Seen, n.Address = epoch.Add(time.Minute), "b:2"
		n.Labels = map[string]string{"zone": "b"}
		again := n
		again.Lease = longLease
		got, err := s.store.Renew(s.ctx, again)
		if err != nil {
			s.Fatal(err)
		}
		if s.subject.Shared && got.Seen.After(n.Seen) {
			n.Seen = got.Seen
		}
		got.Lease = 0
		s.same(got, n)
		s.same(s.overview(task.Scope{Namespace: "acme"}).Nodes, []task.Node{n})
		n.Left = true
		if got, err = s.store.Renew(s.ctx, n); err != nil {
			s.Fatal(err)
		}
		n.Seen = got.Seen
		s.same(s.overview(task.Scope{}).Nodes, []task.Node{n})
		n.Left = false
		if _, err := s.store.Renew(s.ctx, n); !errors.Is(err, task.ErrStale) {
			s.Errorf("renewal of a node that left: %v", err)
		}
		if _, err := s.store.Renew(s.ctx, task.Node{Incarnation: 99}); !errors.Is(err, task.ErrStale) {
			s.Errorf("renewal of a node that never was: %v", err)
		}
	}},
	{"TasksOfANodeThatLeftAreOrphans", func(s *suite) {
		n := s.join()
		held := s.insert(s.spec(), 0, n)
		s.orphans(10)
		if _, err := s.store.Renew(s.ctx, task.Node{Incarnation: n, Left: true}); err != nil {
			s.Fatal(err)
		}
		s.orphans(10, held)
	}},
}

// soleRules are of stores that one process has for itself.
var soleRules = []rule{
	{"JoiningBuriesEveryNodeBefore", func(s *suite) {
		first := s.join()
		held := s.insert(s.spec(), 0, first)
		running := s.start(s.insert(s.spec(), 0, first), 0)
		s.insert(s.spec(), 0, 0)
		s.succeed(s.start(s.insert(s.spec(), 0, first), 0), 0)
		s.orphans(10)
		s.reopen()
		second := s.join()
		s.insert(s.spec(), 0, second)
		s.orphans(10, held, running)
		s.orphans(1, held)
		s.orphans(0)
		if _, err := s.store.Renew(s.ctx, task.Node{Incarnation: first}); !errors.Is(err, task.ErrStale) {
			s.Errorf("renewal of a buried node: %v", err)
		}
		s.step(held.Lost(epoch, task.CodeNodeLost, 0, mostCrashes), nil)
		s.orphans(10, running)
		s.step(running.Lost(epoch, task.CodeNodeLost, 0, mostCrashes), nil)
		s.orphans(10)
	}},
}

// sharedRules are of stores that many have.
var sharedRules = []rule{
	{"JoiningLeavesOthersAlone", func(s *suite) {
		first := s.join()
		s.insert(s.spec(), 0, first)
		s.reopen()
		if second := s.join(); second <= first {
			s.Errorf("incarnation %d after %d", second, first)
		}
		s.orphans(10)
		if _, err := s.store.Renew(s.ctx, task.Node{Incarnation: first}); err != nil {
			s.Errorf("renewal of a node that lives: %v", err)
		}
	}},
	{"NodeWhoseLeaseEndsIsBuriedForGood", func(s *suite) {
		n, err := s.store.Renew(s.ctx, task.Node{Name: "n", Lease: 50 * time.Millisecond})
		if err != nil {
			s.Fatal(err)
		}
		if n.Lease != 50*time.Millisecond {
			s.Errorf("asked for a lease of 50ms, granted %v", n.Lease)
		}
		held := s.insert(s.spec(), 0, n.Incarnation)
		kept := s.insert(s.spec(), 0, s.join())
		s.await(func() bool {
			got, err := s.store.Orphans(s.ctx, 10)
			return err != nil || len(got) > 0
		})
		s.orphans(10, held)
		n.Lease = time.Hour
		if _, err := s.store.Renew(s.ctx, n); !errors.Is(err, task.ErrStale) {
			s.Errorf("renewal of a buried node: %v", err)
		}
		for _, node := range s.overview(task.Scope{}).Nodes {
			if node.Left != (node.Incarnation == n.Incarnation) {
				s.Errorf("node %+v", node)
			}
		}
		// Late, but still the holder: nobody has taken the task over.
		s.start(held, 0)
		s.step(kept.Lost(epoch, task.CodeNodeLost, 0, mostCrashes), nil)
	}},
	{"LeaseThatHasEndedIsNotRenewed", func(s *suite) {
		n, err := s.store.Renew(s.ctx, task.Node{Name: "n", Lease: time.Millisecond})
		if err != nil {
			s.Fatal(err)
		}
		s.await(func() bool {
			nodes := s.overview(task.Scope{}).Nodes
			return len(nodes) == 1 && nodes[0].Left
		})
		if _, err := s.store.Renew(s.ctx, n); !errors.Is(err, task.ErrStale) {
			s.Errorf("renewal of a lease that has ended: %v", err)
		}
	}},
}

// await asks until the answer is yes.
func (s *suite) await(done func() bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-ctx.Done():
			s.Fatal("it never came")
		}
	}
}

func (s *suite) orphans(limit int, want ...task.Task) {
	s.Helper()
	got, err := s.store.Orphans(s.ctx, limit)
	if err != nil {
		s.Fatal(err)
	}
	s.same(got, want)
}

var sweepRules = []rule{
	{"SweepForgetsTasksThatEndedLongAgo", func(s *suite) {
		old := s.succeed(s.start(s.insert(s.spec(), 0, 1), 0), time.Minute)
		young := s.succeed(s.start(s.insert(s.spec(), 0, 1), 0), 3*time.Minute)
		kept := s.step(s.insert(s.spec(), 0, 1).Cancel(epoch, ""))
		live := s.insert(s.spec(), 0, 1)
		r := task.Retention{Now: epoch.Add(time.Hour + 2*time.Minute), Keep: map[task.State]time.Duration{task.Succeeded: time.Hour}}
		s.swept(r, 10, 1)
		s.gone(old)
		s.stored(young)
		s.stored(kept)
		s.stored(live)
		s.same(s.overview(task.Scope{}).Counts, []task.Count{
			{Namespace: "acme", Queue: "default", State: task.Queued, Tasks: 1},
			{Namespace: "acme", Queue: "default", State: task.Succeeded, Tasks: 1},
			{Namespace: "acme", Queue: "default", State: task.Cancelled, Tasks: 1},
		})
	}},
	{"SweepIsBounded", func(s *suite) {
		for range 7 {
			s.step(s.insert(s.spec(), 0, 1).Cancel(epoch, ""))
		}
		r := task.Retention{Now: epoch.Add(time.Hour), Keep: map[task.State]time.Duration{task.Cancelled: 0, task.Failed: 0}}
		s.swept(r, 3, 3)
		s.swept(r, 3, 3)
		s.swept(r, 3, 1)
		s.swept(r, 3, 0)
	}},
	{"SweepTrimsLogsToTheTerminalEvent", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 1), 0)
		t, _ = s.talk(t, 5, `{}`)
		live := s.start(s.insert(s.spec(), 0, 1), 0)
		done := s.step(t.Fail(epoch, task.Failure{Code: "no"}, 0))
		all := s.events(done)
		r := task.Retention{Now: epoch.Add(time.Hour), KeepEvents: time.Minute}
		for range 2 {
			s.swept(r, 10, 0)
			done.LogStart = done.Cursor
			s.stored(done)
			s.same(s.events(done), all[len(all)-1:])
			s.same(len(s.events(live)), 2)
		}
		// What comes after stays, and nobody's old row brings the start back.
		stale := done
		stale.LogStart = task.Cursor{}
		again := s.step(stale.Rerun(epoch))
		again.LogStart = done.LogStart
		s.stored(again)
		s.same(len(s.events(again)), 2)
		end := s.step(again.Cancel(epoch, ""))
		s.same(len(s.events(end)), 3)
		s.swept(r, 10, 0)
		s.same(len(s.events(end)), 1)
	}},
	{"SweepForgetsExpiredKeysAndNodesLongGone", func(s *suite) {
		m := insertion(task.New(s.spec(), epoch, 0))
		m.Request = task.Request{Key: "k", Hash: [32]byte{1}, Expires: epoch.Add(time.Hour)}
		s.ok(m)
		dead := s.join()
		if _, err := s.store.Renew(s.ctx, task.Node{Incarnation: dead, Seen: epoch, Left: true}); err != nil {
			s.Fatal(err)
		}
		live := s.join()
		s.swept(task.Retention{Now: epoch.Add(1000 * time.Hour)}, 10, 0)
		nodes := s.overview(task.Scope{}).Nodes
		if s.subject.Shared { // by its own clock it was not long ago
			nodes = slices.DeleteFunc(nodes, func(n task.Node) bool { return n.Incarnation == dead })
		}
		if len(nodes) != 1 || nodes[0].Incarnation != live {
			s.Errorf("nodes %+v, want only %d", nodes, live)
		}
		// Asked by a clock that is behind, the key is gone all the same.
		m2 := insertion(task.New(s.spec(), epoch, 0))
		m2.Request = task.Request{Key: "k", Hash: [32]byte{2}, Expires: epoch.Add(time.Hour)}
		s.ok(m2)
	}},
}

func (s *suite) swept(r task.Retention, limit, want int) {
	s.Helper()
	n, err := s.store.Sweep(s.ctx, r, limit)
	if err != nil || n != want {
		s.Fatalf("%d tasks swept, %v; want %d", n, err, want)
	}
}

var callRules = []rule{
	{"CallWithoutTimeLeftDoesNothing", func(s *suite) {
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		born := task.New(s.spec(), epoch, 0)
		calls := map[string]func() error{
			"Append":   func() error { _, err := s.store.Append(ctx, []task.Mutation{insertion(born)}); return err },
			"Claim":    func() error { _, err := s.store.Claim(ctx, task.Claim{Kinds: []string{"work"}, Limit: 1}); return err },
			"Renew":    func() error { _, err := s.store.Renew(ctx, task.Node{}); return err },
			"Due":      func() error { _, _, err := s.store.Due(ctx, epoch, 1); return err },
			"Orphans":  func() error { _, err := s.store.Orphans(ctx, 1); return err },
			"Task":     func() error { _, err := s.store.Task(ctx, "acme", id(1)); return err },
			"Tasks":    func() error { _, _, err := s.store.Tasks(ctx, task.Filter{Namespace: "acme", Limit: 1}); return err },
			"Events":   func() error { _, err := s.store.Events(ctx, "acme", id(1), task.Cursor{}, 1); return err },
			"Overview": func() error { _, err := s.store.Overview(ctx, task.Scope{}); return err },
			"Sweep":    func() error { _, err := s.store.Sweep(ctx, task.Retention{Now: epoch}, 1); return err },
		}
		for name, call := range calls {
			err := call()
			if !errors.Is(err, task.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				s.Errorf("%s: %v, want ErrUnavailable and context.Canceled", name, err)
			}
		}
		s.gone(born.Task)
		s.stored(s.insert(s.spec(), 0, 0))
	}},
	{"NothingToDoIsDone", func(s *suite) {
		s.append()
		s.same(s.overview(task.Scope{}), task.Overview{})
		s.same(s.claim(task.Claim{Holder: 1}), []task.Task(nil))
	}},
}
