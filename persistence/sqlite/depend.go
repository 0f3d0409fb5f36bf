package sqlite

import (
	"context"

	"github.com/troupe-run/troupe/runtime/task"
)

// The edges between tasks. A parent that ends only marks those it has; Unblocked
// looks at the marks, and whatever moves the child on drops its edges.
const (
	anyEdges   = "SELECT EXISTS (SELECT 1 FROM edges)"
	stateOfOne = "SELECT state FROM tasks WHERE id = ? AND namespace = ?"
	insertEdge = "INSERT INTO edges (parent, child, strict, done) VALUES (?, ?, ?, ?)"
	markEdges  = `UPDATE edges SET done = CASE WHEN strict AND ?2 THEN 2 ELSE 1 END WHERE parent = ?1 AND done = 0`
	dropEdges  = "DELETE FROM edges WHERE child = ?"
	// Of a child that goes on waiting, what is settled need not be looked at again.
	markedChildren = "SELECT DISTINCT child FROM edges INDEXED BY edges_done WHERE done > 0 AND child > ? ORDER BY child LIMIT ?"
	standing       = `SELECT (SELECT count(*) FROM edges WHERE child = ?1 AND done = 0),
		(SELECT min(parent) FROM edges WHERE child = ?1 AND done = 2)`
	dropSettled = "DELETE FROM edges WHERE child = ? AND done = 1"
)

// parents finds the states of the tasks that a new one depends on, or says which
// is not there.
func (t *tx) parents(ctx context.Context, k *task.Task) (states []task.State, missing, err error) {
	states = make([]task.State, len(k.DependsOn))
	for i, id := range k.DependsOn {
		err := t.conn.query(ctx, stateOfOne, []any{id[:], k.Namespace}, func(r row) error {
			states[i] = r.state(0)
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		if states[i] == 0 {
			return nil, &task.MissingError{Task: id}, nil
		}
	}
	return states, nil, nil
}

// depend stores a new task's edges, and says whether some are settled already.
func (t *tx) depend(ctx context.Context, k *task.Task, parents []task.State) (settles bool, err error) {
	for i, id := range k.DependsOn {
		strict, mark := k.OnDependencyFailure != task.RunOnFailure, int64(0)
		if done, failed := task.Settled(parents[i], k.OnDependencyFailure); failed {
			mark = 2
		} else if done {
			mark = 1
		}
		settles = settles || mark > 0
		if _, err := t.conn.exec(ctx, insertEdge, id[:], k.ID[:], number(strict), mark); err != nil {
			return false, err
		}
	}
	t.edges = true // also if this is rolled back: it only costs a look
	return settles, nil
}

// settle sees to the edges of a task that was saved.
func (t *tx) settle(ctx context.Context, m *task.Mutation) (settles bool, err error) {
	id := m.Task.ID
	unblocked := m.Guard.State == task.Blocked && m.Task.State != task.Blocked
	if t.calls && unblocked && !m.Task.AfterBatch.IsZero() {
		if _, err := t.conn.exec(ctx, callbackDone, id[:]); err != nil {
			return false, err
		}
	}
	if t.edges && unblocked {
		if _, err := t.conn.exec(ctx, dropEdges, id[:]); err != nil {
			return false, err
		}
	}
	if !m.Task.State.Terminal() {
		return false, nil
	}
	settles = t.calls && !m.Task.BatchID.IsZero()
	if !t.edges {
		return settles, nil
	}
	n, err := t.conn.exec(ctx, markEdges, id[:], number(m.Task.State != task.Succeeded))
	return settles || n > 0, err
}

// States implements [task.Store].
func (s *Store) States(ctx context.Context, namespace string, ids []task.ID) (map[task.ID]task.State, error) {
	states := make(map[task.ID]task.State, len(ids))
	err := s.read(ctx, "read states", func(c *conn) error {
		for _, id := range ids {
			if err := c.query(ctx, stateOfOne, []any{id[:], namespace}, func(r row) error {
				states[id] = r.state(0)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// Unblocked implements [task.Store]. Where there are no edges it costs a look into
// an empty index.
func (s *Store) Unblocked(ctx context.Context, limit int) ([]task.Unblocked, error) {
	var all []task.Unblocked
	waiting := false
	look := func(c *conn, drop func(child []byte) error) error {
		all, waiting = nil, false
		after := []byte{}
		for len(all) < limit {
			var children [][]byte
			if err := c.query(ctx, markedChildren, []any{after, int64(limit)}, func(r row) error {
				children = append(children, r.blob(0))
				return nil
			}); err != nil {
				return err
			}
			if len(children) == 0 {
				var err error
				for _, query := range []string{signalled, readyCallbacks} {
					if all, err = c.blocked(ctx, query, all, limit); err != nil {
						return err
					}
				}
				return nil
			}
			after = children[len(children)-1]
			for _, child := range children {
				var pending int64
				var u task.Unblocked
				if err := c.query(ctx, standing, []any{child}, func(r row) error {
					pending, u.Failed = r.int(0), idOf(r.blob(1))
					return nil
				}); err != nil {
					return err
				}
				if pending > 0 && u.Failed.IsZero() {
					waiting = true
					if drop != nil {
						if err := drop(child); err != nil {
							return err
						}
					}
					continue
				}
				found, _, err := find(ctx, c, "id = ?", child)
				if err != nil {
					return err
				}
				if found != nil && found.State == task.Blocked && len(all) < limit {
					u.Task = *found
					all = append(all, u)
				}
			}
		}
		return nil
	}
	err := s.read(ctx, "list unblocked tasks", func(c *conn) error { return look(c, nil) })
	if err != nil || !waiting {
		return all, err
	}
	err = s.write(ctx, "list unblocked tasks", func(t *tx) error {
		within := context.WithoutCancel(ctx)
		return look(t.conn, func(child []byte) error {
			_, err := t.conn.exec(within, dropSettled, child)
			return err
		})
	})
	return all, err
}

// blocked adds those of the tasks that a query gives which are blocked.
func (c *conn) blocked(ctx context.Context, query string, all []task.Unblocked, limit int) ([]task.Unblocked, error) {
	var ids [][]byte
	if err := c.query(ctx, query, []any{int64(max(0, limit-len(all)))}, func(r row) error {
		ids = append(ids, r.blob(0))
		return nil
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		found, _, err := find(ctx, c, "id = ?", id)
		if err != nil {
			return nil, err
		}
		if found != nil && found.State == task.Blocked {
			all = append(all, task.Unblocked{Task: *found})
		}
	}
	return all, nil
}
