package schedule

import (
	"maps"
	"slices"
	"strconv"
)

// Worker is a process elsewhere that runs entries of some kinds of one namespace. What
// they need is taken of what it has, and of this node only what it has not.
type Worker struct {
	ID        string
	Namespace string
	Kinds     []string
	Labels    map[string]string
	Capacity  Demand // its slots among it
	Closed    bool   // nothing starts there
}

// Selector asks something of labels.
type Selector interface {
	Matches(labels map[string]string) bool
}

// Site says that an entry may run on workers that serve its kind.
type Site struct {
	Needs   Demand   // what it takes of a worker, or of this node what that has nothing of
	Require Selector // of a worker's labels; nil: nothing
	Prefer  Selector // the same, of those that it rather runs on
	Asks    string   // a text that equal selectors share
	Only    bool     // it does not run here; its own demand is empty
	Home    bool     // it rather runs here than on workers it does not prefer
}

// worker is a worker and what is taken of it.
type worker struct {
	Worker

	capacity, used map[string]int64
	sites          map[*site]bool // where it is among the workers
}

// site is what entries that may run on the same workers and need the same there have
// in common. It is open while one of these has room: then all of its bench fit. While
// it is closed, entries that run nowhere else take no part.
type site struct {
	Site

	kind    kindName
	bench   *bench
	workers []*worker
	next    *worker // where the next one goes; nil: the site is closed
	rest    Demand  // what that one takes of this node
	pools   []*pool // of that
	mixed   bool    // some take of this node, too
	stale   bool    // to be looked at before the next decision
	groups  map[*group]bool
	share   float64 // that an entry takes of all its workers together
}

// SetWorker makes a worker known, or changes it. What runs there stays.
func (c *Core) SetWorker(w Worker) {
	known := c.worker(w.ID)
	c.leaveSites(known)
	known.Worker = w
	known.capacity = make(map[string]int64, len(w.Capacity))
	for _, a := range w.Capacity {
		known.capacity[a.Name] = a.Milli
	}
	for _, k := range w.Kinds {
		name := kindName{w.Namespace, k}
		c.serving[name] = append(c.serving[name], known)
	}
	for _, b := range c.benches {
		if b.site != nil && b.site.takes(known) {
			b.site.add(known)
			c.reckon(b.site)
		}
	}
}

// RemoveWorker forgets a worker. What runs there is as it was, and is released as all.
func (c *Core) RemoveWorker(id string) {
	if w := c.workers[id]; w != nil {
		c.leaveSites(w)
		delete(c.workers, id)
	}
}

// Serves says whether any worker runs entries of a kind, now or as soon as it has room.
func (c *Core) Serves(namespace, kind string) bool {
	return len(c.serving[kindName{namespace, kind}]) > 0
}

// Stuck says whether an entry waits for workers of which none has room.
func (c *Core) Stuck(id ID) bool {
	c.look()
	i := c.items[id]
	return i != nil && i.group != nil && i.bench.site != nil && i.bench.site.Only && i.bench.site.next == nil
}

// Load is what is taken of a worker's amount of a resource.
func (c *Core) Load(id, resource string) int64 {
	if w := c.workers[id]; w != nil {
		return w.used[resource]
	}
	return 0
}

// worker finds or makes a worker. One that is made serves nothing.
func (c *Core) worker(id string) *worker {
	w := c.workers[id]
	if w == nil {
		w = &worker{Worker: Worker{ID: id, Closed: true}, used: map[string]int64{}, sites: map[*site]bool{}}
		c.workers[id] = w
	}
	return w
}

func (c *Core) leaveSites(w *worker) {
	for _, k := range w.Kinds {
		name := kindName{w.Namespace, k}
		left := slices.DeleteFunc(c.serving[name], func(o *worker) bool { return o == w })
		if c.serving[name] = left; len(left) == 0 {
			delete(c.serving, name)
		}
	}
	for s := range maps.Clone(w.sites) {
		s.remove(w)
		c.reckon(s)
	}
}

// site makes the site of a bench.
func (c *Core) site(b *bench, e *Entry) *site {
	s := &site{Site: *e.Site, kind: kindName{e.Namespace, e.Kind}, bench: b, groups: map[*group]bool{}}
	for _, w := range c.serving[s.kind] {
		if s.takes(w) {
			s.add(w)
		}
	}
	return s
}

func (s *Site) key() string {
	return strconv.Quote(s.Needs.key()) + strconv.Quote(s.Asks) + strconv.FormatBool(s.Only) + strconv.FormatBool(s.Home)
}

// takes says whether a worker is one of those of the site.
func (s *site) takes(w *worker) bool {
	return w.Namespace == s.kind.namespace && slices.Contains(w.Kinds, s.kind.kind) && (s.Require == nil || s.Require.Matches(w.Labels))
}

func (s *site) prefers(w *worker) bool { return s.Prefer != nil && s.Prefer.Matches(w.Labels) }

func (s *site) add(w *worker) {
	s.workers = append(s.workers, w)
	w.sites[s] = true
}

func (s *site) remove(w *worker) {
	s.workers = slices.DeleteFunc(s.workers, func(o *worker) bool { return o == w })
	delete(w.sites, s)
}

// forget unties the site of a bench that nobody uses.
func (s *site) forget() {
	for _, w := range s.workers {
		delete(w.sites, s)
	}
	s.workers = nil
}

