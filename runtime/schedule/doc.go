// Package schedule decides what runs next on one node. It is pure: no clock, no
// goroutine, no I/O; the same calls in the same order give the same answers. The
// scheduler actor asks it and nobody else. It is not safe for concurrent use.
//
// # What it knows
//
// Entries that wait, entries that run, the capacity of each resource and how
// much of it is taken. A demand is all or nothing: an entry takes everything it
// names when it starts and returns everything when it ends.
//
// # The rule
//
// Among the waiting entries whose queue is not paused, in the order of their
// virtual time, the first whose whole demand is free starts. The virtual time of
// an entry is when it became runnable, less its priority times the ageing:
//
//	virtual time = since − priority × ageing
//
// and the older one goes first where two are equal. So a higher priority is a
// head start. Every entry ages at the same rate, hence the order of two entries
// never changes while they wait, and waiting is bounded: no entry of priority q
// that comes later than (q − p) × ageing passes one of priority p that fits.
//
// # Invariants
//
//   - what is taken of a resource is the sum of what running entries demand, and
//     exceeds the capacity only after Restore or after the capacity shrank
//   - after Next has said no, no waiting entry of an unpaused queue fits
//   - Next never passes over an entry that fits and stands earlier
//   - every waiting entry has a reason ([Core.Explain])
//
// # Cost
//
// Entries that are alike (namespace, queue, kind, priority, demand) form a
// group. A group waits on the bench of one amount of its demand and is not
// looked at before that much is free; one that turns out to lack another
// resource moves to the bench of that. So a decision costs the logarithm of the
// number of groups and of one group's length, and one look at each distinct
// amount of each resource; it does not matter how many entries wait.
package schedule
