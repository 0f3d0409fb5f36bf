package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// The edges between tasks. A parent that ends only marks those it has; Unblocked
// looks at the marks, and whatever moves the child on drops its edges. No row of
// a child is touched by its parents, so that they do not wait for each other.
const (
	// lockParents keeps parents from ending before the edges to them are there: who
	// ends one then marks them in a statement behind, which sees them.
	lockParents = "SELECT id, namespace, state FROM troupe.tasks WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE"
	knownIDs    = "SELECT id FROM troupe.tasks WHERE id = ANY($1::uuid[])"
	insertEdges = `INSERT INTO troupe.edges (parent, child, strict, done)
		SELECT u.* FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::smallint[]) AS u`
	markEdges = `UPDATE troupe.edges SET done = CASE WHEN strict AND parent = ANY($2::uuid[]) THEN 2 ELSE 1 END
		WHERE parent = ANY($1::uuid[]) AND done = 0 RETURNING parent`
	dropEdges = "DELETE FROM troupe.edges WHERE child = ANY($1::uuid[])"
	standing  = `SELECT m.child, (SELECT count(*) FROM troupe.edges e WHERE e.child = m.child AND e.done = 0),
			(SELECT e.parent FROM troupe.edges e WHERE e.child = m.child AND e.done = 2 ORDER BY e.parent LIMIT 1)
		FROM (SELECT DISTINCT child FROM troupe.edges WHERE done > 0 AND child > $1 ORDER BY child LIMIT $2) m ORDER BY m.child`
	// dropSettled leaves the last one, which may have been marked since.
	// It asks once for each child, however many edges that has.
	dropSettled = `WITH waiting AS MATERIALIZED (SELECT DISTINCT child FROM troupe.edges WHERE child = ANY($1::uuid[]) AND done = 0)
		DELETE FROM troupe.edges e USING waiting w WHERE e.child = w.child AND e.done = 1`
	// healEdges marks what a node of an older version has not.
	healEdges = `UPDATE troupe.edges e SET done = CASE WHEN e.strict AND t.state > 5 THEN 2 ELSE 1 END
		FROM troupe.tasks_ended t WHERE t.id = e.parent AND e.done = 0`
)

