package actors

import (
	"encoding/json"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// Messages within one node. They are values and are never changed after they
// were sent. What a message waits for comes back as another message with the
// token or generation it carried, so that a late one can be told from the
// current one.

// To the journal.
type (
	// write is a change by who holds the task, or by anybody for a task nobody
	// holds. The answer is wrote.
	write struct {
		m     task.Mutation
		token uint64
	}
	// submit stores new tasks, already admitted. The answer is submitted.
	submit struct{ ms []task.Mutation }
	// flush is answered with flushed once nothing is waiting to be stored.
	flush     struct{}
	committed struct {
		batch    *batch
		outcomes []task.Outcome
		err      error
	}
	retryCommit struct{}
)

// From the journal.
type (
	wrote struct {
		token   uint64
		outcome task.Outcome
	}
	submitted struct{ results []task.Submitted }
	flushed   struct{}
	// unheld tells the claimer that tasks were stored which nobody holds.
	unheld struct {
		heads map[task.Lane]int64 // of those that may run: the lowest rank in each lane
		wake  time.Time           // when the earliest of the others must be looked at; zero: never
		// And that there may be room for parked ones.
		moved, timed bool
		eased        []string // kinds of tasks that gave something back
	}
	// refused tells the claimer that admitted tasks did not come to be.
	refused struct{ lane []task.Lane }
	// happened tells the feeds what was stored of a task.
	happened struct {
		task   task.Task
		events []task.Event
	}
)

// To the claimer.
type (
	admit struct{ subs []task.Submission }
	load  struct {
		delta   map[task.Lane]int
		started int
		free    bool // there is room for one more
	}
	recount struct {
		waiting map[task.Lane]int
		free    bool // there is room for one more
	}
	poll    struct{}
	wake    struct{ gen uint64 }
	claimed struct {
		tasks []task.Task
		q     task.Claim
		err   error
	}
	dueFound struct {
		tasks []task.Task
		next  time.Time
		full  bool
		err   error
	}
	kindsChanged struct{}
	limitsMoved  struct{ timed bool } // parked tasks may be let go; timed: some when a rate lets them
	lookAround   struct{}             // there is a node we do not know
	hunger       struct{ nodes int }  // so many others have room and find no work
	tended       struct {
		overview task.Overview
		changes  uint64
		err      error
	}
	stopClaiming struct{}
)

// To the holder, which knows every task held here.
type (
	hold struct{ tasks []task.Task }
	// forTask is passed on to the task's actor, or answered with notHeld.
	forTask struct {
		id  task.ID
		msg any
	}
	notHeld struct{ gen uint64 }
	gone    struct {
		id  task.ID
		pid *actor.PID
	}
	census struct{}
	// drain is answered with drained once no task is held any more. With hard,
	// attempts still running are cut off and handed back.
	drain   struct{ hard bool }
	drained struct{}
	held    struct{} // answered with the number of tasks held
)

// To a task.
type (
	start  struct{}
	reread struct {
		task task.Task
		err  error
	}
	finished struct {
		attempt int
		result  json.RawMessage
		failure *task.Failure
	}
	said struct {
		attempt int
		utterance
	}
	recalled struct {
		attempt int
		result  json.RawMessage
		found   bool
	}
	tick struct {
		kind tickKind
		gen  uint64
	}
	cancel struct {
		namespace string
		reason    string
	}
	// watch is answered with watching; from then on frames follow to the sender.
	watch struct {
		namespace string
		after     task.Cursor
		gen       uint64
	}
	unwatch  struct{}
	giveBack struct{}
	leave    struct{} // the last message: nobody sends to it any more
	expel    struct{}
)

type tickKind uint8

const (
	tickFlush tickKind = iota
	tickDue
	tickTimeout
	tickGrace
	tickDeadline
	tickRecall
	tickKinds
)

// From a task.
type (
	cancelled struct {
		task task.Task
		err  error
	}
	watching struct {
		far    bool // from another node: task is left out
		gen    uint64
		task   task.Task
		frames []*task.Frame
		live   bool // frames goes up to now; else read the log first and come again
		err    error
	}
	frames struct {
		gen    uint64
		frames []*task.Frame
	}
)

// To the scheduler.
type (
	ready struct {
		entry schedule.Entry
		where task.Lane
		pid   *actor.PID
		again bool // it was not counted as waiting by the claimer yet
	}
	busy struct { // after a restart of the scheduler: this one runs
		entry schedule.Entry
		pid   *actor.PID
	}
	withdraw struct{ id task.ID }
	release  struct{ id task.ID }
	pause    struct {
		queue  queueName
		paused bool
	}
	shed      struct{ n int } // -1: all
	explain   struct{ id task.ID }
	explained struct {
		reason schedule.Reason
		found  bool
	}
	gauges struct{}
	gauged struct {
		gauges           []schedule.Gauge
		waiting, running int
	}
)

// To the workers.
type (
	run struct {
		job     *Job
		handler Handler
		task    *actor.PID
	}
	abort struct {
		id      task.ID
		attempt int
		cause   error
	}
	idle       struct{ id task.ID }
	handlerEnd struct {
		job     *Job
		result  json.RawMessage
		failure *task.Failure
	}
)

// To sessions and feeds.
type (
	openSession struct {
		namespace string
		out       task.Outbox
	}
	subscribe struct {
		topic task.Topic
		after *task.Cursor
		tag   any
	}
	unsubscribe  struct{ topic string }
	outboxEmpty  struct{}
	closeSession struct{}
	goodbye      struct{ within time.Duration }
	follow       struct {
		topic task.Topic
		gen   uint64
	}
	following struct{ gen uint64 }
	unfollow  struct{ topic task.Topic }
	fed       struct {
		topic  string
		frames []*task.Frame
		broken bool // instead: some may be missing, begin with a new view
	}
	feedsBroken struct{}
	page        struct {
		gen    uint64
		task   task.Task
		events []task.Event
		err    error
	}
	look   struct{ gen uint64 }
	listed struct {
		gen   uint64
		tasks []task.Task
		err   error
	}
)

func (wrote) lane() lane       { return completion }
func (committed) lane() lane   { return control }
func (retryCommit) lane() lane { return control }
func (pause) lane() lane       { return control }
func (explain) lane() lane     { return control }
func (gauges) lane() lane      { return control }
func (claimed) lane() lane     { return control }
func (tended) lane() lane      { return control }
func (load) lane() lane        { return completion }
func (poll) lane() lane        { return background }
