package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/actors"
	"github.com/troupe-run/troupe/runtime/task"
)

// ErrNoSignal is what [WaitFor] ends with when no signal came in time.
var ErrNoSignal = actors.ErrNoSignal

// Step runs fn once in the life of a task, over all its attempts, and gives what fn
// gave then, as JSON has it. When Step returns, the result is on disk: an attempt
// after a crash, an error or a sleep goes on behind the last step that is done. An
// error of fn is not remembered; the next attempt calls fn again, as it does if the
// process died before the result was on disk.
//
// Steps are known by their names. The same name again in one attempt is a step of
// its own, with a number: so a loop may use one name, as long as the handler does
// the same things in the same order every time. It must do so behind a step, too,
// if what it does depends on more than its payload and its steps.
//
// It is a function, since a method has no type parameters.
func Step[Out, In any](ctx context.Context, t *Task[In], name string, fn func(context.Context) (Out, error)) (out Out, err error) {
	raw, err := t.job.Step(ctx, name, func(ctx context.Context) (json.RawMessage, error) {
		made, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(made)
		if err != nil {
			return nil, &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("encode the result of step %q: %v", name, err)}
		}
		return raw, nil
	})
	if err != nil {
		return out, err
	}
	// Also the first time: so the handler sees the same in every attempt.
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("decode the result of step %q: %v", name, err)}
	}
	return out, nil
}

// Sleep returns nil when d has passed since the task first came here, over all its
// attempts. Meanwhile it holds nothing: unless it is for a moment, Sleep returns an
// error that the handler must return as it is, or wrapped. That ends the attempt,
// without counting it, and the next one begins when the time has come.
//
// The first sleep of an attempt is known from the second by their order, as steps
// of one name are.
func Sleep[In any](ctx context.Context, t *Task[In], d time.Duration) error {
	return t.job.Sleep(ctx, d)
}

// SleepUntil is [Sleep] until a time. What the task comes with first counts.
func SleepUntil[In any](ctx context.Context, t *Task[In], at time.Time) error {
	return t.job.SleepUntil(ctx, at)
}

// WaitFor takes the next signal of a name that the task has been sent, each once and
// in the order in which they came, and decodes its payload. If none is there, the
// error is for the handler to return as it is, as that of [Sleep]: the task is
// blocked, holds nothing, and goes on when the signal comes. With a timeout,
// counted from when the task first came here, WaitFor then gives [ErrNoSignal].
func WaitFor[Out, In any](ctx context.Context, t *Task[In], signal string, timeout ...time.Duration) (out Out, err error) {
	within := time.Duration(-1)
	if len(timeout) > 0 {
		within = max(0, timeout[0])
	}
	raw, err := t.job.WaitFor(ctx, signal, within)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf("decode the signal %q: %v", signal, err)}
	}
	return out, nil
}
