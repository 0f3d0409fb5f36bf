package transport

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Problem is an error as RFC 9457 has it, with a stable code. The same object
// stands in an HTTP answer and in the data of a JSON-RPC error.
type Problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Code      string       `json:"code" doc:"Stable, for programs"`
	Errors    []FieldError `json:"errors,omitempty"`
	RequestID string       `json:"request_id,omitempty"`

	// ExpectedStart is when a task would have started that was not taken.
	ExpectedStart *task.Time `json:"expected_start,omitempty"`
	// RetryAfter is when to come again, where that is known.
	RetryAfter time.Duration `json:"-"`
	// Failure is why the task failed whose result was asked for.
	Failure *task.Failure `json:"error,omitempty"`
}

// FieldError is one thing wrong with an input.
type FieldError struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Error is for a person.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	var text strings.Builder
	text.WriteString(p.Title + ": " + p.Detail)
	for _, e := range p.Errors {
		text.WriteString("; " + e.Path + " " + e.Message)
	}
	return text.String()
}

// NewProblem makes a problem; its type is a relative reference into the docs.
func NewProblem(status int, code, detail string) *Problem {
	return &Problem{
		Type: "/docs/problems#" + code, Title: http.StatusText(status),
		Status: status, Detail: detail, Code: code,
	}
}

// answers is the one table from the domain's errors to what outsiders see.
var answers = []struct {
	err    error
	status int
	code   string
	detail string
}{
	{task.ErrNotFound, http.StatusNotFound, "task_not_found", "There is no such task."},
	{task.ErrHasCallback, http.StatusConflict, "callback_exists", "The batch has a callback already."},
	{task.ErrNoWorker, http.StatusNotFound, "worker_not_found", "There is no such worker, or it is a node itself."},
	{task.ErrNoSchedule, http.StatusNotFound, "schedule_not_found", "There is no such schedule."},
	{task.ErrScheduled, http.StatusConflict, "schedule_exists", "There is a schedule of this name."},
	{task.ErrKeyReused, http.StatusUnprocessableEntity, "idempotency_key_reused", "This Idempotency-Key was used with another request."},
	{task.ErrExists, http.StatusConflict, "task_exists", "A task with this id exists and is another one."},
	{task.ErrTerminal, http.StatusConflict, "task_ended", "The task has ended."},
	{task.ErrNotTerminal, http.StatusConflict, "task_not_ended", "The task's state does not allow this."},
	{task.ErrStale, http.StatusConflict, "task_changed", "The task changed at the same time; try again."},
	{task.ErrQueueFull, http.StatusTooManyRequests, "queue_full", "Too many tasks wait; try again later."},
	{task.ErrQuota, http.StatusTooManyRequests, "quota_exceeded", "The namespace has used up a quota; try again later."},
	{task.ErrTooLate, http.StatusServiceUnavailable, "deadline_unreachable", "The task cannot be expected to meet its deadline."},
	{task.ErrTooFast, http.StatusTooManyRequests, "rate_limited", "Tasks come faster than this server takes them; try again later."},
	{task.ErrTooManySignals, http.StatusTooManyRequests, "too_many_signals", "The task has not taken the signals it was sent before; try again later."},
	{task.ErrUnavailable, http.StatusServiceUnavailable, "store_unavailable", "The server cannot store anything right now; nothing was accepted."},
	{task.ErrUnreachable, http.StatusServiceUnavailable, "node_unreachable", "The node that holds this task cannot be reached right now; try again later."},
	{task.ErrUnknown, http.StatusServiceUnavailable, "outcome_unknown", "The server cannot tell whether this was stored; ask again with the same id or key."},
	{task.ErrClosed, http.StatusServiceUnavailable, "shutting_down", "This server is shutting down."},
	{task.ErrCursorAhead, http.StatusConflict, "cursor_ahead", "No event of this task has this cursor yet."},
}

// ProblemOf says what outsiders see of an error. internal is true where the
// error is none they can do anything about: whoever calls logs it, once.
func ProblemOf(err error) (p *Problem, internal bool) {
	if errors.As(err, &p) {
		return p, false
	}
	if invalid, ok := errors.AsType[task.InvalidError](err); ok {
		p := NewProblem(http.StatusUnprocessableEntity, "invalid_task", "The task is not valid.")
		for _, v := range invalid {
			p.Errors = append(p.Errors, FieldError{Path: v.Field, Message: v.Message})
		}
		return p, false
	}
	if missing, ok := errors.AsType[*task.MissingError](err); ok {
		p := NewProblem(http.StatusUnprocessableEntity, "dependency_not_found", "A task to depend on is not there.")
		p.Errors = []FieldError{{Path: missing.Field, Message: "there is no task " + missing.Task.String()}}
		return p, false
	}
	if cycle, ok := errors.AsType[task.CycleError](err); ok {
		return NewProblem(http.StatusUnprocessableEntity, "dependency_cycle", "Tasks depend on each other in a circle: "+cycle.String()+"."), false
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			p := NewProblem(a.status, a.code, a.detail)
			p.estimate(err)
			return p, false
		}
	}
	return NewProblem(http.StatusInternalServerError, "internal", "Something went wrong on the server."), true
}

// quotas is what those of a namespace are called.
var quotas = map[string]string{task.QuotaQueued: "tasks that wait", task.QuotaBytes: "bytes kept"}

// estimate adds what the error says of when to come again, and why then.
func (p *Problem) estimate(err error) {
	if fast, ok := errors.AsType[*task.TooFastError](err); ok {
		p.RetryAfter = fast.After
	}
	if full, ok := errors.AsType[*task.FullError](err); ok {
		p.RetryAfter = full.After
		p.Detail = "As many tasks wait in the queue " + full.Queue + " as may; try again later."
	}
	if quota, ok := errors.AsType[*task.QuotaError](err); ok {
		p.RetryAfter = quota.After
		p.Detail = "The namespace has used up its quota of " + quotas[quota.Quota] + ", which is " +
			strconv.FormatInt(quota.Most, 10) + "; try again later."
	}
	if late, ok := errors.AsType[*task.LateError](err); ok {
		p.RetryAfter, p.ExpectedStart = late.After, new(task.Time(late.Start))
		p.Detail = "The task would start at " + late.Start.UTC().Format(time.RFC3339) +
			" and is not expected to meet its deadline; \"late\": \"allow\" has it taken all the same."
	}
}
