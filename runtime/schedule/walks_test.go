package schedule

import "testing"

// What is taken is what running entries demand, and no more than there is unless
// it was so before; when all have ended, nothing is left behind.
func TestTokensAreConserved(t *testing.T) {
	w := walk(t, func(w *world) {
		w.liars, w.settings = true, true
		w.judge = func(e Entry, ok bool) {
			if ok {
				if short, _ := w.lacks(e.Demand); short {
					t.Fatalf("%x does not fit", e.ID[14:])
				}
				return
			}
			for _, g := range w.c.Resources() {
				if want := w.used(g.Name); g.Used != want || g.Capacity != w.capacity[g.Name] {
					t.Fatalf("%+v, want %d", g, want)
				}
			}
		}
	})
	for _, e := range w.waiting {
		w.c.Remove(e.ID)
	}
	for _, r := range w.running {
		w.c.Release(r.ID, w.now)
	}
	c := w.c
	if len(c.items)+len(c.groups)+len(c.benches)+len(c.classes)+len(c.running.all())+c.waiting != 0 {
		t.Errorf("left behind: %d items, %d groups, %d benches, %d classes, %d running",
			len(c.items), len(c.groups), len(c.benches), len(c.classes), len(c.running.all()))
	}
	for name, p := range c.resources {
		if p.used != 0 || p.ahead != 0 || p.ending > 1 || p.ending < -1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for _, f := range c.flows {
		if f.load != 0 || len(f.rights)+len(f.turns)+len(f.groups)+len(f.timed) != 0 {
			t.Errorf("%+v", f)
		}
	}
}

// After a no, whatever fits and is not paused would delay who has the reservation.
func TestNothingIdlesButForAReservation(t *testing.T) {
	held := 0
	w := walk(t, func(w *world) {
		w.liars, w.settings = true, true
		w.judge = func(_ Entry, ok bool) {
			if ok {
				return
			}
			for _, e := range w.waiting {
				if short, _ := w.lacks(e.Demand); short || w.paused[flowOf(e)] {
					continue
				}
				first := w.c.reserved.of
				if first == nil || first.group == nil {
					t.Fatalf("call %d: %x fits and waits for nobody", w.calls, e.ID[14:])
				}
				if short, impossible := w.lacks(first.Demand); !short || impossible || w.paused[flowOf(first.Entry)] {
					t.Fatalf("call %d: %x waits for %x, which fits, cannot fit or is paused", w.calls, e.ID[14:], first.ID[14:])
				}
				e.Expected = e.expected() * 11 / 10 // who is expected to run longer by less stands for it
				if at, extra := w.promise(first.Demand, w.c.after); !w.delays(e, at, extra) {
					t.Fatalf("call %d: %x would not delay %x, which waits for %v with %v to spare", w.calls, e.ID[14:], first.ID[14:], at, extra)
				}
				held++
			}
		}
	})
	t.Logf("%d starts, %d times somebody was held back", w.count-len(w.waiting), held)
}

func TestAWalkCanBeRepeated(t *testing.T) {
	once := func() uint64 { return walk(t, func(w *world) { w.liars, w.settings = true, true }).seen }
	if a, b := once(), once(); a != b {
		t.Errorf("%x and %x", a, b)
	}
}
