package schedule

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// naive is the rule written down without any thought for speed. Its time stands
// still and every entry is expected to run equally long, so that nobody is ever in
// the way of a reservation.
type naive struct {
	now      time.Time
	capacity map[string]int64
	waiting  []Entry
	running  map[ID]Entry
	cost     map[ID]float64
	paused   map[queueName]bool
	weight   map[queueName]float64
	policy   map[queueName]Policy
	accounts map[holder]*account // of a namespace: with no queue
	virtual  map[int]float64
	slack    func(Entry) int64 // what the core says: it depends on what has been
	served   map[int]time.Time
	woken    map[queueName]int
	wakes    int
	rights   map[queueName]map[int]int
	paid     map[ID]int
}

// holder is who has an account.
type holder struct {
	flow     queueName
	priority int
}

const ageing = time.Minute

func newPair() (*Core, *naive) {
	c := New(Config{Ageing: ageing})
	m := &naive{
		now: epoch.Add(5 * time.Minute), capacity: map[string]int64{}, running: map[ID]Entry{}, cost: map[ID]float64{},
		paused: map[queueName]bool{}, weight: map[queueName]float64{}, policy: map[queueName]Policy{},
		accounts: map[holder]*account{}, virtual: map[int]float64{}, served: map[int]time.Time{},
		woken: map[queueName]int{}, rights: map[queueName]map[int]int{}, paid: map[ID]int{},
		slack: func(e Entry) int64 {
			return c.flow(flowOf(e)).late.slack(takes(length(e.expected()), c.share(e.Demand)), ageing)
		},
	}
	for name, n := range map[string]int64{"cpu": 4, "gpu": 2, "slots": 5} {
		c.SetCapacity(name, n)
		m.capacity[name] = n
	}
	c.Next(m.now)
	return c, m
}

func flowOf(e Entry) queueName   { return queueName{e.Namespace, e.Queue} }
func tenantOf(e Entry) queueName { return queueName{namespace: e.Namespace} }

func (m *naive) used(name string) (sum int64) {
	for _, e := range m.running {
		for _, a := range e.Demand {
			if a.Name == name {
				sum += a.Milli
			}
		}
	}
	return sum
}

func (m *naive) fits(e Entry) bool {
	for _, a := range e.Demand {
		if a.Milli > m.capacity[a.Name]-m.used(a.Name) {
			return false
		}
	}
	return true
}

func (m *naive) share(e Entry) (most float64) {
	for _, a := range e.Demand {
		if m.capacity[a.Name] > 0 {
			most = max(most, float64(a.Milli)/float64(m.capacity[a.Name]))
		}
	}
	return most
}

// place is an entry's order in its queue.
func (m *naive) place(e Entry) order {
	policy := cmp.Or(m.policy[flowOf(e)], PriorityFIFO)
	o := e.orderOf(policy, ageing) // nobody runs out of patience while time stands still
	if policy == ShortestArea {
		o.key += m.slack(e)
	}
	return o
}

func (m *naive) level(priority int) int {
	return priority + int(m.now.Sub(m.served[priority])/ageing)
}

func (m *naive) account(f queueName, priority int) *account {
	a := m.accounts[holder{f, priority}]
	if a == nil {
		a = &account{}
		m.accounts[holder{f, priority}] = a
	}
	return a
}

func (m *naive) isPossible(e Entry) bool {
	return !m.paused[flowOf(e)] && !slices.ContainsFunc(e.Demand, func(a Amount) bool { return a.Milli > m.capacity[a.Name] })
}

// head is the entry that goes first in a queue.
func (m *naive) head(f queueName) (head Entry) {
	for _, e := range m.waiting {
		x, y := m.place(e), m.place(head)
		if flowOf(e) == f && m.isPossible(e) && (head.Namespace == "" || x.before(&y)) {
			head = e
		}
	}
	return head
}

// earn gives a queue a right for each of its entries that take part, anew.
func (m *naive) earn(f queueName) {
	m.rights[f] = map[int]int{}
	for _, e := range m.waiting {
		if flowOf(e) == f && m.isPossible(e) {
			m.rights[f][e.Priority]++
		}
	}
}

