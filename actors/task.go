package actors

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// stayFor is the longest backoff a task is kept in memory for. One that waits
// longer is given back, and claimed again by whoever has room when it is due.
const stayFor = 2 * time.Second

// flushAfter is how long a live event may wait to be stored, and flushBytes how
// many bytes of them may. Both only bound what a crash can lose of an attempt
// that is over anyway.
const (
	flushAfter = 50 * time.Millisecond
	flushBytes = 64 << 10
)

// taskActor speaks for one task this node holds. Its row is as the last
// decision made it; what has been sent to the journal and not been answered
// stands in writes. Every decision is one of package task's; step sends it to
// the journal, and the answer lets the outside see it.
//
// After a crash of the actor the row in the store is all that counts: the
// attempt that ran is over and counted, and the task is given back.
type taskActor struct {
	node *Node
	row  task.Task
	lane task.Lane

	// The hold.
	restarted bool // this instance replaces one that crashed
	leaving   bool // the row is given back or ended; go once all is settled
	left      bool // gone from the holder's map
	queued    bool // the scheduler has it waiting
	tokens    bool // the scheduler has it running

	// The attempt.
	busy     bool // a handler runs, perhaps cut off already
	attempt  int  // its number
	quota    *window
	cutOff   error // why it was cut off; nil while it was not
	starting bool  // its start must be stored before it runs, and a result looked for
	waited   bool  // it was parked before

	// What is being stored, in order.
	disk      task.Task // the row as the journal last said it is
	writes    []pending
	unstored  []task.Event // live events not sent to the journal yet
	unsent    int          // bytes of unstored
	dirty     bool         // the checkpoint changed
	flushing  bool         // a flush is under way
	flushTick bool         // a flush tick is under way
	gens      [tickKinds]uint64
	timers    [tickKinds]*time.Timer

	log      eventLog
	watchers map[string]watcher
	waiters  []*actor.PID // want to know of the end that is being stored
}

// pending is a write the journal has not answered.
type pending struct {
	token uint64
	row   task.Task
	given []task.Token // of limits in which there is room now
	bytes int          // of the attempt's window
	flush bool
	start bool
}

type watcher struct {
	pid *actor.PID
	gen uint64
}

// newTaskActor makes the recipe. The first instance is given the row as it was
// just stored; a later one reads it.
func newTaskActor(n *Node, t task.Task) func() actor.Actor {
	first := true
	return func() actor.Actor {
		a := &taskActor{
			node: n, row: t, disk: t, lane: t.Lane(), restarted: !first,
			log: newEventLog(t.Cursor), watchers: map[string]watcher{},
		}
		first = false
		return a
	}
}

// Receive implements [actor.Actor].
func (a *taskActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.started(ctx)
	case start:
		a.start(ctx)
	case said:
		a.said(ctx, msg)
	case recalled:
		a.recalled(ctx, msg)
	case finished:
		a.finished(ctx, msg)
	case wrote:
		a.wrote(ctx, msg)
	case tick:
		a.tick(ctx, msg)
	case cancel:
		a.cancel(ctx, msg)
	case watch:
		a.watch(ctx, msg)
	case unwatch:
		delete(a.watchers, ctx.Sender().GetId())
	case giveBack:
		a.giveBack(ctx)
	case expel:
		a.expel(ctx)
	case census:
		a.census(ctx)
	case reread:
		a.reread(ctx, msg)
	case leave:
		ctx.Stop(ctx.Self())
	}
}

func (a *taskActor) started(ctx actor.Context) {
	if a.restarted {
		a.recover(ctx)
		return
	}
	if a.row.State == task.Scheduled {
		a.after(ctx, tickDue, a.node.until(a.row.RunAt))
	} else {
		a.ready(ctx, false)
	}
	if !a.row.Deadline.IsZero() {
		a.after(ctx, tickDeadline, a.node.until(a.row.Deadline))
	}
}

func (a *taskActor) ready(ctx actor.Context, again bool) {
	if tokens := a.node.wants(a.row); !a.row.Called && a.node.isFull(tokens) {
		if !again {
			ctx.Send(a.node.claimer, refused{lane: []task.Lane{a.lane}}) // which counts it as waiting here
		}
		a.give(ctx, a.row.Park(tokens))
		return
	}
	a.queued = true
	ctx.Send(a.node.scheduler, ready{entry: a.entry(), where: a.lane, pid: ctx.Self(), again: again})
}

