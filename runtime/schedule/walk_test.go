package schedule

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	steps = flag.Int("steps", 20_000, "how many calls a random walk makes")
	seed  = flag.Uint64("seed", 1, "which walk it is")
)

// world is a node that does whatever it likes with its scheduler, always the same
// for one seed. It knows what waits and what runs, and judges every answer.
type world struct {
	t        *testing.T
	r        *rand.Rand
	c        *Core
	now      time.Time
	names    []string // of the resources
	capacity map[string]int64
	waiting  []Entry
	running  []ran
	paused   map[queueName]bool
	levels   map[int]int         // how urgent each priority is, at the last decision
	rights   map[queueName][]int // of which priorities each queue had rights
	most     int                 // that wait
	liars    bool                // some run longer or shorter than expected
	settings bool                // queues, capacities change
	count    int
	calls    int
	seen     uint64 // a hash of all answers

	judge func(started Entry, ok bool) // before what started is counted as running
}

type ran struct {
	Entry
	began, ends time.Time
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 4)), c: New(Config{Ageing: ageing}), now: epoch,
		names: []string{"cpu", "gpu", "slots"}, capacity: map[string]int64{"cpu": 8, "gpu": 3, "slots": 12},
		paused: map[queueName]bool{}, levels: map[int]int{}, rights: map[queueName][]int{}, most: 40,
	}
	for _, name := range w.names {
		w.c.SetCapacity(name, w.capacity[name])
	}
	return w
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (w *world) queue() queueName { return queueName{pick(w.r, "m", "n", "o"), pick(w.r, "a", "b")} }

func (w *world) draw() Entry {
	w.count++
	q := w.queue()
	demand := map[string]int64{}
	if w.r.IntN(20) > 0 {
		demand["slots"] = pick[int64](w.r, 1, 1, 1, 2, 12)
		demand["cpu"] = pick[int64](w.r, 0, 1, 1, 2, 8)
		demand["gpu"] = pick[int64](w.r, 0, 0, 0, 1, 3)
	}
	e := Entry{
		ID: id(w.count), Namespace: q.namespace, Queue: q.queue, Kind: pick(w.r, "x", "y", "z"),
		Priority: pick(w.r, 0, 0, 0, 0, 1, -1, 2, -3), Since: w.now, Demand: NewDemand(demand),
	}
	e.Expected = time.Duration(1+w.r.IntN(60)) * time.Second
	if w.r.IntN(10) == 0 {
		e.Expected = 0
	}
	if w.r.IntN(10) == 0 {
		e.Timeout = time.Duration(1+w.r.IntN(30)) * time.Second
	}
	if w.r.IntN(3) == 0 {
		e.Deadline = w.now.Add(time.Duration(w.r.IntN(300)) * time.Second)
	}
	return e
}

// step makes one move and asks what may start until nothing may.
func (w *world) step() {
	w.calls++
	switch n := w.r.IntN(100); {
	case n < 45 && len(w.waiting) < w.most:
		w.add(w.draw())
	case n < 85:
		w.end()
	case n < 90:
		w.now = w.now.Add(time.Duration(w.r.IntN(5000)) * time.Millisecond)
		for _, r := range w.running {
			if !w.liars && r.ends.Before(w.now) {
				w.now = r.ends
			}
		}
	case n < 93 && len(w.waiting) > 0:
		k := w.r.IntN(len(w.waiting))
		if !w.c.Remove(w.waiting[k].ID) {
			w.t.Fatal("it waited")
		}
		w.waiting = slices.Delete(w.waiting, k, k+1)
	case w.settings:
		w.set()
	}
	w.start()
}

func (w *world) add(e Entry) {
	if err := w.c.Add(e); err != nil {
		w.t.Fatal(err)
	}
	w.waiting = append(w.waiting, e)
}

// end goes on to when the next one ends.
func (w *world) end() {
	if len(w.running) == 0 {
		return
	}
	k := 0
	for i, r := range w.running {
		if r.ends.Before(w.running[k].ends) {
			k = i
		}
	}
	r := w.running[k]
	if r.ends.After(w.now) {
		w.now = r.ends
	}
	if !w.c.Release(r.ID, w.now) {
		w.t.Fatal("it ran")
	}
	w.running = slices.Delete(w.running, k, k+1)
}

