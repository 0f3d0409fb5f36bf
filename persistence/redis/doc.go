// Package redis is the companion of a store that many nodes share: it makes them
// faster together, and keeps nothing that cannot be made again.
//
// # Promises
//
//   - Everything works without it. A call that Redis does not answer says so
//     within a quarter of a second, and its caller goes on as if there were none.
//   - After a few such calls none is made any more: a breaker opens, and from then
//     on a call costs nothing. A probe in the background finds Redis again, so
//     that no caller pays for trying.
//   - A flush, a failover, an eviction and an outage cost time, never a task, and
//     never give a wrong result.
//   - No error and no log shows the password.
//
// # What it holds
//
//	Results   results of tasks by key, until their time is over
//	Rates     what is used up of a rate that all nodes share
//	Hints     nothing: "there is work", from node to node
//
// All names begin with troupe:1: (rates with rate:troupe:1:, by their library),
// where 1 is the version of what is behind them: another version shares nothing.
// Stores that share a Redis need a database of it each. Whoever may write to it
// can give wrong results, so it is as trusted as the store.
package redis
