package runtime

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/actors"
	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/runtime/task"
)

// Runtime is a running node. Its methods may be called from any goroutine.
type Runtime struct {
	*lives

	store    task.Store
	ownStore bool
	limits   task.Limits
	drain    time.Duration
	gateway  *actors.Gateway // nil: the node speaks to no others
	rate     *submitRate
}

type options struct {
	store     task.Store
	data      string
	log       *slog.Logger
	metrics   prometheus.Registerer
	name      string
	address   string
	capacity  task.Resources
	labels    map[string]string
	limits    task.Limits
	weights   map[string]float64
	drain     time.Duration
	lease     time.Duration
	peers     *Peers
	hints     Hints
	results   Results
	recent    Recent
	rate      task.Rate
	rates     Rates
	retention task.Retention
	maxQueued int
	redact    func(json.RawMessage) json.RawMessage

	workerLease time.Duration
	tokenKey    []byte
}

// Option changes how [Open] makes a node.
type Option func(*options)

// WithStore uses a store that is open already, and leaves it open.
func WithStore(s task.Store) Option { return func(o *options) { o.store = s } }

// WithData keeps the embedded store in dir instead of ./troupe-data.
func WithData(dir string) Option { return func(o *options) { o.data = dir } }

// WithLogger logs to l; otherwise nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithMetrics registers the node's metrics on r.
func WithMetrics(r prometheus.Registerer) Option { return func(o *options) { o.metrics = r } }

// WithName names the node; otherwise it is called like its host.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithAddress says where the node can be reached, for lists.
func WithAddress(address string) Option { return func(o *options) { o.address = address } }

// WithCapacity sets what attempts may hold at once, over the defaults: 1000
// slots, and what CPUs, memory and GPUs of the machine the process may use.
func WithCapacity(r task.Resources) Option { return func(o *options) { o.capacity = r } }

// WithLabels labels the node, for tasks that ask for or prefer nodes with some
// labels; os, arch and host are there unless they are said.
func WithLabels(labels map[string]string) Option { return func(o *options) { o.labels = labels } }

// WithWeights has namespaces get more or less of the node than others: twice the
// weight, twice the share. Those not named have the weight 1.
func WithWeights(weights map[string]float64) Option {
	return func(o *options) { o.weights = weights }
}

// WithLimits bounds what a task may be.
func WithLimits(l task.Limits) Option { return func(o *options) { o.limits = l } }

// WithMaxQueued bounds how many tasks may wait in a queue whose settings do not say
// so themselves; 0 is any number.
func WithMaxQueued(n int) Option { return func(o *options) { o.maxQueued = n } }

// WithDrainTimeout bounds how long Close lets attempts finish; 30 s otherwise.
func WithDrainTimeout(d time.Duration) Option { return func(o *options) { o.drain = d } }

// WithLease sets for how long the node may be silent before others take its
// tasks over, where nodes share a store; 10 s otherwise. A shorter one makes
// others notice sooner, and a busy machine or network cost the node its tasks.
func WithLease(d time.Duration) Option { return func(o *options) { o.lease = d } }

// Peers says how a node speaks with others that share its store.
type Peers = actors.PeerConfig

// WithPeers lets the node speak with others that share its store: watchers on
// one see at once what happens on another, and work goes where there is room.
// Without it they know of each other what the store tells, a little later.
func WithPeers(p Peers) Option { return func(o *options) { o.peers = &p } }

// Hints carries between nodes that there is work. It may be lost.
type Hints = actors.Hints

// WithHints lets nodes tell each other of work by another way than their own lines,
// for where those are cut or not there.
func WithHints(h Hints) Option { return func(o *options) { o.hints = h } }

// Results keeps results beside the store, where they are found faster. It may lose
// them.
type Results = actors.Results

// Recent keeps results in memory.
type Recent = actors.Recent

// WithRecent has tasks with a cache look for results in r before anywhere else.
func WithRecent(r Recent) Option { return func(o *options) { o.recent = r } }

// WithResults has tasks with a cache look for results in r before they look in the
// store.
func WithResults(r Results) Option { return func(o *options) { o.results = r } }

// WithRedact has events, and details of failures, say what f makes of them: it is given
// the fields of each log line, each chunk of output and the details, any JSON. Payloads
// and results stay as they are. Package runtime/redact makes such functions.
func WithRedact(f func(json.RawMessage) json.RawMessage) Option {
	return func(o *options) { o.redact = f }
}

// WithSubmitRate bounds how many tasks of a namespace are taken: of all nodes
// together as far as shared can say, which may be nil, else of this node.
func WithSubmitRate(r task.Rate, shared Rates) Option {
	return func(o *options) { o.rate, o.rates = r, shared }
}

