package task

import (
	"encoding/json"
	"time"
)

// Ageing is how much longer a task must have waited to stand as high as one of
// the next higher priority. A constant of the product, since the order it makes
// is stored: see [Task.Rank].
const Ageing = 30 * time.Second

// DefaultNamespace is where tasks of a server without credentials live.
const DefaultNamespace = "default"

// Incarnation numbers one life of one node; no number is ever used twice.
// As a task's Holder, 0 means that nobody holds it.
type Incarnation int64

// Resources is what a task holds while it runs, by name.
type Resources map[string]Quantity

// Spec is what a submitter says of a task. [Limits.Check] makes it whole.
type Spec struct {
	ID          ID
	Namespace   string
	Kind        string
	Queue       string
	Priority    int
	Payload     json.RawMessage
	Resources   Resources
	Labels      map[string]string
	RunAt       time.Time // zero: at once
	Timeout     time.Duration
	Deadline    time.Time
	MaxAttempts int
	Retry       Retry
	UniqueKey   string
	BatchID     ID

	// At most ConcurrencyLimit tasks of the namespace with this key run at once, in
	// the whole cluster.
	ConcurrencyKey   string
	ConcurrencyLimit int

	// Tasks of the namespace with this key start no faster, in the whole cluster,
	// than the Rate of whichever asked last.
	RateKey string
	Rate    Rate

	Cache Cache

	Affinity Affinity

	// Tasks of the namespace with this key run on one node while that lives.
	StickyKey string

	// It begins when all of these have ended: succeeded, or else it does what
	// OnDependencyFailure says.
	DependsOn           []ID
	OnDependencyFailure OnFailure

	AfterBatch ID // it begins when all tasks of this batch have ended; it is the batch's callback

	Tick Tick // of the schedule that submitted it; zero: none did
}

// Task is one task's row: what was asked, and how far it has come.
// It is a value; the slices and maps in it are shared and never written to.
type Task struct {
	Spec

	State    State
	Attempt  int  // number of the newest attempt that has started; 0 before the first
	Forgiven int  // attempts that do not count against MaxAttempts
	Crashes  int  // attempts that died with their node
	Suspect  bool // was held, perhaps already run, by a node that died

	Holder     Incarnation // the node that alone may change it; 0: unheld
	Tokens     []Token     // what its attempt holds of limits of the whole cluster, while it runs
	Parked     *Parked     // the limit it waits for, if it does; unheld then
	Called     bool        // it was parked, and may try again
	Bound      Incarnation // the node it waits for, which has its sticky key; unheld then
	BoundUntil time.Time
	Awaits     string // blocked: the signal it waits for, until RunAt if that is set; empty: other tasks
	Asleep     bool   // scheduled: it runs already, and sleeps
	Node       string // name of the node that runs it, or last ran it
	Worker     string // the same of the worker

	Cursor   Cursor // of the newest event
	LogStart Cursor // the first event still in the log, where retention took some; else zero

	Progress   *Progress
	Checkpoint json.RawMessage // what the handler wants back in its next attempt; nil: nothing
	Memos      int             // how many it has
	MemoBytes  int64           // their sizes together
	Result     json.RawMessage
	Cached     CacheStatus // of a task with a cache: how it came to its result
	Failure    *Failure
	Failures   []AttemptError // newest last, the latest 20

	Created  time.Time
	Ready    time.Time // since when it may run: its age counts from here
	Started  time.Time // of the newest attempt
	Finished time.Time
}

// Counted is how many of the task's attempts count against MaxAttempts.
func (t Task) Counted() int { return t.Attempt - t.Forgiven }

// Rank orders all tasks that may run, lowest first: by priority and, between
// priorities, by waiting time. Because every task ages at the same rate the
// order of two tasks never changes while they wait, so it can be an index.
// No later task of priority q can pass a waiting one of priority p after
// (q−p)×[Ageing].
func (t Task) Rank() int64 {
	return t.Ready.UnixMicro() - int64(t.Priority)*Ageing.Microseconds()
}

// WakeAt is when somebody must look at a task that nobody holds: it becomes due
// or its deadline passes. Zero: never.
func (t Task) WakeAt() time.Time {
	switch {
	case t.State.Terminal():
		return time.Time{}
	case t.Bound != 0 && (t.Deadline.IsZero() || t.BoundUntil.Before(t.Deadline)):
		return t.BoundUntil
	case t.State != Scheduled && (t.State != Blocked || t.Awaits == "" || t.RunAt.IsZero()):
		return t.Deadline
	case t.Deadline.IsZero() || t.RunAt.Before(t.Deadline):
		return t.RunAt
	default:
		return t.Deadline
	}
}

// LostBetween says whether retention may have taken events of the task between
// a reader's cursor and the next event that is still there.
func (t Task) LostBetween(at, next Cursor) bool {
	trimmed := at.Before(t.LogStart) && t.LogStart != at.In(at.Attempt)
	return trimmed || !next.Follows(at)
}
