package schedule

import (
	"bytes"
	"cmp"
	"container/heap"
	"time"
)

// ID names an entry.
type ID [16]byte

// Entry is one task as the scheduler sees it.
type Entry struct {
	ID        ID
	Namespace string
	Queue     string
	Kind      string
	Priority  int       // −100 to 100
	Since     time.Time // when it became runnable
	Demand    Demand    // shared, never changed
}

// item is an entry that waits or runs.
type item struct {
	Entry
	group *group // nil while it runs
	place int    // in the group's heap
}

// before orders two items of one group.
func (i *item) before(j *item) bool {
	return cmp.Or(i.Since.Compare(j.Since), bytes.Compare(i.ID[:], j.ID[:])) < 0
}

// shape is what all entries of a group have in common.
type shape struct {
	namespace, queue, kind string
	priority               int
	demand                 string
}

// group is the waiting entries of one shape, oldest on top.
type group struct {
	shape  shape
	demand Demand
	start  time.Duration // the head start its priority gives
	items  []*item
	bench  *bench // where it waits; nil while its queue is paused
	place  int    // in the bench's heap
}

// head is the entry of the group that goes first; the group is never empty.
func (g *group) head() *item { return g.items[0] }

// before is the order of all groups: by the virtual time of their heads.
func (g *group) before(h *group) bool {
	return orderOf(g.head(), g.start).before(orderOf(h.head(), h.start))
}

// order is an entry's place in the order of decisions.
type order struct {
	virtual, since time.Time
	id             ID
}

func orderOf(i *item, start time.Duration) order {
	return order{virtual: i.Since.Add(-start), since: i.Since, id: i.ID}
}

func (o order) before(p order) bool {
	return cmp.Or(o.virtual.Compare(p.virtual), o.since.Compare(p.since), bytes.Compare(o.id[:], p.id[:])) < 0
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (g *group) Len() int           { return len(g.items) }
func (g *group) Less(i, j int) bool { return g.items[i].before(g.items[j]) }
func (g *group) Swap(i, j int) {
	g.items[i], g.items[j] = g.items[j], g.items[i]
	g.items[i].place, g.items[j].place = i, j
}

func (g *group) Push(x any) {
	i, _ := x.(*item)
	i.place = len(g.items)
	g.items = append(g.items, i)
}

func (g *group) Pop() any {
	last := len(g.items) - 1
	i := g.items[last]
	g.items[last] = nil
	g.items = g.items[:last]
	return i
}

// bench is a heap of groups that wait for the same amount of the same resource.
type bench struct {
	resource string
	need     int64
	groups   []*group
}

func (b *bench) add(g *group) {
	g.bench = b
	heap.Push(b, g)
}

func (b *bench) remove(g *group) {
	heap.Remove(b, g.place)
	g.bench = nil
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (b *bench) Len() int           { return len(b.groups) }
func (b *bench) Less(i, j int) bool { return b.groups[i].before(b.groups[j]) }
func (b *bench) Swap(i, j int) {
	b.groups[i], b.groups[j] = b.groups[j], b.groups[i]
	b.groups[i].place, b.groups[j].place = i, j
}

func (b *bench) Push(x any) {
	g, _ := x.(*group)
	g.place = len(b.groups)
	b.groups = append(b.groups, g)
}

func (b *bench) Pop() any {
	last := len(b.groups) - 1
	g := b.groups[last]
	b.groups[last] = nil
	b.groups = b.groups[:last]
	return g
}
