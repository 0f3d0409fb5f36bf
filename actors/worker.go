package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// workers hands attempts to worker actors, making one where none is free, and
// knows who runs what. It is a registry (see supervision.go).
type workers struct {
	node *Node
	free []*actor.PID
	runs map[task.ID]*actor.PID
}

// keepFree is how many idle workers are kept for the next attempts: as many as run at once
// as a rule.
const keepFree = 1024

// Receive implements [actor.Actor].
func (w *workers) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case run:
		pid := w.take(ctx)
		w.runs[msg.job.Task.ID] = pid
		ctx.Send(pid, msg)
	case abort:
		if pid, ok := w.runs[msg.id]; ok {
			ctx.Send(pid, msg)
		}
	case idle:
		w.idle(ctx, msg.id)
	}
}

func (w *workers) take(ctx actor.Context) *actor.PID {
	if last := len(w.free) - 1; last >= 0 {
		pid := w.free[last]
		w.free = w.free[:last]
		return pid
	}
	return ctx.Spawn(w.node.ownProps(func() actor.Actor { return &worker{node: w.node} }))
}

func (w *workers) idle(ctx actor.Context, id task.ID) {
	if pid, ok := w.runs[id]; ok && pid.Equal(ctx.Sender()) {
		delete(w.runs, id)
	}
	if len(w.free) >= keepFree {
		ctx.Stop(ctx.Sender())
		return
	}
	w.free = append(w.free, ctx.Sender())
}

// worker runs one attempt at a time in a goroutine of its own. The attempt is
// over when the handler has returned, however long ago it was cut off.
type worker struct {
	node   *Node
	job    *Job
	task   *actor.PID
	cancel context.CancelCauseFunc
}

// Receive implements [actor.Actor].
func (w *worker) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case run:
		w.run(ctx, msg)
	case abort:
		if w.job != nil && w.job.Task.ID == msg.id && w.job.Task.Attempt == msg.attempt {
			w.job.quota.end(msg.cause)
			w.job.notes.end(msg.cause)
			w.cancel(msg.cause)
		}
	case handlerEnd:
		w.end(ctx, msg)
	case *actor.Restarting, *actor.Stopping:
		w.crashed(ctx)
	}
}

func (w *worker) run(ctx actor.Context, msg run) {
	w.job, w.task = msg.job, msg.task
	attempt, cancel := context.WithCancelCause(w.node.life)
	w.cancel = cancel
	job := msg.job
	job.ctx = attempt
	root, to, id, number := w.node.root, msg.task, job.Task.ID, job.Task.Attempt
	job.speak = func(u utterance) { root.Send(to, said{id: id, attempt: number, utterance: u}) }
	self := ctx.Self()
	w.node.attempt(msg.away, func() {
		end := handlerEnd{job: job}
		end.result, end.failure, end.suspend = call(attempt, msg.handler, job)
		end.settled = job.settled
		root.Send(self, end)
	})
}

func (w *worker) end(ctx actor.Context, msg handlerEnd) {
	if w.job == nil || w.job != msg.job {
		msg.refuse()
		return // of an attempt this worker was restarted under
	}
	w.cancel(nil)
	w.job.quota.end(errOver)
	w.job.notes.end(errOver)
	id := w.job.Task.ID
	ctx.Send(w.task, finished{
		id: id, attempt: w.job.Task.Attempt, result: msg.result, failure: msg.failure, suspend: msg.suspend, settled: msg.settled,
	})
	w.job, w.task, w.cancel = nil, nil, nil
	ctx.Request(w.node.workers, idle{id: id})
}

// crashed cuts the handler off when this actor itself is being restarted or
// stopped; the attempt fails, and may be tried again.
func (w *worker) crashed(ctx actor.Context) {
	if w.job == nil {
		return
	}
	w.end(ctx, handlerEnd{job: w.job, failure: &task.Failure{
		Code: task.CodeWorkerCrashed, Message: "the worker crashed", Retryable: true,
	}})
}

// refuse tells who waits for an end that it is not the attempt's.
func (e handlerEnd) refuse() {
	if e.settled != nil {
		e.settled(task.ErrStale)
	}
}

var errOver = errors.New("the attempt is over")

// call runs a handler and turns everything it may do into a result, a failure or
// what it waits for.
func call(ctx context.Context, h Handler, job *Job) (result json.RawMessage, failure *task.Failure, suspend *task.Suspension) {
	defer func() {
		if r := recover(); r != nil {
			stack := string(debug.Stack())
			fields, _ := json.Marshal(map[string]string{"stack": stack[:min(len(stack), 8<<10)]})
			_ = job.Log("error", fmt.Sprintf("panic: %v", r), fields)
			result, failure, suspend = nil, &task.Failure{Code: task.CodePanic, Message: fmt.Sprint(r), Retryable: true}, nil
		}
	}()
	result, err := h(ctx, job)
	if s, ok := errors.AsType[*Suspended](err); ok {
		return nil, nil, &s.why
	}
	if err != nil {
		return nil, job.failure(err), nil
	}
	if bad := job.fits(result); bad != nil {
		return nil, bad, nil
	}
	return result, nil, nil
}

// failure is what an error of the handler says of the attempt.
func (j *Job) failure(err error) *task.Failure {
	if f, ok := errors.AsType[*task.Failure](err); ok {
		clean := *f
		clean.Details = j.redact(f.Details)
		return &clean
	}
	return &task.Failure{Code: task.CodeError, Message: err.Error(), Retryable: true}
}

// graceAfterTimeout is how long a handler may take to return once its attempt
// has timed out, before the attempt fails without it.
const graceAfterTimeout = 10 * time.Second