func (a *taskActor) entry() schedule.Entry {
	demand := make(map[string]int64, len(a.row.Resources))
	for name, amount := range a.row.Resources {
		if _, here := a.node.cfg.Capacity[name]; here || !a.node.isPool(name) {
			demand[name] = int64(amount) // else it is the cluster's alone
		}
	}
	return schedule.Entry{
		ID: schedule.ID(a.row.ID), Namespace: a.row.Namespace, Queue: a.row.Queue, Kind: a.row.Kind,
		Priority: a.row.Priority, Since: a.row.Ready, Demand: schedule.NewDemand(demand),
	}
}

// census answers a scheduler that has lost its memory.
func (a *taskActor) census(ctx actor.Context) {
	switch {
	case a.tokens:
		ctx.Send(a.node.scheduler, busy{entry: a.entry(), pid: ctx.Self()})
	case a.queued:
		ctx.Send(a.node.scheduler, ready{entry: a.entry(), where: a.lane, pid: ctx.Self()})
	}
}

// start begins an attempt: the scheduler has given it its tokens.
func (a *taskActor) start(ctx actor.Context) {
	a.queued, a.tokens = false, true
	if a.left || a.leaving || a.row.State != task.Queued || a.busy {
		a.settled(ctx)
		return
	}
	handler := a.node.handler(a.row.Kind)
	if handler == nil || a.node.draining.Load() {
		a.give(ctx, a.row.Release())
		return
	}
	now := a.node.now()
	tokens := a.node.wants(a.row)
	must := a.row.MustStoreStart() || len(tokens) > 0
	step, err := a.row.Start(now, a.node.cfg.Name, "local", tokens...)
	if err != nil {
		a.give(ctx, a.row.Release())
		return
	}
	a.attempt, a.busy, a.cutOff, a.starting = step.Task.Attempt, true, nil, must
	a.waited = a.row.Called
	a.quota = newWindow(windowBytes, a.node.cfg.Limits.Log)
	a.step(ctx, step)
	a.writes[len(a.writes)-1].start = true
	if !must {
		a.run(ctx, handler)
	}
}

// windowBytes is how far an attempt's output may be ahead of the disk.
const windowBytes = 1 << 20

func (a *taskActor) run(ctx actor.Context, h Handler) {
	a.starting = false
	a.node.counters.started.Add(1)
	a.node.metrics.delay.Observe(a.node.now().Sub(a.row.Ready).Seconds())
	limits := a.node.cfg.Limits
	ctx.Send(a.node.workers, run{handler: h, task: ctx.Self(), job: &Job{
		Task: a.row, quota: a.quota, event: limits.Event, value: limits.Result,
	}})
	if a.row.Timeout > 0 {
		a.after(ctx, tickTimeout, a.row.Timeout)
	}
}

// said takes one utterance of the handler.
func (a *taskActor) said(ctx actor.Context, msg said) {
	if msg.attempt != a.row.Attempt || a.row.State != task.Running {
		return // of an attempt that is over
	}
	now := a.node.now()
	switch {
	case msg.checkpoint != nil:
		a.row.Checkpoint, a.dirty = msg.checkpoint, true
		a.unsent += len(msg.checkpoint)
	default:
		var event task.Event
		a.row, event = a.row.Say(now, msg.kind, msg.data)
		if msg.kind == task.EventProgress {
			a.row.Progress = progressOf(event)
		}
		a.unstored = append(a.unstored, event)
		a.unsent += len(msg.data)
		a.log.add(event)
		a.show(ctx)
	}
	switch {
	case a.flushing:
	case a.unsent >= flushBytes:
		a.flush(ctx)
	case !a.flushTick:
		a.flushTick = true
		a.after(ctx, tickFlush, flushAfter)
	}
}

// flush stores the live events gathered so far, and the checkpoint.
func (a *taskActor) flush(ctx actor.Context) {
	if a.unsent == 0 && !a.dirty {
		return
	}
	a.flushing = true
	a.step(ctx, task.Step{Task: a.row, Guard: a.row.Guard()})
	a.writes[len(a.writes)-1].flush = true
}

