package schedule

import "time"

// Codes of a [Reason].
const (
	Paused     = "paused"     // its queue is paused
	Impossible = "impossible" // it needs more than there is
	Short      = "resources"  // it needs more than is free
	InOrder    = "order"      // others stand before it
)

// Reason is why an entry waits. Resource and the amounts, in thousandths, are
// of what it lacks, if it lacks something.
type Reason struct {
	Code     string
	Resource string
	Needed   int64
	Free     int64
	Capacity int64
	Position int // among all that wait, in the order of decisions; 1 is the first
}

// Explain says why an entry waits; false where it does not. It counts all
// waiting entries to find the position.
func (c *Core) Explain(id ID, _ time.Time) (Reason, bool) {
	i := c.items[id]
	if i == nil || i.group == nil {
		return Reason{}, false
	}
	r := Reason{Code: InOrder, Position: 1}
	mine := orderOf(i, i.group.start)
	for _, g := range c.groups {
		if !orderOf(g.head(), g.start).before(mine) {
			continue // nobody in it does
		}
		for _, other := range g.items {
			if orderOf(other, g.start).before(mine) {
				r.Position++
			}
		}
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
	if c.paused[queueName{i.Namespace, i.Queue}] {
		return Reason{Code: Paused, Position: r.Position}, true
	}
	return r, true
}
