package memory

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// pageBytes is about how much of bodies a page holds.
const pageBytes = 1 << 20

// Claim implements [task.Store].
func (s *Store) Claim(ctx context.Context, q task.Claim) ([]task.Task, error) {
	var claimed []task.Task
	err := s.do(ctx, "Claim", nil, func() error {
		s.call()
		may := q.Choose(s.lives)
		rows := s.where(func(t task.Task) bool {
			return t.Holder == 0 && t.State == task.Queued && t.Parked == nil && (q.Above == nil || t.Rank() < *q.Above) &&
				!s.queues[named{t.Namespace, t.Queue}].Paused &&
				!slices.Contains(q.Full, t.Lane()) && may(t.Lane())
		}, func(a, b task.Task) int { return cmp.Compare(a.Rank(), b.Rank()) })
		for _, r := range first(rows, q.Limit) {
			r.task = r.task.Take(q.Holder).Task
			claimed = append(claimed, r.task)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// Due implements [task.Store].
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]task.Task, time.Time, error) {
	var due []task.Task
	var next time.Time
	err := s.do(ctx, "Due", nil, func() error {
		rows := s.where(func(t task.Task) bool { return t.Holder == 0 && !t.WakeAt().IsZero() },
			func(a, b task.Task) int { return a.WakeAt().Compare(b.WakeAt()) })
		for _, r := range rows {
			if at := r.task.WakeAt(); len(due) >= limit || at.After(now) {
				next = at
				break
			}
			due = append(due, s.seen(r.task))
		}
		if at := s.opens(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return due, next, nil
}

// Orphans implements [task.Store].
func (s *Store) Orphans(ctx context.Context, limit int) ([]task.Task, error) {
	var orphans []task.Task
	err := s.do(ctx, "Orphans", nil, func() error {
		s.bury()
		rows := s.where(func(t task.Task) bool {
			n, known := s.nodes[t.Holder]
			return t.Holder != 0 && (!known || n.Left)
		}, byID)
		for _, r := range first(rows, limit) {
			orphans = append(orphans, r.task)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return orphans, nil
}

// where gives the rows of the tasks that match, in order, and as they arrived
// where that leaves a choice.
func (s *Store) where(match func(task.Task) bool, order func(a, b task.Task) int) []*row {
	var rows []*row
	for _, r := range s.tasks {
		if match(r.task) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *row) int {
		return cmp.Or(order(a.task, b.task), cmp.Compare(a.n, b.n))
	})
	return rows
}

func byID(a, b task.Task) int { return bytes.Compare(a.ID[:], b.ID[:]) }

func first(rows []*row, limit int) []*row { return rows[:max(0, min(limit, len(rows)))] }

// Task implements [task.Store].
func (s *Store) Task(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	var t task.Task
	err := s.do(ctx, "Task", nil, func() error {
		r, ok := s.tasks[id]
		if !ok || r.task.Namespace != namespace {
			return task.ErrNotFound
		}
		t = s.seen(r.task)
		return nil
	})
	if err != nil {
		return task.Task{}, err
	}
	return t, nil
}

// Result implements [task.Store].
func (s *Store) Result(ctx context.Context, namespace, kind, key string, now time.Time) (task.Kept, bool, error) {
	var r result
	err := s.do(ctx, "Result", nil, func() error {
		if kept := s.results[cached{namespace, kind, key}]; kept.expires.After(now) {
			r = kept
		}
		return nil
	})
	if err != nil {
		return task.Kept{}, false, err
	}
	return task.Kept{Result: r.json, Of: r.of, Expires: r.expires}, !r.of.IsZero(), nil
}

// Tasks implements [task.Store].
func (s *Store) Tasks(ctx context.Context, f task.Filter) ([]task.Task, task.Place, error) {
	var page []task.Task
	var next task.Place
	err := s.do(ctx, "Tasks", nil, func() error {
		rows := s.where(f.Match, func(a, b task.Task) int { return cmp.Or(a.Created.Compare(b.Created), byID(a, b)) })
		slices.Reverse(rows)
		size := 0
		for _, r := range rows {
			t := r.task
			place := task.Place{Created: t.Created, ID: t.ID}
			if !f.After.IsZero() && !behind(place, f.After) {
				continue
			}
			if len(page) >= f.Limit || size >= pageBytes {
				if len(page) > 0 {
					last := page[len(page)-1]
					next = task.Place{Created: last.Created, ID: last.ID}
				}
				break
			}
			page = append(page, s.seen(t))
			size += len(t.Payload) + len(t.Result) + len(t.Checkpoint)
		}
		return nil
	})
	if err != nil {
		return nil, task.Place{}, err
	}
	return page, next, nil
}

// behind says that p comes after q in the list, newest first.
func behind(p, q task.Place) bool {
	return cmp.Or(p.Created.Compare(q.Created), bytes.Compare(p.ID[:], q.ID[:])) < 0
}

// Events implements [task.Store].
func (s *Store) Events(ctx context.Context, namespace string, id task.ID, after task.Cursor, limit int) ([]task.Event, error) {
	var page []task.Event
	err := s.do(ctx, "Events", nil, func() error {
		r, ok := s.tasks[id]
		if !ok || r.task.Namespace != namespace {
			return task.ErrNotFound
		}
		size := 0
		for _, e := range r.events {
			if after.Before(e.Cursor) && len(page) < limit && size < pageBytes {
				page = append(page, e)
				size += len(e.Data)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}