// spend takes a right: of the priority, the next lower or else the lowest.
func (m *naive) spend(f queueName, priority int) {
	has := slices.Sorted(maps.Keys(m.rights[f]))
	at, found := slices.BinarySearch(has, priority)
	if !found {
		at = max(0, at-1)
	}
	if m.rights[f][has[at]]--; m.rights[f][has[at]] == 0 {
		delete(m.rights[f], has[at])
	}
}

// least is what the one has had that has had least, of those in line.
func (m *naive) least(priority int, of func(queueName) (queueName, bool)) float64 {
	least := math.Inf(1)
	for f, t := range m.rights {
		if who, counts := of(f); counts && t[priority] > 0 {
			least = min(least, m.account(who, priority).tag)
		}
	}
	if math.IsInf(least, 1) {
		return 0
	}
	return least
}

// progress notes where the tenants are.
func (m *naive) progress(priority int) {
	least := m.least(priority, func(f queueName) (queueName, bool) { return queueName{namespace: f.namespace}, true })
	m.virtual[priority] = max(m.virtual[priority], least)
}

func (m *naive) exists(priority int) bool {
	return slices.ContainsFunc(m.waiting, func(e Entry) bool { return e.Priority == priority }) ||
		slices.ContainsFunc(slices.Collect(maps.Values(m.rights)), func(t map[int]int) bool { return t[priority] > 0 })
}

// add counts an entry that waits or, restored, runs.
func (m *naive) add(e Entry, waits bool) {
	p := e.Priority
	m.progress(p)
	t := m.account(tenantOf(e), p)
	t.virtual = max(t.virtual, m.least(p, func(f queueName) (queueName, bool) { return f, f.namespace == e.Namespace }))
	t.wake(m.virtual[p])
	same := func(o Entry) bool { return flowOf(o) == flowOf(e) }
	if !slices.ContainsFunc(m.waiting, same) && !slices.ContainsFunc(slices.Collect(maps.Values(m.running)), same) {
		m.wakes++
		m.woken[flowOf(e)] = m.wakes
	}
	m.account(flowOf(e), p).wake(t.virtual)
	if !waits {
		return
	}
	if !m.exists(p) {
		m.served[p] = e.Since
	}
	m.waiting = append(m.waiting, e)
	if m.isPossible(e) {
		if m.rights[flowOf(e)] == nil {
			m.rights[flowOf(e)] = map[int]int{}
		}
		m.rights[flowOf(e)][p]++
	}
}

func (m *naive) drop(id ID) bool {
	before := len(m.waiting)
	m.waiting = slices.DeleteFunc(m.waiting, func(e Entry) bool { return e.ID == id })
	return len(m.waiting) < before
}

// rest counts one less that waits or runs.
func (m *naive) rest(e Entry) {
	m.account(tenantOf(e), e.Priority).load--
	m.account(flowOf(e), e.Priority).load--
}

func (m *naive) run(e Entry, cost float64, paid int) {
	m.running[e.ID], m.cost[e.ID], m.paid[e.ID] = e, m.cost[e.ID]+cost, paid
	m.account(flowOf(e), paid).pay(cost / cmp.Or(m.weight[flowOf(e)], 1))
	m.account(tenantOf(e), paid).pay(cost / cmp.Or(m.weight[tenantOf(e)], 1))
}

// compare is the order of flows, each with an entry and a right.
func (m *naive) compare(a, b bid) int {
	x, y := m.place(a.Entry), m.place(b.Entry)
	return cmp.Or(
		-cmp.Compare(m.level(a.right), m.level(b.right)), -cmp.Compare(a.right, b.right), -cmp.Compare(a.turn, b.turn),
		cmp.Compare(m.account(tenantOf(a.Entry), a.right).tag, m.account(tenantOf(b.Entry), b.right).tag),
		cmp.Compare(m.account(flowOf(a.Entry), a.right).tag, m.account(flowOf(b.Entry), b.right).tag),
		cmp.Compare(m.woken[flowOf(a.Entry)], m.woken[flowOf(b.Entry)]), x.compare(&y),
	)
}

type bid struct {
	Entry
	right int
	turn  int // 1: it is its turn already
}

