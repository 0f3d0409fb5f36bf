package task_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestSelectorsThatAskForTheSameAreEqual(t *testing.T) {
	t.Parallel()
	a := task.Select(map[string][]string{"zone": {"b", "a", "b"}, "gpu": {"a100"}})
	b := task.Select(map[string][]string{"gpu": {"a100"}, "zone": {"a", "b"}})
	if a != b || a.Words() != "gpu=a100, zone=a or b" {
		t.Fatalf("%q and %q: %s", string(a), string(b), a.Words())
	}
	if none := task.Select(nil); none != "" || !none.Matches(nil) || none.Words() != "" {
		t.Fatalf("%q", string(none))
	}
	if broken := task.Selector("}"); broken.Matches(map[string]string{"": ""}) {
		t.Fatal("what cannot be read matches")
	}
}

// Whatever is asked for, a node is a match exactly if each key has one of the values,
// and the text says all of it.
func TestSelectorMatchesByEveryKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "ü", `"`, "<", "c d"})
		terms := rapid.MapOf(word, rapid.SliceOfN(word, 1, 3)).Draw(t, "terms")
		labels := rapid.MapOf(word, word).Draw(t, "labels")
		want := true
		for key, values := range terms {
			any := false
			for _, v := range values {
				got, there := labels[key]
				any = any || there && got == v
			}
			want = want && any
		}
		s := task.Select(terms)
		if s.Matches(labels) != want || task.Select(s.Terms()) != s {
			t.Fatalf("%s of %v: %t", s.Words(), labels, !want)
		}
	})
}

func TestAffinityIsBounded(t *testing.T) {
	t.Parallel()
	many := map[string][]string{}
	for i := range 17 {
		many[strings.Repeat("k", i+1)] = []string{"v"}
	}
	for name, c := range map[string]struct {
		terms map[string][]string
		field string
	}{
		"too many labels": {many, "require"},
		"no key":          {map[string][]string{"": {"v"}}, "require"},
		"a key with =":    {map[string][]string{"a=b": {"v"}}, "require"},
		"no values":       {map[string][]string{"zone": {}}, "require.zone"},
		"an empty value":  {map[string][]string{"zone": {""}}, "require.zone"},
		"a long value":    {map[string][]string{"zone": {strings.Repeat("v", 257)}}, "require.zone"},
		"a long text":     {map[string][]string{"zone": {strings.Repeat("v", 200), strings.Repeat("w", 200), strings.Repeat("x", 200)}}, "require"},
	} {
		for _, prefer := range []bool{false, true} {
			spec := task.Spec{Kind: "work", Affinity: task.Affinity{Require: task.Select(c.terms)}}
			field := "placement." + c.field
			if prefer {
				spec.Affinity = task.Affinity{Prefer: spec.Affinity.Require}
				field = strings.Replace(field, "require", "prefer", 1)
			}
			_, err := task.Limits{}.Check(spec, time.Now())
			var bad task.InvalidError
			if !errors.As(err, &bad) || bad[0].Field != field {
				t.Errorf("%s: %v, want %s refused", name, err, field)
			}
		}
	}
	spec := task.Spec{Kind: "work", Affinity: task.Affinity{Require: `{"zone": ["b","a"]}`, Prefer: `{}`}}
	got, err := task.Limits{}.Check(spec, time.Now())
	if err != nil || got.Affinity.Require != `{"zone":["a","b"]}` || got.Affinity.Prefer != "" {
		t.Errorf("%+v, %v", got.Affinity, err)
	}
	if _, err := (task.Limits{}).Check(task.Spec{Kind: "work", Affinity: task.Affinity{Require: "zone"}}, time.Now()); err == nil {
		t.Error("what is no selector is taken")
	}
}

func TestLaneIsNamedByItsTerms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		selector := rapid.SampledFrom([]task.Selector{"", `{"zone":["a","b"]}`, `{"gpu":["\n"]}`})
		l := task.Lane{
			Demand:   rapid.SampledFrom([]string{"", "cpu=1", "cpu=1,slots=1"}).Draw(t, "demand"),
			Affinity: task.Affinity{Require: selector.Draw(t, "require"), Prefer: selector.Draw(t, "prefer")},
			Bound:    rapid.SampledFrom([]task.Incarnation{0, 7}).Draw(t, "bound"),
		}
		if got := (task.Lane{}).WithTerms(l.Terms()); got != l {
			t.Fatalf("%+v became %q and that %+v", l, l.Terms(), got)
		}
	})
}