// step believes a decision and sends it to the journal, with the live events
// not stored yet in front of its own.
func (a *taskActor) step(ctx actor.Context, s task.Step) {
	m := s.Mutation()
	m.Events = slices.Concat(a.unstored, s.Events)
	m.Checkpoint = m.Checkpoint || a.dirty
	token := a.node.tokens.Add(1)
	given := s.Give
	if len(s.Take) > 0 && s.Task.State == task.Queued {
		given = s.Take // only asked whether there is room, and there is
	}
	a.writes = append(a.writes, pending{token: token, row: s.Task, given: given, bytes: a.unsent})
	a.unstored, a.unsent, a.dirty = nil, 0, false
	a.row = s.Task
	for _, e := range s.Events {
		a.log.add(e)
		a.log.hide(e.Cursor)
	}
	ctx.Request(a.node.journal, write{m: m, token: token})
}

// wrote acts on a decision that is on disk, or learns that it is void.
func (a *taskActor) wrote(ctx actor.Context, msg wrote) {
	if len(a.writes) == 0 || a.writes[0].token != msg.token {
		return // of an earlier instance
	}
	w := a.writes[0]
	a.writes = a.writes[1:]
	switch {
	case errors.Is(msg.outcome.Err, task.ErrParked):
		a.node.taken(msg.outcome.Limit)
		a.parked(ctx)
		return
	case msg.outcome.Err != nil:
		a.lost(ctx, msg.outcome.Err)
		return
	}
	a.disk = w.row
	a.node.eased(w.given)
	a.log.stored(w.row.Cursor)
	if a.quota != nil && w.bytes > 0 {
		a.quota.release(w.bytes)
	}
	if w.flush {
		a.flushing = false
	}
	a.show(ctx)
	switch {
	case w.start && a.starting && a.row.State == task.Running:
		if a.row.Cache.TTL > 0 {
			a.recall(ctx)
		} else {
			a.begin(ctx)
		}
	case w.row.Cached == task.CacheMiss:
		a.node.share(w.row)
	case a.unsent >= flushBytes && !a.flushing:
		a.flush(ctx)
	}
	if len(a.writes) == 0 {
		a.settled(ctx)
	}
}

// begin runs the attempt whose start is on disk.
func (a *taskActor) begin(ctx actor.Context) {
	if h := a.node.handler(a.row.Kind); h != nil {
		a.run(ctx, h)
		return
	}
	a.finished(ctx, finished{attempt: a.attempt, failure: &task.Failure{Code: task.CodeError, Message: "no handler", Retryable: true}})
}

// settled acts once everything decided so far is on disk.
func (a *taskActor) settled(ctx actor.Context) {
	if len(a.writes) > 0 {
		return
	}
	if a.row.State.Terminal() {
		for _, pid := range a.waiters {
			ctx.Send(pid, cancelled{task: a.row})
		}
		a.waiters = nil
	}
	if a.tokens && !a.busy && a.row.State != task.Running {
		a.tokens = false
		ctx.Send(a.node.scheduler, release{id: a.row.ID})
	}
	if a.row.State == task.Queued && !a.leaving && !a.busy && !a.queued {
		a.ready(ctx, true)
	}
	a.maybeLeave(ctx)
}

// finished ends the attempt: the handler has returned.
func (a *taskActor) finished(ctx actor.Context, msg finished) {
	if msg.attempt != a.attempt || !a.busy {
		return
	}
	a.busy = false
	a.stopTimer(tickTimeout)
	a.stopTimer(tickGrace)
	defer a.settled(ctx)
	if a.row.State != task.Running || a.row.Attempt != msg.attempt {
		return // its end has been decided without it
	}
	now := a.node.now()
	switch {
	case errors.Is(a.cutOff, ErrDrained):
		if msg.failure != nil { // one that made it in spite of the cut counts as done
			a.give(ctx, must(a.row.HandBack(now)))
			return
		}
	case errors.Is(a.cutOff, ErrTimeout) && msg.failure != nil:
		msg.failure = timeoutFailure(a.row.Timeout)
	}
	if msg.failure == nil {
		a.end(ctx, must(a.row.Succeed(now, msg.result)))
		return
	}
	a.fail(ctx, *msg.failure)
}

