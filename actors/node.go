package actors

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/runtime/task"
)

// Config is what a node is made of. Store, Log and Metrics must be given.
type Config struct {
	Store    task.Store
	Tenants  Tenants // nil: no namespace is bounded
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Name     string             // shown on tasks and in lists
	Address  string             // where it can be reached; informational
	Capacity task.Resources     // what attempts may hold at once
	Weights  map[string]float64 // of namespaces, beside others; 1 where not said
	Labels   map[string]string  // what tasks may ask for
	Limits   task.Limits
	Lease    time.Duration // how long the node may be silent, where that matters; the store's own if 0

	Retention task.Retention // Now is ignored
	MaxQueued int            // tasks that may wait in a queue whose settings name no bound; 0: any number

	// Line is how to speak with other nodes, where the store is shared; nil: not.
	Line Line
	// Hints tells other nodes of work, beside the line; nil: nothing does.
	Hints Hints
	// Recent and Results are asked for results before the store is; nil: not.
	Recent  Recent
	Results Results

	// WorkerLease is how long a worker elsewhere may be silent; 15 s if 0.
	WorkerLease time.Duration
	// TokenKey signs what workers elsewhere prove their attempts with; 32 bytes, this
	// process's own if nil.
	TokenKey []byte
	// Redact leaves out what is to be in no event: of the fields of log lines, chunks of
	// output and details of failures. nil: nothing.
	Redact func(json.RawMessage) json.RawMessage
}

// Hints carries between nodes that there is work of some kinds. It may be lost.
type Hints interface {
	Tell(kinds []string)
	// Listen gives what others tell until ctx ends, nil meaning that anything may
	// have been told.
	Listen(ctx context.Context, told func(kinds []string))
}

// Node is one life of one process: the actors below it, and what they share.
type Node struct {
	cfg         Config
	log         *slog.Logger
	metrics     *metrics
	counters    counters
	incarnation task.Incarnation
	since       time.Time
	lease       lease

	system *actor.ActorSystem
	root   *actor.RootContext
	top    *actor.PID
	journal, scheduler, claimer, holder,
	workers, remotes, sessions, feeds, peers, timed *actor.PID

	life       context.Context //nolint:containedctx // of the node's goroutines; ends when it is torn down
	end        context.CancelFunc
	running    sync.WaitGroup // goroutines of work
	crew       *crew
	pages      *pages
	dispatcher *dispatcher

	tokens       atomic.Uint64 // names writes to the journal
	watched      atomic.Int64  // topics somebody follows: 0 spares the feeds
	others       atomic.Int64  // nodes we speak to
	rivals       atomic.Int64  // of those, which have room and find no work
	farFollowers atomic.Int64  // of those, where somebody follows feeds
	sessionCount atomic.Int64
	draining     atomic.Bool
	stopped      atomic.Bool
	listening    atomic.Bool // the actors are all there
	asking       sync.Map    // *actor.Future of callers that wait for an answer

	settings  settings
	admission *admission
	budgets   budgets
	voices    voices

	roster   roster
	tokenKey []byte

	mu       sync.RWMutex
	handlers map[string]Handler
}

