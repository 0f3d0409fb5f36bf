package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/actors"
	"github.com/troupe-run/troupe/runtime/task"
)

// Gather says how many tasks a handler takes at once: what has come until there
// are Most of them or Wait has passed since the first. Zero means 100 tasks and
// 10 ms. Each task holds its resources while it waits for the others.
type Gather struct {
	Most int
	Wait time.Duration
}

// Outcome is what became of one task of several that ran together. Err is as an
// error of a handler of one; with it, Value is left alone.
type Outcome[Out any] struct {
	Value Out
	Err   error
}

// ErrOutcomes is why attempts fail whose handler did not say what became of each.
var ErrOutcomes = errors.New("a handler of many must give one outcome for each of its tasks")

// HandleBatch makes fn the handler of a kind on this node, for as many tasks at a
// time as g says: one call to a database or a model costs less than a hundred. It
// gives one outcome for each task, in their order; an error is that of all.
//
// Every task is an attempt of its own, with its own log, progress, retry and
// timeout. ctx ends when none of the attempts is wanted any more; one alone that
// was cut off is told by its [Task.Done] and [Task.Err], and what fn says of it reaches nobody.
func HandleBatch[In, Out any](r *Runtime, kind string, g Gather, fn func(context.Context, []*Task[In]) ([]Outcome[Out], error)) {
	if g.Most <= 0 {
		g.Most = 100
	}
	if g.Wait <= 0 {
		g.Wait = 10 * time.Millisecond
	}
	gatherer := &gatherer[In, Out]{gather: g, fn: fn}
	r.handle(kind, func(ctx context.Context, job *actors.Job) (json.RawMessage, error) {
		t, err := newTask[In](ctx, job)
		if err != nil {
			return nil, err
		}
		return gatherer.run(ctx, t)
	})
}

// gatherer brings attempts of one kind together, on one node.
type gatherer[In, Out any] struct {
	gather Gather
	fn     func(context.Context, []*Task[In]) ([]Outcome[Out], error)

	mu      sync.Mutex
	members []*member[In]
	timer   *time.Timer
}

// member is one attempt on its way through a handler of many.
type member[In any] struct {
	task *Task[In]
	end  chan ending // holds one
}

type ending struct {
	result json.RawMessage
	err    error
	stack  string // of a panic
}

// run waits for the others and for the end.
func (g *gatherer[In, Out]) run(ctx context.Context, t *Task[In]) (json.RawMessage, error) {
	m := &member[In]{task: t, end: make(chan ending, 1)}
	g.join(m)
	select {
	case end := <-m.end:
		if end.stack != "" {
			fields, _ := json.Marshal(map[string]string{"stack": end.stack})
			_ = t.job.Log("error", end.err.Error(), fields) // the attempt may be over
		}
		return end.result, end.err
	case <-ctx.Done():
		g.leave(m)
		return nil, context.Cause(ctx)
	}
}

// join adds an attempt to those that gather. The one that fills the number runs
// them all; else the clock does.
func (g *gatherer[In, Out]) join(m *member[In]) {
	g.mu.Lock()
	// Who was cut off and has not left yet is not waited with.
	g.drop(func(o *member[In]) bool { return o.task.ctx.Err() != nil })
	g.members = append(g.members, m)
	var ready []*member[In]
	switch len(g.members) {
	case g.gather.Most:
		ready = g.take()
	case 1:
		g.timer = time.AfterFunc(g.gather.Wait, g.timeUp)
	}
	g.mu.Unlock()
	if ready != nil {
		go g.call(ready)
	}
}

func (g *gatherer[In, Out]) timeUp() {
	g.mu.Lock()
	ready := g.take()
	g.mu.Unlock()
	g.call(ready)
}

// take ends the gathering.
func (g *gatherer[In, Out]) take() []*member[In] {
	ready := g.members
	g.members = nil
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	return ready
}

// leave removes an attempt that was cut off while it waited for others.
func (g *gatherer[In, Out]) leave(m *member[In]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(func(o *member[In]) bool { return o == m })
}

// drop removes some of those that gather; the clock stops with the last.
func (g *gatherer[In, Out]) drop(gone func(*member[In]) bool) {
	if g.members = slices.DeleteFunc(g.members, gone); len(g.members) == 0 {
		g.take()
	}
}

// call runs the handler and tells every attempt its end.
func (g *gatherer[In, Out]) call(members []*member[In]) {
	if len(members) == 0 {
		return // the last one left as the time was up
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(members[0].task.ctx))
	defer cancel(nil)
	left := int64(len(members))
	var mu sync.Mutex
	tasks := make([]*Task[In], len(members))
	for i, m := range members {
		tasks[i] = m.task
		defer context.AfterFunc(m.task.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel(context.Cause(m.task.ctx))
			}
		})()
	}
	outcomes, failed := g.guarded(ctx, tasks)
	for i, m := range members {
		end := failed
		if outcomes != nil {
			end = ending{err: outcomes[i].Err}
			if end.err == nil {
				end.result, end.err = encode(outcomes[i].Value)
			}
		}
		m.end <- end
	}
}

// guarded is the handler's answer, one outcome a task, or how all of them end.
func (g *gatherer[In, Out]) guarded(ctx context.Context, tasks []*Task[In]) (outcomes []Outcome[Out], failed ending) {
	defer func() {
		if r := recover(); r != nil {
			stack := string(debug.Stack())
			outcomes, failed = nil, ending{
				err:   &task.Failure{Code: task.CodePanic, Message: fmt.Sprint(r), Retryable: true},
				stack: stack[:min(len(stack), 8<<10)],
			}
		}
	}()
	outcomes, err := g.fn(ctx, tasks)
	switch {
	case err != nil:
		return nil, ending{err: err}
	case len(outcomes) != len(tasks):
		return nil, ending{err: Permanent(fmt.Errorf("%d outcomes for %d tasks: %w", len(outcomes), len(tasks), ErrOutcomes))}
	}
	return outcomes, ending{}
}