// next: the most urgent right's entry starts, if it fits; else the first of all that fit.
func (m *naive) next(turn *item) (Entry, bool) {
	var fit, line []bid
	for _, e := range m.waiting {
		if !m.paused[flowOf(e)] && m.fits(e) {
			fit = append(fit, bid{Entry: e, right: e.Priority})
		}
	}
	for f, rights := range m.rights {
		for p := range rights {
			c := bid{Entry: m.head(f), right: p}
			if turn != nil && flowOf(turn.Entry) == f {
				c.turn = 1
			}
			line = append(line, c)
		}
	}
	if len(line) == 0 {
		return Entry{}, false
	}
	e := slices.MinFunc(line, m.compare)
	m.progress(e.right)
	if len(fit) == 0 {
		return Entry{}, false
	}
	if !m.fits(e.Entry) {
		e = slices.MinFunc(fit, m.compare)
		m.progress(e.right)
	}
	m.drop(e.ID)
	m.spend(flowOf(e.Entry), e.right)
	m.served[e.right] = m.now
	m.run(e.Entry, m.share(e.Entry)*e.expected().Seconds(), e.right)
	return e.Entry, true
}

func drawEntry(t *rapid.T, n int) Entry {
	demand := map[string]int64{}
	for _, name := range []string{"cpu", "gpu", "slots"} {
		demand[name] = rapid.SampledFrom([]int64{0, 0, 1, 2, 3, 10}).Draw(t, name)
	}
	e := Entry{
		ID: id(n), Namespace: rapid.SampledFrom([]string{"m", "n"}).Draw(t, "namespace"),
		Queue:    rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"),
		Kind:     rapid.SampledFrom([]string{"x", "y"}).Draw(t, "kind"),
		Priority: rapid.SampledFrom([]int{-100, -1, 0, 0, 0, 1, 100}).Draw(t, "priority"),
		Since:    epoch.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "since")) * time.Second),
		Demand:   NewDemand(demand), Expected: time.Second,
	}
	if rapid.Bool().Draw(t, "late") {
		e.Deadline = epoch.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "deadline")) * time.Second)
	}
	return e
}

func TestCoreDecidesAsTheRuleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, m := newPair()
		count := 0
		anyOf := func(ids []ID) ID {
			if len(ids) == 0 {
				return id(1 << 40)
			}
			slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
			return rapid.SampledFrom(ids).Draw(t, "id")
		}
		queue := func(t *rapid.T) queueName {
			return queueName{rapid.SampledFrom([]string{"m", "n"}).Draw(t, "namespace"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue")}
		}
		overcommitted := false
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				count++
				e := drawEntry(t, count)
				if err := c.Add(e); err != nil {
					t.Fatal(err)
				}
				m.add(e, true)
			},
			"next": func(t *rapid.T) {
				want, should := m.next(c.reserved.of)
				got, ok := c.Next(m.now)
				if ok != should || got.ID != want.ID {
					t.Fatalf("started %v %x, want %v %x", ok, got.ID[14:], should, want.ID[14:])
				}
			},
			"release": func(t *rapid.T) {
				var ids []ID
				for i := range m.running {
					ids = append(ids, i)
				}
				i := anyOf(ids)
				e, runs := m.running[i]
				if runs {
					m.run(e, -m.cost[i], m.paid[i]) // it took no time at all
					m.rest(e)
				}
				delete(m.running, i)
				delete(m.cost, i)
				if c.Release(i, m.now) != runs {
					t.Fatalf("release said %v", !runs)
				}
				if c.Release(i, m.now) {
					t.Fatal("released twice")
				}
			},
			"remove": func(t *rapid.T) {
				var ids []ID
				for _, e := range m.waiting {
					ids = append(ids, e.ID)
				}
				i := anyOf(ids)
				if at := slices.IndexFunc(m.waiting, func(e Entry) bool { return e.ID == i }); at >= 0 {
					e := m.waiting[at]
					m.rest(e)
					if m.isPossible(e) {
						m.spend(flowOf(e), e.Priority)
					}
				}
				if c.Remove(i) != m.drop(i) {
					t.Fatal("remove")
				}
			},
			"pause": func(t *rapid.T) {
				q, paused := queue(t), rapid.Bool().Draw(t, "paused")
				if m.paused[q] != paused {
					m.paused[q] = paused
					m.earn(q)
				}
				c.SetPaused(q.namespace, q.queue, paused)
			},
			"weight": func(t *rapid.T) {
				q := queue(t)
				if c.flow(q).load == 0 { // what runs was charged by the old one
					m.weight[q] = rapid.SampledFrom([]float64{0.5, 1, 3}).Draw(t, "weight")
					c.SetWeight(q.namespace, q.queue, m.weight[q])
				}
			},
			"tenant weight": func(t *rapid.T) {
				name := tenantOf(Entry{Namespace: queue(t).namespace})
				if !slices.ContainsFunc(slices.Collect(maps.Values(c.flows)), func(f *flow) bool { return f.name.namespace == name.namespace && f.load > 0 }) {
					m.weight[name] = rapid.SampledFrom([]float64{0.5, 1, 3}).Draw(t, "weight")
					c.SetTenantWeight(name.namespace, m.weight[name])
				}
			},
			"policy": func(t *rapid.T) {
				q := queue(t)
				before := cmp.Or(m.policy[q], PriorityFIFO)
				if m.policy[q] = rapid.SampledFrom([]Policy{PriorityFIFO, ShortestArea, Deadline}).Draw(t, "policy"); m.policy[q] != before {
					m.earn(q)
				}
				c.SetPolicy(q.namespace, q.queue, m.policy[q])
			},
			"restore": func(t *rapid.T) {
				count++
				e := drawEntry(t, count)
				c.Restore(e, m.now)
				c.Restore(e, m.now)
				m.add(e, false)
				m.run(e, m.share(e)*e.expected().Seconds(), e.Priority)
				overcommitted = true
			},
			"": func(t *rapid.T) { check(t, c, m, overcommitted) },
		})
	})
}