// WithWorkerLease sets for how long a worker elsewhere may be silent, or its connection
// broken, before its attempts run again; 15 s otherwise.
func WithWorkerLease(d time.Duration) Option { return func(o *options) { o.workerLease = d } }

// WithTokenKey sets the 32 bytes that sign what workers elsewhere prove their attempts
// with; otherwise they are this process's own.
func WithTokenKey(key []byte) Option { return func(o *options) { o.tokenKey = key } }

// WithRetention says what may be forgotten; otherwise ended tasks are kept for
// seven days.
func WithRetention(r task.Retention) Option { return func(o *options) { o.retention = r } }

// defaultSlots is how many tasks run at once that name no resources. Handlers
// mostly wait for others, so it is far more than there are CPUs.
const defaultSlots = 1000

// DefaultKeep is how long ended tasks are kept where nothing else is said.
const DefaultKeep = 7 * 24 * time.Hour

// Open starts a node. By default it keeps its tasks in an embedded SQLite
// database in ./troupe-data, which one process at a time may use. Close it, or
// its running attempts count as interrupted.
func Open(ctx context.Context, opts ...Option) (*Runtime, error) {
	o := options{
		data: "troupe-data", log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry(),
		drain: 30 * time.Second,
	}
	for _, set := range opts {
		set(&o)
	}
	if o.retention.Keep == nil {
		o.retention.Keep = map[task.State]time.Duration{
			task.Succeeded: DefaultKeep, task.Failed: DefaultKeep, task.Cancelled: DefaultKeep,
		}
	}
	host, _ := os.Hostname()
	o.name = cmp.Or(o.name, host, "troupe")
	o.labels = labels(host, o.labels)
	if err := cmp.Or(task.CheckNodeLabels(o.labels), task.CheckWeights(o.weights)); err != nil {
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	r := &Runtime{lives: newLives(o.log), store: o.store, limits: o.limits.WithDefaults(), drain: o.drain, rate: newSubmitRate(o.rate, o.rates)}
	if r.store == nil {
		store, err := persistence.Open(ctx, o.data, persistence.Options{Log: o.log})
		if err != nil {
			return nil, fmt.Errorf("open runtime: %w", err)
		}
		r.store, r.ownStore = store, true
	}
	node, err := r.start(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("open runtime: %w", errors.Join(err, r.release()))
	}
	r.begin(node)
	return r, nil
}

func (r *Runtime) start(ctx context.Context, o *options) (node *actors.Node, err error) {
	cfg := actors.Config{
		Store: r.store, Log: o.log, Metrics: o.metrics, Name: o.name, Address: o.address,
		Weights: o.weights, Capacity: capacity(os.DirFS("/"), o.capacity), Labels: o.labels, Limits: r.limits, Lease: o.lease, Retention: o.retention,
		Hints: o.hints, Results: o.results, Recent: o.recent, MaxQueued: o.maxQueued, Redact: o.redact,
		WorkerLease: o.workerLease, TokenKey: o.tokenKey,
	}
	cfg.Tenants, _ = r.store.(actors.Tenants)
	if o.peers != nil {
		if r.gateway, err = actors.OpenGateway(*o.peers, o.log); err != nil {
			return nil, err
		}
		cfg.Line = r.gateway
	}
	return actors.Start(ctx, cfg)
}

// release closes what the node needed.
func (r *Runtime) release() error {
	if r.gateway != nil {
		r.gateway.Close()
	}
	if r.ownStore {
		return r.store.Close()
	}
	return nil
}

// Close drains the node and stops it: nothing new is taken, attempts may finish
// within the drain timeout or until ctx ends, the rest is handed back without
// counting, and watchers are told to come back.
func (r *Runtime) Close(ctx context.Context) error {
	r.Drain(ctx)
	err := r.node().Stop(context.WithoutCancel(ctx))
	if err = errors.Join(err, r.release()); err != nil {
		return fmt.Errorf("close runtime: %w", err)
	}
	return nil
}

// Drain is the first half of Close: afterwards the node runs nothing, but still
// answers.
func (r *Runtime) Drain(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, r.drain)
	defer cancel()
	r.end()
	r.node().Drain(bounded)
}

// Submit stores one task of a kind with any payload that encodes to JSON, and
// returns once it is on disk. Each change of its spec is applied in order.
func (r *Runtime) Submit(ctx context.Context, kind string, payload any, change ...func(*task.Spec)) (task.Task, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return task.Task{}, fmt.Errorf("submit %s: encode payload: %w", kind, err)
	}
	spec := task.Spec{Namespace: task.DefaultNamespace, Kind: kind, Payload: raw}
	for _, set := range change {
		set(&spec)
	}
	answer := r.Enqueue(ctx, []task.Submission{{Spec: spec}})[0]
	if answer.Err != nil {
		return task.Task{}, fmt.Errorf("submit %s: %w", kind, answer.Err)
	}
	return answer.Task, nil
}

