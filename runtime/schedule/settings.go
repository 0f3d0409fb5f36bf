package schedule

import (
	"cmp"
	"container/heap"
)

// SetCapacity sets how much of a resource there is. Where more is taken than
// that, nothing new takes any until enough has come back. It looks at every group.
func (c *Core) SetCapacity(name string, milli int64) {
	c.pool(name).capacity = milli
	changed := map[*bench]bool{}
	for _, b := range c.benches {
		was := b.admits()
		b.possible = b.isPossible()
		changed[b] = b.admits() != was
	}
	c.stirMixed()
	for _, g := range c.groups {
		g.takes = c.takes(g) // a share of something else now
		switch {
		case !changed[g.bench]:
		case g.bench.admits():
			c.enter(g)
		default:
			c.leave(g, g.priority)
		}
	}
	for _, f := range c.flows {
		if f.policy == ShortestArea {
			c.loosen(f)
		}
	}
	if r := c.reserved.of; r != nil && !r.group.bench.admits() {
		c.drop()
	}
}

// SetPaused stops a queue's entries from starting, or lets them.
func (c *Core) SetPaused(namespace, queue string, paused bool) {
	f := c.flow(queueName{namespace, queue})
	if f.paused == paused {
		return
	}
	f.paused = paused
	for g := range f.groups {
		if paused {
			c.leave(g, g.priority)
		} else {
			c.enter(g)
		}
	}
	if r := c.reserved.of; paused && r != nil && r.flow == f {
		c.drop()
	}
}

// SetWeight sets how much of the node a queue gets beside others of its namespace:
// twice the weight, twice the share. It must be above zero.
func (c *Core) SetWeight(namespace, queue string, weight float64) {
	c.flow(queueName{namespace, queue}).weight = weight
}

// SetTenantWeight sets how much of the node a namespace gets beside others: twice the
// weight, twice the share. It must be above zero.
func (c *Core) SetTenantWeight(namespace string, weight float64) {
	c.tenant(namespace).weight = weight
}

// SetPolicy sets the order of a queue.
func (c *Core) SetPolicy(namespace, queue string, p Policy) {
	f := c.flow(queueName{namespace, queue})
	p = cmp.Or(p, PriorityFIFO)
	if f.policy == p {
		return
	}
	f.policy = p
	for g := range f.groups {
		c.leave(g, g.priority)
	}
	for g := range f.groups {
		for _, i := range g.items {
			i.order = i.orderOf(p, c.ageing)
			c.promise(i)
		}
		heap.Init(g)
		g.slack = c.slack(g)
		c.enter(g)
	}
}
