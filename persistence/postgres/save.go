package postgres

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// given is what both saves are handed: for each its guard, and the row as it
// shall be.
const given = `WITH u AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
		$6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[], $13::boolean[],
		$14::bytea[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bytea[], $20::boolean[], $21::bigint[])
	AS u(id, namespace, of_holder, of_attempt, of_state, first, state, holder, attempt, last, life, events, checkpoints,
		checkpoint, lane, rank, wake_at, finished, result, called, brings)), `

// What a task brings takes the place of what it had of the kind. Of a task from before
// bytes were counted not all are.
const (
	outdated = "greatest(-t.bytes, u.brings - CASE WHEN u.checkpoints THEN coalesce(octet_length(t.checkpoint), 0) ELSE 0 END"
	growLive = "grew = " + outdated + "), bytes = t.bytes + " + outdated + "),"
	growEnd  = "grew = " + outdated + " - coalesce(octet_length(t.result), 0)), bytes = t.bytes + " + outdated +
		" - coalesce(octet_length(t.result), 0)),"
)

// guarded finds a row by its id. IS TRUE keeps the planner from finding it by its namespace,
// which looks as good while the table is empty.
const guarded = ` FROM u WHERE t.id = u.id AND (t.namespace = u.namespace) IS TRUE AND t.holder = u.of_holder
	AND t.attempt = u.of_attempt AND t.state = u.of_state AND t.logged < u.first AND t.state < 5 RETURNING t.id`

const (
	// saveLive changes tasks that go on; their events become a segment.
	saveLive = given + "saved AS (UPDATE troupe.tasks_live t SET " + growLive + ` state = u.state, holder = u.holder, attempt = u.attempt,
			logged = CASE u.last WHEN 0 THEN t.logged ELSE u.last END, life = u.life,
			checkpoint = CASE WHEN u.checkpoints THEN u.checkpoint ELSE t.checkpoint END,
			lane = nullif(u.lane, 0), rank = CASE WHEN u.lane <> 0 THEN u.rank END, wake_at = nullif(u.wake_at, 0),
			parked = NULL, needs = NULL, home = NULL, called = u.called,
			bound = NULL, bound_until = NULL` + guarded + `, t.grew, u.last, u.events),
		said AS (INSERT INTO troupe.segments (task, last, data)
			SELECT id, last, events FROM saved WHERE events IS NOT NULL)
		SELECT id, grew FROM saved`
	// saveEnd ends tasks, which moves them; their events stand in the row.
	saveEnd = given + "saved AS (UPDATE troupe.tasks t SET " + growEnd + ` state = u.state, holder = u.holder, attempt = u.attempt,
			logged = CASE u.last WHEN 0 THEN t.logged ELSE u.last END, life = u.life,
			checkpoint = CASE WHEN u.checkpoints THEN u.checkpoint ELSE t.checkpoint END,
			lane = NULL, rank = NULL, wake_at = NULL, parked = NULL, needs = NULL, home = NULL, called = false,
			bound = NULL, bound_until = NULL, finished = u.finished, result = u.result, ended = u.events` + guarded + `, t.grew)
		SELECT id, grew FROM saved`
)

// whyRefused tells a task that is not there from one that has moved on.
const whyRefused = "SELECT id, namespace FROM troupe.tasks WHERE id = ANY($1::uuid[])"

// queueSaves has tasks saved whose guard says that they live.
func (a *appending) queueSaves(b *pgx.Batch, text string, which []int, written map[task.ID]bool) {
	if len(which) == 0 {
		return
	}
	n := len(which)
	which = a.byTask(which)
	id, namespace := make(uuidColumn, n), make(textColumn, n)
	ints := make(int8Column, 13*n)
	column := func(c int) int8Column { return ints[c*n : (c+1)*n : (c+1)*n] }
	ofHolder, ofAttempt, ofState, first := column(0), column(1), column(2), column(3)
	state, holder, attempt, last := column(4), column(5), column(6), column(7)
	lane, rank, wake, done, brings := column(8), column(9), column(10), column(11), column(12)
	bodies := make(byteaColumn, 4*n)
	life, events, checkpoint, result := bodies[:n], bodies[n:2*n], bodies[2*n:3*n], bodies[3*n:]
	checkpoints, called := make(boolColumn, n), make(boolColumn, n)
	for at, i := range which {
		m, k := &a.ms[i], &a.ms[i].Task
		w := a.store.waits(k)
		id[at], namespace[at] = uuid(k.ID), k.Namespace
		ofHolder[at], ofAttempt[at], ofState[at] = int64(m.Guard.Holder), int64(m.Guard.Attempt), int64(m.Guard.State)
		first[at] = firstOf(m.Events)
		state[at], holder[at], attempt[at], last[at] = int64(k.State), int64(k.Holder), int64(k.Attempt), lastOf(m.Events)
		lane[at], rank[at], wake[at], done[at] = w.lane, w.rank, w.wake, finished(k)
		life[at], events[at] = codec.Life(k), codec.Segment(m.Events)
		called[at], brings[at] = k.Called, m.Bytes()
		checkpoints[at], checkpoint[at], result[at] = m.Checkpoint, orNull(k.Checkpoint), orNull(k.Result)
	}
	each(a.queue(b, text, id, namespace, ofHolder, ofAttempt, ofState, first, state, holder, attempt, last, life, events,
		checkpoints, checkpoint, lane, rank, wake, done, result, called, brings), func(r pgx.Rows) error {
		var id task.ID
		var grew int64
		if err := r.Scan((*[16]byte)(&id), &grew); err != nil {
			return err
		}
		written[id], a.grown[id] = true, grew
		return nil
	})
}