// parents locks the tasks that new ones depend on, and leaves out those of which
// one is not there.
func (a *appending) parents(ctx context.Context, which []int) (rest []int, states map[task.ID]task.State, err error) {
	var wanted []task.ID
	for _, i := range which {
		if k := &a.ms[i].Task; k.State == task.Blocked {
			wanted = append(wanted, k.DependsOn...)
		}
	}
	if len(wanted) == 0 {
		return which, nil, nil
	}
	slices.SortFunc(wanted, task.CompareIDs)
	wanted = slices.Compact(wanted)
	states = make(map[task.ID]task.State, len(wanted))
	owner := make(map[task.ID]string, len(wanted))
	err = a.query(ctx, lockParents, []any{uuids(wanted)}, func(r pgx.Rows) error {
		var id [16]byte
		var state int16
		var namespace string
		err := r.Scan(&id, &namespace, &state)
		states[id], owner[id] = stateOf(state), namespace
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var lost []int
	for _, i := range which {
		k := &a.ms[i].Task
		at := -1
		if k.State == task.Blocked {
			at = slices.IndexFunc(k.DependsOn, func(id task.ID) bool { return owner[id] != k.Namespace })
		}
		if at < 0 {
			rest = append(rest, i)
			continue
		}
		a.out[i].Err = &task.MissingError{Task: k.DependsOn[at]}
		lost = append(lost, i)
	}
	again, err := a.there(ctx, lost)
	return append(rest, again...), states, err
}

// there gives those of some inserts whose task is there already, from a time when
// its parents were.
func (a *appending) there(ctx context.Context, which []int) (known []int, err error) {
	if len(which) == 0 {
		return nil, nil
	}
	ids := make([]task.ID, len(which))
	for at, i := range which {
		ids[at] = a.ms[i].Task.ID
	}
	found := map[task.ID]bool{}
	if err := a.query(ctx, knownIDs, []any{uuids(ids)}, noteIn(found)); err != nil {
		return nil, err
	}
	for _, i := range which {
		if found[a.ms[i].Task.ID] {
			a.out[i].Err = nil
			known = append(known, i)
		}
	}
	return known, nil
}

// depend stores the edges of tasks that were made.
func (a *appending) depend(ctx context.Context, which []int, written map[task.ID]bool, states map[task.ID]task.State) error {
	var parents, children []pgtype.UUID
	var strict []bool
	var marks []int16
	for _, i := range which {
		k := &a.ms[i].Task
		if k.State != task.Blocked || !written[k.ID] {
			continue
		}
		for _, id := range k.DependsOn {
			mark := int16(0)
			if done, failed := task.Settled(states[id], k.OnDependencyFailure); failed {
				mark = 2
			} else if done {
				mark = 1
			}
			a.out[i].Settles = a.out[i].Settles || mark > 0
			parents, children = append(parents, uuid(id)), append(children, uuid(k.ID))
			strict, marks = append(strict, k.OnDependencyFailure != task.RunOnFailure), append(marks, mark)
		}
	}
	if len(parents) == 0 {
		return nil
	}
	return a.exec(ctx, insertEdges, parents, children, strict, marks)
}

// settle has the edges of tasks seen to that were saved: just before the commit,
// in its round trip.
func (a *appending) settle(which []int, written map[task.ID]bool) {
	var ended, failed, moved []task.ID
	places := map[task.ID]int{}
	for _, i := range which {
		m := &a.ms[i]
		if !written[m.Task.ID] {
			continue
		}
		if m.Guard.State == task.Blocked && m.Task.State != task.Blocked {
			moved = append(moved, m.Task.ID)
		}
		if m.Task.State.Terminal() {
			places[m.Task.ID] = i
			if ended = append(ended, m.Task.ID); m.Task.State != task.Succeeded {
				failed = append(failed, m.Task.ID)
			}
		}
	}
	a.last = append(a.last, func(b *pgx.Batch) {
		if len(moved) > 0 {
			b.Queue(dropEdges, uuids(moved))
		}
		if len(ended) > 0 {
			each(b.Queue(markEdges, uuids(ended), uuids(failed)), func(r pgx.Rows) error {
				var id [16]byte
				err := r.Scan(&id)
				a.out[places[id]].Settles = true
				return err
			})
		}
	})
}

// States implements [task.Store].
func (s *Store) States(ctx context.Context, namespace string, ids []task.ID) (map[task.ID]task.State, error) {
	var states map[task.ID]task.State
	err := s.read(ctx, "read states", func(ctx context.Context, t *tx) error {
		states = make(map[task.ID]task.State, len(ids))
		return t.query(ctx, "SELECT id, state FROM troupe.tasks WHERE id = ANY($1::uuid[]) AND namespace = $2",
			[]any{uuids(ids), namespace}, func(r pgx.Rows) error {
				var id [16]byte
				var state int16
				err := r.Scan(&id, &state)
				states[id] = stateOf(state)
				return err
			})
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// Unblocked implements [task.Store].
func (s *Store) Unblocked(ctx context.Context, limit int) ([]task.Unblocked, error) {
	var all []task.Unblocked
	var waiting []task.ID
	err := s.read(ctx, "list unblocked tasks", func(ctx context.Context, t *tx) (err error) {
		if all, waiting, err = t.unblocked(ctx, limit); err != nil {
			return err
		}
		for _, query := range []string{signalled, readyCallbacks} {
			if err := t.query(ctx, query, []any{max(0, limit-len(all))}, func(r pgx.Rows) error {
				k, _, err := decode(r)
				all = append(all, task.Unblocked{Task: k})
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(waiting) > 0 {
		err = s.write(ctx, "drop settled edges", func(ctx context.Context, t *tx) error {
			return t.exec(ctx, dropSettled, uuids(waiting))
		})
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b task.Unblocked) int { return task.CompareIDs(a.Task.ID, b.Task.ID) })
	return all[:min(len(all), limit)], nil
}

// unblocked looks at all that have a mark, and gives those that go on waiting, too.
func (t *tx) unblocked(ctx context.Context, limit int) (all []task.Unblocked, waiting []task.ID, err error) {
	for after := (task.ID{}); len(all) < limit; {
		seen := 0
		failed := map[task.ID]task.ID{}
		var free []task.ID
		err := t.query(ctx, standing, []any{pgtype.UUID{Bytes: after, Valid: true}, limit}, func(r pgx.Rows) error {
			var child [16]byte
			var pending int64
			var parent pgtype.UUID
			err := r.Scan(&child, &pending, &parent)
			after, seen = child, seen+1
			if pending > 0 && !parent.Valid {
				waiting = append(waiting, child)
				return err
			}
			failed[child] = parent.Bytes
			free = append(free, child)
			return err
		})
		if err != nil || seen == 0 {
			return all, waiting, err
		}
		if len(free) == 0 {
			continue
		}
		err = t.query(ctx, byID+" AND t.state = 2", []any{uuids(free)}, func(r pgx.Rows) error {
			k, _, err := decode(r)
			all = append(all, task.Unblocked{Task: k, Failed: failed[k.ID]})
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return all, waiting, nil
}
