// Package client talks to a Troupe server: every call of its HTTP API, and
// watching over a WebSocket that survives restarts of the server. The command
// troupe is built on it.
//
// Errors are a [transport.Problem], as the server said it, or wrap
// [ErrUnreachable] where none answered.
package client
