package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// What tasks remember, and the signals they have not taken. A task that ends drops
// what it remembers; signals that it never asked for are left to the sweep.
//
// Who puts a signal locks the task's row and then looks whether it waits for that
// one; who lets a task wait writes the row and then, in another statement, looks
// whether the signal is there. So one of the two sees the other.
const (
	// insertMemos counts by what is there: a node of a version that knows no memos may
	// have saved the task meanwhile, and with it the number of none.
	insertMemos = `INSERT INTO troupe.memos (task, n, kind, name, at, signal, data)
		SELECT u.task, coalesce((SELECT max(m.n) FROM troupe.memos m WHERE m.task = u.task), 0) + u.place,
			u.kind, u.name, u.at, u.signal, u.data
		FROM unnest($1::uuid[], $2::integer[], $3::smallint[], $4::text[], $5::bigint[], $6::uuid[], $7::bytea[])
			AS u(task, place, kind, name, at, signal, data)`
	takeSignals = `DELETE FROM troupe.signals s USING unnest($1::uuid[], $2::uuid[]) AS u(task, id)
		WHERE s.task = u.task AND s.id = u.id`
	readMemos    = "SELECT kind, name, at, signal, data FROM troupe.memos WHERE task = $1 ORDER BY n"
	dropMemos    = "DELETE FROM troupe.memos WHERE task = ANY($1::uuid[])"
	dropSignals  = "DELETE FROM troupe.signals WHERE task = ANY($1::uuid[])"
	readSignals  = "SELECT id, name, at, data FROM troupe.signals WHERE task = $1 AND name = $2 ORDER BY n LIMIT $3"
	awaitSignals = `UPDATE troupe.signals s SET awaited = true FROM unnest($1::uuid[], $2::text[]) AS u(task, name)
		WHERE s.task = u.task AND s.name = u.name RETURNING s.task`
	ignoreSignals = "UPDATE troupe.signals SET awaited = false WHERE task = ANY($1::uuid[]) AND awaited"
	signalled     = "SELECT " + columns + ` FROM troupe.tasks_live t WHERE t.state = 2
		AND t.id IN (SELECT task FROM troupe.signals WHERE awaited ORDER BY task LIMIT $1) ORDER BY t.id`
	lateSignals = `DELETE FROM troupe.signals WHERE n IN (SELECT s.n FROM troupe.signals s
		JOIN troupe.tasks_ended t ON t.id = s.task LIMIT $1) RETURNING n`
)

// memorize has what tasks remember seen to that were saved: just before the commit,
// in its round trip.
func (a *appending) memorize(which []int, written map[task.ID]bool) {
	var memos memoRows
	var forget, moved, awaiting []task.ID
	var names []string
	places := map[task.ID]int{}
	for _, i := range which {
		m := &a.ms[i]
		if !written[m.Task.ID] {
			continue
		}
		memos.add(m)
		switch {
		case m.Forget:
			forget = append(forget, m.Task.ID)
		case m.Task.State == task.Blocked && m.Task.Awaits != "":
			places[m.Task.ID] = i
			awaiting, names = append(awaiting, m.Task.ID), append(names, m.Task.Awaits)
		case m.Guard.State == task.Blocked:
			moved = append(moved, m.Task.ID)
		}
	}
	if len(memos.tasks)+len(forget)+len(moved)+len(awaiting) == 0 {
		return
	}
	a.last = append(a.last, func(b *pgx.Batch) {
		memos.queue(b)
		if len(forget) > 0 {
			b.Queue(dropMemos, uuids(forget))
			b.Queue(dropSignals, uuids(forget))
		}
		if len(moved) > 0 {
			b.Queue(ignoreSignals, uuids(moved))
		}
		if len(awaiting) > 0 {
			each(b.Queue(awaitSignals, uuids(awaiting), names), func(r pgx.Rows) error {
				var id [16]byte
				err := r.Scan(&id)
				a.out[places[id]].Settles = true
				return err
			})
		}
	})
}

// memoRows is memos as columns.
type memoRows struct {
	tasks, signals   []pgtype.UUID
	places           []int32
	kinds            []int16
	names            []string
	times            []int64
	datas            [][]byte
	takers, takeable []pgtype.UUID
}

func (r *memoRows) add(m *task.Mutation) {
	for i, memo := range m.Memos {
		r.tasks, r.signals = append(r.tasks, uuid(m.Task.ID)), append(r.signals, uuid(memo.Signal))
		r.places = append(r.places, int32(i+1))
		r.kinds, r.names = append(r.kinds, int16(memo.Kind)), append(r.names, memo.Name)
		r.times, r.datas = append(r.times, codec.MicrosOrNone(memo.At)), append(r.datas, orNull(memo.Data))
		if !memo.Signal.IsZero() {
			r.takers, r.takeable = append(r.takers, uuid(m.Task.ID)), append(r.takeable, uuid(memo.Signal))
		}
	}
}

func (r *memoRows) queue(b *pgx.Batch) {
	if len(r.tasks) > 0 {
		b.Queue(insertMemos, r.tasks, r.places, r.kinds, r.names, r.times, r.signals, r.datas)
	}
	if len(r.takers) > 0 {
		b.Queue(takeSignals, r.takers, r.takeable)
	}
}

// Memos implements [task.Store].
func (s *Store) Memos(ctx context.Context, namespace string, id task.ID) (memos []task.Memo, err error) {
	err = s.about(ctx, "read memos", namespace, id, func(b *pgx.Batch) {
		memos = nil
		each(b.Queue(readMemos, uuid(id)), func(r pgx.Rows) error {
			var m task.Memo
			var kind int16
			var at int64
			var signal pgtype.UUID
			var data []byte
			err := r.Scan(&kind, &m.Name, &at, &signal, &data)
			m.Kind, m.At, m.Signal, m.Data = task.MemoKind(kind&0xff), codec.OrNone(at), signal.Bytes, raw(data)
			memos = append(memos, m)
			return err
		})
	})
	return memos, err
}

// Signals implements [task.Store].
func (s *Store) Signals(ctx context.Context, namespace string, id task.ID, name string, limit int) (signals []task.Signal, err error) {
	err = s.about(ctx, "read signals", namespace, id, func(b *pgx.Batch) {
		signals = nil
		each(b.Queue(readSignals, uuid(id), name, max(limit, 0)), func(r pgx.Rows) error {
			var one task.Signal
			var at int64
			var data []byte
			err := r.Scan((*[16]byte)(&one.ID), &one.Name, &at, &data)
			one.At, one.Data = codec.Micros(at), raw(data)
			signals = append(signals, one)
			return err
		})
	})
	return signals, err
}

// about reads what belongs to a task that is there.
func (s *Store) about(ctx context.Context, what, namespace string, id task.ID, queue func(*pgx.Batch)) error {
	return s.read(ctx, what, func(within context.Context, t *tx) error {
		there := false
		b := t.batch()
		each(b.Queue("SELECT FROM troupe.tasks WHERE id = $1 AND namespace = $2", uuid(id), namespace), func(pgx.Rows) error {
			there = true
			return nil
		})
		queue(b)
		err := t.send(within, b)
		if err == nil && !there {
			err = fmt.Errorf("%s of task %s: %w", what, id, task.ErrNotFound)
		}
		return err
	})
}
