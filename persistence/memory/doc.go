// Package memory keeps tasks in memory, for tests and for trying things out. It
// holds to the contract of [task.Store] as the durable stores do, proven by the
// same suite, and loses all with the process.
//
// A Store outlives its Close: a test that closes it, and has another node join,
// plays the restart of a process on the same data. [Hooks] play a disk that is
// full and a write whose fate nobody knows.
//
// All is found by looking at every task there is. That is slow from some ten
// thousand tasks on, and plain enough to be believed.
package memory
