package actors

import (
	"encoding/json"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/access"
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
		m     *task.Mutation // nobody's to change from here on
		token uint64
		lazy  bool // it may wait for the next one of its task, to become one with it
	}
	// hurry has a lazy write of a task wait no more.
	hurry struct{ id task.ID }
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
	lazyDue     struct{} // a lazy write has waited for long enough
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
		settles      bool     // some task may have waited for one of these
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
		running int
		stuck   int  // of what waits: it takes no part, as no worker has room
		free    bool // there is room for one more
	}
	recount struct {
		waiting map[task.Lane]int
		running int
		stuck   int
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
	workerFree   struct{} // a worker elsewhere has a slot free, and nobody here waits for it
	hinted       struct{} // another node says that there is work
	settled      struct{} // there may be tasks whose dependencies have ended
	freeFound    struct {
		tasks []task.Unblocked
		full  bool
		err   error
	}
	limitsMoved struct{ timed bool } // parked tasks may be let go; timed: some when a rate lets them
	lookAround  struct{}             // there is a node we do not know
	hunger      struct {
		nodes map[task.Incarnation]task.Rival
	} // others that have room and find no work
	tended struct {
		overview task.Overview
		tenants  map[string]access.Tenant
		changes  uint64
		err      error
	}
	stopClaiming struct{}
)

// To the holder, which knows every task held here.
type (
	hold struct{ tasks []*task.Task } // not to be changed
	// forTask is passed on to the task's actor, or answered with notHeld.
	forTask struct {
		id  task.ID
		msg any
	}
	notHeld struct{ gen uint64 }
	// starts is start for tasks of which the scheduler does not know the actor.
	starts struct{ tasks []start }
	gone   struct {
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
	// adopt makes an actor whose task has gone speak for another.
	adopt struct{ role }
	// These say of which task they are: an actor may speak for another by the time
	// they come.
	start struct {
		id     task.ID
		worker string // elsewhere; empty: here
	}
	reread struct {
		id   task.ID
		task task.Task
		err  error
	}
	finished struct {
		id      task.ID
		attempt int
		result  json.RawMessage
		failure *task.Failure
		suspend *task.Suspension // instead of both
		settled func(error)      // called once that is on disk, or with why it will not be; may be nil
	}
	said struct {
		id      task.ID
		attempt int
		utterance
	}
	recalled struct {
		id      task.ID
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
		entry schedule.Entry // its demand is all it needs
		where task.Lane
		pid   *actor.PID
		rests bool // instead: it has no actor yet, and the holder speaks for it
		again bool // it was not counted as waiting by the claimer yet
	}
	readies struct{ all []ready }
	busy    struct { // after a restart of the scheduler: this one runs
		entry schedule.Entry
		where task.Lane
		pid   *actor.PID
	}
	changed  struct{} // from itself: there is room, and something for the claimer to hear
	withdraw struct{ id task.ID }
	release  struct {
		id   task.ID
		took time.Duration // the attempt, if it teaches how long such take; else 0
		verdict
	}
	queueChanged struct { // its settings, or what of them the scheduler goes by
		name queueName
		to   task.Queue
	}
	kindChanged   struct{ kind queueName }   // its breaker
	tenantChanged struct{ namespace string } // its weight
	kindServed    struct{ kind string }      // here, from now on
	halfOpen      struct {
		kind queueName
		gen  uint64
	}
	shed struct{ n int } // -1: all
	// shedStuck gives back what no worker here has room for and other nodes' have.
	shedStuck struct{ served []task.Served }
	// paced says of each queue whether tasks of it wait, once a second or so.
	paced struct{ waiting map[queueName]bool }
	// forecast is answered with forecasts.
	forecast struct {
		queues []queueName
		kinds  map[queueName]bool
	}
	forecasts struct {
		paces map[queueName]task.Pace
		runs  map[queueName]time.Duration // how long one of a kind runs as a rule
	}
	explain   struct{ id task.ID }
	explained struct {
		reason schedule.Reason
		until  time.Time // of a breaker
		found  bool
	}
	gauges struct{}
	gauged struct {
		gauges           []schedule.Gauge
		waiting, running int
		tripped          []task.Tripped
	}
)

// To the workers.
type (
	run struct {
		job     *Job
		handler Handler
		away    bool // it only hands the job to a worker elsewhere
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
		suspend *task.Suspension
		settled func(error)
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
	page        struct { // shared: nothing in it is to be changed
		gen    uint64
		task   *task.Task
		frames []*task.Frame
		err    error
	}
	look   struct{ gen uint64 }
	listed struct {
		gen   uint64
		tasks []task.Task
		ended []task.Count // of a batch of which all tasks have ended
		err   error
	}
)

// The feeds' own.
type (
	countBatch   struct{ key string }
	batchCounted struct {
		key    string
		counts []task.Count
		ended  bool
		err    error
	}
)

func (wrote) lane() lane         { return completion }
func (committed) lane() lane     { return control }
func (retryCommit) lane() lane   { return control }
func (queueChanged) lane() lane  { return control }
func (kindChanged) lane() lane   { return control }
func (tenantChanged) lane() lane { return control }
func (explain) lane() lane       { return control }
func (forecast) lane() lane      { return control }
func (gauges) lane() lane        { return control }
func (claimed) lane() lane       { return control }
func (tended) lane() lane        { return control }
func (load) lane() lane          { return completion }
func (poll) lane() lane          { return background }
