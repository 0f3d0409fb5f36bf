package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	// sweepStep is how many tasks go in one transaction.
	sweepStep = 500
	// quick is how many times more goes of what any task may leave, and for a
	// moment only.
	quick = 20
	// remembered is for how long a node that is gone stays in the overview.
	remembered = 24 * time.Hour
)

// What another node is sweeping just now is left to it.
const (
	sweepRows = `SELECT id, namespace, state, created, queue, batch, spec, bytes FROM troupe.tasks_ended
		WHERE state = $1 AND trimmed IN (false, true) AND finished <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED`
	trimRows = `SELECT id, ended, namespace, bytes, (coalesce(octet_length(payload), 0) + coalesce(octet_length(checkpoint), 0)
			+ coalesce(octet_length(result), 0))::bigint FROM troupe.tasks_ended
		WHERE state = $1 AND NOT trimmed AND finished <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED`
	trim = `UPDATE troupe.tasks_ended t SET trimmed = true, log_start = coalesce(nullif(u.log_start, 0), t.log_start),
			birth = CASE u.log_start WHEN 0 THEN t.birth END, ended = coalesce(u.ended, t.ended), bytes = u.bytes
		FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[]) AS u(id, log_start, ended, bytes) WHERE t.id = u.id`
	expiredKeys = `DELETE FROM troupe.requests WHERE (namespace, key) IN
		(SELECT namespace, key FROM troupe.requests WHERE expires <= $1 ORDER BY expires LIMIT $2)`
	oldNodes   = "DELETE FROM troupe.nodes WHERE gone AND seen < clock_timestamp() - make_interval(secs => $1)"
	oldWriters = "DELETE FROM troupe.writers WHERE used < clock_timestamp() - make_interval(secs => $1)"
	// foldCounts adds the slots up of batches of which nothing is left, which
	// makes them vanish; what others add meanwhile goes to other rows.
	foldCounts = `WITH empty AS (SELECT batch FROM troupe.batch_counts WHERE batch = ANY($1::uuid[])
			GROUP BY batch HAVING sum(n) = 0),
		gone AS (DELETE FROM troupe.batch_counts c USING empty WHERE c.batch = empty.batch RETURNING c.*)
		INSERT INTO troupe.batch_counts AS c (batch, namespace, state, slot, n)
		SELECT batch, namespace, state, -1, sum(n) FROM gone GROUP BY batch, namespace, state HAVING sum(n) <> 0`
)

// Sweep implements [task.Store].
func (s *Store) Sweep(ctx context.Context, r task.Retention, limit int) (int, error) {
	gone, batches := 0, map[task.ID]bool{}
	for state, keep := range r.Keep {
		n, err := s.inSteps(ctx, limit-gone, func(within context.Context, t *tx, step int) (int, error) {
			return t.sweepState(within, state, r.Now.Add(-keep), step, batches)
		})
		gone += n
		if err != nil {
			return gone, err
		}
	}
	if r.KeepEvents > 0 {
		for _, state := range task.States() {
			if _, err := s.inSteps(ctx, limit, func(within context.Context, t *tx, step int) (int, error) {
				return t.trimState(within, state, r.Now.Add(-r.KeepEvents), step)
			}); err != nil {
				return gone, err
			}
		}
	}
	for text, args := range map[string][]any{
		expiredResults: {r.Now.UnixMicro()}, unusedKeys: nil, lateSignals: nil, spentLong: {r.Now.UnixMicro()},
	} {
		if _, err := s.inSteps(ctx, quick*limit, func(within context.Context, t *tx, step int) (n int, err error) {
			err = t.query(within, text, append(args, step), func(pgx.Rows) error {
				n++
				return nil
			})
			return n, err
		}); err != nil {
			return gone, err
		}
	}
	return gone, s.write(ctx, "sweep", func(within context.Context, t *tx) error {
		b := t.batch()
		b.Queue(expiredKeys, r.Now.UnixMicro(), limit)
		b.Queue(endedAccessKeys, r.Now.Add(-access.KeepEndedKeys).UnixMicro(), limit)
		b.Queue(auditsPast, r.Now.Add(-access.KeepAudits).UnixMicro(), limit)
		b.Queue(oldNodes, remembered.Seconds())
		b.Queue(oldWriters, remembered.Seconds())
		b.Queue(healEdges)
		b.Queue(foldCounts, uuids(slices.Collect(maps.Keys(batches))))
		return t.send(within, b)
	})
}

// inSteps calls f, each time in its own transaction, until it has less to do
// than it may, or limit is reached.
func (s *Store) inSteps(ctx context.Context, limit int, f func(context.Context, *tx, int) (int, error)) (done int, err error) {
	for done < limit {
		step, n := min(sweepStep, limit-done), 0
		err := s.write(ctx, "sweep", func(within context.Context, t *tx) (err error) {
			n, err = f(within, t, step)
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

// sweepState deletes tasks of a state that ended at that time or before, and
// notes their batches.
func (t *tx) sweepState(ctx context.Context, state task.State, until time.Time, limit int, batches map[task.ID]bool) (int, error) {
	tasks := map[task.ID]head{}
	err := t.query(ctx, sweepRows, []any{int16(state), until.UnixMicro(), limit}, func(r pgx.Rows) error {
		var h head
		var id, batch pgtype.UUID
		var state int16
		err := r.Scan(&id, &h.namespace, &state, &h.created, &h.queue, &batch, &h.spec, &h.bytes)
		h.batch, h.guard.State = batch.Bytes, stateOf(state)
		if batch.Valid {
			batches[h.batch] = true
		}
		tasks[id.Bytes] = h
		return err
	})
	if err != nil || len(tasks) == 0 {
		return 0, err
	}
	return len(tasks), t.forget(ctx, tasks)
}

// trimState takes away all but the last event of tasks of a state that ended at
// that time or before. One that came without events has none to spare.
func (t *tx) trimState(ctx context.Context, state task.State, until time.Time, limit int) (int, error) {
	var ids, trimmed []pgtype.UUID
	var starts, kept []int64
	var ends [][]byte
	err := t.query(ctx, trimRows, []any{int16(state), until.UnixMicro(), limit}, func(r pgx.Rows) error {
		var id pgtype.UUID
		var ended []byte
		var namespace string
		var bytes, left int64
		if err := r.Scan(&id, &ended, &namespace, &bytes, &left); err != nil {
			return err
		}
		var last []task.Event
		if err := codec.DecodeSegment(id.Bytes, ended, func(e task.Event) error {
			last = []task.Event{e}
			return nil
		}); err != nil {
			return err
		}
		if last == nil {
			left = bytes
		} else {
			trimmed = append(trimmed, id)
			left += task.BytesOf(last)
		}
		t.grew(namespace, left-bytes)
		kept = append(kept, left)
		ids, starts, ends = append(ids, id), append(starts, lastOf(last)), append(ends, codec.Segment(last))
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	b := t.batch()
	b.Queue("DELETE FROM troupe.segments WHERE task = ANY($1::uuid[])", trimmed)
	b.Queue(trim, ids, starts, ends, kept)
	return len(ids), t.send(ctx, b)
}
