package transport

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestSubmissionSaysWhatItMeans(t *testing.T) {
	at := task.Time(epoch.Add(time.Hour))
	jitter, none := 0.7, 0.0
	for name, tt := range map[string]struct {
		give Submission
		want task.Spec
	}{
		"all fields": {
			Submission{
				ID: idA.String(), Kind: "k", Queue: "q", Priority: 7, Payload: json.RawMessage("1.0"), Resources: task.Resources{"cpu": 1},
				Labels: map[string]string{"a": "b"}, RunAt: &at, Timeout: "1.5s", Deadline: &at, MaxAttempts: 9,
				Retry: &RetrySubmission{Initial: "2s", Factor: 3, Max: "1m", Jitter: &jitter}, UniqueKey: "u",
				Cache:     &CacheSubmission{Key: "c", TTL: "1h"},
				Placement: &Placement{Require: map[string]Values{"zone": {"b", "a"}}, Prefer: map[string]Values{"gpu": {"a100"}}}, StickyKey: "s",
			},
			task.Spec{
				ID: idA, Namespace: "acme", Kind: "k", Queue: "q", Priority: 7, Payload: json.RawMessage("1.0"), Resources: task.Resources{"cpu": 1},
				Labels: map[string]string{"a": "b"}, RunAt: epoch.Add(time.Hour), Timeout: 1500 * time.Millisecond, Deadline: epoch.Add(time.Hour),
				MaxAttempts: 9, Retry: task.Retry{Initial: 2 * time.Second, Factor: 3, Max: time.Minute, Jitter: 0.7}, UniqueKey: "u",
				Cache:    task.Cache{Key: "c", TTL: time.Hour},
				Affinity: task.Affinity{Require: `{"zone":["a","b"]}`, Prefer: `{"gpu":["a100"]}`}, StickyKey: "s",
			},
		},
		"hardly any":     {Submission{Kind: "k"}, task.Spec{Namespace: "acme", Kind: "k"}},
		"a delay":        {Submission{Delay: "90m"}, task.Spec{Namespace: "acme", RunAt: epoch.Add(90 * time.Minute)}},
		"no delay":       {Submission{Delay: "0s"}, task.Spec{Namespace: "acme", RunAt: epoch}},
		"part of retry":  {Submission{Retry: &RetrySubmission{Max: "5s"}}, task.Spec{Namespace: "acme", Retry: task.Retry{Initial: time.Second, Factor: 2, Max: 5 * time.Second, Jitter: 0.2}}},
		"retry, no more": {Submission{Retry: &RetrySubmission{}}, task.Spec{Namespace: "acme", Retry: task.DefaultRetry}},
		"only no jitter": {Submission{Retry: &RetrySubmission{Jitter: &none}}, task.Spec{Namespace: "acme", Retry: task.Retry{Initial: time.Second, Factor: 2, Max: time.Hour}}},
		"no jitter":      {Submission{Retry: &RetrySubmission{Initial: "1s", Jitter: &none}}, task.Spec{Namespace: "acme", Retry: task.Retry{Initial: time.Second, Factor: 2, Max: time.Hour}}},
	} {
		got, err := tt.give.Spec("acme", epoch)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEmptyRetryIsTheDefault(t *testing.T) {
	for _, retry := range []*RetrySubmission{nil, {}} {
		spec, err := Submission{Kind: "k", Retry: retry}.Spec("acme", epoch)
		if err != nil {
			t.Fatal(err)
		}
		if spec, err = (task.Limits{}).Check(spec, epoch); err != nil || spec.Retry != task.DefaultRetry {
			t.Errorf("%+v became %+v, %v", retry, spec.Retry, err)
		}
	}
}

func TestSubmissionIsRefusedFieldByField(t *testing.T) {
	at := task.Time(epoch)
	for _, tt := range []struct {
		give Submission
		want []string
	}{
		{Submission{ID: "7"}, []string{"id"}},
		{Submission{ID: task.ID{}.String()}, []string{"id"}},
		{Submission{Timeout: "5"}, []string{"timeout"}},
		{Submission{Timeout: "P1D"}, []string{"timeout"}},
		{Submission{Timeout: "9223372036854775808ns"}, []string{"timeout"}},
		{Submission{Delay: "tomorrow"}, []string{"delay"}},
		{Submission{Delay: "-1s"}, []string{"delay"}},
		{Submission{Delay: "1s", RunAt: &at}, []string{"delay"}},
		{Submission{Retry: &RetrySubmission{Initial: "x", Max: "y"}}, []string{"retry.initial", "retry.max"}},
		{Submission{Cache: &CacheSubmission{}}, []string{"cache.ttl"}},
		{Submission{Cache: &CacheSubmission{Key: "c", TTL: "0s"}}, []string{"cache.ttl"}},
		{Submission{Cache: &CacheSubmission{TTL: "1 hour"}}, []string{"cache.ttl"}},
		{Submission{ID: "x", Timeout: "x", Delay: "x", Retry: &RetrySubmission{Max: "x"}}, []string{"timeout", "id", "delay", "retry.max"}},
	} {
		spec, err := tt.give.Spec("acme", epoch)
		var bad task.InvalidError
		if !errors.As(err, &bad) || !cmp.Equal(spec, task.Spec{}) {
			t.Errorf("%+v became %+v, %v", tt.give, spec, err)
			continue
		}
		var fields []string
		for _, v := range bad {
			fields = append(fields, v.Field)
		}
		if diff := cmp.Diff(tt.want, fields); diff != "" {
			t.Errorf("%+v: %s", tt.give, diff)
		}
	}
}

// A value may stand alone; whatever was said comes back as the same placement.
func TestPlacementIsReadAndShown(t *testing.T) {
	var s Submission
	if err := Decode([]byte(`{"kind":"k","placement":{"require":{"gpu":"a100","zone":["b","a"]},"prefer":{"rack":["7"]}}}`), &s); err != nil {
		t.Fatal(err)
	}
	spec, err := s.Spec("acme", epoch)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(View(task.Task{Spec: spec}).Placement)
	if want := `{"require":{"gpu":"a100","zone":["a","b"]},"prefer":{"rack":"7"}}`; err != nil || string(raw) != want {
		t.Errorf("%s, %v", raw, err)
	}
	for _, text := range []string{`7`, `[7]`, `{}`} {
		err := Decode([]byte(`{"placement":{"require":{"zone":`+text+`}}}`), &s)
		var p *Problem
		if !errors.As(err, &p) || len(p.Errors) != 1 || p.Errors[0].Path != "placement.require.zone" || p.Errors[0].Message != "must be a string or a list of strings" {
			t.Errorf("%s: %v", text, err)
		}
	}
}
