package task

import "time"

// Submission is a task somebody wants done.
type Submission struct {
	Spec    Spec
	Request Request // the caller's idempotency key, if it gave one

	Named    bool // the caller gave it its id, by which it may be there already
	Late     bool // it is taken also where it cannot be expected to meet its deadline
	Together bool // it is taken only with all others of the call that say so
}

// Submitted is what became of a submission. With Err nil the task is on disk.
type Submitted struct {
	Task    Task
	Created bool // false: it was there already, under its unique or idempotency key
	Err     error
}

// Reasons why a task is not running.
const (
	WaitsForTime      = "time"         // until Until
	WaitsForResource  = "resources"    // Resource is short now
	WaitsForever      = "impossible"   // no node has that much of Resource
	WaitsForLimit     = "concurrency"  // as many as may run at once do so, by Limit
	WaitsForRate      = "rate"         // tasks of its queue or with its rate key start no faster
	WaitsForResult    = "cache"        // an identical task runs, whose result it may use
	WaitsPaused       = "paused"       // its queue is paused
	WaitsForHandler   = "no_handler"   // nobody serves its kind
	WaitsForWorkers   = "workers"      // the workers that serve its kind have all their Slots taken, or are away
	WaitsForItsTurn   = "order"        // others stand before it
	WaitsForReserved  = "reservation"  // what is free is kept for another, which it would delay
	WaitsInBacklog    = "backlog"      // no node holds it yet
	WaitsForOthers    = "dependencies" // tasks it depends on have not ended
	WaitsForBatch     = "batch"        // tasks of the batch it is the callback of have not ended
	WaitsForSignal    = "signal"       // that somebody sends it
	WaitsForPlacement = "placement"    // no node that lives has the labels it requires
	WaitsForSticky    = "sticky"       // the node that has its sticky key does not hold it yet
	WaitsForBreaker   = "breaker"      // tasks of its kind have failed, and none starts until Until
	WaitsForNode      = "shutdown"     // the node is draining
	WaitsForItsWorker = "starting"     // has been picked and is about to run
)

// Waiting is why a task is not running.
type Waiting struct {
	Reason   string
	Resource string   // of resources and impossible
	Needed   Quantity // of it
	Free     Quantity
	Limit    LimitName // of concurrency and rate, and of resources where they are the cluster's
	Most     Quantity  // that may be in use of Limit
	Position int       // 1 is next; 0 not known
	Pending  int       // of dependencies and batch: how many tasks have not ended
	Tasks    []ID      // the first of them
	Until    time.Time
	Signal   string   // of signal
	Require  Selector // of placement
	Node     string   // of sticky
	Slots    int      // of workers: how many there are
	// ExpectedStart is when it starts if everything runs as long as such tasks do;
	// zero where nobody can tell.
	ExpectedStart time.Time
}

// Explanation is everything that can be said about a task's waiting. Waiting is
// nil where it does not wait. Message is for people.
type Explanation struct {
	Task    Task
	Waiting *Waiting
	Message string
}

// Gauge is one resource's capacity and use on one node.
type Gauge struct {
	Node     string
	Name     string
	Capacity Quantity
	Used     Quantity
}

// Worker is something that runs tasks: a node's local handlers, or a worker elsewhere
// that is connected to it.
type Worker struct {
	ID        string
	Name      string
	Node      string
	Labels    map[string]string // its node's, unless it has its own
	Namespace string            // whose tasks it runs; empty: all
	State     string            // one of those in worker.go
	Kinds     []string
	Slots     Quantity
	Resources Resources // of a worker elsewhere: what it has, its slots among it
	Running   int
	Since     time.Time
	Tripped   []Tripped // breakers of its kinds that are not closed
}

// Stats is what nodes count since their start. Since is the earliest.
type Stats struct {
	Overview  Overview
	Submitted uint64 // tasks stored
	Started   uint64 // attempts
	Ended     map[State]uint64
	Retried   uint64 // failed attempts that got another
	Held      int
	Waiting   int // of the held ones, those that could run
	Running   int
	Watchers  int
	Since     time.Time
}

// Plus adds what another node has counted; Overview, which all share, stays.
func (s Stats) Plus(o Stats) Stats {
	s.Submitted, s.Started, s.Retried = s.Submitted+o.Submitted, s.Started+o.Started, s.Retried+o.Retried
	s.Held, s.Waiting, s.Running, s.Watchers = s.Held+o.Held, s.Waiting+o.Waiting, s.Running+o.Running, s.Watchers+o.Watchers
	ended := map[State]uint64{}
	for _, state := range States() {
		if state.Terminal() {
			ended[state] = s.Ended[state] + o.Ended[state]
		}
	}
	s.Ended = ended
	if !o.Since.IsZero() && o.Since.Before(s.Since) {
		s.Since = o.Since
	}
	return s
}
