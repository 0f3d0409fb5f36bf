package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/troupe-run/troupe/runtime/task"
)

// CheckDependencies says whether tasks, all of one namespace, can be submitted
// together as far as their dependencies go: a [task.CycleError], or which of them
// names a task that is neither among them nor there.
func (r *Runtime) CheckDependencies(ctx context.Context, specs []task.Spec) (at int, err error) {
	if _, err := task.InOrder(specs); err != nil {
		return -1, err
	}
	missing, err := r.missing(ctx, specs)
	if err != nil {
		return -1, err
	}
	for i := range specs {
		if m := missing[i]; m != nil {
			return i, m
		}
	}
	return -1, nil
}

// missing finds the tasks among those given that depend on one which is not there.
func (r *Runtime) missing(ctx context.Context, specs []task.Spec) (map[int]*task.MissingError, error) {
	here := make(map[task.ID]bool, len(specs))
	var elsewhere []task.ID
	for _, s := range specs {
		here[s.ID] = true
	}
	for _, s := range specs {
		for _, id := range s.DependsOn {
			if !here[id] {
				elsewhere = append(elsewhere, id)
			}
		}
	}
	if len(elsewhere) == 0 {
		return nil, nil
	}
	slices.SortFunc(elsewhere, task.CompareIDs)
	states, err := r.store.States(ctx, specs[0].Namespace, slices.Compact(elsewhere))
	if err != nil {
		return nil, fmt.Errorf("look for what tasks depend on: %w", err)
	}
	missing := map[int]*task.MissingError{}
	for i, s := range specs {
		for k, id := range s.DependsOn {
			if _, there := states[id]; !there && !here[id] {
				missing[i] = &task.MissingError{Task: id, Field: fmt.Sprintf("depends_on[%d]", k)}
				break
			}
		}
	}
	return missing, nil
}

// pending is submissions on their way to the node, and where their answers go.
type pending struct {
	subs   []task.Submission
	places []int
	errs   map[int]error // of those that are none any more, by place
}

func (p *pending) refuse(place int, err error) {
	if p.errs == nil {
		p.errs = map[int]error{}
	}
	p.errs[place] = err
}

// answers puts what was said of the submissions in the order in which they came.
func (p *pending) answers(said []task.Submitted) []task.Submitted {
	if len(p.errs) == 0 && slices.IsSorted(p.places) {
		return said
	}
	all := make([]task.Submitted, len(said)+len(p.errs))
	for place, err := range p.errs {
		all[place].Err = err
	}
	for i := range said {
		all[p.places[i]] = said[i]
	}
	return all
}

// inOrder puts submissions in an order in which each can be stored, and answers
// those that are in a circle.
func (p *pending) inOrder() {
	if !slices.ContainsFunc(p.subs, func(s task.Submission) bool { return len(s.Spec.DependsOn) > 0 }) {
		return
	}
	for {
		specs := make([]task.Spec, len(p.subs))
		for i, s := range p.subs {
			specs[i] = s.Spec
		}
		order, err := task.InOrder(specs)
		var cycle task.CycleError
		if !errors.As(err, &cycle) {
			sorted := pending{errs: p.errs}
			for _, i := range order {
				sorted.subs, sorted.places = append(sorted.subs, p.subs[i]), append(sorted.places, p.places[i])
			}
			*p = sorted
			return
		}
		p.drop(func(s task.Submission) bool { return slices.Contains(cycle, s.Spec.ID) }, err)
	}
}

// drop answers some with an error.
func (p *pending) drop(match func(task.Submission) bool, err error) {
	kept := pending{errs: p.errs}
	for i, s := range p.subs {
		if match(s) {
			kept.refuse(p.places[i], err)
			continue
		}
		kept.subs, kept.places = append(kept.subs, s), append(kept.places, p.places[i])
	}
	*p = kept
}
