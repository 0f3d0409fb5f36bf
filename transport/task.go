package transport

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Task is a task as everybody outside sees it.
type Task struct {
	ID          string            `json:"id" format:"uuid" doc:"UUIDv7 unless the client gave its own"`
	Namespace   string            `json:"namespace"`
	Kind        string            `json:"kind"`
	Queue       string            `json:"queue"`
	Priority    int               `json:"priority"`
	Payload     json.RawMessage   `json:"payload"`
	Resources   task.Resources    `json:"resources"`
	Labels      map[string]string `json:"labels,omitempty"`
	RunAt       *task.Time        `json:"run_at,omitempty"`
	Timeout     string            `json:"timeout,omitempty"`
	Deadline    *task.Time        `json:"deadline,omitempty"`
	MaxAttempts int               `json:"max_attempts"`
	Retry       Retry             `json:"retry"`
	UniqueKey   string            `json:"unique_key,omitempty"`
	BatchID     string            `json:"batch_id,omitempty"`

	ConcurrencyKey   string `json:"concurrency_key,omitempty"`
	ConcurrencyLimit int    `json:"concurrency_limit,omitempty"`
	RateKey          string `json:"rate_key,omitempty"`
	Rate             string `json:"rate,omitempty"`
	RateBurst        int    `json:"rate_burst,omitempty"`
	Cache            *Cache `json:"cache,omitempty"`

	Placement *Placement `json:"placement,omitempty"`
	StickyKey string     `json:"sticky_key,omitempty"`

	DependsOn           []string       `json:"depends_on,omitempty"`
	OnDependencyFailure task.OnFailure `json:"on_dependency_failure,omitempty" enum:"cancel,run"`
	AfterBatch          string         `json:"after_batch,omitempty" doc:"The batch it is the callback of"`
	Schedule            *Tick          `json:"schedule,omitempty" doc:"The schedule that submitted it"`

	State    task.State          `json:"state"`
	Attempt  int                 `json:"attempt"`
	Progress *Progress           `json:"progress,omitempty"`
	Result   json.RawMessage     `json:"result,omitempty"`
	Error    *task.Failure       `json:"error,omitempty"`
	Errors   []task.AttemptError `json:"errors,omitempty"`
	Waiting  *Waiting            `json:"waiting,omitempty"`
	Node     string              `json:"node,omitempty"`
	Worker   string              `json:"worker,omitempty"`
	Cursor   string              `json:"cursor"`

	CreatedAt  task.Time  `json:"created_at"`
	StartedAt  *task.Time `json:"started_at,omitempty"`
	FinishedAt *task.Time `json:"finished_at,omitempty"`
}

// Retry is how a task waits between attempts.
type Retry struct {
	Initial string  `json:"initial"`
	Factor  float64 `json:"factor"`
	Max     string  `json:"max"`
	Jitter  float64 `json:"jitter"`
}

// Cache is how a task shares its result with others, and came to its own.
type Cache struct {
	Key    string           `json:"key"`
	TTL    string           `json:"ttl"`
	Status task.CacheStatus `json:"status,omitempty" enum:"hit,miss,shared" doc:"Of a success: it found a result, ran itself, or found one after it had waited for an identical task"`
}

// Progress is how far the newest attempt has come.
type Progress struct {
	Fraction *float64  `json:"fraction"`
	Message  string    `json:"message"`
	At       task.Time `json:"at"`
}

// Waiting is why a task is not running.
type Waiting struct {
	Reason   string         `json:"reason"`
	Resource string         `json:"resource,omitempty"`
	Needed   *task.Quantity `json:"needed,omitempty"`
	Free     *task.Quantity `json:"free,omitempty"`
	Position int            `json:"position,omitempty"`
	Until    *task.Time     `json:"until,omitempty"`
	Signal   string         `json:"signal,omitempty" doc:"The signal it waits for"`
	Pending  int            `json:"pending,omitempty" doc:"How many tasks it depends on, or of its batch, have not ended"`
	Tasks    []string       `json:"tasks,omitempty" doc:"The first of those"`
	Limit    *WaitingLimit  `json:"limit,omitempty" doc:"The limit of the whole cluster that it waits for"`

	Require map[string]Values `json:"require,omitempty" doc:"The labels it requires of a node, which none has"`
	Node    string            `json:"node,omitempty" doc:"The node that has its sticky key"`
	Slots   int               `json:"slots,omitempty" doc:"How many slots the workers that serve its kind have, all of them taken"`

	ExpectedStart *task.Time `json:"expected_start,omitempty" doc:"When it starts if everything runs as long as such tasks do"`
}

