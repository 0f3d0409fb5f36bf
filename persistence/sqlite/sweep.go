package sqlite

import (
	"context"
	"time"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	// sweepStep is how many tasks go in one transaction: others wait meanwhile.
	sweepStep = 100
	// quick is how many times more goes of what any task may leave, and for a
	// moment only.
	quick = 20
	// remembered is for how long a node that is gone stays in the overview.
	remembered = 24 * time.Hour
	// sparedLanes is how many lanes may be empty before they are forgotten.
	sparedLanes = 1000
)

const (
	sweepRows = `SELECT id FROM tasks INDEXED BY ended WHERE finished IS NOT NULL
		AND state = ?1 AND trimmed IN (0, 1) AND finished <= ?2 LIMIT ?3`
	trimRows = `SELECT id FROM tasks INDEXED BY ended WHERE finished IS NOT NULL
		AND state = ?1 AND trimmed = 0 AND finished <= ?2 LIMIT ?3`
	payloadLength = `SELECT ifnull(iif(payload = x'', (SELECT length(data) FROM bodies WHERE task = tasks.id AND part = 1),
		length(payload)), 0) FROM tasks WHERE id = ?`
	expiredKeys = `DELETE FROM requests WHERE (namespace, key) IN
		(SELECT namespace, key FROM requests WHERE expires <= ? ORDER BY expires LIMIT ?)`
)

// Sweep implements [task.Store].
func (s *Store) Sweep(ctx context.Context, r task.Retention, limit int) (int, error) {
	gone := 0
	for state, keep := range r.Keep {
		n, err := s.inSteps(ctx, limit-gone, func(t *tx, step int) (int, error) {
			return t.sweepState(context.WithoutCancel(ctx), state, r.Now.Add(-keep), step)
		})
		gone += n
		if err != nil {
			return gone, err
		}
	}
	if r.KeepEvents > 0 {
		for _, state := range task.States() {
			if _, err := s.inSteps(ctx, limit, func(t *tx, step int) (int, error) {
				return t.trimState(context.WithoutCancel(ctx), state, r.Now.Add(-r.KeepEvents), step)
			}); err != nil {
				return gone, err
			}
		}
	}
	for text, args := range map[string][]any{
		expiredResults: {r.Now.UnixMicro()}, unusedKeys: {time.Now().UnixMicro()}, lateSignals: nil, spentLong: {r.Now.UnixMicro()},
	} {
		if _, err := s.inSteps(ctx, quick*limit, func(t *tx, step int) (int, error) {
			n, err := t.conn.exec(context.WithoutCancel(ctx), text, append(args, int64(step))...)
			return int(n), err
		}); err != nil {
			return gone, err
		}
	}
	err := s.write(ctx, "sweep", func(t *tx) error { return t.tidy(context.WithoutCancel(ctx), r.Now, limit) })
	if err == nil && s.logSize() > largeLog {
		err = s.writeBack(ctx)
	}
	return gone, err
}

// inSteps calls f, each time in its own transaction, until it has less to do
// than it may, or limit is reached.
func (s *Store) inSteps(ctx context.Context, limit int, f func(t *tx, step int) (int, error)) (done int, err error) {
	for done < limit {
		step, n := min(sweepStep, limit-done), 0
		err := s.write(ctx, "sweep", func(t *tx) (err error) {
			n, err = f(t, step)
			return err
		})
		if err != nil {
			return done, err
		}
		if done += n; n < step {
			break
		}
	}
	return done, nil
}

// ids reads the first column of a query.
func (t *tx) ids(ctx context.Context, query string, args ...any) ([]task.ID, error) {
	var ids []task.ID
	err := t.conn.query(ctx, query, args, func(r row) error {
		ids = append(ids, idOf(r.blob(0)))
		return nil
	})
	return ids, err
}

// sweepState deletes tasks of a state that ended at that time or before.
func (t *tx) sweepState(ctx context.Context, state task.State, until time.Time, limit int) (int, error) {
	ids, err := t.ids(ctx, sweepRows, int64(state), until.UnixMicro(), int64(limit))
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		old, err := t.head(ctx, id)
		if err != nil {
			return 0, err
		}
		if err := t.forget(ctx, id, state, old); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// trimState takes away all but the last event of tasks of a state that ended at
// that time or before.
func (t *tx) trimState(ctx context.Context, state task.State, until time.Time, limit int) (int, error) {
	ids, err := t.ids(ctx, trimRows, int64(state), until.UnixMicro(), int64(limit))
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := t.trim(ctx, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func (t *tx) trim(ctx context.Context, id task.ID) error {
	old, err := t.head(ctx, id)
	if err != nil {
		return err
	}
	var last []task.Event
	if err := codec.DecodeSegment(id, old.ended, func(e task.Event) error {
		last = []task.Event{e}
		return nil
	}); err != nil {
		return err
	}
	if len(last) == 0 { // it came without events, and has none to spare
		_, err := t.conn.exec(ctx, "UPDATE tasks SET trimmed = 1 WHERE id = ?", id[:])
		return err
	}
	if _, err := t.conn.exec(ctx, "DELETE FROM segments WHERE task = ?", id[:]); err != nil {
		return err
	}
	left := old.checkpoint + old.result + task.BytesOf(last)
	if err := t.conn.query(ctx, payloadLength, []any{id[:]}, func(r row) error {
		left += r.int(0)
		return nil
	}); err != nil {
		return err
	}
	t.grew(old.namespace, left-old.bytes)
	_, err = t.conn.exec(ctx, "UPDATE tasks SET trimmed = 1, log_start = ?, birth = NULL, ended = ?, bytes = ? WHERE id = ?",
		codec.Pack(last[0].Cursor), codec.Segment(last), left, id[:])
	return err
}

// tidy drops what else is of no use any more: request keys, nodes, lanes, what is
// kept of accounts.
func (t *tx) tidy(ctx context.Context, now time.Time, limit int) error {
	_, err := t.conn.exec(ctx, expiredKeys, now.UnixMicro(), int64(limit))
	if err != nil {
		return err
	}
	_, err = t.conn.exec(ctx, "DELETE FROM nodes WHERE left <> 0 AND seen < ?", now.Add(-remembered).UnixMicro())
	if err != nil {
		return err
	}
	if err := t.forgetAccounts(ctx, now, limit); err != nil {
		return err
	}
	var empty []*lane
	for _, l := range t.lanes.byID {
		if l.low == nobodyWaits {
			empty = append(empty, l)
		}
	}
	for _, l := range empty[:max(0, min(len(empty)-sparedLanes, limit))] {
		if _, err := t.conn.exec(ctx, "DELETE FROM lanes WHERE id = ?", l.id); err != nil {
			return err
		}
		t.then = append(t.then, func() { t.lanes.drop(l) })
	}
	return nil
}

// writeBack empties the log into the database, for which readers must let go
// of it. If they do not, the next sweep tries again.
func (s *Store) writeBack(ctx context.Context) error {
	w, err := s.takeWriter(ctx, "write back the log")
	if err != nil {
		return err
	}
	defer func() { s.writer <- w }()
	if w.conn == nil {
		return nil
	}
	return translate("write back the log", w.conn.query(ctx, "PRAGMA wal_checkpoint(TRUNCATE)", nil, ignore))
}
