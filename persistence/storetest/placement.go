package storetest

import (
	"github.com/troupe-run/troupe/runtime/task"
)

var placementRules = []rule{
	{"ClaimTakesWhatItsWorkersServe", func(s *suite) {
		of := func(kind string, require task.Selector, change ...func(*task.Spec)) task.Task {
			return s.insert(s.spec(append(change, func(p *task.Spec) { p.Kind, p.Affinity.Require = kind, require })...), 0, 0)
		}
		zoneA := task.Select(map[string][]string{"zone": {"a"}})
		free, inA, own := of("play", ""), of("play", zoneA), of("work", "")
		of("play", "", func(p *task.Spec) { p.Namespace = "other" })
		served := func(namespace string, labels map[string]string) task.Claim {
			return task.Claim{Holder: 5, Kinds: []string{"none"}, Served: []task.Served{
				{Namespace: "nobody", Kinds: []string{"work"}},
				{Namespace: namespace, Kinds: []string{"other", "play"}, Labels: labels},
			}}
		}
		s.same(ids(s.claim(served("third", nil))), []task.ID(nil))
		s.same(ids(s.claim(served("acme", nil))), []task.ID{free.ID})
		// What the node has itself is nothing that its workers have.
		q := served("acme", map[string]string{"zone": "b"})
		q.Labels = map[string]string{"zone": "a"}
		s.same(ids(s.claim(q)), []task.ID(nil))
		s.same(ids(s.claim(served("acme", map[string]string{"zone": "a"}))), []task.ID{inA.ID})
		q = served("acme", nil)
		q.Kinds = []string{"work"}
		s.same(ids(s.claim(q)), []task.ID{own.ID})
	}},
	{"ClaimLeavesOutWhatRequiresOtherNodes", func(s *suite) {
		of := func(terms map[string][]string) task.Task {
			return s.insert(s.spec(func(p *task.Spec) { p.Affinity.Require = task.Select(terms) }), 0, 0)
		}
		anywhere := of(nil)
		inA := of(map[string][]string{"zone": {"a"}})
		inEither := of(map[string][]string{"zone": {"a", "b"}})
		both := of(map[string][]string{"zone": {"b"}, `g"p<u`: {"ü"}})
		s.stored(both)
		s.reopen()
		s.same(ids(s.claim(task.Claim{Holder: 5})), []task.ID{anywhere.ID})
		s.same(ids(s.claim(task.Claim{Holder: 5, Labels: map[string]string{"zone": "c", `g"p<u`: "ü"}})), []task.ID(nil))
		s.same(ids(s.claim(task.Claim{Holder: 5, Labels: map[string]string{"zone": "b"}})), []task.ID{inEither.ID})
		s.same(ids(s.claim(task.Claim{Holder: 5, Labels: map[string]string{"zone": "b", `g"p<u`: "ü"}})), []task.ID{both.ID})
		s.same(ids(s.claim(task.Claim{Holder: 5, Labels: map[string]string{"zone": "a"}})), []task.ID{inA.ID})
	}},
	{"ClaimLeavesToRivalsWhatPrefersThem", func(s *suite) {
		t := s.insert(s.spec(func(p *task.Spec) {
			p.Affinity = task.Affinity{
				Require: task.Select(map[string][]string{"os": {"linux"}}), Prefer: task.Select(map[string][]string{"zone": {"a"}}),
			}
		}), 0, 0)
		here := map[string]string{"os": "linux", "zone": "b"}
		rival := task.Rival{Labels: map[string]string{"os": "linux", "zone": "a"}, Kinds: []string{"play", "work"}}
		s.same(ids(s.claim(task.Claim{Holder: 5, Labels: here, Rivals: []task.Rival{rival}})), []task.ID(nil))
		for name, q := range map[string]task.Claim{
			"no rival":                      {Labels: here},
			"one that has what is required": {Labels: map[string]string{"os": "linux", "zone": "a"}, Rivals: []task.Rival{rival}},
			"a rival for other kinds":       {Labels: here, Rivals: []task.Rival{{Labels: rival.Labels, Kinds: []string{"play"}}}},
			"one that is not preferred":     {Labels: here, Rivals: []task.Rival{{Labels: here, Kinds: rival.Kinds}}},
			"one that may not have it":      {Labels: here, Rivals: []task.Rival{{Labels: map[string]string{"zone": "a"}, Kinds: rival.Kinds}}},
		} {
			q.Holder = 5
			got := s.claim(q)
			if len(got) != 1 || got[0].ID != t.ID {
				s.Fatalf("%s: claimed %v", name, ids(got))
			}
			s.ok(got[0].Release().Mutation())
		}
	}},
	{"ClaimLeavesPackedQueuesToWhoIsBefore", func(s *suite) {
		t := s.insert(s.spec(), 0, 0)
		packed := []task.QueueName{{Namespace: "acme", Name: "default"}}
		rival := task.Rival{Kinds: []string{"work"}, Before: true}
		s.same(ids(s.claim(task.Claim{Holder: 5, Packed: packed, Rivals: []task.Rival{rival}})), []task.ID(nil))
		for name, q := range map[string]task.Claim{
			"no rival":                     {Packed: packed},
			"another queue":                {Packed: []task.QueueName{{Namespace: "acme", Name: "other"}, {Namespace: "other", Name: "default"}}, Rivals: []task.Rival{rival}},
			"a rival that comes after":     {Packed: packed, Rivals: []task.Rival{{Kinds: rival.Kinds}}},
			"a rival that cannot run them": {Packed: packed, Rivals: []task.Rival{{Kinds: []string{"play"}, Before: true}}},
		} {
			q.Holder = 5
			got := s.claim(q)
			if len(got) != 1 || got[0].ID != t.ID {
				s.Fatalf("%s: claimed %v", name, ids(got))
			}
			s.ok(got[0].Release().Mutation())
		}
	}},
}