// WaitingLimit is a limit of the whole cluster.
type WaitingLimit struct {
	Scope string         `json:"scope" enum:"pool,queue,key,rate,kind,key_rate,namespace"`
	Name  string         `json:"name"`
	Most  *task.Quantity `json:"most,omitempty" doc:"So much may be in use at once"`
}

// View makes the outside's shape of a task.
func View(t task.Task) Task {
	v := Task{
		ID: t.ID.String(), Namespace: t.Namespace, Kind: t.Kind, Queue: t.Queue,
		Priority: t.Priority, Payload: t.Payload, Resources: t.Resources, Labels: t.Labels,
		RunAt: timeOrNil(t.RunAt), Timeout: durationOrEmpty(t.Timeout), Deadline: timeOrNil(t.Deadline),
		MaxAttempts: t.MaxAttempts, UniqueKey: t.UniqueKey,
		ConcurrencyKey: t.ConcurrencyKey, ConcurrencyLimit: t.ConcurrencyLimit,
		RateKey: t.RateKey, Rate: t.Rate.String(), RateBurst: t.Rate.Burst, Placement: viewPlacement(t.Affinity), StickyKey: t.StickyKey,
		Retry: Retry{
			Initial: t.Retry.Initial.String(), Factor: t.Retry.Factor,
			Max: t.Retry.Max.String(), Jitter: t.Retry.Jitter,
		},
		State: t.State, Attempt: t.Attempt, Result: t.Result, Error: t.Failure, Errors: t.Failures,
		Node: t.Node, Worker: t.Worker, Cursor: t.Cursor.String(),
		CreatedAt: task.Time(t.Created), StartedAt: timeOrNil(t.Started), FinishedAt: timeOrNil(t.Finished),
	}
	if t.Cache.TTL > 0 {
		v.Cache = &Cache{Key: t.Cache.Key, TTL: t.Cache.TTL.String(), Status: t.Cached}
	}
	if len(t.DependsOn) > 0 {
		v.DependsOn, v.OnDependencyFailure = idTexts(t.DependsOn), t.OnDependencyFailure
	}
	if !t.AfterBatch.IsZero() {
		v.AfterBatch = t.AfterBatch.String()
	}
	if t.Tick.Schedule != "" {
		v.Schedule = &Tick{Name: t.Tick.Schedule, At: task.Time(t.Tick.At)}
	}
	if !t.BatchID.IsZero() {
		v.BatchID = t.BatchID.String()
	}
	if t.Progress != nil {
		v.Progress = &Progress{Fraction: t.Progress.Fraction, Message: t.Progress.Message, At: task.Time(t.Progress.At)}
	}
	return v
}

// ViewWaiting makes the outside's shape of why a task waits; nil stays nil.
func ViewWaiting(w *task.Waiting) *Waiting {
	if w == nil {
		return nil
	}
	v := &Waiting{Reason: w.Reason, Resource: w.Resource, Position: w.Position, Until: timeOrNil(w.Until), Pending: w.Pending, Signal: w.Signal}
	v.Require, v.Node, v.Slots = viewTerms(w.Require), w.Node, w.Slots
	v.ExpectedStart = timeOrNil(w.ExpectedStart)
	if len(w.Tasks) > 0 {
		v.Tasks = idTexts(w.Tasks)
	}
	if w.Resource != "" {
		v.Needed, v.Free = &w.Needed, &w.Free
	}
	if !w.Limit.IsZero() {
		v.Limit = &WaitingLimit{Scope: w.Limit.Scope.String(), Name: w.Limit.Name}
		if w.Most >= 0 && !w.Limit.Scope.Paces() {
			v.Limit.Most = &w.Most
		}
	}
	return v
}

// Event is one event as clients read it.
type Event struct {
	Task   string          `json:"task" format:"uuid"`
	Cursor string          `json:"cursor" doc:"ATTEMPT.SEQ"`
	Type   task.EventType  `json:"type" enum:"state,progress,log,output"`
	At     task.Time       `json:"at"`
	Data   json.RawMessage `json:"data"`
}

// ViewEvent makes the outside's shape of an event.
func ViewEvent(e task.Event) Event {
	return Event{
		Task: e.Task.String(), Cursor: e.Cursor.String(), Type: e.Type,
		At: task.Time(e.At), Data: e.Data,
	}
}

func idTexts(ids []task.ID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}

func timeOrNil(t time.Time) *task.Time {
	if t.IsZero() {
		return nil
	}
	return (*task.Time)(&t)
}

func durationOrEmpty(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
