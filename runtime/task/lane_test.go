package task_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/task"
)

// What a claim may take is said by one node's labels and by who else looks for work.
func TestClaimTakesWhatIsPlacedThere(t *testing.T) {
	t.Parallel()
	zone := func(z string) task.Selector { return task.Select(map[string][]string{"zone": {z}}) }
	a, b := map[string]string{"zone": "a"}, map[string]string{"zone": "b"}
	lives := func(i task.Incarnation) bool { return i < 9 }
	rival := func(labels map[string]string, before bool) []task.Rival {
		return []task.Rival{{Labels: labels, Kinds: []string{"work"}, Before: before}}
	}
	packed := []task.QueueName{{Namespace: "acme", Name: "q"}}
	lane := func(bound task.Incarnation, require, prefer task.Selector) task.Lane {
		return task.Lane{Namespace: "acme", Queue: "q", Kind: "work", Bound: bound, Affinity: task.Affinity{Require: require, Prefer: prefer}}
	}
	for name, c := range map[string]struct {
		q    task.Claim
		lane task.Lane
		want bool
	}{
		"anything":                             {task.Claim{}, lane(0, "", ""), true},
		"bound here":                           {task.Claim{Holder: 5}, lane(5, "", ""), true},
		"bound elsewhere":                      {task.Claim{Holder: 5}, lane(6, "", ""), false},
		"bound to one that is no more":         {task.Claim{Holder: 5}, lane(9, "", ""), true},
		"required here":                        {task.Claim{Labels: a}, lane(0, zone("a"), ""), true},
		"required elsewhere":                   {task.Claim{Labels: b}, lane(0, zone("a"), ""), false},
		"preferred elsewhere, where is nobody": {task.Claim{Labels: b}, lane(0, "", zone("a")), true},
		"preferred elsewhere":                  {task.Claim{Labels: b, Rivals: rival(a, false)}, lane(0, "", zone("a")), false},
		"preferred here too":                   {task.Claim{Labels: a, Rivals: rival(a, false)}, lane(0, "", zone("a")), true},
		"packed, and the other is before":      {task.Claim{Packed: packed, Rivals: rival(nil, true)}, lane(0, "", ""), false},
		"packed, and the other is behind":      {task.Claim{Packed: packed, Rivals: rival(nil, false)}, lane(0, "", ""), true},
		"packed, and preferred here":           {task.Claim{Labels: a, Packed: packed, Rivals: rival(b, true)}, lane(0, "", zone("a")), true},
		"packed, and preferred nowhere":        {task.Claim{Labels: b, Packed: packed, Rivals: rival(b, true)}, lane(0, "", zone("a")), false},
		"not packed":                           {task.Claim{Rivals: rival(nil, true)}, lane(0, "", ""), true},
	} {
		if got := c.q.May(c.lane, lives); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		selector := rapid.SampledFrom([]task.Selector{"", zone("a"), zone("b")})
		labels := rapid.SampledFrom([]map[string]string{nil, a, b})
		q := task.Claim{Holder: 5, Labels: labels.Draw(t, "labels")}
		if rapid.Bool().Draw(t, "rivals") {
			q.Rivals = rival(labels.Draw(t, "theirs"), rapid.Bool().Draw(t, "before"))
		}
		if rapid.Bool().Draw(t, "packs") {
			q.Packed = packed
		}
		q.Kinds = rapid.SampledFrom([][]string{nil, {"work"}, {"play", "work"}}).Draw(t, "kinds")
		if rapid.Bool().Draw(t, "serves") {
			q.Served = []task.Served{{Namespace: rapid.SampledFrom([]string{"", "other"}).Draw(t, "whose"), Kinds: []string{"play"}, Labels: labels.Draw(t, "workers'")}}
		}
		may := q.Choose(lives)
		for range 20 {
			l := lane(rapid.SampledFrom([]task.Incarnation{0, 5, 6, 9}).Draw(t, "bound"), selector.Draw(t, "require"), selector.Draw(t, "prefer"))
			l.Queue = rapid.SampledFrom([]string{"q", "r"}).Draw(t, "queue")
			l.Kind = rapid.SampledFrom([]string{"work", "play"}).Draw(t, "kind")
			l.Demand = rapid.SampledFrom([]string{"", "cpu=1"}).Draw(t, "demand")
			if may(l) != q.Takes(l, lives) {
				t.Fatalf("%+v of %+v", l, q)
			}
		}
	})
}
