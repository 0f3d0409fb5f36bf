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

// flushAfter is how long a live event may wait to be stored, beside [lazyFor], or
// until flushEvery has gone by since the last ones were, and flushBytes how many bytes
// of them may. All three only bound what a crash can lose of an attempt that is over
// anyway: what talks on and on is stored a few events at a time.
const (
	flushAfter = 50 * time.Millisecond
	flushEvery = 250 * time.Millisecond
	flushBytes = 64 << 10
)

// taskActor speaks for one task this node holds, and after that for another. Its row
// is as the last decision made it; what has been sent to the journal and not been
// answered stands in writes. Every decision is one of package task's; step sends it to
// the journal, and the answer lets the outside see it.
//
// After a crash of the actor the row in the store is all that counts: the
// attempt that ran is over and counted, and the task is given back.
type taskActor struct {
	node *Node
	role *role
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
	notes    *notes // of what is to be remembered
	noted    int    // how much of that came
	cutOff   error  // why it was cut off; nil while it was not
	starting bool   // its start must be stored before it runs, and a result looked for
	waited   bool   // it was parked before
	began    time.Time
	worker   string        // elsewhere, that it runs on; empty: here
	verdict  verdict       // of the attempt on its kind
	took     time.Duration // the attempt, from begin to end; 0 where it was cut short

	// What is being stored, in order.
	disk      *task.Task // the row as the journal last said it is; not to be changed
	writes    []pending
	unstored  []task.Event // live events not sent to the journal yet
	unsent    int          // bytes of unstored
	dirty     bool         // the checkpoint changed
	memos     []task.Memo  // not sent to the journal yet
	flushing  bool         // a flush is under way
	flushed   time.Time    // when the last one was sent
	flushTick bool         // a flush tick is under way
	gens      [tickKinds]uint64
	timers    [tickKinds]*time.Timer

	log      eventLog
	watchers map[string]watcher
	waiters  []*actor.PID  // want to know of the end that is being stored
	enders   []func(error) // the same, of the end of an attempt
}

// pending is a write the journal has not answered.
type pending struct {
	token uint64
	row   *task.Task   // as it is then
	given []task.Token // of limits in which there is room now
	bytes int          // of the attempt's window
	noted int          // of the attempt: what is remembered then
	flush bool
	start bool
}

type watcher struct {
	pid *actor.PID
	gen uint64
}

// role is whom an actor speaks for, and how that begins.
type role struct {
	task   *task.Task // as it was just stored; not to be changed
	queued bool       // the scheduler has it waiting, or has just started it
	start  *start     // how; nil: it waits
}

// newTaskActor makes the recipe. The first instance is given the row; a later one, after
// a crash, reads it.
func newTaskActor(n *Node, r role) func() actor.Actor {
	first := true
	return func() actor.Actor {
		a := &taskActor{node: n, role: &r}
		a.play(!first)
		first = false
		return a
	}
}

// play begins a role. Of what came before only the numbers of timers go on, which tell
// late ticks from those to come, and some memory.
func (a *taskActor) play(restarted bool) {
	t := a.role.task
	*a = taskActor{
		node: a.node, role: a.role, row: *t, disk: t, lane: t.Lane(), restarted: restarted, log: a.log.anew(t.Cursor), gens: a.gens,
		writes: a.writes[:0],
	}
}

