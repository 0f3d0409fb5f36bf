package sqlite

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// pageBytes is about how much of bodies a page holds.
const pageBytes = 1 << 20

// Task implements [task.Store].
func (s *Store) Task(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	var found *task.Task
	err := s.read(ctx, "read task", func(c *conn) (err error) {
		found, _, err = find(ctx, c, "id = ? AND namespace = ?", id[:], namespace)
		return err
	})
	switch {
	case err != nil:
		return task.Task{}, err
	case found == nil:
		return task.Task{}, fmt.Errorf("read task %s: %w", id, task.ErrNotFound)
	}
	return *found, nil
}

// Events implements [task.Store]. A log is what stands in the row of its task's
// birth, then the segments, then what stands there of its end.
func (s *Store) Events(ctx context.Context, namespace string, id task.ID, after task.Cursor, limit int) ([]task.Event, error) {
	var page []task.Event
	size := 0
	take := func(e task.Event) error {
		if !after.Before(e.Cursor) {
			return nil
		}
		if len(page) >= limit || size >= pageBytes {
			return errEnough
		}
		page = append(page, e)
		size += len(e.Data)
		return nil
	}
	err := s.read(ctx, "read events", func(c *conn) error {
		page, size = nil, 0
		found := false
		var birth, ended []byte
		err := c.query(ctx, "SELECT birth, ended FROM tasks WHERE id = ? AND namespace = ?", []any{id[:], namespace},
			func(r row) error {
				found, birth, ended = true, r.blob(0), r.blob(1)
				return nil
			})
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("read events of task %s: %w", id, task.ErrNotFound)
		}
		if err := codec.DecodeSegment(id, birth, take); err != nil {
			return err
		}
		err = c.query(ctx, "SELECT data FROM segments WHERE task = ? AND last > ? ORDER BY last", []any{id[:], codec.Pack(after)},
			func(r row) error { return codec.DecodeSegment(id, r.blob(0), take) })
		if err != nil {
			return err
		}
		return codec.DecodeSegment(id, ended, take)
	})
	if err != nil && !isEnough(err) {
		return nil, err
	}
	return page, nil
}

const dueRows = "SELECT " + columns + ", wake_at FROM tasks WHERE wake_at IS NOT NULL ORDER BY wake_at, n LIMIT ?"

