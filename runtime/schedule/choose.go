package schedule

import (
	"cmp"
	"slices"
	"time"
)

// class is the waiting entries of one priority, which age together.
type class struct {
	priority int
	level    int       // how urgent it is now
	count    int       // entries that wait, and rights
	served   time.Time // when a right was last spent, or the first came
	line     stand     // the flows that have a right of it
}

// attend counts entries of a class that wait, or rights, or so many less.
func (c *Core) attend(priority, n int, since time.Time) *class {
	k := c.classes[priority]
	if k == nil {
		k = &class{priority: priority, served: since, line: stand{priority: priority, of: map[*tenant]*stall{}}}
		c.classes[priority] = k
		c.ranked = append(c.ranked, k)
	}
	if k.count += n; k.count == 0 {
		delete(c.classes, priority)
		c.ranked = slices.DeleteFunc(c.ranked, func(o *class) bool { return o == k })
	}
	return k
}

// rank orders the classes by how urgent they are now: a step more than their
// priority for each ageing that none of their entries has started.
func (c *Core) rank(now time.Time) {
	for n, k := range c.ranked {
		k.level = k.priority + int(max(0, now.Sub(k.served))/c.ageing)
		for ; n > 0 && k.ahead(c.ranked[n-1]); n-- { // nearly always in order
			c.ranked[n] = c.ranked[n-1]
		}
		c.ranked[n] = k
	}
}

func (k *class) ahead(o *class) bool {
	return cmp.Or(cmp.Compare(k.level, o.level), cmp.Compare(k.priority, o.priority)) > 0
}

// earn gives a flow rights of a priority: one for each entry that takes part.
//
// A flow stands in line with its rights, and which of its entries a right is spent on
// is the queue's own matter. So an entry of a low priority that is old holds none of a
// higher one up, nor can one of a high priority help all that are before it.
func (c *Core) earn(f *flow, priority, n int, since time.Time) {
	if len(f.rights) == 0 {
		c.lined++
	}
	k := c.attend(priority, n, since)
	at, found := f.find(priority)
	if !found {
		s := &seat{flow: f, account: f.account(priority)}
		f.rights = slices.Insert(f.rights, at, rights{priority: priority, seat: s})
		k.line.add(s)
	}
	f.rights[at].n += n
}

// spend takes n rights of a priority, or else of the next lower, or the next higher
// one: other entries have been started on those of their own.
func (c *Core) spend(f *flow, priority, n int) {
	for n > 0 {
		at, _ := f.find(priority)
		at = min(at, len(f.rights)-1)
		t := &f.rights[at]
		taken := min(n, t.n)
		n -= taken
		t.n -= taken
		if t.n == 0 {
			t.seat.rise()
		}
		c.attend(t.priority, -taken, time.Time{})
		if t.n == 0 {
			f.rights = slices.Delete(f.rights, at, at+1)
		}
	}
	if len(f.rights) == 0 {
		c.lined--
	}
}

func (f *flow) find(priority int) (int, bool) {
	return slices.BinarySearchFunc(f.rights, priority, func(t rights, p int) int { return cmp.Compare(p, t.priority) })
}

// choose finds the entry whose turn it is, and the priority at which it starts.
func (c *Core) choose(now time.Time) (*item, int) {
	c.rank(now)
	s := c.first()
	if s == nil {
		return nil, 0
	}
	first := s.flow.turns[0].head()
	if first.bench.lacks() < 0 {
		return first, s.stall.stand.priority
	}
	fit := c.fitting()
	if len(fit) == 0 {
		return nil, 0 // nobody could pass it
	}
	c.reserve(first)
	c.shareOut(s, fit, now)
	return c.backfill(fit, now)
}

// first is the flow whose turn it is, whether its first entry fits or not.
func (c *Core) first() *seat {
	for _, k := range c.ranked {
		if len(k.line.stalls) == 0 {
			continue
		}
		c.progress(k)
		if r := c.reserved.of; r != nil {
			if at, found := r.flow.find(k.priority); found {
				return r.flow.rights[at].seat // it is its turn already
			}
		}
		return k.line.first()
	}
	return nil
}

// backfill finds the first of those that fit and do not delay the one that has the
// reservation.
func (c *Core) backfill(fit []*bench, now time.Time) (*item, int) {
	left := c.reserved.at.Sub(now)
	short := length(left)
	c.rows = c.rows[:0]
	for _, b := range fit {
		if b.spared() {
			for _, r := range b.rows {
				c.rows = append(c.rows, candidate{row: r})
			}
			continue
		}
		for _, r := range b.rows {
			if r.length > short {
				break
			}
			c.rows = append(c.rows, candidate{row: r, perhaps: r.length == short})
		}
	}
	for _, k := range c.ranked {
		var best *seat
		for _, r := range c.rows {
			if r.row.has[word(k.priority)]&bit(k.priority) == 0 {
				continue
			}
			at, _ := r.row.find(k.priority)
			d := r.row.stands[at]
			if best != nil && d.stalls[0].key > best.stall.key {
				continue // and it may be more by now
			}
			s := d.first()
			if r.perhaps && s.group.head().expected() > left {
				continue
			}
			if best == nil || s.ahead(best) {
				best = s
			}
		}
		if best != nil {
			c.progress(k)
			return best.group.head(), k.priority
		}
	}
	return nil, 0
}

// candidate is a row of a bench that fits. Whether it ends in time is known of all
// in it, unless it is the last one that does: there only of the one that goes first.
type candidate struct {
	row     *row
	perhaps bool
}
