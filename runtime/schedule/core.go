package schedule

import (
	"cmp"
	"container/heap"
	"errors"
	"maps"
	"slices"
	"time"
)

// Config is what a [Core] is made with.
type Config struct {
	// Ageing is the head start one step of priority gives; 30 s where zero.
	Ageing time.Duration
}

// ErrDuplicate says that an entry is known already.
var ErrDuplicate = errors.New("entry is known already")

// Core is the state of one node's scheduler.
type Core struct {
	ageing    time.Duration
	items     map[ID]*item
	groups    map[shape]*group
	benches   map[string][]*bench // by resource, ascending by what the groups on them need of it
	paused    map[queueName]bool
	resources map[string]*pool
	waiting   int
}

type queueName struct{ namespace, queue string }

// pool is one resource.
type pool struct{ capacity, used int64 }

func (p *pool) free() int64 { return p.capacity - p.used }

// New makes a core without any capacity.
func New(cfg Config) *Core {
	return &Core{
		ageing: cmp.Or(cfg.Ageing, 30*time.Second),
		items:  map[ID]*item{}, groups: map[shape]*group{},
		benches: map[string][]*bench{},
		paused:  map[queueName]bool{}, resources: map[string]*pool{},
	}
}

// SetCapacity sets how much of a resource there is. Where more is taken than
// that, nothing new takes any until enough has come back.
func (c *Core) SetCapacity(name string, milli int64) { c.pool(name).capacity = milli }

func (c *Core) pool(name string) *pool {
	p := c.resources[name]
	if p == nil {
		p = &pool{}
		c.resources[name] = p
	}
	return p
}

// Add makes an entry wait for its turn.
func (c *Core) Add(e Entry) error {
	if c.items[e.ID] != nil {
		return ErrDuplicate
	}
	s := shape{namespace: e.Namespace, queue: e.Queue, kind: e.Kind, priority: e.Priority, demand: e.Demand.key()}
	g := c.groups[s]
	i := &item{Entry: e}
	c.items[e.ID] = i
	c.waiting++
	if g == nil {
		g = &group{shape: s, demand: e.Demand, start: time.Duration(e.Priority) * c.ageing}
		c.groups[s] = g
		i.Demand, i.group = g.demand, g
		heap.Push(g, i)
		if !c.paused[queueName{s.namespace, s.queue}] {
			c.seat(g, g.demand.last())
		}
		return nil
	}
	i.Demand, i.group = g.demand, g // one copy for the whole group
	heap.Push(g, i)
	c.settle(g)
	return nil
}

// settle puts a group whose head has changed in its place.
func (c *Core) settle(g *group) {
	if len(g.items) == 0 {
		delete(c.groups, g.shape)
		return
	}
	if g.bench != nil {
		heap.Fix(g.bench, g.place)
	}
}

// Remove forgets a waiting entry, and says whether it waited.
func (c *Core) Remove(id ID) bool {
	i := c.items[id]
	if i == nil || i.group == nil {
		return false
	}
	c.take(i)
	delete(c.items, id)
	return true
}

// take removes an item from its group.
func (c *Core) take(i *item) {
	g := i.group
	// The bench is ordered by heads: the group must leave it before its last item does.
	if len(g.items) == 1 {
		c.leave(g)
	}
	heap.Remove(g, i.place)
	i.group = nil
	c.waiting--
	c.settle(g)
}

// Next starts the entry whose turn it is: its tokens are taken and it counts as
// running until Release. It is false where nothing that waits can run.
func (c *Core) Next(time.Time) (Entry, bool) {
	for {
		g := c.first()
		if g == nil {
			return Entry{}, false
		}
		if lack, short := c.lacks(g.demand); short {
			c.leave(g)
			c.seat(g, lack) // not looked at again before that much is free
			continue
		}
		i := g.head()
		c.take(i)
		c.hold(i.Demand)
		return i.Entry, true
	}
}

// first is the earliest group that may fit: of those on benches whose amount is
// free now.
func (c *Core) first() *group {
	var best *group
	for name, benches := range c.benches {
		free := c.pool(name).free()
		for _, b := range benches {
			if b.need > free {
				break
			}
			if g := b.groups[0]; best == nil || g.before(best) {
				best = g
			}
		}
	}
	return best
}

