package memory

import (
	"context"
	"maps"
	"slices"

	"github.com/troupe-run/troupe/runtime/task"
)

// depend notes for whom a new task waits, or which of them is not there.
func (s *Store) depend(t task.Task) (waits map[task.ID]bool, err error) {
	waits = map[task.ID]bool{}
	for _, id := range t.DependsOn {
		if parent := s.tasks[id]; parent == nil || parent.task.Namespace != t.Namespace {
			return nil, &task.MissingError{Task: id}
		}
		waits[id] = true
	}
	return waits, nil
}

// settle tells the children of a task that has ended, and says whether it has any.
func (s *Store) settle(parent task.Task) (any bool) {
	for child := range s.children[parent.ID] {
		r := s.tasks[child]
		if r == nil || !r.waits[parent.ID] {
			continue
		}
		any = true
		delete(r.waits, parent.ID)
		if _, failed := task.Settled(parent.State, r.task.OnDependencyFailure); failed && r.failed.IsZero() {
			r.failed = parent.ID
		}
	}
	delete(s.children, parent.ID)
	return any
}

// States implements [task.Store].
func (s *Store) States(ctx context.Context, namespace string, ids []task.ID) (map[task.ID]task.State, error) {
	states := map[task.ID]task.State{}
	err := s.do(ctx, "States", nil, func() error {
		for _, id := range ids {
			if r := s.tasks[id]; r != nil && r.task.Namespace == namespace {
				states[id] = r.task.State
			}
		}
		return nil
	})
	return states, err
}

// Unblocked implements [task.Store].
func (s *Store) Unblocked(ctx context.Context, limit int) ([]task.Unblocked, error) {
	var all []task.Unblocked
	err := s.do(ctx, "Unblocked", nil, func() error {
		for _, id := range slices.SortedFunc(maps.Keys(s.tasks), task.CompareIDs) {
			r := s.tasks[id]
			settled := r.waits != nil && (len(r.waits) == 0 || !r.failed.IsZero())
			if !r.task.AfterBatch.IsZero() {
				settled = r.task.Attempt == 0 && s.batchEnded(r.task.Namespace, r.task.AfterBatch)
			}
			if r.task.State == task.Blocked && len(all) < limit && (settled || r.signalled()) {
				all = append(all, task.Unblocked{Task: r.task, Failed: r.failed})
			}
		}
		return nil
	})
	return all, err
}

// callback is the task that waits for a batch, or has; nil where there is none.
func (s *Store) callback(namespace string, batch task.ID) *row {
	for _, r := range s.tasks {
		if !batch.IsZero() && r.task.Namespace == namespace && r.task.AfterBatch == batch {
			return r
		}
	}
	return nil
}

func (s *Store) batchEnded(namespace string, batch task.ID) bool {
	for _, r := range s.tasks {
		if r.task.Namespace == namespace && r.task.BatchID == batch && !r.task.State.Terminal() {
			return false
		}
	}
	return true
}
