package task

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Queue is a queue's settings. Concurrency, how many of its tasks may run at once
// in the whole cluster, is 0 where it is not bounded; so is MaxQueued, how many of
// them may wait. Its Rate keeps an explicit burst also while it is no bound.
type Queue struct {
	Namespace   string
	Name        string
	Paused      bool
	Concurrency int
	Rate        Rate
	Weight      float64 // its share of the starts beside other queues; 0: 1
	Policy      Policy
	Placement   Placement
	MaxQueued   int
}

// Policy is the order in which tasks of a queue start; empty: [PolicyFIFO].
type Policy string

// The policies.
const (
	PolicyFIFO     Policy = "priority-fifo" // by priority, then age
	PolicyArea     Policy = "shortest-area" // least work first: time by resources
	PolicyDeadline Policy = "deadline"      // earliest deadline first
)

// Placement is how tasks of a queue go to nodes; empty: [PlacementSpread].
type Placement string

// The placements.
const (
	PlacementSpread Placement = "spread" // to where most is free
	PlacementPack   Placement = "pack"   // to where least is left over
)

// QueueChange changes a queue's settings; what is nil stays.
type QueueChange struct {
	Namespace   string
	Name        string
	Paused      *bool
	Concurrency *int
	Rate        *Rate // without its burst, which Burst changes
	Burst       *int
	Weight      *float64
	Policy      *Policy
	Placement   *Placement
	MaxQueued   *int
}

// Of is q with the change made.
func (c QueueChange) Of(q Queue) Queue {
	q.Namespace, q.Name = c.Namespace, c.Name
	set(&q.Paused, c.Paused)
	set(&q.Concurrency, c.Concurrency)
	q.Rate = c.RateOf(q.Rate)
	set(&q.Weight, c.Weight)
	set(&q.Policy, c.Policy)
	set(&q.Placement, c.Placement)
	set(&q.MaxQueued, c.MaxQueued)
	return q
}

// RateOf is a rate with the change made.
func (c QueueChange) RateOf(r Rate) Rate {
	if c.Rate != nil {
		r.Count, r.Per = c.Rate.Count, c.Rate.Per
	}
	set(&r.Burst, c.Burst)
	return r
}

// Paces says that the change is one of how often tasks start.
func (c QueueChange) Paces() bool { return c.Rate != nil || c.Burst != nil }

// Kind is the settings of the tasks of a kind. Concurrency, how many of them may
// run at once in the whole cluster, is 0 where it is not bounded.
type Kind struct {
	Namespace   string
	Name        string
	Concurrency int
	Breaker     Breaker
	// RetryBudget is how many retries there may be for each first attempt before
	// further ones are put off, as a fraction; 0: any. See [Retries].
	RetryBudget float64
}

// Breaker says when tasks of a kind are not started for a while because those
// before them failed: after Failures within Window in a row with one error code,
// for OpenFor. The zero Breaker never opens.
type Breaker struct {
	Failures int
	Window   time.Duration
	OpenFor  time.Duration
}

// KindChange changes a kind's settings; what is nil stays.
type KindChange struct {
	Namespace   string
	Name        string
	Concurrency *int
	Breaker     *Breaker
	RetryBudget *float64
}

// Of is k with the change made.
func (c KindChange) Of(k Kind) Kind {
	k.Namespace, k.Name = c.Namespace, c.Name
	set(&k.Concurrency, c.Concurrency)
	set(&k.Breaker, c.Breaker)
	set(&k.RetryBudget, c.RetryBudget)
	return k
}

func set[V any](field, to *V) {
	if to != nil {
		*field = *to
	}
}

// PoolChange sets how much there is of a resource in the whole cluster; nil: it
// is none of the cluster's any more.
type PoolChange struct {
	Name     string
	Capacity *Quantity
}

// Bounds of settings.
const (
	maxConcurrency = 1_000_000
	maxBurst       = 10_000 // ten times as many as are called at once
	minWeight      = 0.01
	maxWeight      = 1000
	maxQueued      = 1_000_000_000
	maxFailures    = 10_000
	minBreaker     = 100 * time.Millisecond
	maxBreaker     = 24 * time.Hour
)

