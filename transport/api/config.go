package api

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
)

// Config is what a [Server] is made with. Every field may be left zero.
type Config struct {
	Log        *slog.Logger          // nil: nothing is logged
	Metrics    prometheus.Gatherer   // what /metrics shows; nil: there is no /metrics
	Registerer prometheus.Registerer // where the server's own metrics go; nil: nowhere
	Version    string                // of the program, for the API's description

	WS        http.Handler // GET /v1/ws; nil: not there
	Workers   http.Handler // GET /v1/worker; nil: not there
	AsyncAPI  []byte       // the description of what is said on those two, as JSON; nil: not there
	Dashboard http.Handler // GET and HEAD of any path nothing else has; nil: not there

	// Hosts are names a client may call this server by while it listens on
	// loopback, besides localhost and loopback addresses; for a proxy on the
	// same machine.
	Hosts []string

	Door     *auth.Door      // finds out who asks; nil: nobody is asked
	Accounts access.Accounts // for keys, namespaces and the audit log; nil: they are not there
	Keyless  bool            // no keys can be made here
	Crowd    *auth.Crowd     // how many streams there may be, by whose they are; nil: any number
	Rates    *auth.Limiter   // how often one may ask; nil: as often as one likes
	// ClosedMetrics has /metrics ask for an admin of the operator's namespace.
	ClosedMetrics bool

	// Proxies are the networks, as CIDR, of proxies whose X-Forwarded-For is believed.
	Proxies []string
	// Origins are those of other pages that may use the API, as "https://host".
	Origins []string
	TLS     *tls.Config // nil: none

	Limits task.Limits // the runtime's, to check a batch before any of it is taken
	Bounds Bounds
}

// Bounds says how much the server takes. The zero value of a field is its
// default.
type Bounds struct {
	Body       int64 // bytes of a body that is no batch; 256 KiB more than a payload may have. Beyond: 413
	Line       int   // bytes of one line of NDJSON; the same. Beyond: the line is refused
	Batch      int64 // bytes of a JSON batch; 32 MiB. Beyond: 413
	BatchTasks int   // tasks of a JSON batch; 10,000, which is also the most it can be. Beyond: 422

	Requests int64 // requests at once; 4096. Beyond: 429
	Streams  int64 // streams and waits at once; 4096. Beyond: 429
	Uploads  int64 // NDJSON batches at once, which hold up to 10 MiB each; 32. Beyond: 429
	Bodies   int64 // bytes of all other bodies held at once; 256 MiB. Beyond: 429

	Wait        time.Duration // the longest wait for a task; 10 minutes. Longer ones are cut to it
	Read        time.Duration // for a body to arrive, or the next line of one; 30 s. Beyond: 408
	Write       time.Duration // for a client to take what is written; 30 s. Beyond: disconnected
	Heartbeat   time.Duration // between comments on a silent event stream; 15 s
	KeyTTL      time.Duration // for how long an Idempotency-Key is remembered; 24 h
	Connections int           // connections at once, but for WebSockets; 50,000. Beyond: closed at once
	PerAddress  int           // of one address, but a proxy's or this machine's; 1000. Beyond: closed at once
	Drain       time.Duration // for requests under way to end once Run is told to stop; 10 s
}

func (b Bounds) withDefaults(l task.Limits) Bounds {
	body := int64(l.WithDefaults().Payload) + 256<<10
	return Bounds{
		Body:        cmp.Or(b.Body, body),
		Line:        cmp.Or(b.Line, int(body)),
		Batch:       cmp.Or(b.Batch, 32<<20),
		BatchTasks:  min(cmp.Or(b.BatchTasks, 10_000), 10_000),
		Requests:    cmp.Or(b.Requests, 4096),
		Streams:     cmp.Or(b.Streams, 4096),
		Uploads:     cmp.Or(b.Uploads, 32),
		Bodies:      cmp.Or(b.Bodies, 256<<20),
		Wait:        cmp.Or(b.Wait, 10*time.Minute),
		Read:        cmp.Or(b.Read, 30*time.Second),
		Write:       cmp.Or(b.Write, 30*time.Second),
		Heartbeat:   cmp.Or(b.Heartbeat, 15*time.Second),
		KeyTTL:      cmp.Or(b.KeyTTL, 24*time.Hour),
		Connections: cmp.Or(b.Connections, 50_000),
		PerAddress:  cmp.Or(b.PerAddress, 1000),
		Drain:       cmp.Or(b.Drain, 10*time.Second),
	}
}