// byTask puts mutations in the order in which everybody writes, so that two
// transactions do not wait for each other.
func (a *appending) byTask(which []int) []int {
	return slices.SortedFunc(slices.Values(which), func(i, j int) int {
		return bytes.Compare(a.ms[i].Task.ID[:], a.ms[j].Task.ID[:])
	})
}

// firstOf is the cursor that everything in the log must stand before.
func firstOf(events []task.Event) int64 {
	if len(events) == 0 {
		return math.MaxInt64
	}
	return codec.Pack(events[0].Cursor)
}

// saved counts what was saved and keeps its results, and says of the rest why not.
func (a *appending) saved(ctx context.Context, which []int, written map[task.ID]bool) error {
	a.settle(which, written)
	a.called(which, written)
	a.memorize(which, written)
	refused := map[task.ID]int{}
	var ids []task.ID
	for _, i := range which {
		m := &a.ms[i]
		if written[m.Task.ID] {
			a.moved(m.Task.Namespace, m.Task.Queue, m.Task.BatchID, m.Guard.State, m.Task.State)
			a.grew(m.Task.Namespace, a.grown[m.Task.ID])
			if len(m.Give) > 0 {
				a.limits.Give(m.Give)
			}
			if m.Keeps() {
				a.keep(&m.Task)
			}
			continue
		}
		a.out[i].Err = task.ErrNotFound
		refused[m.Task.ID] = i
		ids = append(ids, m.Task.ID)
	}
	if len(ids) == 0 {
		return nil
	}
	return a.query(ctx, whyRefused, []any{uuids(ids)}, func(r pgx.Rows) error {
		var id [16]byte
		var namespace string
		if err := r.Scan(&id, &namespace); err != nil {
			return err
		}
		if i := refused[id]; a.ms[i].Task.Namespace == namespace {
			a.out[i].Err = task.ErrStale
		}
		return nil
	})
}

// head is what a write of an ended task looks at before it does anything.
type head struct {
	namespace, queue, kind, uniqueKey string
	guard                             task.Guard
	batch                             task.ID
	logged, created                   int64
	ended, spec                       []byte
	bytes, checkpoint, result         int64 // all, and those of these
}

const readHead = `SELECT namespace, state, holder, attempt, logged, created, queue, kind, batch, coalesce(unique_key, ''), ended, spec,
		bytes, coalesce(octet_length(checkpoint), 0)::bigint, coalesce(octet_length(result), 0)::bigint
	FROM troupe.tasks WHERE id = $1 FOR UPDATE`

func decodeHead(r pgx.Rows) (h head, err error) {
	var state int16
	var attempt int32
	var holder int64
	var batch pgtype.UUID
	err = r.Scan(&h.namespace, &state, &holder, &attempt, &h.logged, &h.created, &h.queue, &h.kind, &batch, &h.uniqueKey, &h.ended, &h.spec,
		&h.bytes, &h.checkpoint, &h.result)
	h.guard = task.Guard{State: stateOf(state), Holder: task.Incarnation(holder), Attempt: int(attempt)}
	h.batch = batch.Bytes
	return h, err
}

// guarded reads the head of the row that m is about, if m's guard holds.
func (a *appending) guarded(ctx context.Context, m *task.Mutation) (h head, refused, err error) {
	err = a.query(ctx, readHead, []any{uuid(m.Task.ID)}, func(r pgx.Rows) (err error) {
		h, err = decodeHead(r)
		return err
	})
	switch {
	case h.namespace != m.Task.Namespace:
		return h, task.ErrNotFound, err
	case h.guard != m.Guard || h.logged >= firstOf(m.Events):
		return h, task.ErrStale, err
	}
	return h, nil, err
}

