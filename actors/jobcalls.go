package actors

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// What a job does for a worker elsewhere. It knows what it remembers by the names the
// worker gives, so that a call whose answer was lost on the way can be made again.

// tell does those calls that an attempt goes on after, and that give nothing.
func (j *Job) tell(ctx context.Context, call task.WorkerCall) error {
	switch c := call.(type) {
	case task.SayProgress:
		return j.Progress(c.Fraction, c.Message)
	case task.SayLog:
		return j.Log(c.Level, c.Message, c.Fields)
	case task.SayOutput:
		return j.say(task.EventOutput, task.OutputData(c))
	case task.SayCheckpoint:
		return j.Checkpoint(c.Value)
	case task.KeepStep:
		return j.keepStep(ctx, c)
	default:
		return fmt.Errorf("call %T: %w", call, task.ErrInvalid)
	}
}

// fits says what is wrong with a result.
func (j *Job) fits(result json.RawMessage) *task.Failure {
	switch {
	case len(result) > j.value:
		return &task.Failure{Code: task.CodeResultTooLarge, Message: fmt.Sprintf("the result has %d bytes, more than the %d allowed", len(result), j.value)}
	case len(result) > 0 && !task.ValidJSON(result):
		return &task.Failure{Code: task.CodeError, Message: "the result is not JSON, or nested too deep"}
	}
	return nil
}

// recall reads what the task remembers, if that has not been. An attempt that is to end
// does nothing new.
func (j *Job) recall(ctx context.Context) error {
	j.memory.mu.Lock()
	defer j.memory.mu.Unlock()
	if j.memory.suspended != nil {
		return j.memory.suspended
	}
	if err := j.readMemos(ctx); err != nil {
		return fmt.Errorf("read what task %s remembers: %w", j.Task.ID, err)
	}
	return nil
}

// done lists the steps that earlier attempts have done.
func (j *Job) done(ctx context.Context) (steps []task.Memo, err error) {
	if err := j.recall(ctx); err != nil {
		return nil, err
	}
	for _, m := range j.memory.inOrder {
		if m.Kind == task.StepMemo {
			steps = append(steps, m)
		}
	}
	return steps, nil
}

func (j *Job) keepStep(ctx context.Context, c task.KeepStep) error {
	if !task.ValidMemoName(c.Name) {
		return badName("a step", c.Name)
	}
	if err := j.recall(ctx); err != nil {
		return err
	}
	if _, known := j.recollect(task.StepMemo, c.Name); known {
		return nil
	}
	if len(c.Result) == 0 {
		c.Result = json.RawMessage("null")
	}
	return j.remember(ctx, task.Memo{Kind: task.StepMemo, Name: c.Name, Data: c.Result}, 0)
}

func badName(what, name string) error {
	return &task.Failure{Code: codeInvalidStep, Message: fmt.Sprintf("the name of %s must be 1 to 200 bytes of printable UTF-8, not %.50q", what, name)}
}

// sleepAs is Sleep under a name of the worker's.
func (j *Job) sleepAs(ctx context.Context, name string, d time.Duration) error {
	if name = cmp.Or(name, "sleep"); !task.ValidMemoName(name) {
		return badName("a sleep", name)
	}
	if d > j.limits.Delay {
		return &task.Failure{Code: codeInvalidStep, Message: fmt.Sprintf("a task may not sleep for more than %s", j.limits.Delay)}
	}
	if err := j.recall(ctx); err != nil {
		return err
	}
	return j.sleep(ctx, name, j.now().Add(d))
}

// waitAs is WaitFor, under a name of the worker's if it gives one.
func (j *Job) waitAs(ctx context.Context, c task.AwaitSignal) (json.RawMessage, error) {
	if c.Name == "" {
		return j.WaitFor(ctx, c.Signal, c.Timeout)
	}
	if !task.ValidMemoName(c.Name) {
		return nil, badName("a wait", c.Name)
	}
	if err := j.checkWait(c.Signal, c.Timeout); err != nil {
		return nil, err
	}
	if err := j.recall(ctx); err != nil {
		return nil, err
	}
	j.memory.taking.Lock()
	defer j.memory.taking.Unlock()
	return j.waitFor(ctx, c.Name, c.Signal, c.Timeout)
}
