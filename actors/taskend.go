package actors

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// The part of a task's actor that ends: an attempt, the task, or its time here.

// finished ends the attempt: the handler has returned.
func (a *taskActor) finished(ctx actor.Context, msg finished) {
	if msg.id != a.row.ID || msg.attempt != a.attempt || !a.busy {
		handlerEnd{settled: msg.settled}.refuse()
		return
	}
	a.busy = false
	a.stopTimer(tickTimeout)
	a.stopTimer(tickGrace)
	defer a.settled(ctx)
	if a.row.State != task.Running || a.row.Attempt != msg.attempt {
		handlerEnd{settled: msg.settled}.refuse()
		return // its end has been decided without it
	}
	if msg.settled != nil {
		a.enders = append(a.enders, msg.settled)
	}
	now := a.node.now()
	if msg.suspend != nil {
		a.give(ctx, must(a.row.Suspend(now, *msg.suspend)))
		return
	}
	if a.cutOff == nil || errors.Is(a.cutOff, ErrTimeout) {
		a.took = now.Sub(a.began)
	}
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
		a.verdict = verdict{succeeded: true}
		a.end(ctx, must(a.row.Succeed(now, msg.result)))
		return
	}
	a.fail(ctx, *msg.failure)
}

func (a *taskActor) fail(ctx actor.Context, f task.Failure) {
	a.verdict = verdict{failed: f.Code}
	now := a.node.now()
	step := must(a.row.FailPaced(now, f, chance(), a.node.placeOfRetry(a.row, f)))
	if step.Task.State.Terminal() {
		a.end(ctx, step)
		return
	}
	a.node.counters.retried.Add(1)
	if step.PutOff {
		a.node.metrics.putOff.Inc()
	}
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
	a.verdict = verdict{}
	a.letGo(ctx)
}

// tellEnders tells those who ended an attempt whether that is on disk.
func (a *taskActor) tellEnders(err error) {
	for _, tell := range a.enders {
		tell(err)
	}
	a.enders = nil
}

// letGo ends the hold of a row that is not ours any more.
func (a *taskActor) letGo(ctx actor.Context) {
	for _, pid := range a.waiters {
		ctx.Send(pid, cancelled{err: task.ErrStale})
	}
	a.tellEnders(task.ErrStale)
	a.waiters, a.writes, a.unstored, a.unsent, a.memos = nil, nil, nil, 0, nil
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

func timeoutFailure(d time.Duration) *task.Failure {
	return &task.Failure{Code: task.CodeTimeout, Message: "the attempt took longer than its timeout of " + d.String(), Retryable: true}
}