// lacks names the first resource of which a demand needs more than is free.
func (c *Core) lacks(d Demand) (Amount, bool) {
	for _, a := range d {
		if p := c.resources[a.Name]; p == nil || a.Milli > p.free() {
			return a, true
		}
	}
	return Amount{}, false
}

// seat puts a group on the bench of one amount of its demand.
func (c *Core) seat(g *group, a Amount) {
	benches := c.benches[a.Name]
	at, found := slices.BinarySearchFunc(benches, a.Milli, func(b *bench, need int64) int { return cmp.Compare(b.need, need) })
	if !found {
		benches = slices.Insert(benches, at, &bench{resource: a.Name, need: a.Milli})
		c.benches[a.Name] = benches
	}
	benches[at].add(g)
}

// leave takes a group off its bench, and an empty bench away.
func (c *Core) leave(g *group) {
	b := g.bench
	if b == nil {
		return
	}
	b.remove(g)
	if len(b.groups) > 0 {
		return
	}
	benches := slices.DeleteFunc(c.benches[b.resource], func(x *bench) bool { return x == b })
	if len(benches) == 0 {
		delete(c.benches, b.resource)
		return
	}
	c.benches[b.resource] = benches
}

func (c *Core) hold(d Demand) {
	for _, a := range d {
		c.pool(a.Name).used += a.Milli
	}
}

// Restore notes an entry that runs already, after a restart of the scheduler.
func (c *Core) Restore(e Entry) {
	if i := c.items[e.ID]; i != nil {
		if i.group == nil {
			return
		}
		c.take(i)
	}
	c.items[e.ID] = &item{Entry: e}
	c.hold(e.Demand)
}

// Release returns the tokens of an entry that has run, and says whether it did.
func (c *Core) Release(id ID) bool {
	i := c.items[id]
	if i == nil || i.group != nil {
		return false
	}
	delete(c.items, id)
	for _, a := range i.Demand {
		c.pool(a.Name).used -= a.Milli
	}
	return true
}

// SetPaused stops a queue's entries from starting, or lets them.
func (c *Core) SetPaused(namespace, queue string, paused bool) {
	q := queueName{namespace, queue}
	if c.paused[q] == paused {
		return
	}
	if paused {
		c.paused[q] = true
	} else {
		delete(c.paused, q)
	}
	for _, g := range c.groups {
		switch {
		case g.shape.namespace != namespace || g.shape.queue != queue:
		case paused:
			c.leave(g)
		default:
			c.seat(g, g.demand.last())
		}
	}
}

// Least lists up to n waiting entries, the least urgent first: what to give
// back when the node holds too much.
func (c *Core) Least(n int) []Entry {
	all := make([]*item, 0, c.waiting)
	for _, g := range c.groups {
		all = append(all, g.items...)
	}
	slices.SortFunc(all, func(a, b *item) int {
		if orderOf(b, b.group.start).before(orderOf(a, a.group.start)) {
			return -1
		}
		return 1
	})
	out := make([]Entry, min(n, len(all)))
	for i := range out {
		out[i] = all[i].Entry
	}
	return out
}

// IsWaiting says whether an entry waits for its turn.
func (c *Core) IsWaiting(id ID) bool {
	i := c.items[id]
	return i != nil && i.group != nil
}

// Waiting is how many entries wait; Running how many run.
func (c *Core) Waiting() int { return c.waiting }

// Running is how many entries run.
func (c *Core) Running() int { return len(c.items) - c.waiting }

// Gauge is one resource's capacity and what is taken of it, in thousandths.
type Gauge struct {
	Name           string
	Capacity, Used int64
}

// Resources gauges all resources, by name.
func (c *Core) Resources() []Gauge {
	out := make([]Gauge, 0, len(c.resources))
	for _, name := range slices.Sorted(maps.Keys(c.resources)) {
		p := c.resources[name]
		out = append(out, Gauge{Name: name, Capacity: p.capacity, Used: p.used})
	}
	return out
}
