package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func nested(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat(`[{"a":`, depth/2) + strings.Repeat("[", depth%2) + "1" +
		strings.Repeat("]", depth%2) + strings.Repeat("}]", depth/2))
}

func many(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprint("l", i)] = ""
	}
	return m
}

func manyResources(n int) Resources {
	r := make(Resources, n)
	for name := range many(n) {
		r[name] = 1
	}
	return r
}

func TestSpecIsRefusedFieldByField(t *testing.T) {
	longest := Limits{}.WithDefaults().Delay
	for _, tt := range []struct {
		field string // that is refused; empty: none
		set   func(*Spec)
	}{
		{"", func(*Spec) {}},
		{"kind", func(s *Spec) { s.Kind = "" }},
		{"", func(s *Spec) { s.Kind = "az09._-" }},
		{"kind", func(s *Spec) { s.Kind = "A" }},
		{"kind", func(s *Spec) { s.Kind = "a/b" }},
		{"kind", func(s *Spec) { s.Kind = "é" }},
		{"", func(s *Spec) { s.Kind = strings.Repeat("a", 100) }},
		{"kind", func(s *Spec) { s.Kind = strings.Repeat("a", 101) }},
		{"queue", func(s *Spec) { s.Queue = "a b" }},
		{"", func(s *Spec) { s.RateKey, s.Rate = "k", Rate{Count: 1, Per: time.Minute, Burst: maxBurst} }},
		{"rate", func(s *Spec) { s.RateKey = "k" }},
		{"rate", func(s *Spec) { s.Rate = Rate{Count: 1, Per: time.Minute} }},
		{"rate_key", func(s *Spec) { s.RateKey, s.Rate = "\n", Rate{Count: 1, Per: time.Minute} }},
		{"rate_burst", func(s *Spec) { s.RateKey, s.Rate = "k", Rate{Count: 1, Per: time.Minute, Burst: maxBurst + 1} }},
		{"rate_burst", func(s *Spec) { s.Rate.Burst = 1 }},
		{"", func(s *Spec) { s.Priority = -100 }},
		{"", func(s *Spec) { s.Priority = 100 }},
		{"priority", func(s *Spec) { s.Priority = -101 }},
		{"priority", func(s *Spec) { s.Priority = 101 }},
		{"", func(s *Spec) { s.Payload = json.RawMessage(`"` + strings.Repeat("a", 1<<20-2) + `"`) }},
		{"payload", func(s *Spec) { s.Payload = json.RawMessage(`"` + strings.Repeat("a", 1<<20-1) + `"`) }},
		{"payload", func(s *Spec) { s.Payload = json.RawMessage(`{"a":1,}`) }},
		{"payload", func(s *Spec) { s.Payload = json.RawMessage(`1 2`) }},
		{"payload", func(s *Spec) { s.Payload = json.RawMessage(" ") }},
		{"payload", func(s *Spec) { s.Payload = json.RawMessage("\"\xff\"") }},
		{"", func(s *Spec) { s.Payload = nested(maxDepth) }},
		{"payload", func(s *Spec) { s.Payload = nested(maxDepth + 1) }},
		{"payload", func(s *Spec) { s.Payload = nested(10_001) }},
		{"", func(s *Spec) { s.Payload = json.RawMessage(`["` + strings.Repeat("[", 2*maxDepth) + `\"{"]`) }},
		{"", func(s *Spec) { s.Payload = json.RawMessage(`["\"` + strings.Repeat("[", 2*maxDepth) + `"]`) }},
		{"payload", func(s *Spec) { s.Payload = json.RawMessage(`["\\",` + string(nested(maxDepth)) + `]`) }},
		{"", func(s *Spec) { s.Payload = json.RawMessage("[" + strings.Repeat("[],", 2*maxDepth) + "1]") }},
		{"resources.cpu", func(s *Spec) { s.Resources = Resources{"cpu": -1} }},
		{"", func(s *Spec) { s.Resources = Resources{"cpu": MaxQuantity} }},
		{"resources.A", func(s *Spec) { s.Resources = Resources{"A": 1} }},
		{"resources.", func(s *Spec) { s.Resources = Resources{"": 1} }},
		{"", func(s *Spec) { s.Resources = manyResources(maxResources) }},
		{"resources", func(s *Spec) { s.Resources = manyResources(maxResources + 1) }},
		{"", func(s *Spec) { s.Labels = many(maxLabels) }},
		{"labels", func(s *Spec) { s.Labels = many(maxLabels + 1) }},
		{"labels", func(s *Spec) { s.Labels = map[string]string{"": "a"} }},
		{"labels", func(s *Spec) { s.Labels = map[string]string{"a=b": ""} }},
		{"labels", func(s *Spec) { s.Labels = map[string]string{"a,b": ""} }},
		{"labels", func(s *Spec) { s.Labels = map[string]string{"\xff": ""} }},
		{"labels", func(s *Spec) { s.Labels = map[string]string{strings.Repeat("a", 101): ""} }},
		{"", func(s *Spec) { s.Labels = map[string]string{strings.Repeat("é", 50): strings.Repeat("é", 128)} }},
		{"labels.a", func(s *Spec) { s.Labels = map[string]string{"a": strings.Repeat("a", 257)} }},
		{"labels.a", func(s *Spec) { s.Labels = map[string]string{"a": "\n"} }},
		{"labels.a", func(s *Spec) { s.Labels = map[string]string{"a": "\u0085"} }},
		{"", func(s *Spec) { s.RunAt = epoch.Add(longest) }},
		{"run_at", func(s *Spec) { s.RunAt = epoch.Add(longest + 1) }},
		{"", func(s *Spec) { s.Timeout = maxTimeout }},
		{"timeout", func(s *Spec) { s.Timeout = maxTimeout + 1 }},
		{"timeout", func(s *Spec) { s.Timeout = -1 }},
		{"", func(s *Spec) { s.Deadline = epoch.Add(1) }},
		{"deadline", func(s *Spec) { s.Deadline = epoch }},
		{"", func(s *Spec) { s.Deadline = epoch.Add(longest) }},
		{"deadline", func(s *Spec) { s.Deadline = epoch.Add(longest + 1) }},
		{"", func(s *Spec) { s.MaxAttempts = 1000 }},
		{"max_attempts", func(s *Spec) { s.MaxAttempts = 1001 }},
		{"max_attempts", func(s *Spec) { s.MaxAttempts = -1 }},
		{"", func(s *Spec) { s.Retry = Retry{1, 1, 1, 1} }},
		{"", func(s *Spec) { s.Retry = Retry{longest, 100, longest, 1} }},
		{"retry.initial", func(s *Spec) { s.Retry = Retry{-1, 2, 1, 0} }},
		{"retry.max", func(s *Spec) { s.Retry = Retry{2, 2, 1, 0} }},
		{"retry.max", func(s *Spec) { s.Retry = Retry{1, 2, longest + 1, 0} }},
		{"retry.max", func(s *Spec) { s.Retry = Retry{1, 2, -1, 0} }},
		{"retry.factor", func(s *Spec) { s.Retry = Retry{1, 0.99, 1, 0} }},
		{"retry.factor", func(s *Spec) { s.Retry = Retry{1, 100.1, 1, 0} }},
		{"retry.factor", func(s *Spec) { s.Retry = Retry{1, math.NaN(), 1, 0} }},
		{"retry.factor", func(s *Spec) { s.Retry = Retry{1, math.Inf(1), 1, 0} }},
		{"retry.jitter", func(s *Spec) { s.Retry = Retry{1, 2, 1, -0.1} }},
		{"retry.jitter", func(s *Spec) { s.Retry = Retry{1, 2, 1, 1.1} }},
		{"retry.jitter", func(s *Spec) { s.Retry = Retry{1, 2, 1, math.NaN()} }},
		{"", func(s *Spec) { s.UniqueKey = strings.Repeat("a", 512) }},
		{"unique_key", func(s *Spec) { s.UniqueKey = strings.Repeat("a", 513) }},
		{"unique_key", func(s *Spec) { s.UniqueKey = "\x7f" }},
		{"unique_key", func(s *Spec) { s.UniqueKey = "\xc3" }},
		{"", func(s *Spec) { s.Cache = Cache{strings.Repeat("a", 512), time.Second} }},
		{"", func(s *Spec) { s.Cache = Cache{TTL: 30 * 24 * time.Hour} }},
		{"cache.key", func(s *Spec) { s.Cache = Cache{strings.Repeat("a", 513), time.Second} }},
		{"cache.key", func(s *Spec) { s.Cache = Cache{"\x00", time.Second} }},
		{"cache.ttl", func(s *Spec) { s.Cache = Cache{Key: "a"} }},
		{"cache.ttl", func(s *Spec) { s.Cache = Cache{TTL: time.Second - 1} }},
		{"cache.ttl", func(s *Spec) { s.Cache = Cache{TTL: -1} }},
		{"cache.ttl", func(s *Spec) { s.Cache = Cache{TTL: 30*24*time.Hour + 1} }},
	} {
		s := Spec{Kind: "a"}
		tt.set(&s)
		short := fmt.Sprintf("%.150v", fmt.Sprintf("%+v", s))
		_, err := Limits{}.Check(s, epoch)
		if tt.field == "" {
			if err != nil {
				t.Errorf("%s: %v", short, err)
			}
			continue
		}
		var bad InvalidError
		if !errors.As(err, &bad) || !errors.Is(err, ErrInvalid) || errors.Is(err, ErrStale) {
			t.Errorf("%s: want %s refused, got %v", short, tt.field, err)
			continue
		}
		if len(bad) != 1 || bad[0].Field != tt.field || !strings.Contains(bad.Error(), tt.field+": ") {
			t.Errorf("%s: want %s refused, got %v", short, tt.field, bad)
		}
	}
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	_, err := Limits{}.Check(Spec{
		Kind: "A", Queue: "B", Priority: 1000, Payload: json.RawMessage("{"), Resources: Resources{"cpu": -1, "C": -1},
		Labels: map[string]string{"=": "\n"}, RunAt: epoch.AddDate(100, 0, 0), Timeout: -1, Deadline: epoch.Add(-1),
		MaxAttempts: -1, Retry: Retry{-1, -1, -2, -1}, UniqueKey: "\n",
	}, epoch)
	var bad InvalidError
	if !errors.As(err, &bad) {
		t.Fatal(err)
	}
	var fields []string
	for _, v := range bad {
		fields = append(fields, v.Field)
		if v.Message == "" {
			t.Errorf("%s is refused without a word", v.Field)
		}
	}
	want := []string{
		"kind", "queue", "priority", "payload", "resources.C", "resources.C", "resources.cpu", "labels", "labels.=",
		"run_at", "timeout", "deadline", "max_attempts", "retry.initial", "retry.factor", "retry.max", "retry.jitter", "unique_key",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	got, err := Limits{}.Check(Spec{Kind: "a", Payload: json.RawMessage(" {\"n\": 1.10}\n"), RunAt: epoch.Add(1999)}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Namespace: "default", Kind: "a", Queue: "default", Payload: json.RawMessage(`{"n": 1.10}`),
		Resources: Resources{"slots": 1000}, RunAt: epoch.Add(1000), MaxAttempts: 3,
		Retry: Retry{Initial: time.Second, Factor: 2, Max: time.Hour, Jitter: 0.2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err = (Limits{}).Check(Spec{Kind: "a"}, epoch); err != nil || string(got.Payload) != "null" {
		t.Errorf("no payload became %s, %v", got.Payload, err)
	}
}

func TestDefaultsNeverBreakALimit(t *testing.T) {
	l := Limits{Payload: 4, Result: 1, Event: 1, Log: 1, Memos: 1, Delay: time.Millisecond, Attempts: 1, Crashes: 1}
	got, err := l.Check(Spec{Kind: "a"}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	want := Retry{Initial: time.Millisecond, Factor: 2, Max: time.Millisecond, Jitter: 0.2}
	if got.MaxAttempts != 1 || got.Retry != want {
		t.Errorf("%d attempts, %+v", got.MaxAttempts, got.Retry)
	}
	if l != l.WithDefaults() {
		t.Errorf("%+v became %+v", l, l.WithDefaults())
	}
	if d := (Limits{}).WithDefaults(); d != (Limits{1 << 20, 1 << 20, 256 << 10, 256 << 20, 16 << 20, 87600 * time.Hour, 1000, 5, [32]byte{}}) {
		t.Errorf("the defaults are %+v", d)
	}
}

func TestOneSlotIsTakenUnlessNamed(t *testing.T) {
	for _, tt := range []struct{ give, want Resources }{
		{nil, Resources{"slots": 1000}},
		{Resources{}, Resources{"slots": 1000}},
		{Resources{"slots": 0}, Resources{"slots": 0}},
		{Resources{"slots": 2500}, Resources{"slots": 2500}},
		{Resources{"cpu": 1, "gpu": 0}, Resources{"cpu": 1, "gpu": 0, "slots": 1000}},
	} {
		given := maps.Clone(tt.give)
		got, err := Limits{}.Check(Spec{Kind: "a", Resources: tt.give}, epoch)
		if err != nil || !maps.Equal(got.Resources, tt.want) {
			t.Errorf("%v became %v, %v", tt.give, got.Resources, err)
		}
		if !maps.Equal(given, tt.give) {
			t.Errorf("the caller's map was written to: %v became %v", given, tt.give)
		}
	}
	if got := (Resources{"slots": 0}).String(); got != "" {
		t.Errorf("a task that takes nothing demands %q", got)
	}
}

func TestCheckedSpecPassesUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{Delay: anyTime(1, 10*365*24*time.Hour).Draw(t, "delay"), Attempts: rapid.IntRange(1, 5).Draw(t, "attempts")}
		once, err := l.Check(Spec{
			Kind: "a", Queue: rapid.SampledFrom([]string{"", "q"}).Draw(t, "queue"),
			Payload:   rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(" 1 ")}).Draw(t, "payload"),
			Resources: manyResources(rapid.IntRange(0, maxResources).Draw(t, "resources")),
			RunAt:     epoch.Add(anyTime(0, l.Delay).Draw(t, "run at")), MaxAttempts: rapid.IntRange(0, l.Attempts).Draw(t, "max attempts"),
			Retry: Retry{
				Initial: rapid.SampledFrom([]time.Duration{0, l.Delay}).Draw(t, "initial"), Max: rapid.SampledFrom([]time.Duration{0, l.Delay}).Draw(t, "max"),
				Factor: rapid.SampledFrom([]float64{0, 1, 7}).Draw(t, "factor"), Jitter: rapid.SampledFrom([]float64{0, 0.3}).Draw(t, "jitter"),
			},
		}, epoch)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := l.Check(once, epoch)
		if err != nil {
			t.Fatalf("what was taken is refused: %v", err)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestCheckedPayloadCanBeReadWithinAnyAnswer(t *testing.T) {
	spec, err := Limits{}.Check(Spec{Kind: "a", Payload: nested(maxDepth)}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if answer := strings.Replace(string(nested(100)), "1", string(spec.Payload), 1); !json.Valid([]byte(answer)) {
		t.Error("it cannot")
	}
}

func TestKeysAreShortPrintableText(t *testing.T) {
	for key, want := range map[string]bool{
		"": false, "a": true, "ключ €": true, "a\x00": false, "\xff": false,
		strings.Repeat("k", maxKey): true, strings.Repeat("k", maxKey+1): false,
	} {
		if ValidKey(key) != want {
			t.Errorf("key %.20q: want %v", key, want)
		}
	}
}