const nameRule = "must be 1 to %d of the characters a-z 0-9 . _ -"

// CheckQueue says, as an [InvalidError], what is wrong with a change of a queue.
func CheckQueue(c QueueChange) error {
	var bad faults
	bad.unless(ValidName(c.Name), "name", nameRule, maxName)
	bad.counts("concurrency", c.Concurrency, maxConcurrency)
	bad.unless(c.Rate == nil || *c.Rate == Rate{} || c.Rate.String() != "", "rate", `must be such as "100/s", "30/m" or "5/h"`)
	bad.counts("burst", c.Burst, maxBurst)
	bad.unless(c.Weight == nil || *c.Weight == 0 || *c.Weight >= minWeight && *c.Weight <= maxWeight,
		"weight", "must be between %v and %v, or 0, which is 1", minWeight, maxWeight)
	if c.Policy != nil {
		switch *c.Policy {
		case "", PolicyFIFO, PolicyArea, PolicyDeadline:
		default:
			bad.unless(false, "policy", "must be %s, %s or %s", PolicyFIFO, PolicyArea, PolicyDeadline)
		}
	}
	if c.Placement != nil {
		switch *c.Placement {
		case "", PlacementSpread, PlacementPack:
		default:
			bad.unless(false, "placement", "must be %s or %s", PlacementSpread, PlacementPack)
		}
	}
	bad.counts("max_queued", c.MaxQueued, maxQueued)
	return bad.err()
}

// CheckKind says, as an [InvalidError], what is wrong with a change of a kind.
func CheckKind(c KindChange) error {
	var bad faults
	bad.unless(ValidName(c.Name), "name", nameRule, maxName)
	bad.counts("concurrency", c.Concurrency, maxConcurrency)
	bad.unless(c.RetryBudget == nil || *c.RetryBudget >= 0 && *c.RetryBudget <= 1,
		"retry_budget", "must be between 0, which is no bound, and 1")
	if b := c.Breaker; b != nil && *b != (Breaker{}) {
		bad.unless(b.Failures >= 1 && b.Failures <= maxFailures, "breaker.failures", "must be between 1 and %d", maxFailures)
		lasts := func(d time.Duration) bool { return d >= minBreaker && d <= maxBreaker }
		bad.unless(lasts(b.Window), "breaker.window", "must be between %s and %s", minBreaker, maxBreaker)
		bad.unless(lasts(b.OpenFor), "breaker.open_for", "must be between %s and %s", minBreaker, maxBreaker)
	}
	return bad.err()
}

// CheckWeights says what is wrong with the weights of namespaces.
func CheckWeights(weights map[string]float64) error {
	for _, namespace := range slices.Sorted(maps.Keys(weights)) {
		if w := weights[namespace]; namespace == "" || !(w >= minWeight && w <= maxWeight) {
			return fmt.Errorf("weight %v of namespace %q: must be between %v and %v: %w", w, clip(namespace, maxName), minWeight, float64(maxWeight), ErrInvalid)
		}
	}
	return nil
}

// CheckPool says, as an [InvalidError], what is wrong with a resource of the cluster.
func CheckPool(c PoolChange) error {
	var bad faults
	switch {
	case !ValidName(c.Name):
		bad.unless(false, "name", nameRule, maxName)
	case c.Name == SlotResource:
		bad.unless(false, "name", "slots are each node's own; bound a queue's concurrency instead")
	case c.Capacity != nil && *c.Capacity < 0:
		bad.unless(false, "capacity", "must not be negative")
	}
	return bad.err()
}

type faults InvalidError

func (f *faults) unless(holds bool, field, format string, args ...any) {
	if !holds {
		*f = append(*f, Violation{field, fmt.Sprintf(format, args...)})
	}
}

func (f *faults) counts(field string, n *int, most int) {
	f.unless(n == nil || *n >= 0 && *n <= most, field, "must be between 0, which is no bound, and %d", most)
}

func (f *faults) err() error {
	if *f == nil {
		return nil
	}
	return InvalidError(*f)
}

// Share is the weight of a queue, with its default.
func (q Queue) Share() float64 { return cmp.Or(q.Weight, 1) }
