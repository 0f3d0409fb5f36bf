package schedule

import (
	"slices"
	"testing"
	"time"
)

// urgency is how urgent an entry is now, and then its priority.
func (w *world) urgency(priority int) [2]int { return [2]int{w.levels[priority], priority} }

func less(a, b [2]int) bool { return slices.Compare(a[:], b[:]) < 0 }

// standing is the reservation, if one stands: worked out anew, but for whose it is.
type standing struct {
	of    *item
	at    time.Time
	extra map[string]int64
}

func (w *world) standing(after []*item) standing {
	of := w.c.reserved.of
	if of == nil || w.paused[flowOf(of.Entry)] {
		return standing{}
	}
	if _, impossible := w.lacks(of.Demand); impossible {
		return standing{}
	}
	at, extra := w.promise(of.Demand, after)
	return standing{of, at, extra}
}

func (w *world) isDelayed(s standing, by Entry) bool {
	return s.of != nil && w.delays(by, s.at, s.extra)
}

// heads is how urgent each flow was, by its rights.
func (w *world) heads() map[queueName][2]int {
	urgency := map[queueName][2]int{}
	for f, rights := range w.rights {
		for _, p := range rights {
			if u, known := urgency[f]; !known || less(u, w.urgency(p)) {
				urgency[f] = w.urgency(p)
			}
		}
	}
	return urgency
}

// Who starts is the first of a flow than which none is more urgent. Or such a flow
// does not fit and has a reservation, and who starts does not delay that, and is the
// most urgent of those that would not.
func TestNobodyIsPassedButForAReservation(t *testing.T) {
	inOrder, passed := 0, 0
	walk(t, func(w *world) {
		w.liars, w.settings = true, true
		w.judge = func(e Entry, ok bool) {
			if !ok {
				return
			}
			x := w.c.items[e.ID].place()
			heads := w.heads()
			highest := [2]int{-1000}
			for _, u := range heads {
				if less(highest, u) {
					highest = u
				}
			}
			first := !slices.ContainsFunc(w.waiting, func(o Entry) bool {
				_, impossible := w.lacks(o.Demand)
				return !impossible && flowOf(o) == flowOf(e) && o.ID != e.ID && isBefore(w.c.items[o.ID].place(), x)
			})
			if first && heads[flowOf(e)] == highest {
				inOrder++
				return
			}
			passed++
			s := w.standing(w.c.after)
			if s.of == nil || heads[flowOf(s.of.Entry)] != highest {
				t.Fatalf("call %d: %x passes %v, and nobody has a reservation", w.calls, e.ID[14:], highest)
			}
			if short, _ := w.lacks(s.of.Demand); !short {
				t.Fatalf("call %d: %x passes %x, which fits", w.calls, e.ID[14:], s.of.ID[14:])
			}
			if w.isDelayed(s, e) {
				t.Fatalf("call %d: %x delays %x", w.calls, e.ID[14:], s.of.ID[14:])
			}
			for _, o := range w.waiting {
				if short, _ := w.lacks(o.Demand); short || w.paused[flowOf(o)] || o.ID == e.ID {
					continue
				}
				o.Expected = o.expected() * 11 / 10 // who is expected to run longer by less stands for it
				if w.isDelayed(s, o) {
					continue
				}
				if u := w.urgency(o.Priority); less(w.urgency(e.Priority), u) {
					t.Fatalf("call %d: %x passes %x of %v", w.calls, e.ID[14:], o.ID[14:], u)
				}
				if y := w.c.items[o.ID].place(); flowOf(o) == flowOf(e) && o.Priority == e.Priority && y.before(&x) {
					t.Fatalf("call %d: %x passes %x in its queue", w.calls, e.ID[14:], o.ID[14:])
				}
			}
		}
	})
	t.Logf("%d started in order, %d before one that had a reservation", inOrder, passed)
}

// While nothing runs longer than expected, who has a reservation starts when it was
// said, or earlier; unless one that is more urgent, or stands before it in its queue,
// takes its place.
func TestAReservationIsKept(t *testing.T) {
	kept, lost := 0, 0
	walk(t, func(w *world) {
		var last, past reservation
		w.judge = func(e Entry, ok bool) {
			r := w.c.reserved
			if r.of != past.of || !r.at.Equal(past.at) {
				past = reservation{}
			}
			switch {
			case ok && last.of != nil && e.ID == last.of.ID:
				if w.now.After(last.at) {
					t.Fatalf("call %d: starts at %v, was promised %v", w.calls, w.now, last.at)
				}
				kept++
			case r.of == nil || r.of != last.of:
			case r.at.After(last.at):
				t.Fatalf("call %d: promised %v, then %v", w.calls, last.at, r.at)
			case w.now.After(r.at):
				t.Fatalf("call %d: promised %v, and it is %v", w.calls, r.at, w.now)
			case ok && w.isDelayed(w.standing(nil), e):
				x := w.c.items[e.ID].place()
				heads := w.heads()
				sameFlow := flowOf(e) == flowOf(r.of.Entry)
				if sameFlow && isBefore(r.of.place(), x) || !sameFlow && !less(heads[flowOf(r.of.Entry)], heads[flowOf(e)]) {
					t.Fatalf("call %d: %x delays %x", w.calls, e.ID[14:], r.of.ID[14:])
				}
				past = r
				lost++
			}
			if last = r; past.of != nil {
				last.of = nil
			}
		}
	})
	t.Logf("%d were kept, %d lost", kept, lost)
	if kept < *steps/1000 {
		t.Error("too few to say anything")
	}
}

func isBefore(a, b order) bool { return a.before(&b) }
