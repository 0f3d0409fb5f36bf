package schedule

import (
	"cmp"
	"slices"
	"strconv"
)

// bench is the groups that have the same demand. It stands on the shelf of one
// amount of it, and is not looked at before that much is free.
type bench struct {
	key      string
	demand   Demand
	pools    []*pool // of its amounts
	possible bool    // it needs no more than there is
	uses     int     // entries that wait or run
	rows     []*row  // the shortest first
	shelf    *shelf  // nil while nobody sits here
	place    int     // on the shelf
	site     *site   // where else its entries may run; nil: nowhere
}

// row is those of a bench that are expected to run equally long.
type row struct {
	length int
	stands []*stand // by priority
	has    [4]uint64
}

// shelf is the benches that need the same amount of a resource.
type shelf struct {
	pool    *pool
	need    int64
	benches []*bench
}

// bench finds or makes the bench of a demand.
func (c *Core) bench(d Demand) *bench { return c.benchOf(&Entry{Demand: d}) }

// benchOf finds or makes the bench of an entry.
func (c *Core) benchOf(e *Entry) *bench {
	d := e.Demand
	key := d.key()
	if e.Site != nil {
		key += "\n" + strconv.Quote(e.Namespace) + strconv.Quote(e.Kind) + e.Site.key()
	}
	b := c.benches[key]
	if b == nil {
		b = &bench{key: key, demand: d}
		for _, a := range d {
			b.pools = append(b.pools, c.pool(a.Name))
		}
		b.possible = b.isPossible()
		c.benches[key] = b
		if e.Site != nil {
			b.site = c.site(b, e)
			c.reckon(b.site)
			c.look()
		}
	}
	return b
}

// use notes that an entry has the demand of a bench.
func (c *Core) use(i *item, b *bench) {
	b.uses++
	i.bench, i.Demand = b, b.demand // one copy for all
}

func (c *Core) disuse(i *item) {
	if i.bench.uses--; i.bench.uses == 0 {
		delete(c.benches, i.bench.key)
		if s := i.bench.site; s != nil {
			s.forget()
			delete(c.mixed, s)
		}
	}
}

// isPossible says whether the bench needs no more than there is.
func (b *bench) isPossible() bool {
	for k, a := range b.demand {
		if a.Milli > b.pools[k].capacity {
			return false
		}
	}
	return true
}

// lacks is the first of its amounts that is not free; -1 if all are, or there is room
// elsewhere.
func (b *bench) lacks() int {
	if b.site != nil && b.site.next != nil {
		return -1
	}
	return b.lacksHere()
}

func (b *bench) lacksHere() int {
	for k := range b.demand {
		if b.demand[k].Milli > b.pools[k].free() {
			return k
		}
	}
	return -1
}

func (b *bench) row(length int) *row {
	at, found := slices.BinarySearchFunc(b.rows, length, func(r *row, n int) int { return cmp.Compare(r.length, n) })
	if !found {
		b.rows = slices.Insert(b.rows, at, &row{length: length})
	}
	return b.rows[at]
}

func (r *row) stand(priority int) *stand {
	at, found := r.find(priority)
	if !found {
		r.stands = slices.Insert(r.stands, at, &stand{priority: priority, of: map[*tenant]*stall{}})
		r.has[word(priority)] |= bit(priority)
	}
	return r.stands[at]
}

func (r *row) find(priority int) (int, bool) {
	return slices.BinarySearchFunc(r.stands, priority, func(d *stand, p int) int { return cmp.Compare(d.priority, p) })
}

func word(priority int) int   { return (priority + 100) >> 6 & 3 }
func bit(priority int) uint64 { return 1 << (uint(priority+100) & 63) }

// rise takes a group away, with all that is empty then.
func (b *bench) rise(g *group) {
	at, _ := slices.BinarySearchFunc(b.rows, g.length, func(r *row, n int) int { return cmp.Compare(r.length, n) })
	r := b.rows[at]
	g.seat.rise()
	if k, _ := r.find(g.priority); len(r.stands[k].stalls) == 0 {
		r.stands = slices.Delete(r.stands, k, k+1)
		r.has[word(g.priority)] &^= bit(g.priority)
	}
	if len(r.stands) == 0 {
		b.rows = slices.Delete(b.rows, at, at+1)
	}
	if len(b.rows) == 0 {
		b.unshelve()
	}
}

// shelve puts a bench where it is found: at first under the amount that is most of
// what there is, which will run out first.
func (c *Core) shelve(b *bench) {
	if len(b.demand) == 0 || b.site != nil && b.site.next != nil {
		c.pools[0].shelve(b, 0)
		return
	}
	at, most := 0, 0.0
	for k, a := range b.demand {
		if share := float64(a.Milli) / float64(b.pools[k].capacity); share > most {
			at, most = k, share
		}
	}
	b.pools[at].shelve(b, b.demand[at].Milli)
}

func (p *pool) shelve(b *bench, need int64) {
	at, found := slices.BinarySearchFunc(p.shelves, need, func(s *shelf, n int64) int { return cmp.Compare(s.need, n) })
	if !found {
		p.shelves = slices.Insert(p.shelves, at, &shelf{pool: p, need: need})
	}
	b.shelf, b.place = p.shelves[at], len(p.shelves[at].benches)
	b.shelf.benches = append(b.shelf.benches, b)
}

func (b *bench) unshelve() {
	s := b.shelf
	last := len(s.benches) - 1
	s.benches[b.place] = s.benches[last]
	s.benches[b.place].place = b.place
	s.benches[last] = nil
	s.benches = s.benches[:last]
	b.shelf = nil
	if last == 0 {
		s.pool.shelves = slices.DeleteFunc(s.pool.shelves, func(o *shelf) bool { return o == s })
	}
}

// fitting lists the benches whose whole demand is free. One that it looks at for
// nothing goes to the shelf of what it lacks.
func (c *Core) fitting() []*bench {
	c.fit = c.fit[:0]
	for _, p := range c.pools {
		for k := 0; k < len(p.shelves) && p.shelves[k].need <= p.free(); {
			s := p.shelves[k]
			for j := 0; j < len(s.benches); {
				b := s.benches[j]
				lack := b.lacks()
				if lack < 0 {
					c.fit = append(c.fit, b)
					j++
					continue
				}
				b.unshelve()
				b.pools[lack].shelve(b, b.demand[lack].Milli)
			}
			if len(s.benches) > 0 {
				k++ // else it is gone
			}
		}
	}
	return c.fit
}