const saveEnded = `UPDATE troupe.tasks SET state = $2, holder = $3, attempt = $4,
	logged = CASE $5::bigint WHEN 0 THEN logged ELSE $5 END, life = $6, lane = nullif($7::bigint, 0),
	rank = CASE WHEN $7 <> 0 THEN $8::bigint END, wake_at = nullif($9::bigint, 0),
	finished = CASE WHEN $2::smallint >= 5 THEN $10::bigint END, result = $11, ended = $12,
	checkpoint = CASE WHEN $13 THEN $14 ELSE checkpoint END, trimmed = false, bytes = bytes + $15 WHERE id = $1 AND state >= 5`

const insertSegment = "INSERT INTO troupe.segments (task, last, data) VALUES ($1, $2, $3)"

// reopen saves a task that has ended, mostly to let it live again.
func (a *appending) reopen(ctx context.Context, m *task.Mutation) (refused, err error) {
	k := &m.Task
	old, refused, err := a.guarded(ctx, m)
	if err != nil || refused != nil {
		return refused, err
	}
	ends := k.State.Terminal()
	if !ends && old.uniqueKey != "" {
		taken := false
		err := a.query(ctx, "SELECT FROM troupe.tasks_live WHERE namespace = $1 AND kind = $2 AND unique_key = $3",
			[]any{old.namespace, old.kind, old.uniqueKey}, func(pgx.Rows) error {
				taken = true
				return nil
			})
		if err != nil || taken {
			return task.ErrExists, err
		}
	}
	b := a.batch()
	events := codec.Segment(m.Events)
	var ended []byte
	switch {
	case !ends && events != nil:
		b.Queue(insertSegment, uuid(k.ID), lastOf(m.Events), events)
	case ends:
		ended = events
		if events == nil {
			ended = old.ended
		}
	}
	if (!ends || events != nil) && old.ended != nil {
		// The end was not the end: it takes its place in the log.
		b.Queue(insertSegment, uuid(k.ID), old.logged, old.ended)
	}
	if m.Forget {
		b.Queue(dropMemos, uuids([]task.ID{k.ID}))
		b.Queue(dropSignals, uuids([]task.ID{k.ID}))
	}
	grew := m.Bytes() - old.result
	if m.Checkpoint {
		grew -= old.checkpoint
	}
	grew = max(grew, -old.bytes) // of a task from before bytes were counted not all are
	a.grew(k.Namespace, grew)
	w := a.store.waits(k)
	b.Queue(saveEnded, uuid(k.ID), int16(k.State), int64(k.Holder), k.Attempt, lastOf(m.Events), codec.Life(k),
		w.lane, w.rank, w.wake, finished(k), orNull(k.Result), ended, m.Checkpoint, orNull(k.Checkpoint), grew)
	a.moved(k.Namespace, old.queue, old.batch, m.Guard.State, k.State)
	return nil, a.send(ctx, b)
}

// remove deletes a task that has ended, if the guard holds.
func (a *appending) remove(ctx context.Context, m *task.Mutation) (refused, err error) {
	old, refused, err := a.guarded(ctx, m)
	if err != nil || refused != nil {
		return refused, err
	}
	return nil, a.forget(ctx, map[task.ID]head{m.Task.ID: old})
}

const forgetLabels = `DELETE FROM troupe.labels l
	USING unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::uuid[]) AS u(namespace, key, value, created, task)
	WHERE (l.namespace, l.key, l.value, l.created, l.task) = (u.namespace, u.key, u.value, u.created, u.task)`

// forget deletes tasks, whose rows are locked, and all that belongs to them.
func (t *tx) forget(ctx context.Context, tasks map[task.ID]head) error {
	var labels labelRows
	ids := make([]task.ID, 0, len(tasks))
	for id, old := range tasks {
		var spec task.Spec
		if err := codec.DecodeSpec(old.spec, &spec); err != nil {
			return err
		}
		ids = append(ids, id)
		labels.add(id, old.namespace, old.created, spec.Labels)
		t.moved(old.namespace, old.queue, old.batch, old.guard.State, 0)
		t.grew(old.namespace, -old.bytes)
	}
	gone := uuids(ids)
	b := t.batch()
	if len(labels.key) > 0 {
		b.Queue(forgetLabels, labels.namespace, labels.key, labels.value, labels.created, labels.task)
	}
	b.Queue("DELETE FROM troupe.segments WHERE task = ANY($1::uuid[])", gone)
	b.Queue("DELETE FROM troupe.requests WHERE task = ANY($1::uuid[])", gone)
	b.Queue(dropMemos, gone)
	b.Queue(dropSignals, gone)
	b.Queue(dropCallbacks, gone)
	b.Queue("DELETE FROM troupe.tasks WHERE id = ANY($1::uuid[])", gone)
	return t.send(ctx, b)
}