// Start joins the store, ends what dead predecessors left behind, and starts
// the actors. The node runs until [Node.Stop].
func Start(ctx context.Context, cfg Config) (*Node, error) {
	cfg.Limits = cfg.Limits.WithDefaults()
	cfg.WorkerLease = cmp.Or(cfg.WorkerLease, DefaultWorkerLease)
	if cfg.TokenKey == nil {
		cfg.TokenKey = make([]byte, 32)
		_, _ = rand.Read(cfg.TokenKey) // which never fails
	}
	if cfg.Redact == nil {
		cfg.Redact = func(raw json.RawMessage) json.RawMessage { return raw }
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	for began := time.Now(); ; {
		n, err := launch(ctx, cfg, m)
		// A row that may be there for all we know is buried with its lease; the next one
		// is another.
		away := errors.Is(err, task.ErrUnavailable) || errors.Is(err, task.ErrUnknown)
		if err == nil || cfg.Line == nil || !away || time.Since(began) > joinWithin {
			return n, err
		}
		cfg.Log.Warn("cannot join the other nodes yet", "error", err)
		pause := time.NewTimer(joinEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, err
		}
	}
}

// How long a node waits for a store that others have, too: it is elsewhere, and
// may come back in a moment.
const (
	joinWithin = 30 * time.Second
	joinEvery  = 250 * time.Millisecond
)

func launch(ctx context.Context, cfg Config, m *metrics) (_ *Node, err error) {
	n := &Node{
		cfg: cfg, log: cfg.Log, metrics: m, since: time.Now(), crew: newCrew(), lease: lease{lost: make(chan struct{})},
		handlers: map[string]Handler{}, roster: roster{workers: map[string]*remoteWorker{}}, tokenKey: cfg.TokenKey,
		admission: newAdmission(cfg.MaxQueued), budgets: budgets{kinds: map[queueName]*task.Retries{}},
	}
	n.pages = newPages(n)
	n.life, n.end = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			n.end()
			if n.lease.fuse != nil {
				n.lease.fuse.Stop()
			}
		}
	}()
	n.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return libraryLogger(n.log) }),
		actor.WithDeadLetterRequestLogging(false),
		actor.WithDeadLetterThrottleCount(0),
	)
	if cfg.Line != nil {
		// Before the row is there: once it is, others come.
		cfg.Line.Attach(n.hear, func(ctx context.Context) ([]task.Node, error) {
			o, err := cfg.Store.Overview(ctx, task.Scope{})
			return o.Nodes, err
		})
	}
	if err := n.join(ctx); err != nil {
		return nil, fmt.Errorf("join the store: %w", err)
	}
	// A life that ends before it has begun is not waited for.
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)() //nolint:contextcheck // it watches the node's, and passes nothing on
	if err := n.bury(within); err != nil {
		return nil, fmt.Errorf("free the tasks of dead nodes: %w", err)
	}
	overview, err := cfg.Store.Overview(within, task.Scope{})
	if err != nil {
		return nil, fmt.Errorf("read the queues: %w", err)
	}
	n.settings.queues, n.settings.kinds, n.settings.pools = settingsOf(overview)
	if n.settings.tenants, err = n.tenants(within); err != nil {
		return nil, err
	}
	n.voices.learn(n.settings.tenants)
	n.root, n.dispatcher = n.system.Root, newDispatcher()
	ready := make(chan struct{})
	n.top = n.root.Spawn(n.props(func() actor.Actor { return &nodeActor{node: n, ready: ready} },
		supervisor{log: n.log, registry: n.registry}))
	<-ready
	n.listening.Store(true)
	n.root.Send(n.claimer, lookAround{})
	n.work(n.keep)
	if cfg.Hints != nil {
		n.work(func(ctx context.Context) {
			cfg.Hints.Listen(ctx, func([]string) { n.root.Send(n.claimer, hinted{}) })
		})
	}
	return n, nil
}

// tells says whether there is anybody to tell of work.
func (n *Node) tells() bool { return n.others.Load() > 0 || n.cfg.Hints != nil }

// hear takes what another node says. Before the actors are there, nobody listens.
func (n *Node) hear(packed *anypb.Any) {
	if n.listening.Load() {
		n.root.Send(n.peers, packed)
	}
}

// libraryLogger lets through what the actor library says of trouble. Its
// chatter about recovering is said better by our own mailbox.
func libraryLogger(log *slog.Logger) *slog.Logger {
	return slog.New(atLeast{Handler: log.Handler(), level: slog.LevelWarn})
}

type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}

// nodeActor is the root of the tree: it makes the node's actors, in this order,
// and supervises them.
type nodeActor struct {
	node  *Node
	ready chan struct{} // closed once all are made
}

// Receive implements [actor.Actor].
func (a *nodeActor) Receive(ctx actor.Context) {
	if _, ok := ctx.Message().(*actor.Started); !ok {
		return
	}
	n := a.node
	spawn := func(produce actor.Producer) *actor.PID { return ctx.Spawn(n.props(produce, supervisor{log: n.log})) }
	n.holder = spawn(newHolder(n))
	n.feeds = spawn(func() actor.Actor {
		return &feeds{
			node: n, feeds: map[string]*feed{}, tasks: map[task.ID]map[string]*actor.PID{}, newest: map[task.ID]task.Cursor{},
		}
	})
	n.sessions = spawn(func() actor.Actor { return &sessions{node: n} })
	n.workers = spawn(func() actor.Actor { return &workers{node: n, runs: map[task.ID]*actor.PID{}} })
	n.remotes = spawn(func() actor.Actor { return &remotes{node: n, sessions: map[string]*actor.PID{}} })
	n.peers = spawn(newPeers(n))
	n.journal = spawn(newJournal(n))
	n.scheduler = spawn(newScheduler(n))
	n.claimer = spawn(newClaimer(n))
	n.timed = spawn(func() actor.Actor { return &schedules{node: n} })
	spawn(func() actor.Actor { return &sweeper{node: n} })
	close(a.ready)
}

