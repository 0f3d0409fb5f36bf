package task

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Served is kinds of one namespace that workers of a node run, beside the kinds it runs
// itself.
type Served struct {
	Namespace string            `json:"namespace"`
	Kinds     []string          `json:"kinds"`
	Labels    map[string]string `json:"labels"` // of the workers
}

// Takes says whether tasks of a lane may run on such workers.
func (s Served) Takes(l Lane) bool {
	return s.Namespace == l.Namespace && slices.Contains(s.Kinds, l.Kind) && l.Affinity.Require.Matches(s.Labels)
}

// Bounds of what a worker may say of itself.
const (
	MaxWorkerKinds = 1000
	MaxWorkerSlots = 10_000
)

// Registration is what a worker says of itself. The namespace is its credential's.
type Registration struct {
	Namespace string
	Name      string
	Kinds     []string
	Slots     int       // attempts at once; 1 where it does not say
	Resources Resources // what they may hold of it; checked, also its slots
	Labels    map[string]string
	Resume    string   // the session it had, to go on with its attempts
	Running   []string // with Resume: the tokens of those it knows; nil: it does not say
}

// Check returns r with its defaults filled in, or an [InvalidError] that names
// everything wrong with it.
func (r Registration) Check() (Registration, error) {
	var bad InvalidError
	refuse := func(field, format string, args ...any) {
		bad = append(bad, Violation{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if r.Name == "" || len(r.Name) > maxName || !ValidText(r.Name) {
		refuse("name", "must be 1 to %d bytes of printable UTF-8", maxName)
	}
	if len(r.Kinds) == 0 || len(r.Kinds) > MaxWorkerKinds {
		refuse("kinds", "must name 1 to %d kinds", MaxWorkerKinds)
	}
	for i, k := range r.Kinds {
		if !ValidName(k) {
			refuse(fmt.Sprintf("kinds[%d]", i), "must be 1 to 100 of the characters a-z 0-9 . _ -")
		}
		if i == MaxWorkerKinds {
			break
		}
	}
	r.Kinds = slices.Compact(slices.Sorted(slices.Values(r.Kinds)))
	if r.Slots == 0 {
		r.Slots = 1
	}
	if r.Slots < 1 || r.Slots > MaxWorkerSlots {
		refuse("slots", "must be 1 to %d", MaxWorkerSlots)
	}
	if _, named := r.Resources[SlotResource]; named {
		refuse("resources.slots", "are said by slots")
	}
	if r.Resources = checkResources(r.Resources, refuse); r.Resources != nil {
		r.Resources[SlotResource] = Quantity(r.Slots) * 1000
	}
	if err := CheckNodeLabels(r.Labels); err != nil {
		refuse("labels", "at most %d, each with a key of 1 to %d bytes of printable UTF-8 without = and , and a value of 1 to %d", maxLabels, maxName, maxLabel)
	}
	if len(bad) > 0 {
		return r, bad
	}
	return r, nil
}

// Registered is the answer to a registration.
type Registered struct {
	Worker   string
	Session  string // to resume by; a secret of the worker's
	Lease    time.Duration
	Attempts []AttemptRef // of the session that was resumed, which are still its own
}

// AttemptRef names an attempt to the worker that runs it. The token is what proves it.
type AttemptRef struct {
	Task    ID
	Attempt int
	Token   string
}

// Assignment is an attempt for a worker to run.
type Assignment struct {
	AttemptRef

	Row   Task
	Lease time.Duration
	Steps []Memo // that earlier attempts have done
}

// WorkerLink is the connection of a worker, towards it. Its methods never block, may be
// called from any goroutine, and nothing comes of them once the connection is broken.
type WorkerLink interface {
	Run(a Assignment)
	// Cancel says that an attempt is to stop, and why.
	Cancel(a AttemptRef, reason string)
	// Drain says that nothing more will come.
	Drain(reason string)
	// Goodbye says that the node goes, and closes the connection after delay.
	Goodbye(delay time.Duration)
	// Reached is until when all that was sent has reached the worker, as far as is known.
	Reached() time.Time
	// Close closes it: another one has taken its place, or the worker is given up.
	Close()
}

// WorkerSession is a registered worker, as its connection speaks for it.
type WorkerSession interface {
	Registered() Registered
	// Begin lets attempts come, once the worker has been told that it is registered.
	Begin()
	// Call hands what the worker says of an attempt to that, and waits while much of it
	// is on its way. done is called once, from any goroutine; [ErrStale] means that the
	// attempt is not the worker's any more, or never was.
	Call(token string, call WorkerCall, done func(WorkerAnswer, error))
	// Drain says that the worker wants no more.
	Drain()
	// Ended says that the connection has. Unless it was silent for a lease, the attempts
	// are kept for one.
	Ended(silent bool)
}

// WorkerCall is what a worker says of an attempt: one of the types below.
type WorkerCall any

type (
	// SayProgress and the next three are answered once they are taken.
	SayProgress struct {
		Fraction *float64
		Message  string
	}
	// SayLog is a line of the log.
	SayLog struct {
		Level, Message string
		Fields         json.RawMessage
	}
	// SayOutput is a piece of the result.
	SayOutput OutputData
	// SayCheckpoint is kept for the next attempt.
	SayCheckpoint struct{ Value json.RawMessage }
	// KeepStep is answered once the result is on disk. Of a step that is known already
	// the first result stays.
	KeepStep struct {
		Name   string
		Result json.RawMessage
	}
	// SleepFor gives Woken, or ends the attempt until the time has come.
	SleepFor struct {
		Name string
		For  time.Duration
	}
	// AwaitSignal gives the signal, or says that none came in time, or ends the attempt
	// until there is one. A negative timeout is none. Without a name it is known from
	// others for the same signal by their order.
	AwaitSignal struct {
		Name    string
		Signal  string
		Timeout time.Duration
	}
	// Succeed ends the attempt; answered once that is on disk.
	Succeed struct{ Result json.RawMessage }
	// FailWith does so as well.
	FailWith struct{ Failure Failure }
)

// WorkerAnswer is what a call gives.
type WorkerAnswer struct {
	Woken     bool            // of a sleep: it is over
	Signal    json.RawMessage // of a signal that came
	Got       bool            // it came
	TimedOut  bool            // it did not come in time
	Suspended bool            // the attempt is over, and the task goes on in another
}

// States of a worker.
const (
	WorkerConnected = "connected"
	WorkerAway      = "away"     // its connection broke; its attempts are kept for a lease
	WorkerDraining  = "draining" // it takes no more
)
