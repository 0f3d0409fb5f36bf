package transport

import (
	"cmp"
	"fmt"

	"github.com/troupe-run/troupe/runtime/task"
)

// QueueChange changes a queue's settings; what is left out stays.
type QueueChange struct {
	Paused      *bool    `json:"paused,omitempty" doc:"A paused queue starts no task"`
	Concurrency *int     `json:"concurrency,omitempty" minimum:"0" doc:"At most so many of its tasks run at once, in the whole cluster; 0: any number"`
	Rate        *string  `json:"rate,omitempty" doc:"Its tasks start at most so often, in the whole cluster; empty: as often as they can" example:"100/s"`
	Burst       *int     `json:"burst,omitempty" minimum:"0" maximum:"10000" doc:"So many may start at once after a rest; 0: a tenth of a second's worth of the rate"`
	Weight      *float64 `json:"weight,omitempty" minimum:"0" maximum:"1000" doc:"Its share of the starts beside other queues, 0.01 to 1000; 0: 1"`
	Policy      *string  `json:"policy,omitempty" enum:"priority-fifo,shortest-area,deadline" doc:"The order in which its tasks start"`
	Placement   *string  `json:"placement,omitempty" enum:"spread,pack" doc:"How its tasks go to nodes"`
	MaxQueued   *int     `json:"max_queued,omitempty" minimum:"0" doc:"So many of its tasks may wait; 0: as many as the server lets"`
}

// Of is the change for the core, of a queue of a namespace.
func (c QueueChange) Of(namespace, queue string) (task.QueueChange, error) {
	change := task.QueueChange{
		Namespace: namespace, Name: queue, Paused: c.Paused, Concurrency: c.Concurrency, Burst: c.Burst, Weight: c.Weight,
		Policy: (*task.Policy)(c.Policy), Placement: (*task.Placement)(c.Placement), MaxQueued: c.MaxQueued,
	}
	if c.Rate != nil {
		rate, err := task.ParseRate(*c.Rate)
		if err != nil {
			return change, fmt.Errorf("rate: %w", err)
		}
		change.Rate = &rate
	}
	return change, nil
}

// KindChange changes a kind's settings; what is left out stays.
type KindChange struct {
	Concurrency *int     `json:"concurrency,omitempty" minimum:"0" doc:"At most so many of its tasks run at once, in the whole cluster, whatever their queues; 0: any number"`
	Breaker     *Breaker `json:"breaker,omitempty" doc:"When none of its tasks starts for a while, because those before failed; failures of 0: never"`
	RetryBudget *float64 `json:"retry_budget,omitempty" minimum:"0" maximum:"1" doc:"So many retries for each first attempt of the last minute; further ones are put off; 0: any number"`
}

// Breaker says when no task of a kind starts for a while, because those before failed.
type Breaker struct {
	Failures int    `json:"failures" minimum:"0" maximum:"10000" doc:"So many in a row with one error code; 0: never" example:"20"`
	Window   string `json:"window,omitempty" default:"1m" doc:"Within this time, 100ms to 24h"`
	OpenFor  string `json:"open_for,omitempty" default:"30s" doc:"None starts for so long, 100ms to 24h; then one does, to see how it goes"`
}

// Of is the change for the core, of a kind in a namespace.
func (c KindChange) Of(namespace, kind string) (task.KindChange, error) {
	change := task.KindChange{Namespace: namespace, Name: kind, Concurrency: c.Concurrency, RetryBudget: c.RetryBudget}
	b := c.Breaker
	if b == nil {
		return change, nil
	}
	change.Breaker = &task.Breaker{Failures: b.Failures}
	if b.Failures == 0 {
		return change, nil
	}
	var bad task.InvalidError
	change.Breaker.Window = readDuration(&bad, "breaker.window", cmp.Or(b.Window, "1m"))
	change.Breaker.OpenFor = readDuration(&bad, "breaker.open_for", cmp.Or(b.OpenFor, "30s"))
	return change, orNil(bad)
}

// Kind is a kind's settings.
type Kind struct {
	Name        string    `json:"name"`
	Served      bool      `json:"served" doc:"A node that answers has a handler for it"`
	Concurrency int       `json:"concurrency,omitempty" doc:"So many of its tasks run at once, in the whole cluster; 0: any number"`
	Breaker     *Breaker  `json:"breaker,omitempty" doc:"When none of its tasks starts for a while"`
	RetryBudget float64   `json:"retry_budget,omitempty" doc:"So many retries for each first attempt of the last minute; 0: any number"`
	Tripped     []Tripped `json:"tripped,omitempty" doc:"Nodes that start none of its tasks now, because those before failed"`
}

// Tripped is a breaker that is not closed.
type Tripped struct {
	Node  string    `json:"node"`
	Code  string    `json:"code" doc:"Of the failures"`
	Until task.Time `json:"until" doc:"Then one starts, to see how it goes"`
}

// KindList is all kinds that are served or set.
type KindList struct {
	Kinds []Kind `json:"kinds"`
}

// KindOf shows a kind's settings.
func KindOf(k task.Kind) Kind {
	view := Kind{Name: k.Name, Concurrency: k.Concurrency, RetryBudget: k.RetryBudget}
	if b := k.Breaker; b.Failures > 0 {
		view.Breaker = &Breaker{Failures: b.Failures, Window: b.Window.String(), OpenFor: b.OpenFor.String()}
	}
	return view
}

// QueueOf shows a queue's settings.
func QueueOf(q task.Queue) Queue {
	return Queue{
		Name: q.Name, Paused: q.Paused, Concurrency: q.Concurrency, Rate: q.Rate.String(), Burst: q.Rate.Burst, Weight: q.Share(),
		Policy: string(cmp.Or(q.Policy, task.PolicyFIFO)), Placement: string(cmp.Or(q.Placement, task.PlacementSpread)),
		MaxQueued: q.MaxQueued,
	}
}
