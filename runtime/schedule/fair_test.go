package schedule

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// plant is a node whose queues are never empty: for every entry that starts of one
// of them, another comes.
type plant struct {
	t       *testing.T
	r       *rand.Rand
	c       *Core
	now     time.Time
	cap     map[string]int64
	running []ran
	count   int
	floods  map[queueName]func() Entry
	held    map[queueName]float64 // of the node's dominant resource, times seconds
	begun   func(Entry)
}

func newPlant(t *testing.T, capacity map[string]int64) *plant {
	t.Helper()
	p := &plant{
		t: t, r: rand.New(rand.NewPCG(*seed, 5)), c: New(Config{Ageing: ageing}), now: epoch, cap: capacity,
		floods: map[queueName]func() Entry{}, held: map[queueName]float64{}, begun: func(Entry) {},
	}
	for name, n := range capacity {
		p.c.SetCapacity(name, n)
	}
	return p
}

func (p *plant) add(e Entry) ID {
	p.count++
	e.ID, e.Since = id(p.count), p.now
	if err := p.c.Add(e); err != nil {
		p.t.Fatal(err)
	}
	return e.ID
}

// flood has so many entries of a queue wait from now on.
func (p *plant) flood(n int, next func() Entry) {
	e := next()
	p.floods[flowOf(e)] = next
	for range n {
		p.add(next())
	}
}

// step goes on to when the next one ends.
func (p *plant) step() {
	for {
		e, ok := p.c.Next(p.now)
		if !ok {
			break
		}
		took := e.Expected
		if took == 0 {
			took = time.Duration(1+p.r.IntN(20)) * time.Second
		}
		r := ran{Entry: e, began: p.now, ends: p.now.Add(took)}
		at, _ := slices.BinarySearchFunc(p.running, r, func(a, b ran) int { return a.ends.Compare(b.ends) })
		p.running = slices.Insert(p.running, at, r)
		p.begun(e)
		if next := p.floods[flowOf(e)]; next != nil && e.Kind != probe {
			p.add(next())
		}
	}
	if len(p.running) == 0 {
		p.t.Fatal("nothing runs")
	}
	r := p.running[0]
	p.running = slices.Delete(p.running, 0, 1)
	p.now = r.ends
	p.c.Release(r.ID, p.now)
	p.held[flowOf(r.Entry)] += p.share(r.Demand) * r.ends.Sub(r.began).Seconds()
}

func (p *plant) share(d Demand) (most float64) {
	for _, a := range d {
		most = max(most, float64(a.Milli)/float64(p.cap[a.Name]))
	}
	return most
}

// fill shares resources out by progressive filling: all get more and more in
// proportion to their weights, and whoever needs what has run out stops.
func fill(capacity map[string]int64, demands map[queueName]Demand, weight map[queueName]float64) map[queueName]float64 {
	p := plant{cap: capacity}
	share, used, grows := map[queueName]float64{}, map[string]float64{}, maps.Clone(demands)
	for len(grows) > 0 {
		rate := map[string]float64{} // of each resource, as all grow by their weight of the dominant one
		for q, d := range grows {
			for _, a := range d {
				rate[a.Name] += weight[q] / p.share(d) * float64(a.Milli) / float64(capacity[a.Name])
			}
		}
		by := math.Inf(1)
		for name, r := range rate {
			by = min(by, (1-used[name])/r)
		}
		for name, r := range rate {
			used[name] += by * r
		}
		for q, d := range grows {
			share[q] += by * weight[q]
			if slices.ContainsFunc(d, func(a Amount) bool { return used[a.Name] > 1-1e-9 }) {
				delete(grows, q)
			}
		}
	}
	return share
}

