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
	// Patience is how many times as long as it would have if all had gone by arrival
	// an entry may wait in a queue that goes by something else, about; 1.15 where zero.
	// The more, the less the others wait on average.
	Patience float64
	// Times is asked when an entry starts of which nothing was known as it came;
	// nobody where nil.
	Times *Learner
}

// ErrDuplicate says that an entry is known already.
var ErrDuplicate = errors.New("entry is known already")

// Core is the state of one node's scheduler.
type Core struct {
	ageing    time.Duration
	patience  float64
	times     *Learner
	items     map[ID]*item
	groups    map[shape]*group
	benches   map[string]*bench // by demand
	flows     map[queueName]*flow
	tenants   map[string]*tenant
	classes   map[int]*class
	ranked    []*class // the most urgent first, as of the last decision
	resources map[string]*pool
	pools     []*pool // the same; before them, where those sit who need nothing
	waiting   int
	lined     int             // flows that have rights
	virtual   map[int]float64 // where the tenants are, at each priority
	wakes     uint64
	prune     int
	clock     time.Time // the latest it was told
	filled    filled
	truth     truth
	fresh     []*item // those that came since then
	timed     []*flow // those in which entries go to the front some day
	running   endings

	reserved reservation

	after []*item // who else could start then, in order

	fit   []*bench // room for one decision
	rows  []candidate
	taken []turn

	workers map[string]*worker
	serving map[kindName][]*worker
	stale   []*site        // to be looked at
	mixed   map[*site]bool // that depend on what is free here
}

type queueName struct{ namespace, queue string }

// pool is one resource.
type pool struct {
	capacity, used int64
	shelves        []*shelf // ascending
	left           int64    // beside a reservation
	wanted         bool     // by that
	ahead          float64  // that waiting entries will use: amount × seconds
	ending         float64  // the same of running ones, counted from the epoch
}

func (p *pool) free() int64 { return p.capacity - p.used }

// New makes a core without any capacity.
func New(cfg Config) *Core {
	return &Core{
		ageing: cmp.Or(cfg.Ageing, 30*time.Second), patience: cmp.Or(cfg.Patience, patience), times: cfg.Times,
		items: map[ID]*item{}, groups: map[shape]*group{}, benches: map[string]*bench{},
		flows: map[queueName]*flow{}, tenants: map[string]*tenant{}, classes: map[int]*class{},
		resources: map[string]*pool{}, pools: []*pool{{}}, virtual: map[int]float64{}, prune: leastPrune,
		workers: map[string]*worker{}, serving: map[kindName][]*worker{}, mixed: map[*site]bool{},
	}
}

func (c *Core) pool(name string) *pool {
	p := c.resources[name]
	if p == nil {
		p = &pool{}
		c.resources[name] = p
		c.pools = append(c.pools, p)
	}
	return p
}

// share is that of the dominant resource of a demand.
func (c *Core) share(d Demand) float64 {
	most := 0.0
	for _, a := range d {
		if p := c.resources[a.Name]; p != nil && p.capacity > 0 {
			most = max(most, float64(a.Milli)/float64(p.capacity))
		}
	}
	return most
}

// Add makes an entry wait for its turn.
func (c *Core) Add(e Entry) error {
	if c.items[e.ID] != nil {
		return ErrDuplicate
	}
	f := c.flow(queueName{e.Namespace, e.Queue})
	i := &item{Entry: e, flow: f, timed: -1}
	i.order = e.orderOf(f.policy, c.ageing)
	c.items[e.ID] = i
	c.wake(i)
	c.waiting++
	g := c.group(&e, f)
	c.use(i, g.bench)
	c.expectWork(i)
	c.attend(i.Priority, 1, i.Since)
	c.join(g, i)
	return nil
}

// Remove forgets a waiting entry, and says whether it waited.
func (c *Core) Remove(id ID) bool {
	i := c.items[id]
	if i == nil || i.group == nil {
		return false
	}
	c.take(i, i.Priority)
	c.disuse(i)
	delete(c.items, id)
	c.rest(i)
	return true
}

// take removes an item from its group, and a right of a priority from its flow.
func (c *Core) take(i *item, priority int) {
	g := i.group
	switch {
	case len(g.items) == 1:
		c.leave(g, priority)
	case g.turn >= 0:
		c.spend(g.flow, priority, 1)
	}
	heap.Remove(g, i.at)
	i.order = i.place()
	i.group = nil
	c.waiting--
	c.forgetWork(i)
	c.settle(g)
	c.attend(i.Priority, -1, time.Time{})
	if i.timed >= 0 {
		heap.Remove(&i.flow.timed, i.timed)
	}
	if c.reserved.of == i {
		c.drop()
	}
}

