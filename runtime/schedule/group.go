package schedule

import (
	"container/heap"
	"math"
	"time"
)

// shape is what all entries of a group have in common.
type shape struct {
	flow     *flow
	bench    *bench
	length   int
	priority int
}

// length is in steps of an eighth of an octave: entries of a group are expected to
// run equally long but for a tenth.
func length(d time.Duration) int {
	return int(8 * math.Log2(max(1, float64(d)/float64(time.Millisecond))))
}

// group is the waiting entries of one shape, the first in the queue's order on top.
// It takes part, in its flow and on its bench, unless its queue is paused or it
// needs more than there is, or runs on workers alone that have no room.
type group struct {
	shape

	items []*item
	turn  int // its place in the flow; -1: it does not take part
	takes float64
	slack int64 // in microseconds: who comes by so much later may go before
	seat  seat
}

// head is the entry of the group that goes first; the group is never empty.
func (g *group) head() *item { return g.items[0] }

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (g *group) Len() int           { return len(g.items) }
func (g *group) Less(i, j int) bool { return g.items[i].order.before(&g.items[j].order) }
func (g *group) Swap(i, j int) {
	g.items[i], g.items[j] = g.items[j], g.items[i]
	g.items[i].at, g.items[j].at = i, j
}

func (g *group) Push(x any) {
	i, _ := x.(*item)
	i.at = len(g.items)
	g.items = append(g.items, i)
}

func (g *group) Pop() any {
	last := len(g.items) - 1
	i := g.items[last]
	g.items[last] = nil
	g.items = g.items[:last]
	return i
}

// group finds or makes the group of an entry.
func (c *Core) group(e *Entry, f *flow) *group {
	s := shape{f, c.benchOf(e), length(e.expected()), e.Priority}
	g := c.groups[s]
	if g == nil {
		g = &group{shape: s, turn: -1}
		g.takes = c.takes(g)
		g.slack = c.slack(g)
		c.groups[s] = g
		f.groups[g] = struct{}{}
		if s.bench.site != nil {
			s.bench.site.groups[g] = true
		}
	}
	return g
}

// join puts an item into its group, and the group where it belongs.
func (c *Core) join(g *group, i *item) {
	i.group = g
	heap.Push(g, i)
	if g.turn < 0 {
		c.enter(g)
		return
	}
	c.earn(g.flow, g.priority, 1, i.Since)
	c.settle(g)
}

// enter has a group take part, if it may.
func (c *Core) enter(g *group) {
	if g.flow.paused || g.turn >= 0 || !g.bench.admits() {
		return
	}
	heap.Push(&g.flow.turns, g)
	c.earn(g.flow, g.priority, len(g.items), g.head().Since)
	g.seat.flow, g.seat.group, g.seat.account = g.flow, g, g.flow.account(g.priority)
	g.bench.row(g.length).stand(g.priority).add(&g.seat)
	if g.bench.shelf == nil {
		c.shelve(g.bench)
	}
}

// leave has it take part no more; rights of a priority go with it.
func (c *Core) leave(g *group, priority int) {
	if g.turn < 0 {
		return
	}
	g.bench.rise(g)
	c.spend(g.flow, priority, len(g.items))
	heap.Remove(&g.flow.turns, g.turn)
}

// settle puts a group whose entries have changed in its place.
func (c *Core) settle(g *group) {
	switch {
	case len(g.items) == 0:
		delete(c.groups, g.shape)
		delete(g.flow.groups, g)
		if g.bench.site != nil {
			delete(g.bench.site.groups, g)
		}
	case g.turn >= 0:
		heap.Fix(&g.flow.turns, g.turn)
	}
}

// turns is the groups of a flow that take part, the one whose entry goes first on top.
type turns []*group

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (t *turns) Len() int { return len(*t) }

func (t *turns) Less(i, j int) bool {
	return (*t)[i].head().before((*t)[j].head())
}

func (t *turns) Swap(i, j int) {
	(*t)[i], (*t)[j] = (*t)[j], (*t)[i]
	(*t)[i].turn, (*t)[j].turn = i, j
}

func (t *turns) Push(x any) {
	g, _ := x.(*group)
	g.turn = len(*t)
	*t = append(*t, g)
}

func (t *turns) Pop() any {
	last := len(*t) - 1
	g := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	g.turn = -1
	return g
}
