package memory

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Store keeps tasks in memory. Use [New].
type Store struct {
	mu       sync.Mutex
	hooks    Hooks
	tasks    map[task.ID]*row
	children map[task.ID]map[task.ID]bool // of tasks that have not ended: who waits for them
	requests map[named]request
	queues   map[named]task.Queue
	kinds    map[named]task.Kind
	timed    map[named]task.Schedule
	limits   map[task.LimitName]*task.Limit
	results  map[cached]result
	nodes    map[task.Incarnation]task.Node
	accounts accounts
	expires  map[task.Incarnation]time.Time // of a shared store: where leases end
	shared   bool
	newest   task.Incarnation
	arrived  int // how many tasks were inserted
}

var (
	_ task.Store      = (*Store)(nil)
	_ access.Accounts = (*Store)(nil)
)

// row is a task and what belongs to it.
type row struct {
	task   task.Task
	asked  task.Spec // as inserted: what a second insert is compared with
	events []task.Event
	logged task.Cursor   // of the newest event there was, kept or trimmed
	n      int           // how many tasks arrived before
	needs  task.Quantity // parked: for so much
	inVain bool          // parked, and asks for more than there is

	waits   map[task.ID]bool // on which it waits; nil: it depends on none
	memos   []task.Memo
	signals []task.Signal // not taken

	failed task.ID // the one it cannot do without that did not succeed
}

// named is something with a name within a namespace.
type named struct{ namespace, name string }

type request struct {
	hash    [32]byte
	task    task.ID
	expires time.Time
}

// cached is what a result is found by.
type cached struct{ namespace, kind, key string }

type result struct {
	json    json.RawMessage
	of      task.ID
	expires time.Time
}

// New makes an empty store.
func New() *Store {
	return &Store{
		tasks:    map[task.ID]*row{},
		children: map[task.ID]map[task.ID]bool{},
		requests: map[named]request{},
		queues:   map[named]task.Queue{},
		kinds:    map[named]task.Kind{},
		timed:    map[named]task.Schedule{},
		limits:   map[task.LimitName]*task.Limit{},
		results:  map[cached]result{},
		nodes:    map[task.Incarnation]task.Node{},
		accounts: newAccounts(),
	}
}

// NewShared makes an empty store that many nodes may have at once, with leases:
// what a database does for nodes on many machines, for those of one test. Its
// clock is the process's, so that time may be virtual.
func NewShared() *Store {
	s := New()
	s.shared, s.expires = true, map[task.Incarnation]time.Time{}
	return s
}

// defaultLease is for how long a node may be silent that does not say.
const defaultLease = 10 * time.Second

// bury marks the nodes of a shared store whose lease has ended.
func (s *Store) bury() {
	for i, n := range s.nodes {
		if s.shared && !n.Left && !time.Now().Before(s.expires[i]) {
			n.Left = true
			s.nodes[i] = n
		}
	}
}

// lives says whether a node has neither left nor been buried.
func (s *Store) lives(i task.Incarnation) bool {
	n, there := s.nodes[i]
	return there && !n.Left
}

// Close implements [task.Store]. It keeps the tasks.
func (s *Store) Close() error { return nil }

// Renew implements [task.Store].
func (s *Store) Renew(ctx context.Context, n task.Node) (task.Node, error) {
	lease := cmp.Or(n.Lease, defaultLease)
	n.Lease = 0
	n.Started, n.Seen = micro(n.Started), micro(n.Seen)
	err := s.do(ctx, "Renew", nil, func() error {
		s.bury()
		if n.Incarnation == 0 {
			s.newest++
			n.Incarnation = s.newest
			for i, old := range s.nodes {
				old.Left = old.Left || !s.shared
				s.nodes[i] = old
			}
		} else if old, ok := s.nodes[n.Incarnation]; !ok || old.Left {
			return fmt.Errorf("renew node %d: %w", n.Incarnation, task.ErrStale)
		}
		if s.shared {
			n.Seen = micro(time.Now())
			s.expires[n.Incarnation] = n.Seen.Add(lease)
		}
		s.nodes[n.Incarnation] = n
		return nil
	})
	if err != nil {
		return task.Node{}, err
	}
	if s.shared {
		n.Lease = lease
	}
	return n, nil
}

// Writers implements [task.Store]: they wait for each other, but for moments only.
func (s *Store) Writers() int { return 2 }

