package task

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Store is where tasks are kept. It is spoken to in batches and in what must be
// atomic; persistence/storetest is its contract in executable form. All methods
// may be called at once from many goroutines; times are kept to the
// microsecond and come back in UTC; a returned value is the caller's own.
//
// Errors: [ErrUnavailable] where nothing was kept and it may be tried again
// (disk full, no connection), [ErrUnknown] where a write may have been kept or
// not, [ErrNotFound]; anything else is a defect or a broken store.
type Store interface {
	// Renew says that a node lives. With n.Incarnation 0 it joins and gets one
	// greater than any before; n.Left says goodbye. Where only one process can
	// hold the store, joining buries every node before it. [ErrStale] says that
	// the node is buried, or never was.
	Renew(ctx context.Context, n Node) (Node, error)

	// Append applies mutations in order, in one transaction, and says for each
	// whether it held: one that does not hold changes nothing and leaves the
	// others alone. An error means that none was kept (or [ErrUnknown]). What
	// [Mutation.Keeps] says of is kept for Result until [Task.ResultExpires].
	Append(ctx context.Context, ms []Mutation) ([]Outcome, error)

	// Claim makes q.Holder the holder of up to q.Limit queued tasks that nobody
	// holds, lowest rank first over all lanes not left out, and returns them in
	// that order. Before that it calls parked tasks for which there is room.
	Claim(ctx context.Context, q Claim) ([]Task, error)

	// Due lists up to limit unheld tasks whose WakeAt has come, earliest first, and
	// says when the next one after those will, or a rate will let a parked one go
	// that a Claim then calls (zero: none known).
	Due(ctx context.Context, now time.Time, limit int) (tasks []Task, next time.Time, err error)

	// Orphans lists up to limit tasks whose holder is dead, by id.
	Orphans(ctx context.Context, limit int) ([]Task, error)

	// Task reads one task.
	Task(ctx context.Context, namespace string, id ID) (Task, error)

	// Tasks lists tasks newest first (by creation, then id). next is where the
	// following page starts, zero after the last. A page may be shorter than
	// asked where its bodies are large.
	Tasks(ctx context.Context, f Filter) (tasks []Task, next Place, err error)

	// Result reads the result that the newest success of a kind with this cache key
	// left, and names the task it is of; one that expires at now or before is not found.
	Result(ctx context.Context, namespace, kind, key string, now time.Time) (result json.RawMessage, of ID, found bool, err error)

	// Events reads up to limit events after a cursor, in order; a page may be
	// shorter than asked where its bodies are large, but is empty only at the
	// end of the log. The error is [ErrNotFound] where the task is.
	Events(ctx context.Context, namespace string, id ID, after Cursor, limit int) ([]Event, error)

	// Overview counts what there is.
	Overview(ctx context.Context, s Scope) (Overview, error)

	// Sweep deletes up to limit tasks that ended before r says, with all that
	// belongs to them, trims logs, drops expired request keys, expired results and
	// nodes long gone, and returns how many tasks went.
	Sweep(ctx context.Context, r Retention, limit int) (int, error)

	Close() error
}

// Op is what a mutation does.
type Op uint8

// The mutations.
const (
	Insert   Op = iota + 1 // a new task
	Save                   // a task's row and events, under a guard
	Delete                 // a terminal task and all that belongs to it, under a guard
	SetQueue               // a queue's settings
	SetPool                // a resource of the whole cluster
)

// Mutation is one write. Which fields matter depends on Op.
type Mutation struct {
	Op         Op
	Task       Task        // Insert, Save: the row as it shall be. Delete: id and namespace
	Guard      Guard       // Save, Delete
	Events     []Event     // Insert, Save: appended in the same transaction
	Checkpoint bool        // Save: Task.Checkpoint is new; otherwise the stored one stays
	Request    Request     // Insert: the caller's idempotency key, if it gave one
	Queue      QueueChange // SetQueue
	Pool       PoolChange  // SetPool

	// Save: what the attempt needs of limits, and what one that is over had. Where
	// not all of Take is to be had, the task is parked instead of saved: unheld, as
	// it was, and not claimed before there is room. Of a task that does not start,
	// Take only asks whether there is.
	Take   []Token
	Give   []Token
	Called bool // with Take: the task was parked, and may try again
}

// QueueChange changes a queue's settings; what is nil stays.
type QueueChange struct {
	Namespace   string
	Name        string
	Paused      *bool
	Concurrency *int
	Rate        *Rate
}

// PoolChange sets how much there is of a resource in the whole cluster; nil: it
// is none of the cluster's any more.
type PoolChange struct {
	Name     string
	Capacity *Quantity
}

// Mutation is the write that saves the step. A terminal state drops the
// checkpoint, so that is written too.
func (s Step) Mutation() Mutation {
	return Mutation{
		Op: Save, Task: s.Task, Guard: s.Guard, Events: s.Events, Checkpoint: s.Task.State.Terminal(),
		Take: s.Take, Give: s.Give, Called: s.Called,
	}
}

