package ws

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

// Subprotocol is the name and version of the watchers' protocol, and WorkerSubprotocol
// that of the workers'.
const (
	Subprotocol       = "troupe.v1.json"
	WorkerSubprotocol = "troupe.worker.v1.json"
)

// Tasks is what the watchers' sockets need of the runtime.
type Tasks interface {
	// OpenSession begins a watcher's session that fills out.
	OpenSession(namespace string, out task.Outbox) task.Session

	Enqueue(ctx context.Context, subs []task.Submission) []task.Submitted
	Task(ctx context.Context, namespace string, id task.ID) (task.Task, error)
	Cancel(ctx context.Context, namespace string, id task.ID, reason string) (task.Task, error)
}

// Config is what a [Handler] is made with. Every field may be left zero.
type Config struct {
	Log        *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is counted
	Server     string                // name and version, for hello
	Origins    []string              // pages of other origins that may connect, as "https://host"
	Bounds     Bounds

	// Principal says who opens a socket; nil: whoever package auth let in and, where
	// nobody was asked, anybody, who may do all in the default namespace.
	Principal func(*http.Request) access.Principal
	// Door watches over the credentials of sockets that are open, and takes others in
	// their place; nil: nobody does.
	Door *auth.Door
	// Crowd bounds how many sockets and streams there are, by whose they are; nil: not.
	Crowd *auth.Crowd
	// Certified has workers show a certificate that the server's TLS has verified.
	Certified bool
	// Lease is for how long a worker may be silent; 15 s. It sets their heartbeat.
	Lease time.Duration
}

// Bounds says how much one watcher and all of them may take. The zero value of
// a field is its default.
type Bounds struct {
	Connections   int           // at once; 20,000. Beyond: 4229
	Subscriptions int           // of one connection; 1024
	Message       int64         // bytes of one message from a client; 4 MiB. Beyond: 1009
	Batch         int           // requests in one batch; 100
	OutboxFrames  int           // frames that wait to be written; 1024
	OutboxBytes   int           // bytes of them; 256 KiB
	Faults        int           // messages that are no JSON-RPC, before 1008; 100
	Pings         int           // control frames a heartbeat may bring, before 1008; 200
	Heartbeat     time.Duration // between pings; 25 s
	Pong          time.Duration // for the answer to one; 10 s. Beyond: 4108
	Write         time.Duration // for a client to take what is written; 10 s
}

func (b Bounds) withDefaults() Bounds {
	return Bounds{
		Connections:   cmp.Or(b.Connections, 20_000),
		Subscriptions: cmp.Or(b.Subscriptions, 1024),
		Message:       cmp.Or(b.Message, 4<<20),
		Batch:         cmp.Or(b.Batch, 100),
		OutboxFrames:  cmp.Or(b.OutboxFrames, 1024),
		OutboxBytes:   cmp.Or(b.OutboxBytes, 256<<10),
		Faults:        cmp.Or(b.Faults, 100),
		Pings:         cmp.Or(b.Pings, 200),
		Heartbeat:     cmp.Or(b.Heartbeat, 25*time.Second),
		Pong:          cmp.Or(b.Pong, 10*time.Second),
		Write:         cmp.Or(b.Write, 10*time.Second),
	}
}

// party is what is spoken on a connection, by one of the protocols.
type party interface {
	limits(*limits)    // adds to what hello says
	beat()             // a ping has been sent
	drained()          // the outbox has refused something, and is empty now
	ended(silent bool) // the connection has
}

// protocol is what a handler speaks.
type protocol struct {
	socket  string // its name in lists and metrics
	name    string // the subprotocol
	needs   access.Scope
	methods []method
	begin   func(*conn) party
}

