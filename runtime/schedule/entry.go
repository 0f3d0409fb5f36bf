package schedule

import (
	"bytes"
	"cmp"
	"math"
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
	Priority  int           // −100 to 100
	Since     time.Time     // when it became runnable
	Demand    Demand        // shared, never changed
	Expected  time.Duration // how long it will run; 0: nobody knows
	Timeout   time.Duration // it runs no longer; 0: it may
	Deadline  time.Time     // for the policy of that name; zero: none
	Site      *Site         // where else it may run; nil: nowhere. Shared, never changed
	Worker    string        // where it runs, as [Core.Next] says; empty: here
}

// Guess is how long an entry is taken to run of which nothing is known. One that
// runs longer is taken to run twice as long as it was, again and again.
const Guess = 10 * time.Second

// expected is never zero.
func (e *Entry) expected() time.Duration {
	d := cmp.Or(e.Expected, Guess)
	if e.Timeout > 0 {
		d = min(d, e.Timeout)
	}
	return max(d, time.Millisecond)
}

// item is an entry that waits or runs.
type item struct {
	Entry
	bench *bench // of its demand
	group *group // nil while it runs
	at    int    // its place in the group's heap
	order order  // in its queue

	// While it waits in a queue whose order is not that of arrival.
	promote time.Time // when it goes to the front
	wait    time.Duration
	timed   int // its place in the heap of those

	flow *flow

	worker *worker // where it runs; nil: here
	load   Demand  // what it takes there
	part   float64 // of all workers of its site

	*run // nil while it waits
}

// run is what is known of an item that runs.
type run struct {
	started time.Time
	end     time.Time // by when it is expected to end
	paid    int       // the priority at which it started
	charged time.Duration
	share   float64 // of its dominant resource when it started, wherever it runs
	common  float64 // the same of this node, which it shares with other tenants
	weight  float64 // of its flow then
	tenants float64 // the weight of its tenant then
}

// order is an entry's place in its queue: those in front by arrival, then by level,
// then by key, by arrival again. While it waits, the slack of its group comes to the
// key: see [item.place].
type order struct {
	level int // −1000: in front; else 0, or the priority with its sign turned
	key   int64
	since int64 // microseconds
	id    ID
}

const inFront = -1000

func (o *order) compare(p *order) int {
	switch {
	case o.level != p.level:
		return cmp.Compare(o.level, p.level)
	case o.key != p.key:
		return cmp.Compare(o.key, p.key)
	case o.since != p.since:
		return cmp.Compare(o.since, p.since)
	default:
		return bytes.Compare(o.id[:], p.id[:])
	}
}

func (o *order) before(p *order) bool { return o.compare(p) < 0 }

// place is an item's order with the slack it has.
func (i *item) place() order {
	o := i.order
	if i.group != nil && o.level != inFront {
		o.key += i.group.slack
	}
	return o
}

// before says whether an item goes before another of its queue.
func (i *item) before(j *item) bool {
	a, b := i.place(), j.place()
	return a.before(&b)
}

// Policy is the order of a queue.
type Policy string

// The policies. In all but the first a higher priority goes first whatever has
// waited how long, and an entry that has waited too long goes to the front. How they
// go among those of one priority, and how long is too long: see [patience].
const (
	PriorityFIFO Policy = "priority-fifo" // by priority and waiting time; where none is said
	ShortestArea Policy = "shortest-area" // by how much of the node for how long
	Deadline     Policy = "deadline"      // by deadline
)

// orderOf places an entry in a queue.
func (e *Entry) orderOf(p Policy, ageing time.Duration) order {
	o := order{since: e.Since.UnixMicro(), id: e.ID}
	switch p {
	case ShortestArea:
		o.level = -e.Priority
		o.key = o.since
	case Deadline:
		o.level = -e.Priority
		o.key = math.MaxInt64
		if !e.Deadline.IsZero() {
			o.key = e.Deadline.UnixMicro()
		}
	default:
		o.key = o.since - int64(e.Priority)*ageing.Microseconds()
	}
	return o
}