// Receive implements [actor.Actor].
func (a *taskActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.started(ctx)
	case adopt:
		*a.role = msg.role
		a.play(false)
		a.started(ctx)
	case start:
		a.start(ctx, msg)
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
	switch {
	case a.role.start != nil:
		a.start(ctx, *a.role.start)
	case a.role.queued:
		a.queued = true
	case a.row.State == task.Scheduled:
		a.after(ctx, tickDue, a.node.until(a.row.RunAt))
	default:
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

func (a *taskActor) entry() schedule.Entry { return a.node.entry(a.row, a.worker) }

// entry is a task as the scheduler sees it.
func (n *Node) entry(t task.Task, worker string) schedule.Entry {
	demand := make(map[string]int64, len(t.Resources))
	for name, amount := range t.Resources {
		if _, here := n.cfg.Capacity[name]; here || !n.isPool(name) {
			demand[name] = int64(amount) // else it is the cluster's alone
		}
	}
	return schedule.Entry{
		ID: schedule.ID(t.ID), Namespace: t.Namespace, Queue: t.Queue, Kind: t.Kind,
		Priority: t.Priority, Since: t.Ready, Demand: schedule.NewDemand(demand),
		Timeout: t.Timeout, Deadline: t.Deadline, Worker: worker,
	}
}

// census answers a scheduler that has lost its memory.
func (a *taskActor) census(ctx actor.Context) {
	switch {
	case a.tokens:
		ctx.Send(a.node.scheduler, busy{entry: a.entry(), where: a.lane, pid: ctx.Self()})
	case a.queued:
		ctx.Send(a.node.scheduler, ready{entry: a.entry(), where: a.lane, pid: ctx.Self()})
	}
}

// start begins an attempt: the scheduler has given it its tokens.
func (a *taskActor) start(ctx actor.Context, msg start) {
	if msg.id != a.row.ID {
		ctx.Send(a.node.scheduler, release{id: msg.id})
		return
	}
	a.queued, a.tokens, a.worker = false, true, msg.worker
	if a.left || a.leaving || a.row.State != task.Queued || a.busy {
		a.settled(ctx)
		return
	}
	handler, where := a.handler()
	if handler == nil || a.node.draining.Load() {
		a.give(ctx, a.row.Release())
		return
	}
	now := a.node.now()
	tokens := a.node.wants(a.row)
	must := a.row.MustStoreStart() || len(tokens) > 0
	step, err := a.row.Start(now, a.node.cfg.Name, where, tokens...)
	if err != nil {
		a.give(ctx, a.row.Release())
		return
	}
	a.attempt, a.busy, a.cutOff, a.starting = step.Task.Attempt, true, nil, must
	a.waited = a.row.Called
	a.quota, a.notes, a.noted = newWindow(windowBytes, a.node.cfg.Limits.Log), &notes{}, 0
	a.write(ctx, step, !must && !a.seen())
	a.writes[len(a.writes)-1].start = true
	if !must {
		a.run(ctx, handler)
	}
}

// handler is who runs the attempt, and what it is called.
func (a *taskActor) handler() (h Handler, where string) {
	if a.worker == "" {
		return a.node.handler(a.row.Kind), "local"
	}
	if r := a.node.remote(a.worker); r != nil {
		return r.desk.run, r.id
	}
	return nil, ""
}

// latest is the row as it was last written, if not stored yet.
func (a *taskActor) latest() *task.Task {
	if last := len(a.writes) - 1; last >= 0 {
		return a.writes[last].row
	}
	return a.disk
}

// windowBytes is how far an attempt's output may be ahead of the disk.
const windowBytes = 1 << 20

func (a *taskActor) run(ctx actor.Context, h Handler) {
	a.starting, a.began = false, a.node.now()
	a.node.counters.started.Add(1)
	if a.row.Counted() == 1 {
		a.node.firstAttempt(a.row)
	}
	a.node.metrics.delay.Observe(a.began.Sub(a.row.Ready).Seconds())
	limits := a.node.cfg.Limits
	ctx.Send(a.node.workers, run{handler: h, away: a.worker != "", task: ctx.Self(), job: &Job{
		Task: a.latest(), store: a.node.cfg.Store, now: a.node.now, limits: limits, redact: a.node.cfg.Redact,
		notes: a.notes, memory: &recollection{most: limits.Memos},
		quota: a.quota, voices: &a.node.voices, event: limits.Event, value: limits.Result,
	}})
	if a.row.Timeout > 0 {
		a.after(ctx, tickTimeout, a.row.Timeout)
	}
}

// said takes one utterance of the handler.
func (a *taskActor) said(ctx actor.Context, msg said) {
	if msg.id != a.row.ID || msg.attempt != a.row.Attempt || a.row.State != task.Running {
		return // of an attempt that is over
	}
	now := a.node.now()
	switch {
	case msg.checkpoint != nil:
		a.row.Checkpoint, a.dirty = msg.checkpoint, true
		a.unsent += len(msg.checkpoint)
	case msg.memo != nil:
		var event task.Event
		a.row, event = a.row.Remember(now, *msg.memo, msg.took)
		a.memos, a.noted = append(a.memos, *msg.memo), a.noted+1
		a.unstored = append(a.unstored, event)
		a.log.add(event)
		a.show(ctx)
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
	case a.unsent >= flushBytes, len(a.memos) > 0:
		a.flush(ctx, false)
	case !a.flushTick:
		a.flushTick = true
		a.after(ctx, tickFlush, max(flushAfter, flushEvery-now.Sub(a.flushed)))
	}
}

// flush stores the live events gathered so far, the checkpoint and the memos.
func (a *taskActor) flush(ctx actor.Context, lazy bool) {
	if a.unsent == 0 && !a.dirty && len(a.memos) == 0 {
		return
	}
	a.flushing, a.flushed = true, a.node.now()
	a.write(ctx, task.Step{Task: a.row, Guard: a.row.Guard()}, lazy)
	a.writes[len(a.writes)-1].flush = true
}

// step believes a decision and sends it to the journal, with the live events
// not stored yet in front of its own.
func (a *taskActor) step(ctx actor.Context, s task.Step) { a.write(ctx, s, false) }

// seen says whether somebody may wait to see what happens to the task.
func (a *taskActor) seen() bool {
	return len(a.watchers) > 0 || a.node.watched.Load() > 0 || a.node.farFollowers.Load() > 0
}

// write is step; a lazy one may be stored a little later.
func (a *taskActor) write(ctx actor.Context, s task.Step, lazy bool) {
	m := s.Mutation()
	if m.Events = slices.Clip(s.Events); len(a.unstored) > 0 {
		m.Events = slices.Concat(a.unstored, s.Events)
	}
	m.Checkpoint = m.Checkpoint || a.dirty
	if !s.Task.State.Terminal() { // else nobody will ask
		m.Memos = a.memos
	}
	token := a.node.tokens.Add(1)
	given := s.Give
	if len(s.Take) > 0 && s.Task.State == task.Queued {
		given = s.Take // only asked whether there is room, and there is
	}
	a.writes = append(a.writes, pending{token: token, row: &m.Task, given: given, bytes: a.unsent, noted: a.noted})
	a.unstored, a.unsent, a.dirty, a.memos = nil, 0, false, nil
	a.row = s.Task
	for _, e := range s.Events {
		a.log.add(e)
		a.log.hide(e.Cursor)
	}
	ctx.Request(a.node.journal, write{m: &m, token: token, lazy: lazy})
}

// wrote acts on a decision that is on disk, or learns that it is void.
func (a *taskActor) wrote(ctx actor.Context, msg wrote) {
	if len(a.writes) == 0 || a.writes[0].token != msg.token {
		return // of an earlier instance
	}
	w := a.writes[0]
	a.writes = slices.Delete(a.writes, 0, 1)
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
	if a.notes != nil {
		a.notes.store(w.noted)
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
		a.node.share(*w.row)
	case (a.unsent >= flushBytes || len(a.memos) > 0) && !a.flushing:
		a.flush(ctx, false)
	}
	if len(a.writes) == 0 {
		a.settled(ctx)
	}
}

// begin runs the attempt whose start is on disk.
func (a *taskActor) begin(ctx actor.Context) {
	if h, _ := a.handler(); h != nil {
		a.run(ctx, h)
		return
	}
	a.finished(ctx, finished{id: a.row.ID, attempt: a.attempt, failure: &task.Failure{Code: task.CodeError, Message: "no handler", Retryable: true}})
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
	a.tellEnders(nil)
	if a.tokens && !a.busy && a.row.State != task.Running {
		a.tokens, a.worker = false, ""
		ctx.Send(a.node.scheduler, release{id: a.row.ID, took: a.took, verdict: a.verdict})
		a.took, a.verdict = 0, verdict{}
	}
	if a.row.State == task.Queued && !a.leaving && !a.busy && !a.queued {
		a.ready(ctx, true)
	}
	a.maybeLeave(ctx)
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
			a.flush(ctx, true) // with those of other tasks, not each in a commit of its own
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
		a.recalled(ctx, recalled{id: a.row.ID, attempt: a.attempt})
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
		root.Send(self, reread{id: id, task: t, err: err})
	})
}

func (a *taskActor) reread(ctx actor.Context, msg reread) {
	switch {
	case msg.id != a.row.ID:
	case errors.Is(msg.err, task.ErrNotFound), msg.err == nil && msg.task.Holder != a.node.incarnation:
		a.leaving = true
		a.maybeLeave(ctx)
	case msg.err != nil:
		a.node.log.Error("cannot read a task back", "task", a.row.ID.String(), "error", msg.err)
		self, root := ctx.Self(), a.node.root
		time.AfterFunc(commitRetry, func() { root.Send(self, &actor.Started{}) })
	default:
		ctx.Send(a.node.workers, abort{id: msg.task.ID, attempt: msg.task.Attempt, cause: ErrLost})
		a.row, a.disk = msg.task, &msg.task
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