// Enqueue checks and stores tasks, all of one namespace. There is one answer each,
// in order; a task is on disk when its answer is without an error.
func (r *Runtime) Enqueue(ctx context.Context, subs []task.Submission) []task.Submitted {
	p := pending{subs: make([]task.Submission, 0, len(subs)), places: make([]int, 0, len(subs))}
	now := r.node().Now()
	for i, sub := range subs {
		spec, err := r.limits.Check(sub.Spec, now)
		if err != nil {
			p.refuse(i, err)
			continue
		}
		if sub.Named = !spec.ID.IsZero(); !sub.Named {
			spec.ID = task.ID(uuid.Must(uuid.NewV7()))
		}
		sub.Spec = spec
		p.subs, p.places = append(p.subs, sub), append(p.places, i)
	}
	p.inOrder()
	if len(p.subs) == 0 {
		return p.answers(nil)
	}
	if err := r.rate.allow(ctx, p.subs[0].Spec.Namespace, len(p.subs)); err != nil {
		p.drop(func(task.Submission) bool { return true }, err)
		return p.answers(nil)
	}
	answers := r.node().Submit(ctx, p.subs)
	for i := range answers {
		answer := &answers[i]
		if missing, ok := errors.AsType[*task.MissingError](answer.Err); ok {
			at := slices.Index(p.subs[i].Spec.DependsOn, missing.Task)
			answer.Err = &task.MissingError{Task: missing.Task, Field: fmt.Sprintf("depends_on[%d]", at)}
		}
	}
	return p.answers(answers)
}

// NewID makes an id for a task or a batch.
func NewID() task.ID { return task.ID(uuid.Must(uuid.NewV7())) }

// Hash is the identity of a request under an idempotency key.
func Hash(parts ...[]byte) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

// Task reads one task.
func (r *Runtime) Task(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	t, err := r.store.Task(ctx, namespace, id)
	if err != nil {
		return task.Task{}, fmt.Errorf("read task %s: %w", id, err)
	}
	return t, nil
}

// Tasks lists tasks, newest first, a page at a time.
func (r *Runtime) Tasks(ctx context.Context, f task.Filter) ([]task.Task, task.Place, error) {
	tasks, next, err := r.store.Tasks(ctx, f)
	if err != nil {
		return nil, task.Place{}, fmt.Errorf("list tasks: %w", err)
	}
	return tasks, next, nil
}

// Events reads a page of a task's log behind a cursor.
func (r *Runtime) Events(ctx context.Context, namespace string, id task.ID, after task.Cursor, limit int) ([]task.Event, error) {
	events, err := r.store.Events(ctx, namespace, id, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read events of task %s: %w", id, err)
	}
	if len(events) == 0 && !after.IsZero() {
		if err := r.ahead(ctx, namespace, id, after); err != nil {
			return nil, fmt.Errorf("read events of task %s: %w", id, err)
		}
	}
	return events, nil
}

// ahead refuses a cursor nobody can have seen. Live events are seen before they
// are stored, so of an attempt under way any number may have been.
func (r *Runtime) ahead(ctx context.Context, namespace string, id task.ID, after task.Cursor) error {
	t, err := r.store.Task(ctx, namespace, id)
	if err != nil {
		return err
	}
	live := t.Holder != 0 && after.Attempt <= t.Attempt+1
	if t.Cursor.Before(after) && !live {
		return task.ErrCursorAhead
	}
	return nil
}

// Cancel ends a task that has not ended; a running attempt is told to stop. It
// returns once the end is on disk.
func (r *Runtime) Cancel(ctx context.Context, namespace string, id task.ID, reason string) (task.Task, error) {
	t, err := r.node().Cancel(ctx, namespace, id, reason)
	if err != nil {
		return t, fmt.Errorf("cancel task %s: %w", id, err)
	}
	return t, nil
}

// CancelBatch ends all tasks of a batch that have not ended, and says how many.
func (r *Runtime) CancelBatch(ctx context.Context, namespace string, batch task.ID) (int, error) {
	f := task.Filter{
		Namespace: namespace, BatchID: batch, Limit: 1000,
		States: slices.DeleteFunc(task.States(), task.State.Terminal),
	}
	count := 0
	for {
		tasks, next, err := r.store.Tasks(ctx, f)
		if err != nil {
			return count, fmt.Errorf("cancel batch %s: %w", batch, err)
		}
		for _, t := range tasks {
			_, err := r.node().Cancel(ctx, namespace, t.ID, "batch cancelled")
			switch {
			case err == nil:
				count++
			case errors.Is(err, task.ErrTerminal), errors.Is(err, task.ErrNotFound):
			default:
				return count, fmt.Errorf("cancel batch %s: %w", batch, err)
			}
		}
		if next.IsZero() {
			return count, nil
		}
		f.After = next
	}
}