func (a *taskActor) fail(ctx actor.Context, f task.Failure) {
	now := a.node.now()
	step := must(a.row.Fail(now, f, chance()))
	if step.Task.State.Terminal() {
		a.end(ctx, step)
		return
	}
	a.node.counters.retried.Add(1)
	tooLong := step.Task.State == task.Scheduled && step.Task.RunAt.Sub(now) > stayFor
	if !a.busy && (tooLong || a.node.draining.Load()) {
		step.Task.Holder = 0
		a.give(ctx, step)
		return
	}
	a.step(ctx, step)
	if step.Task.State == task.Scheduled {
		a.after(ctx, tickDue, step.Task.RunAt.Sub(now))
	}
}

// end stores a terminal state.
func (a *taskActor) end(ctx actor.Context, s task.Step) {
	a.node.counters.ended[s.Task.State].Add(1)
	a.node.metrics.ended.WithLabelValues(s.Task.State.String()).Inc()
	if s.Task.Cached != "" {
		a.node.metrics.cached.WithLabelValues(string(s.Task.Cached)).Inc()
	}
	a.give(ctx, s)
}

// give stores a row this node no longer holds; then the actor goes.
func (a *taskActor) give(ctx actor.Context, s task.Step) {
	a.leaving = true
	if a.queued {
		a.queued = false
		ctx.Send(a.node.scheduler, withdraw{id: a.row.ID})
	}
	a.step(ctx, s)
}

// maybeLeave ends the actor once the row is out of its hands, everything is
// stored, and no handler runs.
func (a *taskActor) maybeLeave(ctx actor.Context) {
	if !a.leaving || a.busy || len(a.writes) > 0 {
		return
	}
	if a.queued {
		a.queued = false
		ctx.Send(a.node.scheduler, withdraw{id: a.row.ID})
	}
	for kind := range a.timers {
		a.stopTimer(tickKind(kind))
	}
	for _, w := range a.watchers {
		if !a.row.State.Terminal() {
			// The task goes on without this actor; the watcher looks again.
			ctx.Send(w.pid, notHeld{gen: w.gen})
		}
	}
	a.leaving, a.left = false, true
	ctx.Send(a.node.holder, gone{id: a.row.ID, pid: ctx.Self()})
}

// lost gives up a task whose row has moved on: whatever this actor believed is
// void. Nothing is told to anyone.
func (a *taskActor) lost(ctx actor.Context, err error) {
	a.node.metrics.lost.Inc()
	a.node.log.Warn("lost a held task", "task", a.row.ID.String(), "error", err)
	a.cut(ctx, ErrLost)
	a.letGo(ctx)
}

// parked lets go of a task that could not have its tokens. Its start is as if it
// had never been decided; what was decided on top of that has to be asked for anew.
func (a *taskActor) parked(ctx actor.Context) {
	a.node.metrics.parked.Inc()
	a.busy, a.starting = false, false
	a.letGo(ctx)
}

// letGo ends the hold of a row that is not ours any more.
func (a *taskActor) letGo(ctx actor.Context) {
	for _, pid := range a.waiters {
		ctx.Send(pid, cancelled{err: task.ErrStale})
	}
	a.waiters, a.writes, a.unstored, a.unsent = nil, nil, nil, 0
	a.row.State = task.Queued // whatever the handler still says is not taken for the row's
	a.leaving = true
	a.settled(ctx)
}

// cancel ends the task, and tells who asked once that is on disk.
func (a *taskActor) cancel(ctx actor.Context, msg cancel) {
	if msg.namespace != a.row.Namespace {
		ctx.Respond(cancelled{err: task.ErrNotFound})
		return
	}
	if a.left || a.leaving && !a.row.State.Terminal() {
		ctx.Respond(notHeld{})
		return
	}
	step, err := a.row.Cancel(a.node.now(), msg.reason)
	if err != nil {
		ctx.Respond(cancelled{err: err})
		return
	}
	a.waiters = append(a.waiters, ctx.Sender())
	a.end(ctx, step)
	a.cut(ctx, ErrCancelled)
}

// cut tells the handler that its attempt is over.
func (a *taskActor) cut(ctx actor.Context, cause error) {
	if !a.busy {
		return
	}
	a.cutOff = cause
	if a.starting { // it never ran, and will not
		a.busy, a.starting = false, false
		return
	}
	ctx.Send(a.node.workers, abort{id: a.row.ID, attempt: a.attempt, cause: cause})
}

