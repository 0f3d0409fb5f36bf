// Package sqlite keeps tasks in one SQLite file: the store of a node that has
// nothing else installed.
//
// # Promises
//
//   - What Append said it kept survives any crash: write-ahead log,
//     synchronous=FULL, and no answer before the commit.
//   - One process at a time. A lock on the data directory, which the kernel drops
//     with the process, proves that whoever was here before is dead; so joining
//     buries every earlier node, and no lease is waited for.
//   - A full disk costs the call, not the store: nothing of it is kept, the
//     error is [task.ErrUnavailable], and there is nothing to repair once there
//     is room. Only an I/O error at the very commit leaves its fate open.
//
// # One writer, a few readers
//
//	Append, Claim, Renew, Sweep ──► writer: one connection, BEGIN IMMEDIATE
//	Task, Tasks, Events, Due … ───► readers: a few connections, query_only
//
// Connections stand in channels; who has taken one out uses it alone. With the
// writer go the few things it knows by heart ([writer]): the lanes, which queues
// are paused, which node lives. They change with a commit, never before.
//
// # What is where
//
// A task that runs at once costs one INSERT and one UPDATE. Its first events and
// its last stand in its row; what it said between stands in segments, one row
// for each mutation that brought events. Payloads and checkpoints too large to be
// written again with every change of the row stand in bodies. A claim looks at
// lanes, not at tasks: see claim.go. Counts are kept, not counted: every
// transaction adds what it changed.
//
// The schema is in migrations, each of which the version before can live with.
package sqlite