// Handler serves GET /v1/ws or GET /v1/worker. Run must run beside it, for the
// heartbeats.
type Handler struct {
	protocol protocol
	methods  map[string]method
	cfg      Config
	bounds   Bounds
	log      *slog.Logger
	metrics  *metrics
	upgrader websocket.Upgrader

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

// New makes a handler of watchers' sockets. It panics if the Registerer has its metrics
// already.
func New(t Tasks, cfg Config) *Handler {
	return newHandler(cfg, protocol{
		socket: "watcher", name: Subprotocol, needs: Anyone, methods: watcherMethods(),
		begin: func(c *conn) party { return newWatcher(t, c) },
	})
}

// NewWorkers makes a handler of workers' sockets.
func NewWorkers(t Workers, cfg Config) *Handler {
	lease := cmp.Or(cfg.Lease, 15*time.Second)
	// A ping and the time for its answer are less than a lease, also where the ping is
	// late by what it is spread.
	cfg.Bounds.Heartbeat = cmp.Or(cfg.Bounds.Heartbeat, lease/4)
	cfg.Bounds.Pong = cmp.Or(cfg.Bounds.Pong, lease*2/3)
	return newHandler(cfg, protocol{
		socket: "worker", name: WorkerSubprotocol, needs: access.Workers, methods: workerMethods(),
		begin: func(c *conn) party { return &worker{conn: c, workers: t} },
	})
}

func newHandler(cfg Config, p protocol) *Handler {
	h := &Handler{
		protocol: p, methods: tableOf(p.methods), cfg: cfg, bounds: cfg.Bounds.withDefaults(), log: cfg.Log,
		metrics: newMetrics(cfg.Registerer, p.socket), conns: map[*conn]struct{}{},
	}
	if h.cfg.Principal == nil {
		h.cfg.Principal = principal
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.upgrader = websocket.Upgrader{
		// A small buffer of our own: with 0 the larger ones of net/http stay for
		// the connection's life.
		ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{},
		CheckOrigin: h.allowed,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, _ error) {
			writeProblem(w, upgradeProblem(status, p.name))
		},
	}
	return h
}

// upgradeProblem says for a person why there is no socket.
func upgradeProblem(status int, subprotocol string) *transport.Problem {
	if status == http.StatusForbidden {
		return transport.NewProblem(status, "origin_refused", "Pages of this origin may not connect.")
	}
	return transport.NewProblem(status, "upgrade_required", "This address speaks WebSocket, version 13, subprotocol "+subprotocol+".")
}

func writeProblem(w http.ResponseWriter, p *transport.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// allowed accepts the page's own origin, those named, and clients that are no
// browsers and name none.
func (h *Handler) allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(h.cfg.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

// principal is whoever was let in. Where there is no door, anybody is.
func principal(r *http.Request) access.Principal {
	if p, ok := auth.From(r.Context()); ok {
		return p
	}
	return access.Principal{Namespace: task.DefaultNamespace, Actor: "open", Scopes: access.Scopes()}
}

// ServeHTTP implements [http.Handler]. It returns once the connection is open;
// a goroutine of its own reads from there on, which is lighter than net/http's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	offered := websocket.Subprotocols(r)
	header := http.Header{}
	switch {
	case slices.Contains(offered, h.protocol.name):
		header.Set("Sec-Websocket-Protocol", h.protocol.name)
	case len(offered) > 0:
		writeProblem(w, transport.NewProblem(http.StatusBadRequest, "subprotocol_unknown", "The subprotocol here is "+h.protocol.name+"."))
		return
	}
	socket, err := h.upgrader.Upgrade(w, r, header)
	if err != nil {
		return // the upgrader has answered
	}
	if tcp, ok := socket.NetConn().(*net.TCPConn); ok {
		// A client that never reads would have the kernel keep megabytes for it.
		_ = tcp.SetWriteBuffer(64 << 10)
	}
	c := newConn(h, socket)
	c.who = h.cfg.Principal(r)
	c.party = h.protocol.begin(c)
	leave, full := h.cfg.Crowd.Enter(c.who)
	c.leave = leave
	switch {
	case c.may(h.protocol.needs) != nil:
		c.close(closeForbidden, "the credential does not have the scope "+string(h.protocol.needs))
	case h.cfg.Certified && h.protocol.needs == access.Workers && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0):
		c.close(closeForbidden, "a worker needs a certificate here")
	case full != nil || !h.add(c):
		c.close(closeTooMany, "too many connections")
	default:
		c.hello()
		c.watch(r)
	}
	go c.read() //nolint:contextcheck // a socket outlives the request that opened it
}

func (h *Handler) add(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.conns) >= h.bounds.Connections {
		return false
	}
	h.conns[c] = struct{}{}
	h.metrics.connections.Set(float64(len(h.conns)))
	return true
}

func (h *Handler) remove(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	h.metrics.connections.Set(float64(len(h.conns)))
}

func (h *Handler) all() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		all = append(all, c)
	}
	return all
}

// Run keeps the connections' heartbeats until ctx ends, then closes all of
// them. One ticker serves them all.
func (h *Handler) Run(ctx context.Context) {
	tick := max(h.bounds.Heartbeat/25, time.Millisecond)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ticker.C:
			now := time.Now()
			late := now.Sub(last) - tick
			last = now
			for _, c := range h.all() {
				c.beat(now, late)
			}
		case <-ctx.Done():
			h.mu.Lock()
			h.closed = true
			h.mu.Unlock()
			for _, c := range h.all() {
				c.close(closeGoingAway, "going away")
			}
			return
		}
	}
}

// spread varies a heartbeat by a fifth, so that many connections opened at once
// do not stay in step.
func spread(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1) //nolint:gosec // spread, not a secret
}
