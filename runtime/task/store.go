package task

import (
	"context"
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

	// Writers is how many calls of Append go on at the same time. With 1, one waits until
	// the other is over.
	Writers() int

	// Claim makes q.Holder the holder of up to q.Limit queued tasks that nobody
	// holds, lowest rank first over all lanes not left out and that [Claim.May] lets it take
	// of, and returns them in that order. Before that it calls parked tasks for which there is room.
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
	// left; one that expires at now or before is not found.
	Result(ctx context.Context, namespace, kind, key string, now time.Time) (kept Kept, found bool, err error)

	// Events reads up to limit events after a cursor, in order; a page may be
	// shorter than asked where its bodies are large, but is empty only at the
	// end of the log. The error is [ErrNotFound] where the task is.
	Events(ctx context.Context, namespace string, id ID, after Cursor, limit int) ([]Event, error)

	// States gives the states of those of the tasks that are there.
	States(ctx context.Context, namespace string, ids []ID) (map[ID]State, error)

	// Memos gives what a task remembers, in order. The error is [ErrNotFound] where
	// the task is.
	Memos(ctx context.Context, namespace string, id ID) ([]Memo, error)

	// Signals gives up to limit signals of a name that a task has not taken, in the
	// order in which they came.
	Signals(ctx context.Context, namespace string, id ID, name string, limit int) ([]Signal, error)

	// Unblocked lists up to limit blocked tasks whose dependencies are settled or
	// whose signal is there, of all namespaces. It lists them until they are saved in another state.
	Unblocked(ctx context.Context, limit int) ([]Unblocked, error)

	// Schedules lists schedules.
	Schedules(ctx context.Context, f ScheduleFilter) ([]Schedule, error)

	// Overview counts what there is.
	Overview(ctx context.Context, s Scope) (Overview, error)

	// Sweep deletes up to limit tasks that ended before r says, with all that
	// belongs to them, trims logs, drops expired request keys, expired results, nodes
	// long gone and what is long over of accounts, and returns how many tasks went.
	Sweep(ctx context.Context, r Retention, limit int) (int, error)

	Close() error
}

// Op is what a mutation does.
type Op uint8

// The mutations.
const (
	Insert       Op = iota + 1 // a new task
	Save                       // a task's row and events, under a guard
	Delete                     // a terminal task and all that belongs to it, under a guard
	SetQueue                   // a queue's settings
	SetPool                    // a resource of the whole cluster
	SetKind                    // the settings of a kind
	PutSignal                  // a signal to a task that has not ended
	SetSchedule                // a schedule, where it is of the revision it says
	DropSchedule               // the same, to forget it
	Fire                       // a schedule's row as after a tick, and a new task, both or none of them

	lastOp = Fire
)

// Mutation is one write. Which fields matter depends on Op.
type Mutation struct {
	Op         Op
	Task       Task        // Insert, Save: the row as it shall be. Delete: id and namespace
	Guard      Guard       // Save, Delete
	Events     []Event     // Insert, Save: appended in the same transaction
	Checkpoint bool        // Save: Task.Checkpoint is new; otherwise the stored one stays
	Memos      []Memo      // Save: the last of the Task.Memos that there are then
	Forget     bool        // Save: the task's memos and signals go
	Signal     Signal      // PutSignal: to the task of this id and namespace
	Request    Request     // Insert: the caller's idempotency key, if it gave one
	Fresh      bool        // Insert: its id was made for it, so no other task has it
	Known      bool        // Insert: only if the task is there already, under its id or a key; else [ErrNotFound]
	Queue      QueueChange // SetQueue
	Pool       PoolChange  // SetPool
	Kind       KindChange  // SetKind
	Schedule   *Schedule   // SetSchedule, DropSchedule, Fire

	// Save: what the attempt needs of limits, and what one that is over had. Where
	// not all of Take is to be had, the task is parked instead of saved: unheld, as
	// it was, and not claimed before there is room. Of a task that does not start,
	// Take only asks whether there is.
	Take   []Token
	Give   []Token
	Called bool // with Take: the task was parked, and may try again
}

// Mutation is the write that saves the step. A terminal state drops the
// checkpoint, so that is written too.
func (s Step) Mutation() Mutation {
	return Mutation{
		Op: Save, Task: s.Task, Guard: s.Guard, Events: s.Events, Checkpoint: s.Task.State.Terminal(),
		Forget: s.Forget, Take: s.Take, Give: s.Give, Called: s.Called,
	}
}