// Next starts the entry whose turn it is: its tokens are taken and it counts as
// running until Release. It is false where nothing that waits can run.
func (c *Core) Next(now time.Time) (Entry, bool) {
	c.pass(now)
	i, priority := c.choose(now)
	if i == nil {
		return Entry{}, false
	}
	w, rest := i.bench.where()
	c.take(i, priority)
	if k := c.classes[priority]; k != nil {
		k.served = now
	}
	if w != nil {
		c.send(i, w, rest)
	}
	c.hold(i, priority, now)
	return i.Entry, true
}

// hold takes an item's tokens, at the cost of its flow's account at a priority.
func (c *Core) hold(i *item, priority int, now time.Time) {
	c.tick(now)
	if i.Expected == 0 && c.times != nil {
		i.Expected = c.times.Mean(i.Namespace, i.Kind)
	}
	i.run = &run{
		started: now, end: now.Add(i.expected()),
		paid: priority, common: c.share(i.Demand), weight: i.flow.weight, tenants: i.flow.tenant.weight,
	}
	i.share = max(i.common, i.part)
	for _, a := range i.Demand {
		p := c.pool(a.Name)
		p.used += a.Milli
		p.ending += float64(a.Milli) * seconds(i.end)
	}
	if len(i.Demand) > 0 {
		c.running.insert(i)
		c.stirMixed()
	}
	c.charge(i, i.expected())
}

// Restore notes an entry that runs already, on its Worker if it names one, after a
// restart of the scheduler.
func (c *Core) Restore(e Entry, now time.Time) {
	i := c.items[e.ID]
	if i != nil {
		if i.group == nil {
			return
		}
		c.take(i, i.Priority)
	} else {
		i = &item{Entry: e, flow: c.flow(queueName{e.Namespace, e.Queue}), timed: -1}
		c.items[e.ID] = i
		c.use(i, c.benchOf(&e))
		c.wake(i)
	}
	if e.Worker != "" && i.bench.site != nil {
		w := c.worker(e.Worker)
		rest, _ := c.fitsOn(w, i.bench.site.Needs)
		c.send(i, w, rest)
	}
	c.hold(i, i.Priority, now)
}

// Release returns the tokens of an entry that has run, and says whether it did.
func (c *Core) Release(id ID, now time.Time) bool {
	i := c.items[id]
	if i == nil || i.group != nil {
		return false
	}
	c.tick(now)
	delete(c.items, id)
	for _, a := range i.Demand {
		p := c.pool(a.Name)
		p.used -= a.Milli
		p.ending -= float64(a.Milli) * seconds(i.end)
	}
	if len(i.Demand) > 0 {
		c.running.remove(i)
		c.stirMixed()
	}
	c.comeBack(i)
	c.disuse(i)
	took := max(0, now.Sub(i.started))
	c.truth.learn(i.expected(), took, i.share, c.ageing)
	c.close(i, took)
	c.rest(i)
	return true
}

// leastGuess is how long at least what runs longer than expected is taken to have been
// meant to: to guess anew at each millisecond costs more than it tells.
const leastGuess = 25 * time.Millisecond

// pass lets time pass: what runs longer than expected is expected to run twice as
// long, and who has waited too long goes to the front.
func (c *Core) pass(now time.Time) {
	c.look()
	c.tick(now)
	c.settleIn(now)
	for len(c.running.all()) > 0 && c.running.all()[0].end.Before(now) {
		i := c.running.all()[0]
		c.running.remove(i)
		before := i.end
		took := max(i.end.Sub(i.started), leastGuess)
		for i.end.Before(now) {
			took *= 2
			i.end = i.started.Add(took)
		}
		if last := i.started.Add(i.Timeout); i.Timeout > 0 && last.After(now) && last.Before(i.end) {
			i.end = last
		}
		for _, a := range i.Demand {
			c.pool(a.Name).ending += float64(a.Milli) * i.end.Sub(before).Seconds()
		}
		c.running.insert(i)
		c.charge(i, i.end.Sub(i.started)-i.charged)
	}
	c.timed = slices.DeleteFunc(c.timed, func(f *flow) bool {
		f.promote(c, now)
		return len(f.timed) == 0
	})
}

// Least lists up to n waiting entries, the least urgent first: what to give
// back when the node holds too much. It goes by priority and waiting time, as the
// store does, whatever the policies.
func (c *Core) Least(n int) []Entry {
	all := make([]*item, 0, c.waiting)
	rank := map[*item]order{}
	for _, g := range c.groups {
		for _, i := range g.items {
			rank[i] = i.orderOf(PriorityFIFO, c.ageing)
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *item) int {
		x, y := rank[a], rank[b]
		return y.compare(&x)
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

// Contending is how many entries wait that take part.
func (c *Core) Contending() int {
	n := -c.waiting
	for _, k := range c.ranked {
		n += k.count
	}
	return n
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
