package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/troupe-run/troupe/runtime/task"
)

// Handler runs the attempts of one kind. It must return soon after ctx ends;
// context.Cause(ctx) is one of the Err… below and says why. The result is JSON,
// nil for null. An error that is a [task.Failure] is kept as it is, any other
// one may be retried. A panic fails the attempt.
type Handler func(ctx context.Context, job *Job) (result json.RawMessage, err error)

// Why an attempt's context ended, for context.Cause.
var (
	ErrCancelled = errors.New("the task was cancelled")
	ErrTimeout   = errors.New("the attempt's timeout passed")
	ErrDeadline  = errors.New("the task's deadline passed")
	ErrDrained   = errors.New("the node is shutting down; the task goes on elsewhere or later")
	ErrLost      = errors.New("the node no longer holds the task")
)

// Job is one attempt as its handler sees it. Its methods may be called from
// any goroutine until the handler returns.
type Job struct {
	Task *task.Task // as it was started, not to be changed; Attempt is this attempt's number

	store   task.Store
	now     func() time.Time
	limits  task.Limits
	redact  func(json.RawMessage) json.RawMessage
	notes   *notes
	memory  *recollection
	ctx     context.Context //nolint:containedctx // the attempt's own; a Job lives exactly as long
	speak   func(utterance)
	quota   *window
	voices  *voices
	full    sync.Once
	settled func(error) // called once how the attempt ended is on disk; nil: nobody asks
	event   int         // greatest size of one event's data, bytes
	value   int         // greatest size of a checkpoint, bytes
}

// utterance is one thing a handler said; the task's actor gives it its cursor.
type utterance struct {
	kind       task.EventType
	data       json.RawMessage
	checkpoint json.RawMessage // set: a checkpoint, and kind is empty
	memo       *task.Memo      // set: to remember, and kind is empty
	took       time.Duration   // the step of memo
}

// Progress says how far the attempt has come: a fraction of 1, or nil where
// that cannot be told.
func (j *Job) Progress(fraction *float64, message string) error {
	if fraction != nil && !(*fraction >= 0 && *fraction <= 1) {
		return fmt.Errorf("progress %v: want a fraction between 0 and 1: %w", *fraction, task.ErrInvalid)
	}
	return j.say(task.EventProgress, task.ProgressData{Fraction: fraction, Message: valid(message)})
}

// Log adds a line to the task's log.
func (j *Job) Log(level, message string, fields json.RawMessage) error {
	return j.say(task.EventLog, task.LogData{Level: level, Message: valid(message), Fields: fields})
}

// Emit streams a piece of the result, any JSON.
func (j *Job) Emit(chunk json.RawMessage) error {
	return j.say(task.EventOutput, task.OutputData{Chunk: chunk})
}

// EmitText streams a piece of text; EmitBytes does so where it may not be UTF-8.
func (j *Job) EmitText(text string) error {
	text = valid(text)
	return j.say(task.EventOutput, task.OutputData{Text: &text})
}

// EmitBytes streams bytes: as text where they are valid UTF-8, else as base64.
func (j *Job) EmitBytes(b []byte) error {
	if utf8.Valid(b) {
		return j.EmitText(string(b))
	}
	return j.say(task.EventOutput, task.OutputData{Base64: b})
}

// Checkpoint keeps value for the task's next attempt, replacing the last one.
// It is on disk with the next batch; a crash before that gives back the one
// before.
func (j *Job) Checkpoint(value json.RawMessage) error {
	if !task.ValidJSON(value) {
		return fmt.Errorf("checkpoint is not JSON, or nested too deep: %w", task.ErrInvalid)
	}
	if len(value) > j.value {
		return fmt.Errorf("checkpoint of %d bytes: more than the %d allowed: %w", len(value), j.value, task.ErrInvalid)
	}
	if err := j.quota.acquire(j.ctx, len(value), 0); err != nil {
		return err
	}
	j.speak(utterance{checkpoint: value})
	return nil
}

// Dependency is the result of a task that this one depends on, or its failure as a
// [task.Failure].
func (j *Job) Dependency(ctx context.Context, id task.ID) (json.RawMessage, error) {
	if !slices.Contains(j.Task.DependsOn, id) {
		return nil, fmt.Errorf("task %s does not depend on %s: %w", j.Task.ID, id, task.ErrInvalid)
	}
	t, err := j.store.Task(ctx, j.Task.Namespace, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read what task %s depends on: %w", j.Task.ID, err)
	case t.State == task.Succeeded:
		return t.Result, nil
	case t.Failure != nil:
		return nil, t.Failure
	default:
		return nil, fmt.Errorf("task %s was %s: %w", id, t.State, task.ErrTerminal)
	}
}

func (j *Job) say(kind task.EventType, data any) error {
	switch d := data.(type) {
	case task.LogData:
		d.Fields = j.redact(d.Fields)
		data = d
	case task.OutputData:
		d.Chunk = j.redact(d.Chunk)
		data = d
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	if len(raw) > j.event {
		return fmt.Errorf("%s of %d bytes: more than the %d allowed: %w", kind, len(raw), j.event, task.ErrInvalid)
	}
	if !task.ValidJSON(raw) {
		return fmt.Errorf("%s is not JSON, or nested too deep: %w", kind, task.ErrInvalid)
	}
	if err := j.voices.wait(j.ctx, j.Task.Namespace); err != nil {
		return err
	}
	// It has waited for its namespace's turn, and waits while the attempt is further
	// ahead of the disk than it may be: a handler that shouts is slowed down, and the
	// node not filled up.
	err = j.quota.acquire(j.ctx, len(raw), len(raw))
	switch {
	case err == nil:
		j.speak(utterance{kind: kind, data: raw})
	case errors.Is(err, task.ErrLogFull):
		j.full.Do(func() { j.speak(utterance{kind: task.EventLog, data: logFull}) })
	}
	return err
}

// logFull is the last word of an attempt that has said all it may: what it
// says from there on is not kept, and its handler is told so.
var logFull = json.RawMessage(`{"level":"warn","message":"the event log of this attempt is full; further events are not kept"}`)

func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}
