package transport

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Submission is the body that submits a task.
type Submission struct {
	ID          string            `json:"id,omitempty" format:"uuid" doc:"Your own UUID, if you want to choose it"`
	Kind        string            `json:"kind" doc:"Names the handler" example:"demo.echo"`
	Queue       string            `json:"queue,omitempty" default:"default"`
	Priority    int               `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"Higher runs first"`
	Payload     json.RawMessage   `json:"payload,omitempty" doc:"Any JSON, handed to the handler as it came"`
	Resources   task.Resources    `json:"resources,omitempty" doc:"What it holds while it runs; one slot unless named"`
	Labels      map[string]string `json:"labels,omitempty"`
	RunAt       *task.Time        `json:"run_at,omitempty" doc:"Not before this time"`
	Delay       string            `json:"delay,omitempty" doc:"Not before this long from now, a Go duration" example:"30s"`
	Timeout     string            `json:"timeout,omitempty" doc:"Bound of one attempt, a Go duration"`
	Deadline    *task.Time        `json:"deadline,omitempty" doc:"Bound of the whole task"`
	MaxAttempts int               `json:"max_attempts,omitempty" minimum:"0" default:"3"`
	Retry       *RetrySubmission  `json:"retry,omitempty"`
	UniqueKey   string            `json:"unique_key,omitempty" doc:"While a live task of this kind has it, a second submit returns the first"`

	ConcurrencyKey   string `json:"concurrency_key,omitempty" doc:"At most concurrency_limit tasks with this key run at once, in the whole cluster"`
	ConcurrencyLimit int    `json:"concurrency_limit,omitempty" minimum:"0" default:"1"`

	Cache *CacheSubmission `json:"cache,omitempty" doc:"Use the result of an earlier success of the same kind and key; identical tasks run one at a time"`
}

// CacheSubmission says how a task shares its result with others.
type CacheSubmission struct {
	Key string `json:"key,omitempty" doc:"What makes tasks of a kind identical; the payload unless named"`
	TTL string `json:"ttl" example:"1h" doc:"For how long its result serves others, 1s to 720h"`
}

// RetrySubmission is the retry policy of a submission; what it leaves out is
// the default.
type RetrySubmission struct {
	Initial string   `json:"initial,omitempty" example:"1s"`
	Factor  float64  `json:"factor,omitempty"`
	Max     string   `json:"max,omitempty" example:"1h"`
	Jitter  *float64 `json:"jitter,omitempty"`
}

// Spec makes the domain's shape of a submission. Its error is a
// [task.InvalidError]; limits are checked by who submits, not here.
func (s Submission) Spec(namespace string, now time.Time) (task.Spec, error) {
	var bad task.InvalidError
	duration := func(field, text string) time.Duration {
		if text == "" {
			return 0
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			bad = append(bad, task.Violation{Field: field, Message: `must be a duration such as "1.5s" or "30m"`})
		}
		return d
	}
	spec := task.Spec{
		Namespace: namespace, Kind: s.Kind, Queue: s.Queue, Priority: s.Priority,
		Payload: s.Payload, Resources: s.Resources, Labels: s.Labels,
		Timeout: duration("timeout", s.Timeout), MaxAttempts: s.MaxAttempts, UniqueKey: s.UniqueKey,
		ConcurrencyKey: s.ConcurrencyKey, ConcurrencyLimit: s.ConcurrencyLimit,
	}
	if s.ID != "" {
		id, err := task.ParseID(s.ID)
		if err != nil || id.IsZero() {
			bad = append(bad, task.Violation{Field: "id", Message: "must be a UUID"})
		}
		spec.ID = id
	}
	if s.RunAt != nil {
		spec.RunAt = time.Time(*s.RunAt)
	}
	if s.Delay != "" {
		delay := duration("delay", s.Delay)
		if s.RunAt != nil {
			bad = append(bad, task.Violation{Field: "delay", Message: "give either delay or run_at"})
		}
		if delay < 0 {
			bad = append(bad, task.Violation{Field: "delay", Message: "must not be negative"})
		}
		spec.RunAt = now.Add(delay)
	}
	if s.Deadline != nil {
		spec.Deadline = time.Time(*s.Deadline)
	}
	if s.Cache != nil {
		ttl, err := time.ParseDuration(s.Cache.TTL)
		if err != nil || ttl == 0 {
			bad = append(bad, task.Violation{Field: "cache.ttl", Message: `must be a duration such as "10m" or "1h"`})
		}
		spec.Cache = task.Cache{Key: s.Cache.Key, TTL: ttl}
	}
	if s.Retry != nil {
		spec.Retry = task.DefaultRetry
		if s.Retry.Initial != "" {
			spec.Retry.Initial = duration("retry.initial", s.Retry.Initial)
		}
		if s.Retry.Max != "" {
			spec.Retry.Max = duration("retry.max", s.Retry.Max)
			if s.Retry.Initial == "" {
				spec.Retry.Initial = min(spec.Retry.Initial, max(0, spec.Retry.Max))
			}
		} else {
			spec.Retry.Max = max(spec.Retry.Max, spec.Retry.Initial)
		}
		if s.Retry.Factor != 0 {
			spec.Retry.Factor = s.Retry.Factor
		}
		if s.Retry.Jitter != nil {
			spec.Retry.Jitter = *s.Retry.Jitter
		}
	}
	if bad != nil {
		return task.Spec{}, bad
	}
	return spec, nil
}