// reckon looks anew at what a site's workers have in all.
func (c *Core) reckon(s *site) {
	s.share = 0
	for _, a := range s.Needs {
		all := int64(0)
		for _, w := range s.workers {
			all += w.capacity[a.Name]
		}
		if all > 0 {
			s.share = max(s.share, float64(a.Milli)/float64(all))
		}
	}
	for g := range s.groups {
		g.takes = c.takes(g)
		if g.flow.policy == ShortestArea {
			c.loosen(g.flow)
		}
	}
	c.stir(s)
}

// stir has a site looked at before the next decision.
func (c *Core) stir(s *site) {
	if !s.stale {
		s.stale = true
		c.stale = append(c.stale, s)
	}
}

// stirMixed does so with all whose entries take of this node as well.
func (c *Core) stirMixed() {
	for s := range c.mixed {
		c.stir(s)
	}
}

// look finds out which sites are open.
func (c *Core) look() {
	for _, s := range c.stale {
		s.stale = false
		c.weigh(s)
	}
	c.stale = c.stale[:0]
}

// weigh finds the worker on which the next entry of a site runs: one that it prefers
// before others, and of these the one that has most slots free.
func (c *Core) weigh(s *site) {
	was, before := s.bench.admits(), s.next
	s.next, s.rest, s.mixed = nil, nil, false
	var most int64
	for _, w := range s.workers {
		rest, fits := c.fitsOn(w, s.Needs)
		s.mixed = s.mixed || len(rest) > 0
		if !fits || w.Closed {
			continue
		}
		free := w.capacity[Slots] - w.used[Slots]
		p, q := s.prefers(w), s.next != nil && s.prefers(s.next)
		if s.next == nil || p && !q || p == q && free > most {
			s.next, s.rest, most = w, rest, free
		}
	}
	s.pools = s.pools[:0]
	for _, a := range s.rest {
		s.pools = append(s.pools, c.pool(a.Name))
	}
	delete(c.mixed, s)
	if s.mixed {
		c.mixed[s] = true
	}
	if (before == nil) != (s.next == nil) && s.bench.shelf != nil {
		s.bench.unshelve()
		c.shelve(s.bench)
	}
	c.readmit(s, was)
}

// readmit has the groups of a site take part, or no more, if that has changed.
func (c *Core) readmit(s *site, was bool) {
	is := s.bench.admits()
	if is == was {
		return
	}
	for g := range s.groups {
		if is {
			c.enter(g)
		} else {
			c.leave(g, g.priority)
		}
	}
	if r := c.reserved.of; r != nil && !is && r.bench == s.bench {
		c.drop()
	}
}

// Slots is the name of what every entry takes of a worker.
const Slots = "slots"

// fitsOn says whether a worker has all of a demand free, and this node what that has
// nothing of, which is the rest.
func (c *Core) fitsOn(w *worker, needs Demand) (rest Demand, fits bool) {
	fits = true
	for _, a := range needs {
		capacity, has := w.capacity[a.Name]
		if has {
			fits = fits && w.used[a.Name]+a.Milli <= capacity
			continue
		}
		rest = append(rest, a)
		p := c.resources[a.Name]
		fits = fits && p != nil && a.Milli <= p.free()
	}
	return rest, fits
}

// lacksEver is an amount of a site that no worker has, nor this node in its stead,
// however little runs; at least there is so much of it.
func (c *Core) lacksEver(s *site) (lacks Amount, most int64, never bool) {
	for _, a := range s.Needs {
		most := int64(0)
		for _, w := range s.workers {
			capacity, has := w.capacity[a.Name]
			if p := c.resources[a.Name]; !has && p != nil {
				capacity = p.capacity
			}
			most = max(most, capacity)
		}
		if a.Milli > most {
			return a, most, true
		}
	}
	return Amount{}, 0, false
}

// send has an item run on a worker: it sits on the bench of what it takes here.
func (c *Core) send(i *item, w *worker, rest Demand) {
	i.Worker, i.worker = w.ID, w
	for _, a := range i.bench.site.Needs {
		if _, has := w.capacity[a.Name]; has {
			i.load = append(i.load, a)
		}
	}
	i.part = i.bench.site.share
	w.take(i.load, 1)
	c.stirSites(w)
	c.disuse(i)
	c.use(i, c.bench(rest))
}

// comeBack gives a worker back what an item took of it.
func (c *Core) comeBack(i *item) {
	if i.worker != nil {
		i.worker.take(i.load, -1)
		c.stirSites(i.worker)
	}
}

func (c *Core) stirSites(w *worker) {
	for s := range w.sites {
		c.stir(s)
	}
}

func (w *worker) take(d Demand, sign int64) {
	for _, a := range d {
		w.used[a.Name] += sign * a.Milli
	}
}

// where is where the first entry of a bench that fits is to run; nil: here.
func (b *bench) where() (*worker, Demand) {
	s := b.site
	if s == nil || s.next == nil || s.Home && !s.prefers(s.next) && b.lacksHere() < 0 {
		return nil, nil
	}
	return s.next, s.rest
}

// shareOf is the share that an entry of a bench takes where it runs.
func (c *Core) shareOf(b *bench) float64 {
	if b.site != nil && b.site.Only {
		return b.site.share
	}
	return c.share(b.demand)
}

// admits says whether entries of a bench could run some time, as things stand.
func (b *bench) admits() bool {
	if b.site == nil {
		return b.possible
	}
	return b.site.next != nil || !b.site.Only && b.possible
}
