// Package api is the front door over HTTP: chi routes, huma describes.
//
// It turns requests into calls of [Tasks] and their answers into the shapes of
// package transport. It decides nothing about tasks; what it does decide is who
// gets in and how much of it:
//
//	request ── visit ─── host, origin ─── bounds ─── identify ─── route ─── call ─── answer
//	             │            │              │           │           │         │
//	      id, log, panic   421, 403         429      401, 429   403: scope   problem, logged here
//	        and metrics                                                      if it is one of our own
//
// # Promises
//
// Every error is a problem (RFC 9457) with a code of the table in problems.go,
// which is also the page /docs/problems. Nothing internal is in it: an error
// that is none of the client's is logged here, once, with the request's id, and
// the client gets the id.
//
// Every route under /v1 is in the OpenAPI document, and the other way round.
// Parameters are read by huma by that description. Bodies are read by
// [transport.Decode], which is stricter: a field that is not known, given twice
// or of another case is refused, and a payload is kept byte for byte.
//
// Everything is bounded: [Bounds] says how and what the answer is then.
//
// # Requests that last
//
// A request that streams or waits (events, result?wait, Prefer: wait, NDJSON)
// leaves the bound of short requests for that of long ones: [visit.hold]. All of
// them end when [Server.Run] is told to stop, and soon after the credential they
// were opened with: [Server.lasting]. WebSockets are closed by their own handlers.
//
// # Loopback
//
// A server without credentials trusts whoever can connect, so it must not be
// fooled by a browser on the same machine: on a loopback address it takes only
// Host headers that name loopback (DNS rebinding), and unsafe methods only from
// its own origin.
package api
