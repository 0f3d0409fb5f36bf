package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

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
	ID      task.ID
	Attempt int // from 1
	Labels  map[string]string
	Payload In

	job *actors.Job
}

// Handle makes fn the handler of a kind on this node. A payload that does not
// decode into In fails the task without a retry; Out is encoded as the result.
// Handle may be called at any time; a kind has one handler, the last one given.
//
// fn must return soon after ctx ends. An error it returns may be retried unless
// it is [Permanent]; a [task.Failure] is kept as it is.
func Handle[In, Out any](r *Runtime, kind string, fn func(context.Context, *Task[In]) (Out, error)) {
	r.handle(kind, func(ctx context.Context, job *actors.Job) (json.RawMessage, error) {
		t := &Task[In]{ID: job.Task.ID, Attempt: job.Task.Attempt, Labels: job.Task.Labels, job: job}
		if err := json.Unmarshal(job.Task.Payload, &t.Payload); err != nil {
			return nil, &task.Failure{Code: task.CodeInvalidPayload, Message: err.Error()}
		}
		out, err := fn(ctx, t)
		if err != nil {
			return nil, err
		}
		result, err := json.Marshal(out)
		if err != nil {
			return nil, &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("encode result: %v", err)}
		}
		return result, nil
	})
}

// Permanent marks an error as one that no retry will mend.
func Permanent(err error) error {
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
