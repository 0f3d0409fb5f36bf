package task

import "time"

// Submission is a task somebody wants done.
type Submission struct {
	Spec    Spec
	Request Request // the caller's idempotency key, if it gave one
}

// Submitted is what became of a submission. With Err nil the task is on disk.
type Submitted struct {
	Task    Task
	Created bool // false: it was there already, under its unique or idempotency key
	Err     error
}

// Reasons why a task is not running.
const (
	WaitsForTime      = "time"        // until Until
	WaitsForResource  = "resources"   // Resource is short now
	WaitsForever      = "impossible"  // no node has that much of Resource
	WaitsForLimit     = "concurrency" // as many as may run at once do so, by Limit
	WaitsForRate      = "rate"        // tasks of its queue start no faster
	WaitsForResult    = "cache"       // an identical task runs, whose result it may use
	WaitsPaused       = "paused"      // its queue is paused
	WaitsForHandler   = "no_handler"  // nobody serves its kind
	WaitsForItsTurn   = "order"       // others stand before it
	WaitsInBacklog    = "backlog"     // no node holds it yet
	WaitsForNode      = "shutdown"    // the node is draining
	WaitsForItsWorker = "starting"    // has been picked and is about to run
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
	Until    time.Time
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

// Worker is something that runs tasks: a node's local handlers.
type Worker struct {
	ID      string
	Name    string
	Node    string
	Kinds   []string
	Slots   Quantity
	Running int
	Since   time.Time
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