// giveBack lets a waiting task go; a running one stays.
func (a *taskActor) giveBack(ctx actor.Context) {
	if a.left || a.leaving || a.busy || a.row.State == task.Running {
		return
	}
	a.give(ctx, a.row.Release())
}

// expel cuts a running attempt off so that the node can stop. Given back when
// its handler has returned.
func (a *taskActor) expel(ctx actor.Context) {
	if a.row.State != task.Running {
		a.giveBack(ctx)
		return
	}
	starting := a.starting
	a.cut(ctx, ErrDrained)
	if starting {
		a.give(ctx, must(a.row.HandBack(a.node.now())))
	}
}

func (a *taskActor) tick(ctx actor.Context, msg tick) {
	if msg.gen != a.gens[msg.kind] {
		return
	}
	now := a.node.now()
	switch msg.kind {
	case tickFlush:
		a.flushTick = false
		if !a.flushing {
			a.flush(ctx)
		}
	case tickDue:
		if step, err := a.row.Due(now); err == nil && !a.leaving {
			a.step(ctx, step)
		}
	case tickTimeout:
		if a.row.State == task.Running && a.cutOff == nil {
			a.cut(ctx, ErrTimeout)
			a.after(ctx, tickGrace, graceAfterTimeout)
		}
	case tickGrace:
		if a.busy && a.row.State == task.Running && a.row.Attempt == a.attempt {
			a.fail(ctx, *timeoutFailure(a.row.Timeout))
		}
	case tickRecall:
		a.recalled(ctx, recalled{attempt: a.attempt})
	default: // tickDeadline
		if step, err := a.row.Expire(now); err == nil && !a.leaving {
			a.end(ctx, step)
			a.cut(ctx, ErrDeadline)
		}
	}
}

// after sends a tick of one kind to this actor in a while; an earlier one of
// that kind still under way is void.
func (a *taskActor) after(ctx actor.Context, kind tickKind, wait time.Duration) {
	a.stopTimer(kind)
	gen, self, root := a.gens[kind], ctx.Self(), a.node.root
	a.timers[kind] = time.AfterFunc(max(0, wait), func() { root.Send(self, tick{kind: kind, gen: gen}) })
}

func (a *taskActor) stopTimer(kind tickKind) {
	a.gens[kind]++
	if a.timers[kind] != nil {
		a.timers[kind].Stop()
		a.timers[kind] = nil
	}
}

// recover begins a new instance after a crash: it reads the row, ends the
// attempt that ran, and lets go.
func (a *taskActor) recover(ctx actor.Context) {
	self, root, id, namespace := ctx.Self(), a.node.root, a.row.ID, a.row.Namespace
	ctx.Send(a.node.scheduler, release{id: id})
	ctx.Send(a.node.scheduler, withdraw{id: id})
	a.node.work(func(workCtx context.Context) {
		t, err := a.node.cfg.Store.Task(workCtx, namespace, id)
		root.Send(self, reread{task: t, err: err})
	})
}

func (a *taskActor) reread(ctx actor.Context, msg reread) {
	switch {
	case errors.Is(msg.err, task.ErrNotFound), msg.err == nil && msg.task.Holder != a.node.incarnation:
		a.leaving = true
		a.maybeLeave(ctx)
	case msg.err != nil:
		a.node.log.Error("cannot read a task back", "task", a.row.ID.String(), "error", msg.err)
		self, root := ctx.Self(), a.node.root
		time.AfterFunc(commitRetry, func() { root.Send(self, &actor.Started{}) })
	default:
		ctx.Send(a.node.workers, abort{id: msg.task.ID, attempt: msg.task.Attempt, cause: ErrLost})
		a.row, a.disk = msg.task, msg.task
		a.give(ctx, msg.task.Lost(a.node.now(), task.CodeWorkerCrashed, chance(), a.node.cfg.Limits.Crashes))
	}
}

func must(s task.Step, err error) task.Step {
	if err != nil {
		panic(err) // the state was looked at just before
	}
	return s
}

func chance() float64 { return rand.Float64() } //nolint:gosec // spreads retries, no secret

func timeoutFailure(d time.Duration) *task.Failure {
	return &task.Failure{Code: task.CodeTimeout, Message: "the attempt took longer than its timeout of " + d.String(), Retryable: true}
}
