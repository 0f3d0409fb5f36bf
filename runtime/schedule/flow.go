package schedule

import (
	"container/heap"
	"slices"
	"time"
)

// flow is what waits and runs of one queue of one namespace.
//
// Between flows, and between the namespaces they belong to, tags decide, as in
// start-time fair queueing (Goyal, Vin and Cheng 1996) with the dominant resource
// as the measure (Ghodsi et al. 2012): each start moves the tag on by the share of
// the node's dominant resource times the time it is expected for, over the weight,
// and the lowest tag goes first. What took longer or shorter is put right when it
// is known. One that was idle begins where the others are: it saves nothing up.
// Each priority has tags of its own, since those that are more urgent do not share.
type flow struct {
	name     queueName
	tenant   *tenant
	weight   float64
	policy   Policy
	paused   bool
	groups   map[*group]struct{}
	turns    turns
	rights   []rights // the highest priority first
	accounts map[int]*account
	load     int    // entries that wait or run
	woken    uint64 // when it was idle last
	timed    timed
	late     lateness
}

// rights is how many starts a flow may ask for at a priority; see [Core.earn].
type rights struct {
	priority, n int
	seat        *seat // in line
}

// tenant is the flows of one namespace.
type tenant struct {
	accounts map[int]*account
	flows    int
	weight   float64
}

// account is what a flow or a tenant has had at one priority.
type account struct {
	tag     float64
	load    int     // entries that wait or run
	virtual float64 // of a tenant: where its flows are

	// What those that run have paid, and may get back. Only the keys of these are so
	// great that the tag could become less then.
	open   float64
	seats  []*seat
	stalls []*stall
}

// pay moves the tag on, or back if the cost is negative. A key may be less than the
// tag, but not more: see [stand.first].
func (a *account) pay(cost float64) {
	a.open += cost
	if a.tag += cost; cost >= 0 {
		return
	}
	a.seats = slices.DeleteFunc(a.seats, func(s *seat) bool {
		if s.stall != nil && s.key > a.tag {
			s.key = a.tag
			s.moved()
		}
		s.noted = s.stall != nil && s.key >= a.least()
		return !s.noted
	})
	a.stalls = slices.DeleteFunc(a.stalls, func(l *stall) bool {
		if len(l.seats) > 0 && l.key > a.tag {
			l.key = a.tag
			heap.Fix(l.stand, l.place)
		}
		l.noted = len(l.seats) > 0 && l.key >= a.least()
		return !l.noted
	})
}

// least is a tag that this one will not be less than; with room for what rounding adds.
func (a *account) least() float64 { return a.tag - a.open - 1e-6*max(1, a.tag) }

// wake begins where the others are.
func (a *account) wake(virtual float64) {
	if a.load == 0 {
		a.tag = max(a.tag, virtual)
	}
	a.load++
}

func (f *flow) account(priority int) *account   { return accountOf(f.accounts, priority) }
func (t *tenant) account(priority int) *account { return accountOf(t.accounts, priority) }

func accountOf(all map[int]*account, priority int) *account {
	a := all[priority]
	if a == nil {
		a = &account{}
		all[priority] = a
	}
	return a
}

// flow finds or makes a flow.
func (c *Core) flow(name queueName) *flow {
	f := c.flows[name]
	if f == nil {
		t := c.tenant(name.namespace)
		f = &flow{
			name: name, tenant: t, weight: 1, policy: PriorityFIFO,
			groups: map[*group]struct{}{}, accounts: map[int]*account{}, late: lateness{truth: 1},
		}
		c.flows[name] = f
		t.flows++
	}
	return f
}

// tenant finds or makes a tenant.
func (c *Core) tenant(namespace string) *tenant {
	t := c.tenants[namespace]
	if t == nil {
		t = &tenant{accounts: map[int]*account{}, weight: 1}
		c.tenants[namespace] = t
	}
	return t
}

// progress notes where the tenants of a class, and the flows of each, are: where
// the one is that has had least of those that wait.
func (c *Core) progress(k *class) {
	if len(k.line.stalls) == 0 {
		return
	}
	c.virtual[k.priority] = max(c.virtual[k.priority], k.line.first().stall.key)
}

// wake counts an entry more of a flow.
func (c *Core) wake(i *item) {
	t := i.flow.tenant.account(i.Priority)
	if k := c.classes[i.Priority]; k != nil {
		c.progress(k)
		if l := k.line.of[i.flow.tenant]; l != nil {
			t.virtual = max(t.virtual, l.first().key)
		}
	}
	t.wake(c.virtual[i.Priority])
	i.flow.account(i.Priority).wake(t.virtual)
	if i.flow.load++; i.flow.load == 1 {
		c.wakes++
		i.flow.woken = c.wakes
	}
}

// rest counts one less.
func (c *Core) rest(i *item) {
	i.flow.load--
	i.flow.account(i.Priority).load--
	i.flow.tenant.account(i.Priority).load--
	if i.flow.load == 0 && len(c.flows) > c.prune {
		c.forget()
	}
}

// forget drops the flows of which nothing is left but what they have had, as far as
// that makes no difference: others have had as much, or nobody waits. Beyond so many
// it drops all that are idle. It looks at all of them, each time there are twice as many.
func (c *Core) forget() {
	all := c.waiting == 0 || len(c.flows) > mostIdle
	for name, f := range c.flows {
		if f.load > 0 || f.weight != 1 || f.policy != PriorityFIFO || f.paused {
			continue
		}
		for p, a := range f.accounts {
			if all || a.tag <= f.tenant.account(p).virtual {
				delete(f.accounts, p)
			}
		}
		if len(f.accounts) == 0 {
			delete(c.flows, name)
			f.tenant.flows--
		}
	}
	for name, t := range c.tenants {
		if t.flows > 0 || t.weight != 1 {
			continue
		}
		for p, a := range t.accounts {
			if all || a.tag <= c.virtual[p] {
				delete(t.accounts, p)
			}
		}
		if len(t.accounts) == 0 {
			delete(c.tenants, name)
		}
	}
	c.prune = max(leastPrune, 2*len(c.flows))
}

const mostIdle = 10_000

const leastPrune = 1000

// charge has an item's flow pay for so much time of its share, which may be less
// than none.
func (c *Core) charge(i *item, d time.Duration) {
	if i.share == 0 || d == 0 {
		return
	}
	i.charged += d
	i.flow.account(i.paid).pay(d.Seconds() * i.share / i.weight)
	i.flow.tenant.account(i.paid).pay(d.Seconds() * i.common / i.tenants)
}

// close ends the account of an item that has run for so long.
func (c *Core) close(i *item, took time.Duration) {
	c.charge(i, took-i.charged)
	i.flow.account(i.paid).open -= i.charged.Seconds() * i.share / i.weight
	i.flow.tenant.account(i.paid).open -= i.charged.Seconds() * i.common / i.tenants
}
