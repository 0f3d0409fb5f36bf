package transport

import (
	"encoding/json"
	"fmt"
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
	Late        string            `json:"late,omitempty" enum:"refuse,allow" default:"refuse" doc:"Whether it is taken if it cannot be expected to meet its deadline"`
	MaxAttempts int               `json:"max_attempts,omitempty" minimum:"0" default:"3"`
	Retry       *RetrySubmission  `json:"retry,omitempty"`
	UniqueKey   string            `json:"unique_key,omitempty" doc:"While a live task of this kind has it, a second submit returns the first"`

	ConcurrencyKey   string `json:"concurrency_key,omitempty" doc:"At most concurrency_limit tasks with this key run at once, in the whole cluster"`
	ConcurrencyLimit int    `json:"concurrency_limit,omitempty" minimum:"0" default:"1"`

	RateKey   string `json:"rate_key,omitempty" doc:"Tasks with this key start no faster than rate, in the whole cluster"`
	Rate      string `json:"rate,omitempty" doc:"Belongs to rate_key" example:"10/s"`
	RateBurst int    `json:"rate_burst,omitempty" minimum:"0" maximum:"10000" doc:"So many with the key start at once after a rest; 0: a tenth of a second's worth"`

	DependsOn           []string `json:"depends_on,omitempty" maxItems:"10000" doc:"Ids of tasks that must end before this one runs"`
	OnDependencyFailure string   `json:"on_dependency_failure,omitempty" enum:"cancel,run" default:"cancel" doc:"What becomes of it if one of those does not succeed"`

	Placement *Placement `json:"placement,omitempty" doc:"On which nodes it runs, by their labels"`
	StickyKey string     `json:"sticky_key,omitempty" doc:"Tasks with this key run on one node while that lives"`

	Cache *CacheSubmission `json:"cache,omitempty" doc:"Use the result of an earlier success of the same kind and key; identical tasks run one at a time"`
}

// Placement is on which nodes a task runs, by their labels.
type Placement struct {
	Require map[string]Values `json:"require,omitempty" doc:"No other node runs it" example:"{\"gpu\":\"a100\"}"`
	Prefer  map[string]Values `json:"prefer,omitempty" doc:"While such a node has room, others leave it alone"`
}

// affinity is the domain's shape of a placement; nil is none.
func (p *Placement) affinity() task.Affinity {
	if p == nil {
		return task.Affinity{}
	}
	return task.Affinity{Require: selector(p.Require), Prefer: selector(p.Prefer)}
}

func selector(terms map[string]Values) task.Selector {
	plain := make(map[string][]string, len(terms))
	for key, values := range terms {
		plain[key] = values
	}
	return task.Select(plain)
}

// viewPlacement makes the outside's shape of an affinity; nil where there is none.
func viewPlacement(a task.Affinity) *Placement {
	if a == (task.Affinity{}) {
		return nil
	}
	return &Placement{Require: viewTerms(a.Require), Prefer: viewTerms(a.Prefer)}
}

func viewTerms(s task.Selector) map[string]Values {
	if s == "" {
		return nil
	}
	terms := map[string]Values{}
	for key, values := range s.Terms() {
		terms[key] = values
	}
	return terms
}

// Values is any of some values; one alone may be written without the list.
type Values []string

// MarshalJSON writes one value as a string, else a list.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

// UnmarshalJSON reads a string or a list of strings.
func (v *Values) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*v = make(Values, 1)
		return json.Unmarshal(b, &(*v)[0])
	}
	return json.Unmarshal(b, (*[]string)(v))
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
	Jitter  *float64 `json:"jitter,omitempty" doc:"The wait is spread by ± this fraction; 1: full, any wait from none to what it would be"`
}

// Submit is the submission of what s describes, see [Submission.Spec].
func (s Submission) Submit(namespace string, now time.Time) (task.Submission, error) {
	spec, err := s.Spec(namespace, now)
	return task.Submission{Spec: spec, Late: s.Late == lateAllow}, err
}

// What may be said of a task that cannot meet its deadline.
const (
	lateRefuse = "refuse"
	lateAllow  = "allow"
)

// readDuration reads a duration, none where there is no text, and notes what is wrong.
func readDuration(bad *task.InvalidError, field, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		*bad = append(*bad, task.Violation{Field: field, Message: `must be a duration such as "1.5s" or "30m"`})
	}
	return d
}

// Spec makes the domain's shape of what is submitted. Its error is a
// [task.InvalidError]; limits are checked by who submits, not here.
func (s Submission) Spec(namespace string, now time.Time) (task.Spec, error) {
	var bad task.InvalidError
	duration := func(field, text string) time.Duration { return readDuration(&bad, field, text) }
	spec := task.Spec{
		Namespace: namespace, Kind: s.Kind, Queue: s.Queue, Priority: s.Priority,
		Payload: s.Payload, Resources: s.Resources, Labels: s.Labels, OnDependencyFailure: task.OnFailure(s.OnDependencyFailure),
		Timeout: duration("timeout", s.Timeout), MaxAttempts: s.MaxAttempts, UniqueKey: s.UniqueKey,
		ConcurrencyKey: s.ConcurrencyKey, ConcurrencyLimit: s.ConcurrencyLimit, Affinity: s.Placement.affinity(), StickyKey: s.StickyKey,
	}
	rate, err := task.ParseRate(s.Rate)
	if err != nil {
		bad = append(bad, task.Violation{Field: "rate", Message: `must be such as "100/s", "30/m" or "5/h"`})
	}
	rate.Burst = s.RateBurst
	spec.RateKey, spec.Rate = s.RateKey, rate
	if s.ID != "" {
		id, err := task.ParseID(s.ID)
		if err != nil || id.IsZero() {
			bad = append(bad, task.Violation{Field: "id", Message: "must be a UUID"})
		}
		spec.ID = id
	}
	for i, text := range s.DependsOn {
		id, err := task.ParseID(text)
		if err != nil {
			bad = append(bad, task.Violation{Field: fmt.Sprintf("depends_on[%d]", i), Message: "must be a UUID"})
		}
		spec.DependsOn = append(spec.DependsOn, id)
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
	if s.Late != "" && s.Late != lateRefuse && s.Late != lateAllow {
		bad = append(bad, task.Violation{Field: "late", Message: "must be refuse or allow"})
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
