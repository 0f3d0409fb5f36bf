// Package postgres keeps tasks in a PostgreSQL database, for any number of nodes
// at once.
//
// # Promises
//
//   - What Append said it kept is committed. Where the connection broke at the
//     very commit, the transaction's fate is read back from the server before
//     anything is said.
//   - A node holds its tasks until its lease ends by the clock of the database.
//     Who finds it ended first buries the node, which then cannot renew it.
//   - A restart of the server, a failover or a cut connection costs the calls
//     under way, with [task.ErrUnavailable], and nothing else.
//   - It works behind a pooler in transaction mode: no call leaves anything in
//     its session, and statements are not prepared where they are not found again.
//
// # Transactions
//
// A call is one transaction, and that is two round trips: the statements, sent
// together, then COMMIT. Each statement writes a whole batch, handed over as
// arrays. Every transaction carries its own statement_timeout, and every call
// has a deadline. A transaction whose next statement does not come within two
// seconds is ended by the server: a node behind a cut must not keep locks.
//
// # What is where
//
// Everything is in the schema troupe. The tasks that live and those that ended
// are two partitions of one table: see the migrations for why. A task that runs
// at once is written twice, when it comes and when it moves to the others that
// ended. Its first events and its last stand in its row; what it said between,
// in segments. Counts are kept, not counted.
package postgres
