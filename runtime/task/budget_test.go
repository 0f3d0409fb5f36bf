package task

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRetriesWithinTheBudgetDoNotWait(t *testing.T) {
	var r Retries
	now := epoch
	for i := range 20_000 { // a hundred a second, of which one in ten is tried again
		now = now.Add(10 * time.Millisecond)
		r.Began(now, 0.2)
		if i%10 == 0 {
			if wait := r.Admit(now, 0.2); wait != 0 {
				t.Fatalf("at %d it waits %v", i, wait)
			}
		}
	}
	var few Retries
	for range budgetFree {
		if wait := few.Admit(epoch, 0.01); wait != 0 {
			t.Errorf("one of the first ten waits %v", wait)
		}
	}
	if wait := few.Admit(epoch, 0.01); wait != 6*time.Second {
		t.Errorf("the eleventh waits %v", wait)
	}
	if wait := few.Admit(epoch.Add(30*time.Second), 0.01); wait != 0 {
		t.Errorf("half a minute later, one waits %v", wait)
	}
}

func TestAStormOfRetriesGoesOneBehindTheOther(t *testing.T) {
	var r Retries
	for range 6000 {
		r.Began(epoch, 0.2)
	}
	last, atOnce := time.Duration(0), 0
	for range 6000 { // all have failed at once
		wait := r.Admit(epoch, 0.2)
		if wait < last || wait > last+60*time.Millisecond {
			t.Fatalf("%v after %v", wait, last)
		}
		if last = wait; wait == 0 {
			atOnce++
		}
	}
	if want := 4790 * time.Minute / 1210; atOnce != 1210 || (last-want).Abs() > time.Second {
		t.Errorf("%d do not wait, and the last one %v, where 1210 go a minute", atOnce, last)
	}
	if wait := r.Admit(epoch.Add(10*time.Minute), 0.2); wait != 0 {
		t.Errorf("all have gone, and the next waits %v", wait)
	}
}

// Nobody waits as long as there are no more retries than are paid for; and of any
// minute, no more start at once than two minutes may have.
func TestRetriesKeepToTheirBudget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var r Retries
		budget := rapid.Float64Range(0.01, 1).Draw(rt, "budget")
		now := epoch
		var firsts, retries, atOnce []time.Time
		most := 0
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(rt, "ms")) * time.Millisecond)
			for range rapid.IntRange(0, 50).Draw(rt, "first") {
				r.Began(now, budget)
				firsts = append(firsts, now)
			}
			most = max(most, within(firsts, now))
			for range rapid.IntRange(0, 20).Draw(rt, "retries") {
				retries = append(retries, now)
				wait := r.Admit(now, budget)
				if wait < 0 || wait > 0 && len(retries) <= budgetFree {
					rt.Fatalf("%d waits %v", len(retries), wait)
				}
				if wait == 0 {
					atOnce = append(atOnce, now)
				}
			}
		}
		may := 2*(budgetFree+int(budget*float64(most))) + 2
		for _, at := range atOnce {
			if n := within(atOnce, at); n > may {
				rt.Fatalf("%d start in the minute before %v, and %d may", n, at, may)
			}
		}
	})
}

// within counts those of a minute that ends at a time.
func within(all []time.Time, end time.Time) (n int) {
	for _, at := range all {
		if !at.After(end) && at.After(end.Add(-budgetWindow)) {
			n++
		}
	}
	return n
}

func TestAPlaceAmongRetriesPutsThemOffAndLosesNone(t *testing.T) {
	running := func(change ...func(*Spec)) Task {
		s := Spec{Kind: "k", ID: ID{1}, MaxAttempts: 2, Retry: Retry{Initial: time.Second, Factor: 2, Max: time.Minute}}
		for _, c := range change {
			c(&s)
		}
		checked, err := Limits{}.Check(s, epoch)
		if err != nil {
			t.Fatal(err)
		}
		step, err := New(checked, epoch, 1).Task.Start(epoch, "n", "w")
		if err != nil {
			t.Fatal(err)
		}
		return step.Task
	}
	soon := func(s *Spec) { s.Deadline = epoch.Add(10 * time.Second) }
	for name, tt := range map[string]struct {
		task  Task
		place time.Duration
		want  time.Duration
	}{
		"no place needed":  {running(), 0, time.Second},
		"a place before":   {running(), time.Millisecond, time.Second},
		"a place behind":   {running(), 30 * time.Second, 30 * time.Second},
		"no longer than":   {running(), time.Hour, time.Minute},
		"by its deadline":  {running(soon), 5 * time.Second, 5 * time.Second},
		"not behind that":  {running(soon), 30 * time.Second, time.Second},
		"not for the last": {running(func(s *Spec) { s.MaxAttempts = 1 }), 30 * time.Second, -1},
	} {
		f := Failure{Code: "x", Retryable: true}
		step, err := tt.task.FailPaced(epoch, f, 0.5, tt.place)
		if err != nil {
			t.Fatal(err)
		}
		if tt.want < 0 {
			if step.Task.State != Failed || tt.task.Retries(f) {
				t.Errorf("%s: %s", name, step.Task.State)
			}
			continue
		}
		if !tt.task.Retries(f) || step.Task.State != Scheduled || step.Task.RunAt != epoch.Add(tt.want) {
			t.Errorf("%s: %s after %v", name, step.Task.State, step.Task.RunAt.Sub(epoch))
		}
		var data StateData
		if err := json.Unmarshal(step.Events[0].Data, &data); err != nil || (data.Reason == "retry_budget") != (tt.want > time.Second) {
			t.Errorf("%s: %s", name, data.Reason)
		}
	}
}
