package task_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/task"
)

var sticky = task.LimitName{Scope: task.OfSticky, Namespace: "acme", Name: "k"}

// However nodes ask, come and go: what runs with the key runs on one node that lives.
func TestStickyKeyIsAtOneNodeThatLives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := task.NewLimit()
		till := task.Till{Now: time.Unix(1_000_000, 0), Limits: map[task.LimitName]*task.Limit{sticky: limit}}
		newest := task.Incarnation(3)
		alive := map[task.Incarnation]bool{1: true, 2: true, 3: true}
		running := map[task.Incarnation]int{}
		last := till.Now // when the latest attempt on the home ended
		node := func(t *rapid.T) task.Incarnation {
			var all []task.Incarnation
			for i := range newest + 1 {
				if alive[i] {
					all = append(all, i)
				}
			}
			return rapid.SampledFrom(all).Draw(t, "node")
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				n, before := node(t), limit.Home
				_, _, ok := till.Take(task.Ask{Tokens: []task.Token{{Limit: sticky, Amount: 1000, Home: n}}})
				free := before == 0 || before == n || !alive[before] || running[before] == 0 && till.Now.Sub(last) >= task.StickyFor
				if ok != free {
					t.Fatalf("node %d got the key of node %d: %t", n, before, ok)
				}
				if ok {
					running[n]++
				}
			},
			"ask": func(t *rapid.T) {
				before := *limit
				till.Take(task.Ask{Tokens: []task.Token{{Limit: sticky, Amount: 1000, Home: node(t)}}, Test: true})
				if *limit != before {
					t.Fatalf("asking made %+v of %+v", *limit, before)
				}
			},
			"end": func(t *rapid.T) { // also of the dead
				n := rapid.SampledFrom([]task.Incarnation{1, 2, 3, newest}).Draw(t, "of")
				if running[n] > 0 {
					running[n]--
					till.Give([]task.Token{{Limit: sticky, Amount: 1000, Home: n}})
					if n == limit.Home {
						last = till.Now
					}
				}
			},
			"die": func(t *rapid.T) {
				n := node(t)
				newest++
				alive[n], alive[newest] = false, true
				limit.Alone = limit.Alone || n == limit.Home
			},
			"wait": func(t *rapid.T) {
				till.Now = till.Now.Add(time.Duration(rapid.IntRange(1, 11).Draw(t, "minutes")) * time.Minute)
			},
			"": func(t *rapid.T) {
				if limit.Home != 0 && limit.Used != task.Quantity(1000*running[limit.Home]) {
					t.Fatalf("%s in use, %d run", limit.Used, running[limit.Home])
				}
				for n, runs := range running {
					if runs > 0 && alive[n] && n != limit.Home {
						t.Fatalf("node %d runs with the key of node %d", n, limit.Home)
					}
				}
			},
		})
	})
}

func TestStickyKeyIsForgottenWhenItIsOfNoUse(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	token := []task.Token{{Limit: sticky, Amount: 1000, Home: 1}}
	limit := task.NewLimit()
	till := task.Till{Now: now, Limits: map[task.LimitName]*task.Limit{sticky: limit}}
	till.Take(task.Ask{Tokens: token})
	if limit.Idle(task.OfSticky, now.Add(time.Hour)) {
		t.Error("forgotten while something runs with it")
	}
	till.Give(token)
	if limit.Idle(task.OfSticky, now.Add(task.StickyFor-1)) || !limit.Idle(task.OfSticky, now.Add(task.StickyFor)) {
		t.Error("not kept for as long as it is at home somewhere")
	}
}

func TestBoundTaskIsLetGoInTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	one := task.New(task.Spec{Kind: "work", StickyKey: "k"}, now, 7).Task
	bound := one.Bind(9, now)
	if bound.Holder != 0 || bound.Lane().Bound != 9 || !bound.WakeAt().Equal(now.Add(task.BoundFor)) {
		t.Fatalf("%+v", bound)
	}
	if _, err := bound.Unbind(now.Add(task.BoundFor - 1)); !errors.Is(err, task.ErrStale) {
		t.Errorf("let go too early: %v", err)
	}
	step, err := bound.Unbind(now.Add(task.BoundFor))
	if err != nil || step.Task.Bound != 0 || !step.Task.WakeAt().IsZero() || step.Guard != bound.Guard() {
		t.Errorf("%+v, %v", step, err)
	}
	if _, err := one.Unbind(now.Add(time.Hour)); !errors.Is(err, task.ErrStale) {
		t.Errorf("one that waits for nobody: %v", err)
	}
	bound.Deadline = now.Add(time.Minute)
	if !bound.WakeAt().Equal(bound.Deadline) {
		t.Errorf("wakes at %v", bound.WakeAt())
	}
	_, err = task.Limits{}.Check(task.Spec{Kind: "work", StickyKey: "a\nb"}, now)
	var bad task.InvalidError
	if !errors.As(err, &bad) || bad[0].Field != "sticky_key" {
		t.Errorf("%v", err)
	}
}