// Rerun starts a failed or cancelled task anew.
func (r *Runtime) Rerun(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	t, err := r.node().Rerun(ctx, namespace, id)
	if err != nil {
		return t, fmt.Errorf("retry task %s: %w", id, err)
	}
	return t, nil
}

// Delete forgets a task that has ended.
func (r *Runtime) Delete(ctx context.Context, namespace string, id task.ID) error {
	if err := r.node().Delete(ctx, namespace, id); err != nil {
		return fmt.Errorf("delete task %s: %w", id, err)
	}
	return nil
}

// Explain says why a task is not running.
func (r *Runtime) Explain(ctx context.Context, namespace string, id task.ID) (task.Explanation, error) {
	t, err := r.store.Task(ctx, namespace, id)
	if err != nil {
		return task.Explanation{}, fmt.Errorf("explain task %s: %w", id, err)
	}
	w, err := r.node().Explain(ctx, t)
	if err != nil {
		return task.Explanation{}, fmt.Errorf("explain task %s: %w", id, err)
	}
	return task.Explanation{Task: t, Waiting: w, Message: inWords(t, w)}, nil
}

// Overview counts what there is.
func (r *Runtime) Overview(ctx context.Context, s task.Scope) (task.Overview, error) {
	o, err := r.store.Overview(ctx, s)
	if err != nil {
		return task.Overview{}, fmt.Errorf("overview: %w", err)
	}
	return o, nil
}

// SetQueue changes a queue's settings; attempts under way are not touched. Other
// nodes know of it within a second.
func (r *Runtime) SetQueue(ctx context.Context, c task.QueueChange) (task.Queue, error) {
	if err := task.CheckQueue(c); err != nil {
		return task.Queue{}, err
	}
	return r.node().SetQueue(ctx, c)
}

// SetKind changes a kind's settings; attempts under way are not touched. Other nodes
// know of it within a second.
func (r *Runtime) SetKind(ctx context.Context, c task.KindChange) (task.Kind, error) {
	if err := task.CheckKind(c); err != nil {
		return task.Kind{}, err
	}
	return r.node().SetKind(ctx, c)
}

// SetPool sets how much there is of a resource in the whole cluster, or that it is
// none of the cluster's. Other nodes know of it within a second.
func (r *Runtime) SetPool(ctx context.Context, c task.PoolChange) error {
	if err := task.CheckPool(c); err != nil {
		return err
	}
	return r.node().SetPool(ctx, c)
}

// Workers lists what runs tasks of a namespace, on every node that answers.
func (r *Runtime) Workers(ctx context.Context, namespace string) ([]task.Worker, error) {
	return r.node().Workers(ctx, namespace)
}

// DrainWorker has a worker elsewhere take no more and finish what it runs, whichever
// node it is connected to. The error is [task.ErrNoWorker] where the namespace has none
// of that id.
func (r *Runtime) DrainWorker(ctx context.Context, namespace, id string) error {
	return r.node().DrainWorker(ctx, namespace, id)
}

// RegisterWorker takes a worker elsewhere, whose attempts come over link.
func (r *Runtime) RegisterWorker(ctx context.Context, reg task.Registration, link task.WorkerLink) (task.WorkerSession, error) {
	reg, err := reg.Check()
	if err != nil {
		return nil, err
	}
	s, err := r.node().RegisterWorker(ctx, reg, link)
	if err != nil {
		return nil, fmt.Errorf("register worker %s: %w", reg.Name, err)
	}
	return s, nil
}

// Resources gauges what attempts may hold and do hold, on every node that answers.
func (r *Runtime) Resources(ctx context.Context) ([]task.Gauge, error) {
	return r.node().Resources(ctx)
}

// Stats counts what has been done, on every node that answers, and what there is.
func (r *Runtime) Stats(ctx context.Context, namespace string) (task.Stats, error) {
	s, err := r.node().Stats(ctx)
	if err != nil {
		return task.Stats{}, err
	}
	s.Overview, err = r.Overview(ctx, task.Scope{Namespace: namespace})
	return s, err
}

// Ready says whether the node takes work: nil, or why not.
func (r *Runtime) Ready(ctx context.Context) error {
	if err := r.node().Ready(); err != nil {
		return err
	}
	_, err := r.store.Overview(ctx, task.Scope{Namespace: task.DefaultNamespace})
	return err
}

// OpenSession begins a watcher's session, which puts its frames into out.
func (r *Runtime) OpenSession(namespace string, out task.Outbox) task.Session {
	return r.node().OpenSession(namespace, out)
}