// registry says which of the node's actors are resumed after a panic instead of
// restarted.
func (n *Node) registry(pid *actor.PID) bool {
	return slices.ContainsFunc([]*actor.PID{n.holder, n.feeds, n.sessions, n.workers, n.remotes, n.peers}, pid.Equal)
}

// row is the node's row as it is now.
func (n *Node) row() task.Node {
	row := task.Node{
		Incarnation: n.incarnation, Name: n.cfg.Name, Address: n.cfg.Address, Started: n.since, Seen: time.Now(), Lease: n.cfg.Lease,
		Labels: n.cfg.Labels,
	}
	if n.cfg.Line != nil {
		row.Peer = n.cfg.Line.Peer()
	}
	return row
}

// Handle makes h the handler of a kind on this node.
func (n *Node) Handle(kind string, h Handler) {
	n.mu.Lock()
	n.handlers[kind] = h
	n.mu.Unlock()
	n.root.Send(n.scheduler, kindServed{kind})
	n.root.Send(n.claimer, kindsChanged{})
}

func (n *Node) handler(kind string) Handler {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.handlers[kind]
}

func (n *Node) kindNames() []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Sorted(maps.Keys(n.handlers))
}

// Drain takes nothing new, gives back what waits, and lets attempts finish
// until ctx ends; those left are cut off and handed back, uncounted. Watchers
// are told to come back elsewhere.
func (n *Node) Drain(ctx context.Context) {
	if n.draining.Swap(true) || n.isLost() {
		return
	}
	background := context.WithoutCancel(ctx) // the bound is on attempts, not on storing their ends
	n.root.Send(n.remotes, drainRemotes{})
	_, _ = ask[drained](background, n, n.claimer, stopClaiming{})
	if !n.awaitIdle(ctx, drain{}) {
		last, cancel := context.WithTimeout(background, handBackWithin)
		defer cancel()
		n.awaitIdle(last, drain{hard: true})
	}
	_, _ = ask[flushed](background, n, n.journal, flush{})
	n.root.Send(n.sessions, goodbye{within: time.Second})
	n.root.Send(n.remotes, goodbye{within: time.Second})
}

// handBackWithin is how long cut-off handlers may take to return.
const handBackWithin = 5 * time.Second

// awaitIdle waits until no task is held, asking again as long as ctx lives.
func (n *Node) awaitIdle(ctx context.Context, how drain) bool {
	for ctx.Err() == nil && n.life.Err() == nil {
		step, cancel := context.WithTimeout(ctx, time.Second)
		_, err := ask[drained](step, n, n.holder, how)
		cancel()
		if err == nil {
			return true
		}
	}
	return n.life.Err() != nil
}

// Stop ends the actors and waits for the node's goroutines, then says goodbye
// to the store, which stays open. Without a Drain before it this is a crash
// that nobody has to wait for.
func (n *Node) Stop(ctx context.Context) error {
	if n.stopped.Swap(true) {
		return nil
	}
	n.end()
	stopErr := n.root.StopFuture(n.top).Wait()
	n.abandon()
	n.system.Shutdown()
	n.running.Wait()
	n.crew.stop()
	n.dispatcher.stop()
	if n.lease.fuse != nil {
		n.lease.fuse.Stop()
	}
	if n.isLost() {
		return nil // there is nobody to say goodbye for
	}
	left := n.row()
	left.Left = true
	_, err := n.cfg.Store.Renew(ctx, left)
	if err != nil && !errors.Is(err, task.ErrStale) {
		return fmt.Errorf("leave the store: %w", err)
	}
	if stopErr != nil {
		return fmt.Errorf("stop the actors: %w", stopErr)
	}
	return nil
}
