package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/troupe-run/troupe/actors"
	"github.com/troupe-run/troupe/runtime/task"
)

// Why an attempt's context ended, for context.Cause in a handler.
var (
	ErrCancelled = actors.ErrCancelled
	ErrTimeout   = actors.ErrTimeout
	ErrDeadline  = actors.ErrDeadline
	ErrDrained   = actors.ErrDrained
	ErrLost      = actors.ErrLost
)

// Task is one attempt of a task, as its handler sees it, with the payload
// decoded into In. Its methods may be called from any goroutine until the
// handler returns. They block while the attempt is too far ahead of the disk,
// and return an error once it is over.
type Task[In any] struct {
	ID        task.ID
	Namespace string
	Attempt   int // from 1
	Labels    map[string]string
	Tick      task.Tick // of the schedule that submitted it, if one did
	Payload   In

	job *actors.Job
	ctx context.Context //nolint:containedctx // the attempt's own; a Task lives exactly as long
}

// Handle makes fn the handler of a kind on this node. A payload that does not
// decode into In fails the task without a retry; Out is encoded as the result.
// Handle may be called at any time; a kind has one handler, the last one given.
//
// fn must return soon after ctx ends. An error it returns may be retried unless
// it is [Permanent]; a [task.Failure] is kept as it is.
func Handle[In, Out any](r *Runtime, kind string, fn func(context.Context, *Task[In]) (Out, error)) {
	r.handle(kind, func(ctx context.Context, job *actors.Job) (json.RawMessage, error) {
		t, err := newTask[In](ctx, job)
		if err != nil {
			return nil, err
		}
		out, err := fn(ctx, t)
		if err != nil {
			return nil, err
		}
		return encode(out)
	})
}

func newTask[In any](ctx context.Context, job *actors.Job) (*Task[In], error) {
	t := &Task[In]{ID: job.Task.ID, Namespace: job.Task.Namespace, Attempt: job.Task.Attempt, Labels: job.Task.Labels, Tick: job.Task.Tick, job: job, ctx: ctx}
	if err := json.Unmarshal(job.Task.Payload, &t.Payload); err != nil {
		return nil, &task.Failure{Code: task.CodeInvalidPayload, Message: err.Error()}
	}
	return t, nil
}

func encode(out any) (json.RawMessage, error) {
	result, err := json.Marshal(out)
	if err != nil {
		return nil, &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("encode result: %v", err)}
	}
	return result, nil
}

// Err is nil while the attempt is wanted, else why it is not: one of the Err… of
// this package.
func (t *Task[In]) Err() error { return context.Cause(t.ctx) }

// Done is closed when the attempt is no longer wanted; then Err says why.
func (t *Task[In]) Done() <-chan struct{} { return t.ctx.Done() }

// Permanent marks an error as one that no retry will mend.
func Permanent(err error) error {
	if _, ok := errors.AsType[*actors.Suspended](err); ok {
		return err // no failure
	}
	if f, ok := errors.AsType[*task.Failure](err); ok {
		final := *f
		final.Retryable = false
		return &final
	}
	return &task.Failure{Code: task.CodeError, Message: err.Error()}
}

// Progress says how far the attempt has come, as a fraction of 1; less than 0
// means that nobody can tell.
func (t *Task[In]) Progress(fraction float64, message string) error {
	if fraction < 0 {
		return t.job.Progress(nil, message)
	}
	return t.job.Progress(&fraction, message)
}

// Log adds a line to the task's log; args are key-value pairs as in slog.
func (t *Task[In]) Log(level slog.Level, message string, args ...any) error {
	var fields json.RawMessage
	if len(args) > 0 {
		record := slog.Record{}
		record.Add(args...)
		m := make(map[string]any, record.NumAttrs())
		record.Attrs(func(a slog.Attr) bool {
			m[a.Key] = plain(a.Value.Resolve())
			return true
		})
		raw, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode log fields: %w", err)
		}
		fields = raw
	}
	return t.job.Log(levelName(level), message, fields)
}

// Emit streams a piece of the result to whoever watches; any value that encodes
// to JSON.
func (t *Task[In]) Emit(chunk any) error {
	raw, err := json.Marshal(chunk)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return t.job.Emit(raw)
}

// EmitText streams a piece of text.
func (t *Task[In]) EmitText(text string) error { return t.job.EmitText(text) }

// EmitBytes streams bytes: as text where they are UTF-8, else as base64.
func (t *Task[In]) EmitBytes(b []byte) error { return t.job.EmitBytes(b) }

// Checkpoint keeps v for the task's next attempt, which gets it from Restore.
func (t *Task[In]) Checkpoint(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	return t.job.Checkpoint(raw)
}

// Restore decodes into v what the last attempt kept with Checkpoint, and says
// whether there was anything.
func (t *Task[In]) Restore(v any) (bool, error) {
	if t.job.Task.Checkpoint == nil {
		return false, nil
	}
	if err := json.Unmarshal(t.job.Task.Checkpoint, v); err != nil {
		return false, fmt.Errorf("decode checkpoint: %w", err)
	}
	return true, nil
}

// Again is for an attempt that found it is too early, such as one that a server told
// to come later. Its error is for the handler to return as it is, or wrapped: that
// ends the attempt, without counting it, and the next one begins when d has passed,
// from the beginning. Meanwhile the task holds nothing. Whoever could be told so
// for ever counts with Checkpoint how often. A task whose deadline comes first fails.
func (t *Task[In]) Again(d time.Duration) error { return t.job.Again(d) }

// Dependency is the result of a task that this one depends on: JSON, or an error
// that is its [task.Failure] if it failed, which this one runs after only if it was
// submitted to. Retention may have taken the task.
func (t *Task[In]) Dependency(ctx context.Context, id task.ID) (json.RawMessage, error) {
	return t.job.Dependency(ctx, id)
}

// Dependencies are the tasks that this one depends on, in the order in which it was
// submitted with them.
func (t *Task[In]) Dependencies() []task.ID { return slices.Clone(t.job.Task.DependsOn) }

// ResultOf is the result of a task that t depends on, decoded.
func ResultOf[Out, In any](ctx context.Context, t *Task[In], id task.ID) (out Out, err error) {
	raw, err := t.Dependency(ctx, id)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("decode the result of task %s: %w", id, err)
	}
	return out, nil
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// plain is what of a log value JSON can say.
func plain(v slog.Value) any {
	switch v.Kind() {
	case slog.KindGroup:
		m := make(map[string]any)
		for _, a := range v.Group() {
			m[a.Key] = plain(a.Value.Resolve())
		}
		return m
	case slog.KindDuration:
		return v.Duration().String()
	default:
		if err, ok := v.Any().(error); ok {
			return err.Error()
		}
		return v.Any()
	}
}
