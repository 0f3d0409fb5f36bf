package task

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits bounds what one task may be. A field that is zero means its default,
// which stands behind it.
type Limits struct {
	Payload  int           // bytes of payload; 1 MiB
	Result   int           // bytes of result, and of a checkpoint; 1 MiB
	Event    int           // bytes of one event's data; 256 KiB
	Log      int64         // bytes of one attempt's event log; 256 MiB
	Memos    int64         // bytes of what one task remembers of its steps; 16 MiB
	Delay    time.Duration // how far ahead run_at and deadline may lie; 10 years
	Attempts int           // the greatest max_attempts; 1000
	Crashes  int           // nodes a task may take with it before it is given up; 5

	// CacheSecret makes cache keys of payloads, so that they tell nothing of them: all
	// zeros make a plain hash, from which a payload of which there are not many can be
	// guessed. Nodes with different ones do not find each other's results.
	CacheSecret [32]byte
}

// WithDefaults fills in the defaults.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Payload:  cmp.Or(l.Payload, 1<<20),
		Result:   cmp.Or(l.Result, 1<<20),
		Event:    cmp.Or(l.Event, 256<<10),
		Log:      cmp.Or(l.Log, 256<<20),
		Delay:    cmp.Or(l.Delay, 10*365*24*time.Hour),
		Memos:    cmp.Or(l.Memos, 16<<20),
		Attempts: cmp.Or(l.Attempts, 1000),
		Crashes:  cmp.Or(l.Crashes, 5),

		CacheSecret: l.CacheSecret,
	}
}

// Bounds that are no setting, because indexes and metrics rest on them.
const (
	maxName      = 100
	maxKey       = 512
	maxLabels    = 64
	maxLabel     = 256
	maxResources = 32
	minPriority  = -100
	maxPriority  = 100
	maxTimeout   = 30 * 24 * time.Hour
	maxDepth     = 1000
)

// DefaultMaxAttempts and DefaultQueue are what a task gets that names none.
const (
	DefaultMaxAttempts = 3
	DefaultQueue       = "default"
)

// SlotResource is the resource every task takes one of unless it says otherwise.
const SlotResource = "slots"