func (w *world) set() {
	q := w.queue()
	switch w.r.IntN(5) {
	case 0:
		w.paused[q] = w.r.IntN(3) == 0
		w.c.SetPaused(q.namespace, q.queue, w.paused[q])
	case 1:
		w.c.SetPolicy(q.namespace, q.queue, pick(w.r, PriorityFIFO, ShortestArea, Deadline))
	case 2:
		w.c.SetWeight(q.namespace, q.queue, pick(w.r, 0.5, 1, 3))
		w.c.SetTenantWeight(q.namespace, pick(w.r, 0.5, 1, 3))
	case 3:
		name := pick(w.r, w.names...)
		w.capacity[name] = pick[int64](w.r, 1, 3, 8, 12, 12, 12)
		w.c.SetCapacity(name, w.capacity[name])
	case 4:
		e := w.draw()
		w.c.Restore(e, w.now)
		w.running = append(w.running, w.ran(e))
	}
}

func (w *world) ran(e Entry) ran {
	took := e.expected()
	if w.liars {
		took = time.Duration(float64(took) * pick(w.r, 0.1, 0.5, 1, 1, 3))
	}
	return ran{Entry: e, began: w.now, ends: w.now.Add(took)}
}

// start starts all that may.
func (w *world) start() {
	for {
		w.calls++
		clear(w.levels)
		for p, k := range w.c.classes {
			w.levels[p] = p + int(max(0, w.now.Sub(k.served))/ageing)
		}
		clear(w.rights)
		for name, f := range w.c.flows {
			for _, t := range f.rights {
				w.rights[name] = append(w.rights[name], t.priority)
			}
		}
		e, ok := w.c.Next(w.now)
		h := fnv.New64a()
		fmt.Fprint(h, w.seen, e.ID, ok)
		w.seen = h.Sum64()
		if w.judge != nil {
			w.judge(e, ok)
		}
		if !ok {
			return
		}
		at := slices.IndexFunc(w.waiting, func(o Entry) bool { return o.ID == e.ID })
		if at < 0 || w.paused[flowOf(e)] {
			w.t.Fatalf("%x starts, and is paused or does not wait", e.ID[14:])
		}
		w.waiting = slices.Delete(w.waiting, at, at+1)
		w.running = append(w.running, w.ran(e))
	}
}

func (w *world) used(name string) (sum int64) {
	for _, r := range w.running {
		for _, a := range r.Demand {
			if a.Name == name {
				sum += a.Milli
			}
		}
	}
	return sum
}

// lacks says whether a demand is more than is free, and whether more than there is.
func (w *world) lacks(d Demand) (short, impossible bool) {
	for _, a := range d {
		short = short || a.Milli > w.capacity[a.Name]-w.used(a.Name)
		impossible = impossible || a.Milli > w.capacity[a.Name]
	}
	return short, impossible
}

// promise is when the demand of an entry is free if all ends as the core expects,
// and what is left over then, also by those that shall start after it.
func (w *world) promise(d Demand, after []*item) (at time.Time, extra map[string]int64) {
	free := map[string]int64{}
	for _, name := range w.names {
		free[name] = w.capacity[name] - w.used(name)
	}
	fits := func() bool {
		return !slices.ContainsFunc(d, func(a Amount) bool { return a.Milli > free[a.Name] })
	}
	byEnd := make([]*item, 0, len(w.running))
	for _, r := range w.running {
		byEnd = append(byEnd, w.c.items[r.ID])
	}
	slices.SortFunc(byEnd, func(a, b *item) int { return a.end.Compare(b.end) })
	for _, i := range byEnd {
		if fits() && i.end.After(at) {
			break
		}
		at = i.end
		for _, a := range i.Demand {
			free[a.Name] += a.Milli
		}
	}
	for _, a := range d {
		free[a.Name] -= a.Milli
	}
	for _, i := range after { // they have what is left over, if they can do with it
		if short, _ := w.lacks(i.Demand); !short || i.group == nil {
			w.t.Fatalf("%x shall start later, but fits or runs", i.ID[14:])
		}
		for _, a := range i.Demand {
			if free[a.Name] -= a.Milli; free[a.Name] < 0 {
				w.t.Fatalf("%x shall start later with %d of %s too little", i.ID[14:], -free[a.Name], a.Name)
			}
		}
	}
	return at, free
}

// delays says whether an entry that starts now is in the way of a reservation.
func (w *world) delays(e Entry, at time.Time, extra map[string]int64) bool {
	if !w.now.Add(e.expected()).After(at) {
		return false
	}
	return slices.ContainsFunc(e.Demand, func(a Amount) bool { return a.Milli > extra[a.Name] })
}

func walk(t *testing.T, set func(*world)) *world {
	t.Helper()
	w := newWorld(t, *seed)
	set(w)
	for w.calls < *steps {
		w.step()
	}
	return w
}