// Append implements [task.Store].
func (s *Store) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	out := make([]task.Outcome, len(ms))
	err := s.do(ctx, "Append", ms, func() error {
		for i, m := range ms {
			out[i] = s.apply(m)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Store) apply(m task.Mutation) task.Outcome {
	if err := m.Check(); err != nil {
		return task.Outcome{Err: err}
	}
	switch m.Op {
	case task.Insert:
		return s.insert(m)
	case task.Save:
		err := s.save(m)
		out := task.Outcome{Err: err}
		if err == nil {
			out.Settles = s.tasks[m.Task.ID].remember(m)
		}
		if err == nil && m.Task.State.Terminal() {
			ended := s.tasks[m.Task.ID].task
			out.Settles = s.settle(ended)
			if c := s.callback(ended.Namespace, ended.BatchID); c != nil && c.task.State == task.Blocked {
				out.Settles = true
			}
		}
		if errors.Is(err, task.ErrParked) {
			r := s.tasks[m.Task.ID].task
			if out.Bound = r.Bound; r.Parked != nil {
				out.Limit = r.Parked.Limit
			} else {
				out.Limit = task.LimitName{Scope: task.OfSticky, Namespace: r.Namespace, Name: r.StickyKey}
			}
		}
		return out
	case task.Delete:
		return task.Outcome{Err: s.remove(m)}
	case task.SetQueue:
		s.setQueue(m.Queue)
	case task.SetPool:
		s.setPool(m.Pool)
	case task.SetKind:
		s.setKind(m.Kind)
	case task.PutSignal:
		return s.putSignal(m)
	case task.SetSchedule:
		return task.Outcome{Err: s.setSchedule(*m.Schedule)}
	case task.DropSchedule:
		return task.Outcome{Err: s.dropSchedule(*m.Schedule)}
	case task.Fire:
		return s.fire(m)
	}
	return task.Outcome{}
}

func (s *Store) insert(m task.Mutation) task.Outcome {
	t := normal(m.Task)
	t.LogStart = task.Cursor{}
	key := named{t.Namespace, m.Request.Key}
	if r, known := s.requests[key]; m.Request.Key != "" && known && r.expires.After(t.Created) {
		if r.hash != m.Request.Hash {
			return task.Outcome{Err: task.ErrKeyReused}
		}
		return existing(s.seen(s.tasks[r.task].task))
	}
	outcome := task.Outcome{}
	if r, ok := s.tasks[t.ID]; ok {
		if !sameSpec(r.asked, t.Spec) {
			return task.Outcome{Err: task.ErrExists}
		}
		outcome = existing(s.seen(r.task))
	} else if other := s.unique(t); other != nil {
		outcome = existing(s.seen(other.task))
	} else if m.Known {
		return task.Outcome{Err: task.ErrNotFound}
	} else {
		r := &row{task: t, asked: t.Spec, n: s.arrived}
		if !t.AfterBatch.IsZero() && s.callback(t.Namespace, t.AfterBatch) != nil {
			return task.Outcome{Err: task.ErrHasCallback}
		}
		if t.State == task.Blocked {
			var err error
			if r.waits, err = s.depend(t); err != nil {
				return task.Outcome{Err: err}
			}
		}
		outcome.Settles = !t.AfterBatch.IsZero()
		s.tasks[t.ID] = r
		s.arrived++
		r.log(m.Events)
		for id := range maps.Clone(r.waits) {
			if s.children[id] == nil {
				s.children[id] = map[task.ID]bool{}
			}
			s.children[id][t.ID] = true
			if parent := s.tasks[id].task; parent.State.Terminal() {
				outcome.Settles = s.settle(parent) || outcome.Settles
			}
		}
	}
	if m.Request.Key != "" {
		id := t.ID
		if outcome.Existing != nil {
			id = outcome.Existing.ID
		}
		s.requests[key] = request{hash: m.Request.Hash, task: id, expires: m.Request.Expires}
	}
	return outcome
}

func existing(t task.Task) task.Outcome { return task.Outcome{Existing: &t} }

// unique finds the live task, other than t, that has t's unique key.
func (s *Store) unique(t task.Task) *row {
	for _, r := range s.tasks {
		o := r.task
		if t.UniqueKey != "" && o.UniqueKey == t.UniqueKey && o.Namespace == t.Namespace && o.Kind == t.Kind &&
			!o.State.Terminal() && o.ID != t.ID {
			return r
		}
	}
	return nil
}

// guarded finds the row a mutation is about, if its guard holds.
func (s *Store) guarded(m task.Mutation) (*row, error) {
	r, ok := s.tasks[m.Task.ID]
	switch {
	case !ok || r.task.Namespace != m.Task.Namespace:
		return nil, task.ErrNotFound
	case r.task.Guard() != m.Guard:
		return nil, task.ErrStale
	case len(m.Events) > 0 && !r.logged.Before(m.Events[0].Cursor):
		return nil, task.ErrStale
	}
	return r, nil
}

func (s *Store) save(m task.Mutation) error {
	r, err := s.guarded(m)
	if err != nil {
		return err
	}
	t := normal(m.Task)
	if m.Guard.State.Terminal() && !t.State.Terminal() && s.unique(r.task) != nil {
		return task.ErrExists
	}
	if len(m.Take) > 0 && !s.take(r, m) {
		return task.ErrParked
	}
	s.till(m.Give).Give(m.Give)
	old := r.task
	runAt, deadline := t.RunAt, t.Deadline
	t.Spec, t.Parked, r.inVain = old.Spec, nil, false
	t.RunAt, t.Deadline = runAt, deadline
	t.Created, t.LogStart = old.Created, old.LogStart
	if !m.Checkpoint {
		t.Checkpoint = old.Checkpoint
	}
	r.task = t
	if t.State != task.Blocked {
		r.waits = nil
	}
	r.log(m.Events)
	if m.Keeps() {
		s.results[cached{t.Namespace, t.Kind, t.Cache.Key}] = result{t.Result, t.ID, t.ResultExpires()}
	}
	return nil
}

func (s *Store) remove(m task.Mutation) error {
	if _, err := s.guarded(m); err != nil {
		return err
	}
	s.forget(m.Task.ID)
	return nil
}

func (s *Store) forget(id task.ID) {
	delete(s.tasks, id)
	maps.DeleteFunc(s.requests, func(_ named, r request) bool { return r.task == id })
}

func (r *row) log(events []task.Event) {
	for _, e := range events {
		e.At = micro(e.At)
		r.events = append(r.events, e)
		r.logged = e.Cursor
	}
}

// bytes is how much of it is kept, as far as that is counted.
func (r *row) bytes() int64 {
	return int64(len(r.task.Payload)+len(r.task.Result)+len(r.task.Checkpoint)) + task.BytesOf(r.events)
}

// micro is t as a store keeps it.
func micro(t time.Time) time.Time { return t.Truncate(time.Microsecond).UTC() }

// normal is t as it comes back from a store.
func normal(t task.Task) task.Task {
	for _, at := range []*time.Time{&t.RunAt, &t.Deadline, &t.Created, &t.Ready, &t.Started, &t.Finished, &t.BoundUntil} {
		*at = micro(*at)
	}
	if t.Progress != nil {
		p := *t.Progress
		p.At = micro(p.At)
		t.Progress = &p
	}
	failures := t.Failures
	t.Failures = nil
	for _, f := range failures {
		f.At = task.Time(micro(time.Time(f.At)))
		t.Failures = append(t.Failures, f)
	}
	return t
}

func sameSpec(a, b task.Spec) bool {
	return a.Namespace == b.Namespace && a.Kind == b.Kind && a.Queue == b.Queue && a.Priority == b.Priority &&
		bytes.Equal(a.Payload, b.Payload) && maps.Equal(a.Resources, b.Resources) && maps.Equal(a.Labels, b.Labels) &&
		a.RunAt.Equal(b.RunAt) && a.Timeout == b.Timeout && a.Deadline.Equal(b.Deadline) &&
		a.MaxAttempts == b.MaxAttempts && a.Retry == b.Retry && a.UniqueKey == b.UniqueKey && a.BatchID == b.BatchID &&
		slices.Equal(a.DependsOn, b.DependsOn) && a.OnDependencyFailure == b.OnDependencyFailure &&
		a.ConcurrencyKey == b.ConcurrencyKey && a.ConcurrencyLimit == b.ConcurrencyLimit && a.Cache == b.Cache && a.Affinity == b.Affinity && a.StickyKey == b.StickyKey
}