// Check returns s with its defaults filled in, or an [InvalidError] that names
// everything wrong with it.
func (l Limits) Check(s Spec, now time.Time) (Spec, error) {
	l = l.WithDefaults()
	var bad InvalidError
	refuse := func(field, format string, args ...any) {
		bad = append(bad, Violation{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	s.Namespace = cmp.Or(s.Namespace, DefaultNamespace)
	s.Queue = cmp.Or(s.Queue, DefaultQueue)
	s.MaxAttempts = cmp.Or(s.MaxAttempts, min(DefaultMaxAttempts, l.Attempts))
	s.Retry = s.Retry.orDefault(l.Delay)
	if len(s.Payload) == 0 {
		s.Payload = json.RawMessage("null")
	}

	if !ValidName(s.Kind) {
		refuse("kind", "must be 1 to %d of the characters a-z 0-9 . _ -", maxName)
	}
	if !ValidName(s.Queue) {
		refuse("queue", "must be 1 to %d of the characters a-z 0-9 . _ -", maxName)
	}
	if s.Priority < minPriority || s.Priority > maxPriority {
		refuse("priority", "must be between %d and %d", minPriority, maxPriority)
	}
	switch {
	case len(s.Payload) > l.Payload:
		refuse("payload", "is %d bytes, more than the %d allowed", len(s.Payload), l.Payload)
	case !ValidJSON(s.Payload):
		refuse("payload", "is not valid JSON in UTF-8, nested at most %d deep", maxDepth)
	default:
		s.Payload = bytes.TrimSpace(s.Payload)
	}
	if len(s.Resources) == 0 {
		s.Resources = oneSlot
	} else {
		s.Resources = checkResources(s.Resources, refuse)
	}
	checkLabels(s.Labels, refuse)
	if s.RunAt.After(now.Add(l.Delay)) {
		refuse("run_at", "is more than %s ahead", l.Delay)
	}
	if s.Timeout < 0 || s.Timeout > maxTimeout {
		refuse("timeout", "must be between 0 and %s", maxTimeout)
	}
	switch {
	case s.Deadline.IsZero():
	case !s.Deadline.After(now):
		refuse("deadline", "has passed")
	case s.Deadline.After(now.Add(l.Delay)):
		refuse("deadline", "is more than %s ahead", l.Delay)
	}
	if s.MaxAttempts < 1 || s.MaxAttempts > l.Attempts {
		refuse("max_attempts", "must be between 1 and %d", l.Attempts)
	}
	checkRetry(s.Retry, l.Delay, refuse)
	switch limited := s.ConcurrencyKey != ""; {
	case len(s.ConcurrencyKey) > maxKey || !ValidText(s.ConcurrencyKey):
		refuse("concurrency_key", "must be at most %d bytes of printable UTF-8", maxKey)
	case !limited && s.ConcurrencyLimit != 0:
		refuse("concurrency_limit", "belongs to a concurrency_key")
	case limited:
		s.ConcurrencyLimit = cmp.Or(s.ConcurrencyLimit, 1)
		if s.ConcurrencyLimit < 1 || s.ConcurrencyLimit > maxConcurrency {
			refuse("concurrency_limit", "must be between 1 and %d", maxConcurrency)
		}
	}
	s.checkRate(refuse)
	s.Cache.check(refuse)
	s.Affinity = s.Affinity.check(refuse)
	if len(s.StickyKey) > maxKey || !ValidText(s.StickyKey) {
		refuse("sticky_key", "must be at most %d bytes of printable UTF-8", maxKey)
	}
	s.OnDependencyFailure = s.checkDependencies(refuse)
	if len(s.UniqueKey) > maxKey || !ValidText(s.UniqueKey) {
		refuse("unique_key", "must be at most %d bytes of printable UTF-8", maxKey)
	}
	if bad != nil {
		return Spec{}, bad
	}
	if s.Cache.TTL > 0 && s.Cache.Key == "" {
		s.Cache.Key = s.cacheKey(l.CacheSecret)
	}
	// What the store keeps to the microsecond, memory keeps so too.
	s.RunAt, s.Deadline = s.RunAt.Truncate(time.Microsecond), s.Deadline.Truncate(time.Microsecond)
	return s, nil
}

func (s Spec) checkRate(refuse refusal) {
	if len(s.RateKey) > maxKey || !ValidText(s.RateKey) {
		refuse("rate_key", "must be at most %d bytes of printable UTF-8", maxKey)
	}
	switch paced := s.RateKey != ""; {
	case !paced && s.Rate.Count != 0:
		refuse("rate", "belongs to a rate_key")
	case paced && s.Rate.String() == "":
		refuse("rate", `must be such as "100/s", "30/m" or "5/h"`)
	}
	switch {
	case s.Rate.Burst < 0 || s.Rate.Burst > maxBurst:
		refuse("rate_burst", "must be between 0 and %d", maxBurst)
	case s.RateKey == "" && s.Rate.Burst != 0:
		refuse("rate_burst", "belongs to a rate_key")
	}
}

type refusal func(field, format string, args ...any)

// checkResources gives a copy of the demand, with one slot added for who does
// not speak of slots.
func checkResources(r Resources, refuse refusal) Resources {
	named := len(r)
	if _, slots := r[SlotResource]; slots {
		named-- // it is always there
	}
	if named > maxResources {
		refuse("resources", "are %d beside the slots, more than the %d allowed", named, maxResources)
		return nil
	}
	if len(r) == 0 {
		return Resources{SlotResource: one}
	}
	out := make(Resources, len(r)+1)
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if !ValidName(name) {
			refuse("resources."+clip(name, maxName), "the name must be 1 to %d of the characters a-z 0-9 . _ -", maxName)
		}
		if r[name] < 0 {
			refuse("resources."+clip(name, maxName), "must not be negative")
		}
		out[name] = r[name]
	}
	if _, named := out[SlotResource]; !named {
		out[SlotResource] = one
	}
	return out
}

// oneSlot is what most tasks need; as all that is in a spec, not to be written to.
var oneSlot = Resources{SlotResource: one}

func checkLabels(labels map[string]string, refuse refusal) {
	if len(labels) == 0 {
		return
	}
	if len(labels) > maxLabels {
		refuse("labels", "are %d, more than the %d allowed", len(labels), maxLabels)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if !validLabel(k) {
			refuse("labels", "a key must be 1 to %d bytes of printable UTF-8 without = and ,", maxName)
		}
		if len(labels[k]) > maxLabel || !ValidText(labels[k]) {
			refuse("labels."+clip(k, maxName), "must be at most %d bytes of printable UTF-8", maxLabel)
		}
	}
}

func checkRetry(r Retry, longest time.Duration, refuse refusal) {
	if r.Initial < 0 || r.Initial > longest {
		refuse("retry.initial", "must be between 0 and %s", longest)
	}
	if !(r.Factor >= 1 && r.Factor <= 100) { // also refuses NaN
		refuse("retry.factor", "must be between 1 and 100")
	}
	if r.Max < r.Initial || r.Max > longest {
		refuse("retry.max", "must be at least retry.initial and at most %s", longest)
	}
	if !(r.Jitter >= 0 && r.Jitter <= 1) {
		refuse("retry.jitter", "must be between 0 and 1")
	}
}

// ValidName says whether s may name a kind, a queue or a resource:
// [a-z0-9._-]{1,100}.
func ValidName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// ValidText says whether s is UTF-8 without control characters.
func ValidText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// ValidJSON says whether b is JSON that everybody can read, also with more JSON
// around it: in UTF-8, and nested no deeper than 1000 lists and objects.
func ValidJSON(b []byte) bool {
	return json.Valid(b) && utf8.Valid(b) && depth(b) <= maxDepth
}

// depth is how deep valid JSON is nested.
func depth(b []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			now++
			deepest = max(deepest, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return deepest
}

// ValidKey says whether s may be a caller's idempotency key.
func ValidKey(s string) bool { return s != "" && len(s) <= maxKey && ValidText(s) }