// check compares everything that can be asked with the naive model.
func check(t *rapid.T, c *Core, m *naive, overcommitted bool) {
	if c.Waiting() != len(m.waiting) || c.Running() != len(m.running) {
		t.Fatalf("waiting %d running %d, want %d and %d", c.Waiting(), c.Running(), len(m.waiting), len(m.running))
	}
	for _, g := range c.Resources() {
		if g.Used != m.used(g.Name) || g.Used < 0 || g.Used > g.Capacity && !overcommitted {
			t.Fatalf("%+v, want %d used", g, m.used(g.Name))
		}
	}
	for _, e := range m.waiting {
		r, ok := c.Explain(e.ID, m.now)
		if !ok || r.Code == "" || r.Position < 1 {
			t.Fatalf("explain: %+v", r)
		}
		if (r.Code == Short || r.Code == Impossible) != (r.Resource != "") || r.Resource != "" && r.Needed <= r.Free {
			t.Fatalf("explain: %+v", r)
		}
		if lacking := !m.fits(e); r.Code != Paused && lacking != (r.Resource != "") {
			t.Fatalf("lacking %v, but %+v", lacking, r)
		}
		if !c.IsWaiting(e.ID) {
			t.Fatal("not waiting")
		}
	}
	slices.SortFunc(m.waiting, func(a, b Entry) int {
		x, y := a.orderOf(PriorityFIFO, ageing), b.orderOf(PriorityFIFO, ageing)
		return x.compare(&y)
	})
	for i, e := range c.Least(3) {
		if want := m.waiting[len(m.waiting)-1-i]; e.ID != want.ID {
			t.Fatalf("least urgent %d is %x, want %x", i, e.ID[14:], want.ID[14:])
		}
	}
}

func TestSameCallsSameAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := make([]Entry, rapid.IntRange(1, 60).Draw(t, "entries"))
		for i := range entries {
			entries[i] = drawEntry(t, i)
			entries[i].Expected = time.Duration(rapid.IntRange(0, 20).Draw(t, "expected")) * time.Second
		}
		play := func() (starts []ID) {
			c, m := newPair()
			c.SetPolicy("n", "a", ShortestArea)
			for _, e := range entries {
				_ = c.Add(e)
			}
			for now := m.now; len(starts) < len(entries); now = now.Add(time.Second) {
				e, ok := c.Next(now)
				switch {
				case ok:
					starts = append(starts, e.ID)
				case now.Sub(m.now) > time.Minute:
					return starts
				case len(starts) > 0:
					c.Release(starts[int(now.Unix())%len(starts)], now)
				}
			}
			return starts
		}
		if a, b := play(), play(); !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}