// Due implements [task.Store].
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]task.Task, time.Time, error) {
	var due []task.Task
	var next time.Time
	err := s.read(ctx, "list due tasks", func(c *conn) error {
		due, next = nil, time.Time{}
		// One more than asked: its wake_at is when to come back.
		err := c.query(ctx, dueRows, []any{int64(max(limit, 0)) + 1}, func(r row) error {
			if at := codec.Micros(r.int(len(r) - 1)); len(due) >= limit || at.After(now) {
				next = at
				return errEnough
			}
			t, err := decode(r)
			due = append(due, t)
			return err
		})
		if err != nil && !isEnough(err) {
			return err
		}
		at, err := opens(ctx, c)
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return due, next, nil
}

// Orphans implements [task.Store].
func (s *Store) Orphans(ctx context.Context, limit int) ([]task.Task, error) {
	var orphans []task.Task
	err := s.read(ctx, "list orphans", func(c *conn) (err error) {
		orphans, err = list(ctx, c, orphanRows, int64(max(limit, 0)))
		return err
	})
	if err != nil {
		return nil, err
	}
	return orphans, nil
}

// There is at most one node that lives; on both sides of its number are the
// tasks of the dead, and what it holds itself is not looked at.
const orphanRows = `WITH live AS (SELECT ifnull(max(incarnation), 0) AS node FROM nodes WHERE left = 0)
	SELECT ` + columns + ` FROM tasks WHERE n IN (
		SELECT n FROM (
			SELECT n, id FROM tasks INDEXED BY held WHERE holder > 0 AND holder < (SELECT node FROM live)
			UNION ALL
			SELECT n, id FROM tasks INDEXED BY held WHERE holder > 0 AND holder > (SELECT node FROM live))
		ORDER BY id LIMIT ?)
	ORDER BY id`

// Tasks implements [task.Store].
func (s *Store) Tasks(ctx context.Context, f task.Filter) ([]task.Task, task.Place, error) {
	var page []task.Task
	var next task.Place
	query, args := listing(f)
	err := s.read(ctx, "list tasks", func(c *conn) error {
		page, next = nil, task.Place{}
		size := 0
		return c.query(ctx, query, args, func(r row) error {
			t, err := decode(r)
			switch {
			case err != nil:
				return err
			case !f.Match(t):
				return nil
			case len(page) > 0 && (len(page) >= f.Limit || size >= pageBytes):
				last := page[len(page)-1]
				next = task.Place{Created: last.Created, ID: last.ID}
				return errEnough
			case len(page) >= f.Limit:
				return errEnough
			}
			page = append(page, t)
			size += len(t.Payload) + len(t.Result) + len(t.Checkpoint)
			return nil
		})
	})
	if err != nil {
		return nil, task.Place{}, err
	}
	return page, next, nil
}

// Ways to walk the list. All go newest first by an index, so that a page ends
// where it is full; held tasks are few enough to be sorted.
const (
	fromAll         = " FROM tasks INDEXED BY listed WHERE namespace = ?"
	fromUnfortunate = " FROM tasks INDEXED BY unfortunate WHERE state >= 6 AND namespace = ?"
	fromBatch       = " FROM tasks INDEXED BY batched WHERE namespace = ? AND batch = ?"
	fromHeld        = " FROM tasks INDEXED BY held WHERE holder > 0 AND namespace = ?"
	fromLabel       = ` FROM labels CROSS JOIN tasks ON tasks.id = labels.task
		WHERE labels.namespace = ? AND labels.key = ? AND labels.value = ?`
)

// listing makes the query for a filter. Which of a task's labels is walked is
// left to chance; the others, and all else, are looked at on the way.
func listing(f task.Filter) (query string, args []any) {
	created, id := "tasks.created", "tasks.id"
	args = []any{f.Namespace}
	states := mask(f.States)
	held := false
	switch {
	case !f.BatchID.IsZero():
		query, args = fromBatch, append(args, f.BatchID[:])
	case len(f.Labels) > 0:
		query, created, id = fromLabel, "labels.created", "labels.task"
		for key, value := range f.Labels {
			args = append(args, key, value)
			break
		}
	case states == 1<<task.Running:
		query, held = fromHeld, true
	case states != 0 && states&^(1<<task.Failed|1<<task.Cancelled) == 0:
		query = fromUnfortunate
	default:
		query = fromAll
	}
	where := func(condition string, values ...any) {
		query += " AND " + condition
		args = append(args, values...)
	}
	if states != 0 {
		where("(1 << state) & ? <> 0", states)
	}
	if f.Kind != "" {
		where("kind = ?", f.Kind)
	}
	if f.Queue != "" {
		where("queue = ?", f.Queue)
	}
	if !f.CreatedAfter.IsZero() {
		where(created+" > ?", f.CreatedAfter.UnixMicro())
	}
	if !f.CreatedBefore.IsZero() {
		// What is kept to the microsecond may lie before a time that is not.
		where(created+" < ?", f.CreatedBefore.Add(time.Microsecond-1).UnixMicro())
	}
	if !f.After.IsZero() {
		where("("+created+", "+id+") < (?, ?)", f.After.Created.UnixMicro(), f.After.ID[:])
	}
	order := " ORDER BY " + created + " DESC, " + id + " DESC"
	if !held {
		return "SELECT " + columns + query + order, args
	}
	query = "SELECT " + columns + " FROM tasks WHERE n IN (SELECT n" + query + order + " LIMIT ?)" + order
	return query, append(args, int64(min(max(f.Limit, 0), math.MaxInt32))+1)
}

func mask(states []task.State) int64 {
	m := int64(0)
	for _, s := range states {
		m |= 1 << s
	}
	return m
}