func TestSharesAreThoseOfProgressiveFilling(t *testing.T) {
	q := func(namespace, queue string) queueName { return queueName{namespace, queue} }
	d := func(cpu, mem, disk int64) Demand {
		return NewDemand(map[string]int64{"cpu": cpu, "mem": mem, "disk": disk})
	}
	capacity := map[string]int64{"cpu": 400, "mem": 400, "disk": 400}
	for name, c := range map[string]struct {
		demands map[queueName]Demand
		weight  map[queueName]float64
		tenants map[string]float64 // weights of namespaces, of one queue each
		unknown bool
	}{
		"1:1":             {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("m", "b"): d(1, 3, 0)}},
		"1:2":             {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("m", "b"): d(1, 3, 0)}, weight: map[queueName]float64{q("m", "b"): 2}},
		"3:1":             {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("m", "b"): d(1, 3, 0)}, weight: map[queueName]float64{q("m", "a"): 3}},
		"namespaces":      {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("n", "a"): d(1, 3, 0)}},
		"namespaces 3:1":  {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("n", "a"): d(1, 3, 0)}, tenants: map[string]float64{"m": 3}},
		"one not in need": {demands: map[queueName]Demand{q("m", "a"): d(2, 0, 0), q("n", "a"): d(4, 1, 0), q("o", "a"): d(0, 1, 2)}},
		"three":           {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("m", "b"): d(1, 2, 0), q("m", "c"): d(1, 1, 3)}, weight: map[queueName]float64{q("m", "c"): 2}},
		"unknown lengths": {demands: map[queueName]Demand{q("m", "a"): d(2, 1, 0), q("n", "b"): d(1, 3, 0)}, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t, capacity)
			weight := map[queueName]float64{}
			for q := range c.demands {
				weight[q] = max(1, c.weight[q])
			}
			for _, q := range slices.SortedFunc(maps.Keys(c.demands), queueName.compare) {
				p.c.SetWeight(q.namespace, q.queue, weight[q])
				if w, said := c.tenants[q.namespace]; said {
					p.c.SetTenantWeight(q.namespace, w)
					weight[q] = w // what it has altogether
				}
				p.flood(100, func() Entry {
					e := Entry{Namespace: q.namespace, Queue: q.queue, Kind: "k", Demand: c.demands[q], Expected: time.Duration(5+p.r.IntN(11)) * time.Second}
					if c.unknown {
						e.Expected = 0
					}
					return e
				})
			}
			for range 2000 {
				p.step() // until the node is full
			}
			clear(p.held)
			began := p.now
			for range max(10_000, *steps/10) {
				p.step()
			}
			for q, want := range fill(capacity, c.demands, weight) {
				got := p.held[q] / p.now.Sub(began).Seconds()
				t.Logf("%v: %.3f of its dominant resource, to be %.3f", q, got, want)
				if math.Abs(got/want-1) > 0.05 {
					t.Errorf("%v has %.3f, want %.3f", q, got, want)
				}
			}
		})
	}
}

func (q queueName) compare(o queueName) int {
	return slices.Compare([]string{q.namespace, q.queue}, []string{o.namespace, o.queue})
}

// One tenant has ten thousand entries wait. What another one brings goes as if half
// of the node were its own.
func TestAFloodDelaysOthersByNoMoreThanItsShare(t *testing.T) {
	one := NewDemand(map[string]int64{"slots": 1})
	const length = 10 * time.Second
	for name, odd := range map[string]int{"all alike": 0, "one of a lower priority": -5, "one of a higher priority": 5} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t, map[string]int64{"slots": 8})
			flood := func() Entry { return Entry{Namespace: "flood", Queue: "q", Demand: one, Expected: length} }
			p.flood(10_000, flood)
			p.step()
			e := flood()
			e.Priority = odd
			p.add(e)
			for range 500 {
				p.step()
				p.now = p.now.Add(time.Duration(p.r.IntN(100)) * time.Millisecond) // not all at once
			}

			came := p.now
			single := p.add(Entry{Namespace: "single", Queue: "q", Demand: one, Expected: length})
			for n := 0; p.c.IsWaiting(single); n++ {
				if p.step(); n > 8 {
					t.Fatal("it is still waiting")
				}
			}
			t.Logf("a single one behind 10,000 of another tenant waits %v; each of those runs %v", p.now.Sub(came), length)

			waits := map[ID]time.Time{}
			var worst time.Duration
			p.begun = func(e Entry) {
				if since, ok := waits[e.ID]; ok {
					worst = max(worst, p.now.Sub(since))
					delete(waits, e.ID)
				}
			}
			clear(p.held)
			began, due := p.now, p.now
			for p.now.Sub(began) < time.Hour { // a little less than half of the node
				for !due.After(p.now) {
					i := p.add(Entry{Namespace: "single", Queue: "q", Demand: one, Expected: length})
					waits[i] = p.now
					due = due.Add(2600 * time.Millisecond)
				}
				p.step()
			}
			total := p.now.Sub(began).Seconds()
			t.Logf("over an hour: flood %.3f, the other %.3f of the node, of which it wants %.3f; it waits %v at worst",
				p.held[queueName{"flood", "q"}]/total, p.held[queueName{"single", "q"}]/total, 10/2.6/8, worst)
			if worst > length+time.Second {
				t.Errorf("waited %v", worst)
			}
		})
	}
}

// However many flood the node, each has its part of it.
func TestTenantsShareEqually(t *testing.T) {
	p := newPlant(t, map[string]int64{"slots": 80})
	for n := range 10 {
		for k := range 1 + n%3 { // more queues get no more
			p.flood(20, func() Entry {
				return Entry{
					Namespace: fmt.Sprint("n", n), Queue: fmt.Sprint("q", k),
					Demand: NewDemand(map[string]int64{"slots": 1 + int64(n%4)}), Expected: time.Duration(1+n) * time.Second,
				}
			})
		}
	}
	for range max(10_000, *steps/10) {
		p.step()
	}
	share := map[string]float64{}
	for q, held := range p.held {
		share[q.namespace] += held / p.now.Sub(epoch).Seconds()
	}
	for n, got := range share {
		if t.Logf("%s: %.4f", n, got); math.Abs(got/0.1-1) > 0.05 {
			t.Errorf("%s has %.4f of the node, want a tenth", n, got)
		}
	}
}