// Check says what is wrong with m in itself. A store gives this error as the
// mutation's outcome and looks no further.
func (m *Mutation) Check() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("mutation of task %s: %s: %w", m.Task.ID, fmt.Sprintf(format, args...), ErrInvalid)
	}
	switch {
	case m.Op < Insert || m.Op > lastOp:
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
	case m.Op == SetKind:
		if m.Kind.Namespace == "" || m.Kind.Name == "" {
			return refuse("the kind has no name")
		}
		return nil
	case (m.Op == SetSchedule || m.Op == DropSchedule || m.Op == Fire) && (m.Schedule == nil || m.Schedule.Namespace == "" || m.Schedule.Name == ""):
		return refuse("the schedule has no name")
	case m.Op == SetSchedule || m.Op == DropSchedule:
		return nil
	case m.Task.ID.IsZero() || m.Task.Namespace == "":
		return refuse("no id or no namespace")
	case m.Op == PutSignal:
		if m.Signal.ID.IsZero() || m.Signal.Name == "" {
			return refuse("a signal without an id or a name")
		}
		return nil
	case len(m.Memos) > 0 && (m.Op != Save || m.Forget || m.Task.State.Terminal() || m.Task.Memos < len(m.Memos)):
		return refuse("%d memos, of %d", len(m.Memos), m.Task.Memos)
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

// Bytes is how much m brings to be kept, as far as that is counted: payload, result,
// checkpoint, and the data of events. What takes the place of something else gives
// the bytes of that back.
func (m *Mutation) Bytes() int64 {
	n := BytesOf(m.Events) + int64(len(m.Task.Result))
	if m.Checkpoint || m.Inserts() {
		n += int64(len(m.Task.Checkpoint))
	}
	if m.Inserts() {
		n += int64(len(m.Task.Payload))
	}
	return n
}

// BytesOf is how much events count.
func BytesOf(events []Event) (n int64) {
	for _, e := range events {
		n += int64(len(e.Data))
	}
	return n
}

// Inserts says that m makes a task.
func (m *Mutation) Inserts() bool { return m.Op == Insert || m.Op == Fire }

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
//   - Insert: [ErrHasCallback] where it is to be the callback of a batch that has one
//   - Insert: a [MissingError] where it depends on a task that its namespace has not
//   - Save, Delete: [ErrNotFound] or [ErrStale], which is also what a Save gets
//     whose events the log has already; [ErrExists] where it would revive a task
//     whose unique key a live one has; [ErrParked] where the task was parked
//   - PutSignal: [ErrNotFound]; [ErrTerminal]; [ErrTooManySignals]; [ErrKeyReused]
//     where another signal to the task has this id. The same one again is kept once
//   - SetSchedule, DropSchedule, Fire: [ErrNoSchedule]; [ErrStale] where it is of
//     another revision; [ErrScheduled] where a new one has the name of another. A
//     Fire that holds is an Insert besides
//   - any: what [Mutation.Check] found
type Outcome struct {
	Existing *Task
	Err      error
	Limit    LimitName   // with [ErrParked]: the limit it was parked on
	Bound    Incarnation // with [ErrParked]: the node it was bound to instead, as that has its sticky key
	Settles  bool        // there may be a task for Unblocked
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
	Labels  map[string]string // what tasks ask for, see [Affinity]
	Started time.Time
	Seen    time.Time // last renewal, by the store's clock
	Left    bool
	// Lease is for how long it may be silent before others bury it. Renew is asked
	// for so much, zero being as much as the store sees fit, and answers with what
	// it grants, zero where a lease never ends. It is not read back.
	Lease time.Duration
}

// Scope says what to count: one namespace or, empty, all; one batch or, zero,
// everything.
type Scope struct {
	Namespace string
	Batch     ID
}

// Overview is what there is. Counts holds no zeros, ordered by namespace and
// queue; Queues holds those with settings or tasks, Kinds those that were ever set,
// Pools and Volumes are in the order of names. For a batch only Counts is filled, without regard to
// queues, and Callback.
type Overview struct {
	Counts []Count
	Queues []Queue
	Kinds  []Kind
	Pools  []Pool
	Nodes  []Node

	Volumes []Volume

	Callback ID // of a batch; zero: it has none
}

// Count is how many tasks of one queue are in one state.
type Count struct {
	Namespace string
	Queue     string
	State     State
	Tasks     int64
}

// Volume is how many bytes are kept of a namespace: see [Mutation.Bytes]. There is one
// of each that has any.
type Volume struct {
	Namespace string
	Bytes     int64
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
