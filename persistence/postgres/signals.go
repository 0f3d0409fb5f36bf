package postgres

import (
	"bytes"
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	// lockLives is answered before the others of its round trip are begun: what they
	// see is as it stays.
	lockLives    = "SELECT id, namespace, state, life FROM troupe.tasks WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
	countSignals = "SELECT task, count(*) FROM troupe.signals WHERE task = ANY($1::uuid[]) GROUP BY task"
	knownSignals = `SELECT s.task, s.id, s.name, s.data FROM troupe.signals s
			JOIN unnest($1::uuid[], $2::uuid[]) AS u(task, id) ON s.task = u.task AND s.id = u.id
		UNION ALL SELECT m.task, m.signal, NULL, m.data FROM troupe.memos m
			JOIN unnest($1::uuid[], $2::uuid[]) AS u(task, id) ON m.task = u.task AND m.signal = u.id`
	insertSignals = `INSERT INTO troupe.signals (task, id, name, at, awaited, data)
		SELECT u.task, u.id, u.name, u.at, u.awaited, u.data
		FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::boolean[], $6::bytea[])
			WITH ORDINALITY AS u(task, id, name, at, awaited, data, place) ORDER BY u.place`
)

// oneSignal is a signal by what nobody else's has.
type oneSignal struct{ task, id task.ID }

// knownSignal is one that is there, or was, then without its name.
type knownSignal struct {
	name *string
	data []byte
}

func (k knownSignal) same(s task.Signal) bool {
	return (k.name == nil || *k.name == s.Name) && bytes.Equal(k.data, s.Data)
}

// receivers is what signals of one round are looked at with.
type receivers struct {
	tasks map[task.ID]task.Task
	there map[task.ID]int64 // signals not taken
	known map[oneSignal]knownSignal
}

// signals keeps signals for tasks that have not ended.
func (a *appending) signals(ctx context.Context, which []int) error {
	if len(which) == 0 {
		return nil
	}
	r, err := a.receivers(ctx, which)
	if err != nil {
		return err
	}
	var tasks, ids []pgtype.UUID
	var names []string
	var times []int64
	var awaited []bool
	var datas [][]byte
	for _, i := range which {
		m := &a.ms[i]
		var fresh bool
		if a.out[i], fresh = r.take(m); !fresh {
			continue
		}
		tasks, ids, names = append(tasks, uuid(m.Task.ID)), append(ids, uuid(m.Signal.ID)), append(names, m.Signal.Name)
		times, awaited, datas = append(times, m.Signal.At.UnixMicro()), append(awaited, a.out[i].Settles), append(datas, m.Signal.Data)
	}
	if len(tasks) == 0 {
		return nil
	}
	return a.exec(ctx, insertSignals, tasks, ids, names, times, awaited, datas)
}

// receivers locks the tasks that are sent signals, and reads how they stand.
func (a *appending) receivers(ctx context.Context, which []int) (receivers, error) {
	r := receivers{tasks: map[task.ID]task.Task{}, there: map[task.ID]int64{}, known: map[oneSignal]knownSignal{}}
	var tasks, ids []task.ID
	for _, i := range which {
		tasks, ids = append(tasks, a.ms[i].Task.ID), append(ids, a.ms[i].Signal.ID)
	}
	b := a.batch()
	each(b.Queue(lockLives, uuids(tasks)), func(rows pgx.Rows) error {
		var k task.Task
		var state int16
		var life []byte
		if err := rows.Scan((*[16]byte)(&k.ID), &k.Namespace, &state, &life); err != nil {
			return err
		}
		k.State = stateOf(state)
		err := codec.DecodeLife(life, &k)
		r.tasks[k.ID] = k
		return err
	})
	each(b.Queue(countSignals, uuids(tasks)), func(rows pgx.Rows) error {
		var id task.ID
		var n int64
		err := rows.Scan((*[16]byte)(&id), &n)
		r.there[id] = n
		return err
	})
	each(b.Queue(knownSignals, uuids(tasks), uuids(ids)), func(rows pgx.Rows) error {
		var one oneSignal
		var k knownSignal
		err := rows.Scan((*[16]byte)(&one.task), (*[16]byte)(&one.id), &k.name, &k.data)
		r.known[one] = k
		return err
	})
	return r, a.send(ctx, b)
}

// take says what becomes of a signal, and whether it is to be stored.
func (r *receivers) take(m *task.Mutation) (out task.Outcome, fresh bool) {
	k, s := r.tasks[m.Task.ID], m.Signal
	one := oneSignal{m.Task.ID, s.ID}
	known, again := r.known[one]
	switch {
	case k.Namespace != m.Task.Namespace:
		return task.Outcome{Err: task.ErrNotFound}, false
	case k.State.Terminal():
		return task.Outcome{Err: task.ErrTerminal}, false
	case again && known.same(s):
		return task.Outcome{}, false
	case again:
		return task.Outcome{Err: task.ErrKeyReused}, false
	case r.there[m.Task.ID] >= task.MaxSignals:
		return task.Outcome{Err: task.ErrTooManySignals}, false
	}
	r.known[one] = knownSignal{&s.Name, s.Data}
	r.there[m.Task.ID]++
	return task.Outcome{Settles: k.State == task.Blocked && k.Awaits == s.Name}, true
}
