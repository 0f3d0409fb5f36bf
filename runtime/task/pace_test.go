package task

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// learned is a pace of so many a second, of a queue in which there was always one.
func learned(perSecond int) (*Pace, time.Time) {
	var p Pace
	now := epoch
	p.Observe(now, 0, true)
	for range 20 {
		now = now.Add(time.Second)
		p.Observe(now, perSecond, true)
	}
	return &p, now
}

func TestNothingIsExpectedBeforeAnythingIsLearned(t *testing.T) {
	var stuck, idle Pace // nobody serves the one, nobody waits in the other
	now := epoch
	for range 30 {
		now = now.Add(time.Second)
		stuck.Observe(now, 0, true)
		idle.Observe(now, 5, false)
	}
	for name, p := range map[string]*Pace{"new": {}, "stuck": &stuck, "idle": &idle} {
		if wait, ok := p.Wait(now, 1000); ok {
			t.Errorf("%s: %v of nothing", name, wait)
		}
		if wait, ok := p.Wait(now, 0); !ok || wait != 0 {
			t.Errorf("%s: %v, %v for nobody", name, wait, ok)
		}
	}
}

func TestPaceFollowsWhatHappens(t *testing.T) {
	p, now := learned(100)
	near := func(what string, tasks int64, want time.Duration) {
		t.Helper()
		if wait, ok := p.Wait(now, tasks); !ok || wait < want*9/10 || wait > want*11/10 {
			t.Errorf("%s: %d take %v, %v; want about %v", what, tasks, wait, ok, want)
		}
	}
	observe := func(seconds, started int, waiting bool) {
		for range seconds {
			now = now.Add(time.Second)
			p.Observe(now, started, waiting)
		}
	}
	near("100 a second", 1000, 10*time.Second)
	observe(30, 10, true)
	near("10 a second for half a minute", 100, 10*time.Second)
	observe(1, 0, false) // between the two, it ran dry
	observe(20, 1, false)
	near("few came, and started at once", 100, 10*time.Second)
	observe(30, 100, false)
	near("many came, and started at once", 1000, 10*time.Second)
	observe(100, 0, true)
	if wait, ok := p.Wait(now, 1); !ok || wait < 4*time.Second {
		t.Errorf("for 100 s none has started, and one is to take %v, %v", wait, ok)
	}
	observe(61, 1, false)
	if wait, ok := p.Wait(now, 1); ok || !p.Forgotten(now) {
		t.Errorf("nobody has waited for a minute, and one is to take %v", wait)
	}
	observe(3, 7, true)
	near("anew", 70, 10*time.Second)
}

func TestASlowQueueIsJudgedByItsLastTwentyStarts(t *testing.T) {
	var p Pace
	now := epoch
	lowest, highest := time.Duration(1<<62), time.Duration(0)
	for i := range 2000 {
		now = now.Add(time.Second)
		started := 0
		if i%10 == 0 {
			started = 1
		}
		p.Observe(now, started, true)
		if i > 100 {
			wait, _ := p.Wait(now, 10)
			lowest, highest = min(lowest, wait), max(highest, wait)
		}
	}
	if lowest < 80*time.Second || highest > 120*time.Second {
		t.Errorf("one starts every ten seconds, and ten are to take %v to %v", lowest, highest)
	}
}

func TestWhatHappensInAPauseTeachesNothing(t *testing.T) {
	p, now := learned(10)
	before, _ := p.Wait(now, 10)
	p.Pause()
	now = now.Add(30 * time.Second)
	p.Observe(now, 0, true)
	if wait, ok := p.Wait(now, 10); !ok || wait != before {
		t.Errorf("ten took %v, and after a pause %v, %v", before, wait, ok)
	}
}

func TestAPriorityIsAHeadStart(t *testing.T) {
	for _, tt := range []struct {
		wait     time.Duration
		priority int
		delay    time.Duration
		want     time.Duration
	}{
		{wait: 50 * time.Second, want: 50 * time.Second},
		{wait: 50 * time.Second, priority: 1, want: 20 * time.Second},
		{wait: 50 * time.Second, priority: 2, want: 0},
		{wait: 50 * time.Second, priority: -1, want: 50 * time.Second},
		{wait: 50 * time.Second, delay: time.Second, want: time.Second},
	} {
		s := Spec{Priority: tt.priority}
		if tt.delay > 0 {
			s.RunAt = epoch.Add(tt.delay)
		}
		if f := Expect(s, epoch, tt.wait, 3*time.Second); f.Start.Sub(epoch) != tt.want || f.End.Sub(f.Start) != 3*time.Second {
			t.Errorf("%+v: %+v", tt, f)
		}
	}
}

func TestAnEmptyQueueNeverMissesADeadlineLongerThanARun(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var p Pace
		now := epoch
		for range rapid.IntRange(0, 100).Draw(rt, "observations") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(rt, "ms")) * time.Millisecond)
			p.Observe(now, rapid.IntRange(0, 50).Draw(rt, "started"), rapid.Bool().Draw(rt, "waiting"))
		}
		wait, ok := p.Wait(now, 0)
		run := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "run"))
		f := Expect(Spec{Priority: rapid.IntRange(-100, 100).Draw(rt, "priority")}, now, wait, run)
		if !ok || f.Start != now || f.Misses(now.Add(run)) || f.Misses(time.Time{}) {
			rt.Fatalf("%+v, %v", f, ok)
		}
		if !f.Misses(now.Add(run - 1)) {
			rt.Fatalf("%+v does not miss what is shorter than its run", f)
		}
		one, ok1 := p.Wait(now, 1)
		more, ok10 := p.Wait(now, 10)
		if ok1 != ok10 || one < 0 || more < one {
			rt.Fatalf("one starts after %v (%v), ten after %v (%v)", one, ok1, more, ok10)
		}
	})
}
