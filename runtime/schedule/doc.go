// Package schedule decides what runs next on one node. It is pure: no clock, no
// goroutine, no I/O; the same calls in the same order give the same answers. The
// scheduler actor asks it and nobody else. It is not safe for concurrent use.
//
// # What it knows
//
// Entries that wait, entries that run, the capacity of each resource and how much of
// it is taken. A demand is all or nothing: an entry takes everything it names when it
// starts and returns everything when it ends. A queue of a namespace is a flow, the
// namespace is its tenant. Who takes part is whose queue is not paused and who needs
// no more than there is.
//
// # The order
//
// Whose turn it is, is decided in this order:
//
//  1. Urgency. Entries of one priority are a class. A class is as urgent as its
//     priority says, and a step more for each ageing in which none of it has started:
//     level = priority + ⌊(now − served) / ageing⌋. Of classes on one level the
//     higher priority goes first.
//  2. A standing reservation: the flow that holds it keeps its turn in its class.
//  3. Fairness between tenants, then between the flows of the tenant.
//  4. The flow's own order, its [Policy].
//
// A flow stands in line with a right for each of its entries, of that entry's
// priority. When its turn has come the right is spent, on whichever entry the flow's
// own order has first. So an urgent entry cannot carry those along that stand before
// it, and an old one of low priority does not hold up its queue.
//
// # Fairness
//
// Flows and tenants have tags, one for each priority. A start moves the tags on by
//
//	expected run time × share of the dominant resource / weight
//
// and the lowest goes first, which is start-time fair queueing with dominant resource
// fairness as its measure. What ran longer or shorter is put right when it is known.
// Who was idle begins where that one is that has had least of those that wait: nobody
// saves anything up, and a flood is nobody's debt but its own. Tenants have weights,
// and the flows of a tenant have weights among themselves. Over time the shares are those of
// progressive filling, to within a few per cent.
//
// # The order of a flow
//
// With [PriorityFIFO] by arrival, less priority × ageing: a priority is a head start,
// and no entry of priority q that comes later than (q − p) × ageing passes one of
// priority p in the same queue. With [ShortestArea] and [Deadline] by priority, then by
// what the name says; how long an entry may be passed there is bounded by patience:
// see patience.go, and [Config].
//
// # Reservation and backfill
//
// If the entry whose turn it is fits, it starts. If not, it gets a reservation: it is
// promised its place at the time by which its whole demand is free if all that runs
// ends as expected. What is free until then may be used: of those that fit, the first
// in the order 1, 3, 4 starts that ends by then, or leaves enough of everything for
// then. Enough is reckoned with those that are next in line, up to sixteen, as long as
// it is not the turn of one that fits: so small entries do not take from great ones
// what these will need together.
//
// There is one reservation. It is reckoned anew with every decision that could be in
// its way, never later unless something runs longer than expected, capacity shrinks,
// or one takes its place that is more urgent or stands before it in its flow.
//
// # Workers
//
// An entry may have a [Site]: [Worker]s elsewhere that may run it, by its namespace, its
// kind and their labels. While one of them has room for it, it fits, whatever is free
// here; what it takes is taken there, and here only what the worker has nothing of.
// Entries that run nowhere else take part only while one has. There is no reservation
// on workers. A flow pays for what runs there by its share of all workers of the site, a
// tenant does not: the workers are its own.
//
// # Expectations
//
// How long an entry runs is what its caller says, [Config.Times] as it starts, or
// [Guess]; and no longer than its timeout. One that runs longer is expected to run
// twice as long as it was, again and again, and is charged for it.
//
// # Invariants
//
//   - what is taken of a resource is the sum of what running entries demand, and
//     exceeds the capacity only after Restore or after the capacity shrank
//   - after Next has said no, whoever takes part and fits would delay the reservation,
//     or those who are to start with it. An entry stands there for others of its
//     queue, priority and demand that are expected to run equally long but for a tenth
//   - nobody starts before one that is more urgent and fits, or before one of its
//     queue and priority that stands earlier and fits, but for a reservation
//   - a reservation is kept if expectations are
//   - the wait of every entry is bounded, if its tenant's load is
//   - every waiting entry has a reason ([Core.Explain])
//
// walks_test.go, order_test.go, fair_test.go and waiting_test.go walk at random and
// look whether they hold; rule_test.go compares with the order written down plainly.
//
// # Cost
//
// Entries of one flow, priority and demand that are expected to run equally long form a
// group. Demands have a bench each, which lies on the shelf of one amount of it and is
// not looked at before that much is free. Whose turn it is costs the logarithm of the
// number of flows, and is all there is to a decision where that one fits. Else it is
// asked of each bench that fits, and of each row on it of equal lengths, who is first
// there. How many entries wait does not matter; how many demands and lengths differ
// among those that fit does. Nothing is given up for lack of time.
//
// The heaps are by keys that lag behind the tags, and are put right at the top only:
// a start that moves the tag of a flow with a thousand groups moves none of them.
package schedule
