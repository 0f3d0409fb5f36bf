package schedule

import (
	"testing"
	"time"
)

// One that is expected to run ten times as long as it does counts for what it is, in
// the end.
func TestExpectationsAreCorrected(t *testing.T) {
	r := truth{}
	if r.ratio(ageing) != 1 {
		t.Errorf("nothing has ended, and %v of it is true", r.ratio(ageing))
	}
	for range 10_000 {
		r.learn(time.Hour, 6*time.Minute, 0.5, ageing)
	}
	if got := r.ratio(ageing); got < 0.1 || got > 0.11 {
		t.Errorf("a tenth of what was expected is true, not %v", got)
	}
	for range 100_000 {
		r.learn(time.Minute, time.Hour, 1, ageing)
	}
	if got := r.ratio(ageing); got != 2 {
		t.Errorf("what is far from true is corrected by %v", got)
	}
}

// A flood of small entries that fills the node passes a great one for about as long as its
// slack, which is eight times what it takes where the queue is not late; not longer.
func TestSmallOnesPassAGreatOneForItsSlack(t *testing.T) {
	for _, runs := range []time.Duration{time.Minute, 10 * time.Minute} {
		c := New(Config{Ageing: 30 * time.Second})
		c.SetCapacity("slots", 10)
		c.SetPolicy("n", "q", ShortestArea)
		const small, every = 100 * time.Second, 10 * time.Second // ten at once: all there is
		ends := map[int]time.Time{}
		add := func(n int, d time.Duration, slots int64, now time.Time) {
			e := Entry{
				ID: id(n), Namespace: "n", Queue: "q", Since: now, Expected: d,
				Demand: NewDemand(map[string]int64{"slots": slots}),
			}
			if err := c.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		began, started := epoch.Add(200*time.Second), time.Time{}
		for n, now := 1, epoch; started.IsZero(); n, now = n+1, now.Add(every) {
			add(n, small, 1, now)
			if now.Equal(began) {
				add(1<<20, runs, 10, now)
			}
			for k, at := range ends {
				if !at.After(now) {
					c.Release(id(k), now)
					delete(ends, k)
				}
			}
			for e, ok := c.Next(now); ok; e, ok = c.Next(now) {
				if e.ID == id(1<<20) {
					started = now
					break
				}
				k := int(e.ID[13])<<16 | int(e.ID[14])<<8 | int(e.ID[15])
				ends[k] = now.Add(small)
			}
			if now.Sub(began) > 24*time.Hour {
				t.Fatalf("what runs %v has waited for a day", runs)
			}
		}
		waited := started.Sub(began)
		if least, most := 5*runs, 9*runs+2*small; waited < least || waited > most {
			t.Errorf("what runs %v waited %v, want %v to %v", runs, waited, least, most)
		}
	}
}

func TestMeanOfWhatRan(t *testing.T) {
	l := NewLearner()
	if d := l.Mean("n", "k"); d != 0 {
		t.Errorf("nothing has run, and the mean is %v", d)
	}
	for range 9 {
		l.Ran("n", "k", time.Second)
	}
	l.Ran("n", "k", 91*time.Second)
	if d := l.Mean("n", "k"); d < 8*time.Second || d > 12*time.Second {
		t.Errorf("the mean of nine times a second and 91 seconds is %v", d)
	}
	if typical, _ := l.Expect("n", "k"); typical > 2*time.Second {
		t.Errorf("typical is %v", typical)
	}
}

// On a node of which it is a smaller part an entry takes less, and may be passed for
// less long: also one that waits already.
func TestSlackFollowsCapacity(t *testing.T) {
	c := New(Config{Ageing: time.Millisecond})
	c.SetCapacity("slots", 10)
	c.SetPolicy("n", "q", ShortestArea)
	add := func(n int, d time.Duration, slots int64, since time.Time) *item {
		if err := c.Add(Entry{
			ID: id(n), Namespace: "n", Queue: "q", Since: since, Expected: d, Demand: NewDemand(map[string]int64{"slots": slots}),
		}); err != nil {
			t.Fatal(err)
		}
		return c.items[id(n)]
	}
	great := add(1, time.Minute, 10, epoch)
	small := add(2, time.Second, 1, epoch.Add(30*time.Second))
	if !small.before(great) {
		t.Fatal("a small one that comes half a minute later does not pass what takes the node for a minute")
	}
	c.SetCapacity("slots", 100_000)
	if small.before(great) {
		t.Error("it passes what takes next to nothing of the node for a minute")
	}
	if e, ok := c.Next(epoch.Add(time.Minute)); !ok || e.ID != id(1) {
		t.Errorf("%x goes first", e.ID[14:])
	}
}
