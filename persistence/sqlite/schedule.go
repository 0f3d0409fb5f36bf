package sqlite

import (
	"context"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	revisionOf     = "SELECT revision FROM schedules WHERE namespace = ? AND name = ?"
	insertSchedule = "INSERT INTO schedules (next_at, revision, data, namespace, name) VALUES (nullif(?, 0), 1, ?, ?, ?)"
	updateSchedule = "UPDATE schedules SET next_at = nullif(?, 0), revision = revision + 1, data = ? WHERE namespace = ? AND name = ?"
	deleteSchedule = "DELETE FROM schedules WHERE namespace = ? AND name = ?"
	scheduleRows   = "SELECT namespace, name, next_at, revision, data FROM schedules "
	schedulesOf    = scheduleRows + "WHERE namespace = ?1 AND name > ?2 AND (?3 = '' OR name = ?3) ORDER BY name LIMIT ?4"
	comingOnes     = scheduleRows + "WHERE next_at IS NOT NULL ORDER BY next_at LIMIT ?4"
)

// schedule makes a change of a schedule, if it is there as the change takes it to be.
func (t *tx) schedule(ctx context.Context, m *task.Mutation) (out task.Outcome, err error) {
	s := *m.Schedule
	revision := int64(0)
	if err := t.conn.query(ctx, revisionOf, []any{s.Namespace, s.Name}, func(r row) error {
		revision = r.int(0)
		return nil
	}); err != nil {
		return task.Outcome{}, err
	}
	switch {
	case revision != 0 && s.Revision == 0:
		return task.Outcome{Err: task.ErrScheduled}, nil
	case revision == 0 && s.Revision != 0:
		return task.Outcome{Err: task.ErrNoSchedule}, nil
	case revision != s.Revision:
		return task.Outcome{Err: task.ErrStale}, nil
	}
	write := updateSchedule
	switch {
	case m.Op == task.DropSchedule:
		_, err := t.conn.exec(ctx, deleteSchedule, s.Namespace, s.Name)
		return task.Outcome{}, err
	case m.Op == task.Fire:
		if out, err = t.insert(ctx, m); err != nil {
			return out, err
		}
		if out.Existing != nil {
			s.LastTask = out.Existing.ID
		}
	case revision == 0:
		write = insertSchedule
	}
	_, err = t.conn.exec(ctx, write, codec.MicrosOrNone(s.Next), codec.Schedule(s), s.Namespace, s.Name)
	return out, err
}

// Schedules implements [task.Store].
func (s *Store) Schedules(ctx context.Context, f task.ScheduleFilter) (all []task.Schedule, err error) {
	query := schedulesOf
	if f.Coming {
		query = comingOnes
	}
	err = s.read(ctx, "read schedules", func(c *conn) error {
		return c.query(ctx, query, []any{f.Namespace, f.After, f.Name, int64(f.Limit)}, func(r row) error {
			one := task.Schedule{Namespace: r.text(0), Name: r.text(1), Next: codec.OrNone(r.int(2)), Revision: r.int(3)}
			err := codec.DecodeSchedule(r.blob(4), &one)
			all = append(all, one)
			return err
		})
	})
	return all, err
}
