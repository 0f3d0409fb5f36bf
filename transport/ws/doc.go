// Package ws is the wire of the WebSockets of watchers, GET /v1/ws, and of workers,
// GET /v1/worker: it takes a connection, turns its JSON-RPC requests into calls of
// the runtime and of the connection's session, and writes what the session offers.
// What a watcher sees, and what a worker runs, is decided by actors; here it becomes
// bytes. Package cmd mounts it behind package api, which asks for a credential.
//
// # One writer, only while there is something to write
//
// Frames queue in the connection's outbox, bounded in number and bytes. A
// goroutine writes them, many in one system call, and ends when the queue is
// empty. An event is encoded once for all its watchers, header and all: a
// server's frames are not masked, so they are the same bytes on every
// connection.
//
// # Who is slow
//
// A full outbox refuses events; the session stops, and goes on from its cursor
// once the outbox has emptied. A connection is closed only where nothing gets
// through at all: a write that takes longer than its deadline, a ping without a
// pong.
package ws
