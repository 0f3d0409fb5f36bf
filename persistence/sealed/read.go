package sealed

import (
	"context"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Claim implements [task.Store]. Tasks that cannot be opened are given back: another
// node may have the key, and whoever runs this one reads in the log which it is.
func (s *Store) Claim(ctx context.Context, q task.Claim) ([]task.Task, error) {
	claimed, err := s.Store.Claim(ctx, q)
	if err != nil {
		return nil, err
	}
	var back []task.Mutation
	opened := s.those(ctx, claimed, func(t task.Task) { back = append(back, t.Release().Mutation()) })
	if len(back) == 0 {
		return opened, nil
	}
	if _, err := s.Store.Append(ctx, back); err != nil {
		s.opt.Log.ErrorContext(ctx, "cannot give back tasks that cannot be opened; they stay with this node until it ends", "tasks", len(back), "error", err)
	}
	return opened, nil
}

// Due implements [task.Store]. What cannot be opened is left out, and stays as it is.
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]task.Task, time.Time, error) {
	due, next, err := s.Store.Due(ctx, now, limit)
	return s.those(ctx, due, nil), next, err
}

// Orphans implements [task.Store], leaving out the same.
func (s *Store) Orphans(ctx context.Context, limit int) ([]task.Task, error) {
	orphans, err := s.Store.Orphans(ctx, limit)
	return s.those(ctx, orphans, nil), err
}

// Unblocked implements [task.Store], leaving out the same.
func (s *Store) Unblocked(ctx context.Context, limit int) ([]task.Unblocked, error) {
	all, err := s.Store.Unblocked(ctx, limit)
	if err != nil {
		return nil, err
	}
	var opened []task.Unblocked
	for _, u := range all {
		for _, u.Task = range s.those(ctx, []task.Task{u.Task}, nil) {
			opened = append(opened, u)
		}
	}
	return opened, nil
}

// those opens tasks that the node looks after. One that cannot be opened must not keep
// it from the others.
func (s *Store) those(ctx context.Context, tasks []task.Task, not func(task.Task)) []task.Task {
	var opened []task.Task
	for _, t := range tasks {
		o, err := s.open(t)
		if err == nil {
			opened = append(opened, o)
			continue
		}
		s.complain(ctx, t.ID, err)
		if not != nil {
			not(t)
		}
	}
	return opened
}

// mostComplained bounds for how many tasks it is remembered that the log names them.
const mostComplained = 10_000

func (s *Store) complain(ctx context.Context, id task.ID, err error) {
	s.mu.Lock()
	known := s.complained[id]
	if len(s.complained) >= mostComplained {
		clear(s.complained)
	}
	s.complained[id] = true
	s.mu.Unlock()
	if !known {
		s.opt.Log.ErrorContext(ctx, "passing over what cannot be opened", "error", err)
	}
}

// Task implements [task.Store].
func (s *Store) Task(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	t, err := s.Store.Task(ctx, namespace, id)
	if err != nil {
		return task.Task{}, err
	}
	return s.open(t)
}

// Tasks implements [task.Store]. A page with a task that cannot be opened is an error:
// leaving it out would not be true.
func (s *Store) Tasks(ctx context.Context, f task.Filter) ([]task.Task, task.Place, error) {
	tasks, next, err := s.Store.Tasks(ctx, f)
	if err != nil {
		return nil, task.Place{}, err
	}
	for i, t := range tasks {
		if tasks[i], err = s.open(t); err != nil {
			return nil, task.Place{}, err
		}
	}
	return tasks, next, nil
}

// Result implements [task.Store].
func (s *Store) Result(ctx context.Context, namespace, kind, key string, now time.Time) (task.Kept, bool, error) {
	kept, found, err := s.Store.Result(ctx, namespace, kind, key, now)
	if err != nil || !found {
		return task.Kept{}, false, err
	}
	if kept.Result, err = s.of(namespace, kept.Of).openJSON(placeResult, kept.Result); err != nil {
		return task.Kept{}, false, fmt.Errorf("result of task %s: %w", kept.Of, err)
	}
	return kept, true, nil
}

// Events implements [task.Store].
func (s *Store) Events(ctx context.Context, namespace string, id task.ID, after task.Cursor, limit int) ([]task.Event, error) {
	events, err := s.Store.Events(ctx, namespace, id, after, limit)
	if err != nil {
		return nil, err
	}
	b := s.of(namespace, id)
	for i, e := range events {
		if events[i].Data, err = b.openJSON(eventPlace(e), e.Data); err != nil {
			return nil, fmt.Errorf("task %s: %w", id, err)
		}
	}
	return events, nil
}

// Memos implements [task.Store].
func (s *Store) Memos(ctx context.Context, namespace string, id task.ID) ([]task.Memo, error) {
	memos, err := s.Store.Memos(ctx, namespace, id)
	if err != nil {
		return nil, err
	}
	b := s.of(namespace, id)
	for i, m := range memos {
		if memos[i].Data, err = b.openJSON(memoPlace(m), m.Data); err != nil {
			return nil, fmt.Errorf("task %s: %w", id, err)
		}
	}
	return memos, nil
}

// Signals implements [task.Store].
func (s *Store) Signals(ctx context.Context, namespace string, id task.ID, name string, limit int) ([]task.Signal, error) {
	signals, err := s.Store.Signals(ctx, namespace, id, name, limit)
	if err != nil {
		return nil, err
	}
	b := s.of(namespace, id)
	for i, one := range signals {
		if signals[i].Data, err = b.openJSON(signalPlace(one.ID), one.Data); err != nil {
			return nil, fmt.Errorf("task %s: %w", id, err)
		}
	}
	return signals, nil
}

// Schedules implements [task.Store]. Of those that have a next tick, what cannot be
// opened is left out, and does not fire.
func (s *Store) Schedules(ctx context.Context, f task.ScheduleFilter) ([]task.Schedule, error) {
	all, err := s.Store.Schedules(ctx, f)
	if err != nil {
		return nil, err
	}
	var opened []task.Schedule
	for _, one := range all {
		one.Task.Payload, err = s.ofSchedule(one.Namespace, one.Name).openJSON(placePayload, one.Task.Payload)
		switch {
		case err == nil:
			opened = append(opened, one)
		case f.Coming:
			s.opt.Log.ErrorContext(ctx, "passing over a schedule that cannot be opened", "namespace", one.Namespace, "schedule", one.Name, "error", err)
		default:
			return nil, fmt.Errorf("schedule %s: %w", one.Name, err)
		}
	}
	return opened, nil
}
