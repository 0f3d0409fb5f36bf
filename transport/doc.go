// Package transport holds the shapes that go over the wire: a task, an event's
// frame, a problem, as docs and clients know them. The packages below speak
// them: api over HTTP, ws over WebSockets, client from the other side. The
// domain's own types carry no JSON, so that the inside can change and this
// cannot by accident.
package transport
