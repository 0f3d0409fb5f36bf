package schedule

import "time"

// Codes of a [Reason].
const (
	Paused     = "paused"      // its queue is paused
	Impossible = "impossible"  // it needs more than there is
	Short      = "resources"   // it needs more than is free
	Reserved   = "reservation" // it would delay another, to whom its place is promised
	InOrder    = "order"       // others stand before it
	Unplaced   = "workers"     // no worker that may run it has room
)

// Reason is why an entry waits. Resource and the amounts, in thousandths, are
// of what it lacks, if it lacks something.
type Reason struct {
	Code     string
	Resource string
	Needed   int64
	Free     int64
	Capacity int64
	Workers  int       // of Unplaced: how many there are; Capacity and Free are of their slots
	Position int       // in its queue, in the order of the queue's policy; 1 is the first
	Expected time.Time // when it starts if all runs as long as expected; zero: nobody can tell
	Promised bool      // Expected is a reservation: nobody passes it who would delay it
	For      ID        // of Reserved: the other
}

// Explain says why an entry waits; false where it does not. It counts the waiting
// entries of its queue.
func (c *Core) Explain(id ID, now time.Time) (Reason, bool) {
	i := c.items[id]
	if i == nil || i.group == nil {
		return Reason{}, false
	}
	r := Reason{Code: InOrder, Position: 1}
	for g := range i.flow.groups {
		if g != i.group && !g.head().before(i) {
			continue
		}
		for _, other := range g.items {
			if other.before(i) {
				r.Position++
			}
		}
	}
	c.look()
	if s := i.bench.site; s != nil && (s.Only || s.next != nil) {
		return c.explainSite(i, r), true
	}
	for _, a := range i.Demand {
		p := c.resources[a.Name]
		if p == nil {
			p = &pool{}
		}
		switch {
		case a.Milli > p.capacity:
			r.Code, r.Resource, r.Needed, r.Free, r.Capacity = Impossible, a.Name, a.Milli, max(0, p.free()), p.capacity
			return r, true
		case a.Milli > p.free() && r.Resource == "":
			r.Code, r.Resource, r.Needed, r.Free, r.Capacity = Short, a.Name, a.Milli, max(0, p.free()), p.capacity
		}
	}
	if i.flow.paused {
		return Reason{Code: Paused, Position: r.Position}, true
	}
	first := c.reserved.of
	switch {
	case first == i:
		r.Expected, r.Promised = c.reserved.at, true
	case first != nil && r.Resource == "" && !c.reserved.allows(i, now):
		r.Code, r.For = Reserved, first.ID
		r.Expected = c.reserved.at
	default:
		c.ahead(i, -1)
		r.Expected = now.Add(c.workAhead(i.Demand, now))
		c.ahead(i, 1)
	}
	return r, true
}

// explainSite says why an entry waits that runs on workers.
func (c *Core) explainSite(i *item, r Reason) Reason {
	s := i.bench.site
	if i.flow.paused {
		return Reason{Code: Paused, Position: r.Position}
	}
	if s.next != nil {
		return r
	}
	if a, most, never := c.lacksEver(s); never && len(s.workers) > 0 {
		r.Code, r.Resource, r.Needed, r.Free, r.Capacity = Impossible, a.Name, a.Milli, most, most
		return r
	}
	r.Code, r.Workers = Unplaced, len(s.workers)
	for _, w := range s.workers {
		r.Capacity += w.capacity[Slots]
		if !w.Closed {
			r.Free += max(0, w.capacity[Slots]-w.used[Slots])
		}
	}
	return r
}
