package task

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// What can go wrong with a task, for errors.Is. Everything wrapped around them
// says what was tried.
var (
	ErrInvalid        = errors.New("invalid")
	ErrNotFound       = errors.New("task not found")
	ErrExists         = errors.New("task exists with another content")
	ErrKeyReused      = errors.New("idempotency key was used with another request")
	ErrStale          = errors.New("stale: the task moved on")          // a guard did not hold
	ErrParked         = errors.New("the task waits for a limit")        // parked instead of started
	ErrTerminal       = errors.New("task has ended")                    // and so cannot be cancelled
	ErrNotTerminal    = errors.New("task has not ended")                // and so cannot be retried or deleted
	ErrQueueFull      = errors.New("queue is full")                     // see [FullError]
	ErrQuota          = errors.New("quota of the namespace is used up") // see [QuotaError]
	ErrTooLate        = errors.New("the deadline cannot be met")        // see [LateError]
	ErrTooFast        = errors.New("more tasks than the rate lets in")  // see [TooFastError]
	ErrUnavailable    = errors.New("the store cannot take writes")      // disk full, or no answer; nothing was kept
	ErrUnreachable    = errors.New("the task's node cannot be reached") // nor is it known to be dead
	ErrUnknown        = errors.New("the fate of a write is unknown")    // read back before answering
	ErrClosed         = errors.New("the node is shutting down")         // take nothing new
	ErrCursorAhead    = errors.New("cursor is ahead of the task log")   // no such event has been
	ErrHasCallback    = errors.New("the batch has a callback")
	ErrNoWorker       = errors.New("worker not found")
	ErrNoSchedule     = errors.New("schedule not found")
	ErrScheduled      = errors.New("there is a schedule of this name")
	ErrTooManySignals = errors.New("the task has too many signals it has not taken")
	ErrLogFull        = errors.New("the task's event log is full") // further output is not kept
)

// Violation is one thing wrong with a submitted task.
type Violation struct {
	Field   string // path of the field, such as "resources.cpu"
	Message string // for a person
}

// InvalidError lists everything wrong with an input. It is [ErrInvalid].
type InvalidError []Violation

// Error lists the violations in one line.
func (e InvalidError) Error() string {
	parts := make([]string, len(e))
	for i, v := range e {
		parts[i] = v.Field + ": " + v.Message
	}
	return "invalid task: " + strings.Join(parts, "; ")
}

// Is makes every InvalidError an [ErrInvalid].
func (e InvalidError) Is(target error) bool { return target == ErrInvalid }

// TooFastError says when to come again. It is [ErrTooFast].
type TooFastError struct{ After time.Duration }

// Error says it in words.
func (e *TooFastError) Error() string {
	return ErrTooFast.Error() + "; come again in " + e.After.String()
}

// Is makes every TooFastError an [ErrTooFast].
func (e *TooFastError) Is(target error) bool { return target == ErrTooFast }

// FullError says which queue takes no more tasks, and when to come again. It is
// [ErrQueueFull].
type FullError struct {
	Queue string
	After time.Duration
}

// Error says it in words.
func (e *FullError) Error() string { return ErrQueueFull.Error() + ": " + e.Queue }

// Is makes every FullError an [ErrQueueFull].
func (e *FullError) Is(target error) bool { return target == ErrQueueFull }

// What of a namespace a [QuotaError] says is used up.
const (
	QuotaQueued = "queued" // tasks that wait
	QuotaBytes  = "bytes"  // that are kept
)

// QuotaError says what a namespace has used up, and when to come again. It is
// [ErrQuota].
type QuotaError struct {
	Quota string
	Most  int64
	After time.Duration
}

// Error says it in words.
func (e *QuotaError) Error() string { return ErrQuota.Error() + ": " + e.Quota }

// Is makes every QuotaError an [ErrQuota].
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// LateError says when a task was expected to start that could not have met its
// deadline, and when it may be worth to come again. It is [ErrTooLate].
type LateError struct {
	Start time.Time
	After time.Duration
}

// Error says it in words.
func (e *LateError) Error() string {
	return ErrTooLate.Error() + "; the task would start at " + e.Start.UTC().Format(time.RFC3339Nano)
}

// Is makes every LateError an [ErrTooLate].
func (e *LateError) Is(target error) bool { return target == ErrTooLate }

// Codes of failures the runtime itself gives. Handlers may use their own.
const (
	CodeError          = "error"             // a handler returned a plain error
	CodePanic          = "panic"             // a handler panicked
	CodeTimeout        = "timeout"           // the attempt's timeout passed
	CodeDeadline       = "deadline_exceeded" // the task's deadline passed
	CodeNodeLost       = "node_lost"         // the node died under the attempt
	CodeWorkerCrashed  = "worker_crashed"    // the worker died under the attempt
	CodeWorkerLost     = "worker_lost"       // a remote worker was not heard of for a lease
	CodeResultTooLarge = "result_too_large"
	CodeInvalidPayload = "invalid_payload"
)

// Bounds of what a row keeps of its failures; lengths in bytes.
const (
	maxFailureCode      = 100
	maxFailureMessage   = 4 << 10
	maxFailureDetails   = 4 << 10
	maxRememberedErrors = 20
)

// Failure is why an attempt, or a whole task, failed.
type Failure struct {
	Code      string          `json:"code"`
	Message   string          `json:"message"`
	Retryable bool            `json:"retryable"`
	Details   json.RawMessage `json:"details,omitempty"` // any JSON, or nil
}

// Error gives the code and the message.
func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// bounded cuts what a handler said to what a row should keep.
func bounded(f Failure) Failure {
	if f.Code == "" {
		f.Code = CodeError
	}
	f.Code = clip(f.Code, maxFailureCode)
	f.Message = clip(f.Message, maxFailureMessage)
	if len(f.Details) > maxFailureDetails || !ValidJSON(f.Details) {
		f.Details = nil
	}
	return f
}

// clip makes s valid UTF-8 and keeps at most n bytes of it, whole characters.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// AttemptError is one failed attempt as the task remembers it.
type AttemptError struct {
	Attempt int    `json:"attempt"`
	Code    string `json:"code"`
	Message string `json:"message"`
	At      Time   `json:"at"`
	Node    string `json:"node"`
}
