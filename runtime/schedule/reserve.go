package schedule

import (
	"container/heap"
	"math"
	"slices"
	"time"
)

// reservation is what keeps the entry that is first and does not fit from being
// passed for ever: EASY backfilling (Lifka 1995) over several resources. It is
// promised its place at the time by which, if all ends as expected, its whole
// demand is free. Others may start before it if they end by then, or leave enough.
// While it stands, flows that are as urgent do not go before its own.
//
// What it leaves over is kept for those behind it that could start then, as far as
// it goes, and until it is the turn of one that fits now: else small entries would
// always take it from greater ones, and get more than their share.
type reservation struct {
	of *item
	at time.Time
}

// inLine is how many of those that are next have a part in what a reservation
// leaves over. Each takes about a quarter of a microsecond of every decision.
const inLine = 16

// reserve makes the reservation of an entry that does not fit, as things stand now.
func (c *Core) reserve(first *item) {
	r := reservation{of: first}
	for _, p := range c.pools {
		p.left, p.wanted = p.free(), false
	}
	short := 0
	for k, a := range first.bench.demand {
		p := first.bench.pools[k]
		p.wanted = true
		if p.left -= a.Milli; p.left < 0 {
			short++
		}
	}
	for _, i := range c.running.all() {
		if short == 0 && i.end.After(r.at) {
			break
		}
		r.at = i.end
		for k, a := range i.bench.demand {
			p := i.bench.pools[k]
			if p.wanted && p.left < 0 && p.left+a.Milli >= 0 {
				short--
			}
			p.left += a.Milli
		}
	}
	c.reserved = r
	c.after = c.after[:0]
}

// spared says whether as much is left over of everything as the bench needs.
func (b *bench) spared() bool {
	if w, rest := b.where(); w != nil {
		for k := range rest {
			if rest[k].Milli > b.site.pools[k].left {
				return false
			}
		}
		return true
	}
	for k := range b.demand {
		if b.demand[k].Milli > b.pools[k].left {
			return false
		}
	}
	return true
}

// allows says whether an entry that starts now leaves the reservation alone.
func (r *reservation) allows(i *item, now time.Time) bool {
	return !now.Add(i.expected()).After(r.at) || i.bench.spared()
}

// turn is a place in line to be put back.
type turn struct {
	seat        *seat
	key, stalls float64
}

// shareOut lets those in line take their turns at what is left over, as if they
// started, for as long as there is enough for one that fits now. One that is alone in
// line shares with nobody.
func (c *Core) shareOut(s *seat, fit []*bench, now time.Time) {
	enough := func() bool {
		for len(fit) > 0 && !fit[0].spared() {
			fit = fit[1:]
		}
		return len(fit) > 0
	}
	if c.lined == 1 || !enough() {
		return
	}
	c.taken = c.taken[:0]
	defer c.giveBack()
	c.takeTurn(s, true)
	for _, k := range c.ranked {
		for len(k.line.stalls) > 0 && len(c.taken) < inLine {
			s := k.line.first()
			if math.IsInf(s.stall.key, 1) {
				break
			}
			i := s.flow.turns[0].head()
			fits := i.bench.lacks() < 0
			if fits && c.reserved.allows(i, now) {
				return
			}
			spared := !fits && i.bench.spared()
			if spared {
				for n, a := range i.bench.demand {
					i.bench.pools[n].left -= a.Milli
				}
				if c.after = append(c.after, i); !enough() {
					return
				}
			}
			c.takeTurn(s, spared)
		}
	}
}

// takeTurn moves a flow back in its line as if its first entry had started; or to the
// end of it, after as many turns as it has entries like that one.
func (c *Core) takeTurn(s *seat, started bool) {
	g := s.flow.turns[0]
	c.taken = append(c.taken, turn{s, s.key, s.stall.key})
	cost := c.shareOf(g.bench) * g.head().expected().Seconds()
	at, _ := s.flow.find(s.stall.stand.priority)
	if s.turns++; !started || cost == 0 || s.turns >= min(len(g.items), s.flow.rights[at].n) {
		s.key = math.Inf(1)
	} else {
		s.key += cost / s.flow.weight
	}
	heap.Fix(s.stall, s.place)
	if math.IsInf(s.stall.seats[0].key, 1) {
		s.stall.key = math.Inf(1)
	} else if started {
		s.stall.key += cost / s.flow.tenant.weight
	}
	heap.Fix(s.stall.stand, s.stall.place)
}

// giveBack puts the line in order again.
func (c *Core) giveBack() {
	for _, t := range slices.Backward(c.taken) {
		t.seat.key, t.seat.stall.key, t.seat.turns = t.key, t.stalls, 0
		t.seat.moved()
	}
}

// drop gives the reservation up.
func (c *Core) drop() { c.reserved.of = nil }
