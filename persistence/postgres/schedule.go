package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// A new schedule of one name is made by one who comes first; a change locks the row
// it was decided on, so that of all who fire a tick one does.
const (
	lockSchedule   = "SELECT revision FROM troupe.schedules WHERE namespace = $1 AND name = $2 FOR UPDATE"
	insertSchedule = `INSERT INTO troupe.schedules (namespace, name, next_at, revision, data) VALUES ($1, $2, nullif($3::bigint, 0), 1, $4)
		ON CONFLICT DO NOTHING RETURNING revision`
	updateSchedule = "UPDATE troupe.schedules SET next_at = nullif($3::bigint, 0), revision = revision + 1, data = $4 WHERE namespace = $1 AND name = $2"
	deleteSchedule = "DELETE FROM troupe.schedules WHERE namespace = $1 AND name = $2"
	scheduleRows   = "SELECT namespace, name, coalesce(next_at, 0), revision, data FROM troupe.schedules "
	schedulesOf    = scheduleRows + "WHERE namespace = $1 AND name > $2 AND ($3 = '' OR name = $3) ORDER BY name LIMIT $4"
	comingOnes     = scheduleRows + "WHERE next_at IS NOT NULL ORDER BY next_at LIMIT $1"
)

// schedule makes a change of a schedule, if it is there as the change takes it to be.
func (a *appending) schedule(ctx context.Context, i int) error {
	s := *a.ms[i].Schedule
	revision := int64(0)
	scan := func(r pgx.Rows) error { return r.Scan(&revision) }
	if s.Revision == 0 {
		err := a.query(ctx, insertSchedule, []any{s.Namespace, s.Name, codec.MicrosOrNone(s.Next), codec.Schedule(s)}, scan)
		if err == nil && revision == 0 {
			a.out[i].Err = task.ErrScheduled
		}
		return err
	}
	if err := a.query(ctx, lockSchedule, []any{s.Namespace, s.Name}, scan); err != nil {
		return err
	}
	switch {
	case revision == 0:
		a.out[i].Err = task.ErrNoSchedule
		return nil
	case revision != s.Revision:
		a.out[i].Err = task.ErrStale
		return nil
	case a.ms[i].Op == task.DropSchedule:
		return a.exec(ctx, deleteSchedule, s.Namespace, s.Name)
	case a.ms[i].Op == task.Fire:
		if err := a.round(ctx, round{inserts: []int{i}}); err != nil {
			return err
		}
		if there := a.out[i].Existing; there != nil {
			s.LastTask = there.ID
		}
	}
	return a.exec(ctx, updateSchedule, s.Namespace, s.Name, codec.MicrosOrNone(s.Next), codec.Schedule(s))
}

// Schedules implements [task.Store].
func (s *Store) Schedules(ctx context.Context, f task.ScheduleFilter) (all []task.Schedule, err error) {
	err = s.read(ctx, "read schedules", func(ctx context.Context, t *tx) error {
		all = nil
		query, args := schedulesOf, []any{f.Namespace, f.After, f.Name, f.Limit}
		if f.Coming {
			query, args = comingOnes, []any{f.Limit}
		}
		return t.query(ctx, query, args, func(r pgx.Rows) error {
			var one task.Schedule
			var next int64
			var data []byte
			if err := r.Scan(&one.Namespace, &one.Name, &next, &one.Revision, &data); err != nil {
				return err
			}
			one.Next = codec.OrNone(next)
			err := codec.DecodeSchedule(data, &one)
			all = append(all, one)
			return err
		})
	})
	return all, err
}