// Check says what is wrong with m in itself. A store gives this error as the
// mutation's outcome and looks no further.
func (m Mutation) Check() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("mutation of task %s: %s: %w", m.Task.ID, fmt.Sprintf(format, args...), ErrInvalid)
	}
	switch {
	case m.Op < Insert || m.Op > SetPool:
		return refuse("unknown op %d", m.Op)
	case m.Op == SetQueue:
		if m.Queue.Namespace == "" || m.Queue.Name == "" {
			return refuse("the queue has no name")
		}
		return nil
	case m.Op == SetPool:
		if m.Pool.Name == "" {
			return refuse("the pool has no name")
		}
		return nil
	case m.Task.ID.IsZero() || m.Task.Namespace == "":
		return refuse("no id or no namespace")
	case m.Op == Delete && !m.Guard.State.Terminal():
		return ErrNotTerminal
	case m.Op != Delete && (m.Task.State < Scheduled || m.Task.State > Cancelled):
		return refuse("no such state")
	case m.Op != Delete && m.Task.State == Running && m.Task.Holder == 0,
		m.Op != Delete && m.Task.State.Terminal() && m.Task.Holder != 0:
		return refuse("a running task must be held, an ended one not")
	case len(m.Take) > 0 && m.Guard.State != Queued:
		return refuse("only a task that may run takes of limits")
	}
	for i, e := range m.Events {
		if e.Task != m.Task.ID || e.Cursor.Seq < 1 || i > 0 && e.Cursor != m.Events[i-1].Cursor.In(m.Events[0].Cursor.Attempt) {
			return refuse("event %d, %s, is not the next of one attempt of this task", i, e.Cursor)
		}
	}
	return nil
}

// Request is one submission under an idempotency key.
type Request struct {
	Key     string   // empty: none
	Hash    [32]byte // of the request's body
	Expires time.Time
}

// Outcome says what became of a mutation. Err is nil where it held, else
//
//   - Insert: [ErrExists], [ErrKeyReused]; or nil with Existing set, where the
//     unique key or the idempotency key named a task that is there already, or
//     where the very same task (id and content) was inserted before. It is given
//     as it stood at some moment of the call
//   - Save, Delete: [ErrNotFound] or [ErrStale], which is also what a Save gets
//     whose events the log has already; [ErrExists] where it would revive a task
//     whose unique key a live one has; [ErrParked] where the task was parked
//   - any: what [Mutation.Check] found
type Outcome struct {
	Existing *Task
	Err      error
	Limit    LimitName // with [ErrParked]: the limit it was parked on
}

// Claim says which tasks a holder wants.
type Claim struct {
	Holder Incarnation
	Kinds  []string // kinds it can run; others are left alone
	Limit  int
	Full   []Lane // lanes it holds enough of already
	Above  *int64 // only ranks lower than this, if set
}

// Lane is what tasks have in common that can start or wait only together.
type Lane struct {
	Namespace string
	Queue     string
	Kind      string
	Demand    string // canonical text of the resources, see [Resources.String]
}

// Lane is the lane of t.
func (t Task) Lane() Lane {
	return Lane{Namespace: t.Namespace, Queue: t.Queue, Kind: t.Kind, Demand: t.Resources.String()}
}

// Filter selects tasks; empty fields select all. Namespace must be set.
type Filter struct {
	Namespace     string
	States        []State
	Kind          string
	Queue         string
	Labels        map[string]string // all of them
	BatchID       ID
	CreatedAfter  time.Time
	CreatedBefore time.Time
	After         Place // page: tasks behind this place
	Limit         int   // 1 to 1000
}

// Match says whether f selects t, wherever the page begins and ends.
func (f Filter) Match(t Task) bool {
	switch {
	case f.Namespace != t.Namespace,
		f.Kind != "" && f.Kind != t.Kind,
		f.Queue != "" && f.Queue != t.Queue,
		len(f.States) > 0 && !slices.Contains(f.States, t.State),
		!f.BatchID.IsZero() && f.BatchID != t.BatchID,
		!f.CreatedAfter.IsZero() && !t.Created.After(f.CreatedAfter),
		!f.CreatedBefore.IsZero() && !t.Created.Before(f.CreatedBefore):
		return false
	}
	for k, v := range f.Labels {
		if got, ok := t.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Place is a place in the list of all tasks, newest first.
type Place struct {
	Created time.Time
	ID      ID
}

// IsZero says that there is no place.
func (p Place) IsZero() bool { return p.ID.IsZero() }

// Node is one process that runs tasks.
type Node struct {
	Incarnation Incarnation
	Name        string
	Address     string
	// Peer is where other nodes reach it, and the key it proves itself with there.
	// Only a store that many nodes share keeps it.
	Peer    string
	Started time.Time
	Seen    time.Time // last renewal, by the store's clock
	Left    bool
	// Lease is for how long it may be silent before others bury it. Renew is asked
	// for so much, zero being as much as the store sees fit, and answers with what
	// it grants, zero where a lease never ends. It is not read back.
	Lease time.Duration
}

// Queue is a queue's settings. Concurrency, how many of its tasks may run at once
// in the whole cluster, is 0 where it is not bounded.
type Queue struct {
	Namespace   string
	Name        string
	Paused      bool
	Concurrency int
	Rate        Rate
}

// Scope says what to count: one namespace or, empty, all; one batch or, zero,
// everything.
type Scope struct {
	Namespace string
	Batch     ID
}

// Overview is what there is. Counts holds no zeros, ordered by namespace and
// queue; Queues holds those with settings or tasks, Pools is in the order of
// names. For a batch only Counts is filled, without regard to queues.
type Overview struct {
	Counts []Count
	Queues []Queue
	Pools  []Pool
	Nodes  []Node
}

// Count is how many tasks of one queue are in one state.
type Count struct {
	Namespace string
	Queue     string
	State     State
	Tasks     int64
}

// Retention says what may be forgotten.
type Retention struct {
	Now time.Time
	// Keep is for how long a task is kept after its end, by state. A state that
	// is not named is kept for ever.
	Keep map[State]time.Duration
	// KeepEvents is for how long the log of an ended task is kept; its terminal
	// event stays as long as the task. Zero: as long as the task.
	KeepEvents time.Duration
}
