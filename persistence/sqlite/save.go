package sqlite

import (
	"context"
	"math"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// A task's row is in many indexes, and a statement that names a column pays for
// every index on it. So there are three: what a holder says while it holds, the
// end of what is held, and anything else. The first two look at the guard
// themselves; lane, rank and wake_at of what is held are NULL already.
const (
	guard    = " WHERE id = ? AND namespace = ? AND holder = ? AND attempt = ? AND state = ? AND logged < ?"
	saveHeld = `UPDATE tasks SET state = ?, attempt = ?, logged = ifnull(?, logged), life = ?, called = ?,
		bytes = bytes + ?` + guard
	saveEnd = `UPDATE tasks SET state = ?, holder = ?, attempt = ?, logged = ifnull(?, logged), life = ?,
		finished = ?, result = ?, ended = ?, called = 0, bytes = bytes + ?` + guard + " AND checkpoint IS NULL AND result IS NULL"
	saveAny = `UPDATE tasks SET state = ?, holder = ?, attempt = ?, logged = ifnull(?, logged), life = ?,
		lane = ?, rank = ?, wake_at = ?, finished = ?, result = ?, ended = ?,
		checkpoint = iif(?, ?, checkpoint), trimmed = 0, parked = NULL, needs = NULL, called = ?,
		bound = NULL, bound_until = NULL, bytes = bytes + ? WHERE id = ?`
)

// save writes a task's row and events, if the guard holds.
func (t *tx) save(ctx context.Context, m *task.Mutation) (refused, err error) {
	k, from := &m.Task, m.Guard
	ends := k.State.Terminal()
	var n int64
	switch {
	case from.State.Terminal() || m.Checkpoint && len(k.Checkpoint) > 0 || ends && !m.Checkpoint:
		return t.saveAny(ctx, m)
	case ends && from.Holder != 0:
		n, err = t.conn.exec(ctx, saveEnd,
			int64(k.State), int64(k.Holder), int64(k.Attempt), lastOf(m.Events), codec.Life(k),
			finished(k), orNull(k.Result), orNull(codec.Segment(m.Events)), m.Bytes(),
			k.ID[:], k.Namespace, int64(from.Holder), int64(from.Attempt), int64(from.State), firstOf(m.Events))
	case k.Holder != 0 && k.Holder == from.Holder && !m.Checkpoint && k.Result == nil:
		n, err = t.conn.exec(ctx, saveHeld,
			int64(k.State), int64(k.Attempt), lastOf(m.Events), codec.Life(k), number(k.Called), m.Bytes(),
			k.ID[:], k.Namespace, int64(from.Holder), int64(from.Attempt), int64(from.State), firstOf(m.Events))
	default:
		return t.saveAny(ctx, m)
	}
	if err != nil {
		return nil, err
	}
	if n == 0 {
		// Either the guard does not hold, or there is a checkpoint or a result to clear away.
		return t.saveAny(ctx, m)
	}
	t.moved(k.Namespace, k.Queue, k.BatchID, from.State, k.State)
	t.grew(k.Namespace, m.Bytes())
	if ends {
		return nil, nil
	}
	return nil, t.storeSegment(ctx, k.ID, m.Events)
}

// firstOf is the cursor that everything in the log must stand before.
func firstOf(events []task.Event) int64 {
	if len(events) == 0 {
		return math.MaxInt64
	}
	return codec.Pack(events[0].Cursor)
}

func (t *tx) storeSegment(ctx context.Context, id task.ID, events []task.Event) error {
	if len(events) == 0 {
		return nil
	}
	return t.insertSegment(ctx, id, codec.Pack(events[len(events)-1].Cursor), codec.Segment(events))
}

func (t *tx) insertSegment(ctx context.Context, id task.ID, last int64, data []byte) error {
	_, err := t.conn.exec(ctx, "INSERT INTO segments (task, last, data) VALUES (?, ?, ?)", id[:], last, data)
	return err
}

// saveAny is save for whatever it may be: it looks at the row first.
func (t *tx) saveAny(ctx context.Context, m *task.Mutation) (refused, err error) {
	k := &m.Task
	old, refused, err := t.guarded(ctx, m)
	if err != nil || refused != nil {
		return refused, err
	}
	if m.Guard.State.Terminal() && !k.State.Terminal() {
		if refused, err := t.revive(ctx, old); refused != nil || err != nil {
			return refused, err
		}
	}
	if m.Checkpoint {
		if err := t.saveCheckpoint(ctx, k, old); err != nil {
			return nil, err
		}
	}
	lane, rank, wake, err := t.waits(ctx, k)
	if err != nil {
		return nil, err
	}
	var ended any
	if k.State.Terminal() {
		ended = orNull(codec.Segment(m.Events))
		if m.Guard.State.Terminal() && len(m.Events) == 0 {
			ended = orNull(old.ended)
		}
	} else if err := t.storeSegment(ctx, k.ID, m.Events); err != nil {
		return nil, err
	}
	if m.Guard.State.Terminal() && (!k.State.Terminal() || len(m.Events) > 0) && old.ended != nil {
		// The end was not the end: it takes its place in the log.
		if err := t.insertSegment(ctx, k.ID, old.logged, old.ended); err != nil {
			return nil, err
		}
	}
	grew := m.Bytes() - old.result
	if m.Checkpoint {
		grew -= old.checkpoint
	}
	grew = max(grew, -old.bytes) // of a task from before bytes were counted not all are
	_, err = t.conn.exec(ctx, saveAny,
		int64(k.State), int64(k.Holder), int64(k.Attempt), lastOf(m.Events), codec.Life(k),
		lane, rank, wake, finished(k), orNull(k.Result), ended, number(m.Checkpoint), body(k.Checkpoint), number(k.Called), grew, k.ID[:])
	t.grew(k.Namespace, grew)
	t.moved(k.Namespace, old.queue, old.batch, m.Guard.State, k.State)
	return nil, err
}

// saveCheckpoint sees to what of an old and of a new checkpoint stands outside
// the row.
func (t *tx) saveCheckpoint(ctx context.Context, k *task.Task, old head) error {
	if old.checkpointAway && len(k.Checkpoint) <= inRow {
		_, err := t.conn.exec(ctx, "DELETE FROM bodies WHERE task = ? AND part = ?", k.ID[:], partCheckpoint)
		return err
	}
	return t.storeBody(ctx, k.ID, partCheckpoint, k.Checkpoint)
}

// revive refuses a task whose unique key another, live one has taken.
func (t *tx) revive(ctx context.Context, old head) (refused, err error) {
	if old.uniqueKey == "" {
		return nil, nil
	}
	other, _, err := find(ctx, t.conn, byUniqueKey, old.namespace, old.kind, old.uniqueKey)
	if other != nil {
		return task.ErrExists, nil
	}
	return nil, err
}

// head is what a guarded write looks at before it does anything.
type head struct {
	namespace, queue, kind, uniqueKey string
	guard                             task.Guard
	batch                             task.ID
	logged, created                   int64
	checkpointAway                    bool
	ended                             []byte
	spec                              []byte
	bytes, checkpoint, result         int64 // all, and those of these
}

const headColumns = `namespace, state, holder, attempt, logged, created, queue, kind, batch, unique_key,
	ifnull(checkpoint = x'', 0), ended, spec, bytes, ifnull(length(result), 0),
	ifnull(iif(checkpoint = x'', (SELECT length(data) FROM bodies WHERE task = tasks.id AND part = 2), length(checkpoint)), 0)`

func decodeHead(r row) head {
	return head{
		namespace: r.text(0),
		guard:     task.Guard{State: r.state(1), Holder: task.Incarnation(r.int(2)), Attempt: int(r.int(3))},
		logged:    r.int(4), created: r.int(5), queue: r.text(6), kind: r.text(7),
		batch: idOf(r.blob(8)), uniqueKey: r.text(9), checkpointAway: r.int(10) != 0, ended: r.blob(11), spec: r.blob(12),
		bytes: r.int(13), result: r.int(14), checkpoint: r.int(15),
	}
}

// head reads the head of a row; found by its namespace, which is never empty.
func (t *tx) head(ctx context.Context, id task.ID) (h head, err error) {
	err = t.conn.query(ctx, "SELECT "+headColumns+" FROM tasks WHERE id = ?", []any{id[:]}, func(r row) error {
		h = decodeHead(r)
		return nil
	})
	return h, err
}

// guarded reads the head of the row that m is about, if m's guard holds.
func (t *tx) guarded(ctx context.Context, m *task.Mutation) (h head, refused, err error) {
	h, err = t.head(ctx, m.Task.ID)
	switch {
	case h.namespace != m.Task.Namespace:
		return h, task.ErrNotFound, err
	case h.guard != m.Guard || h.logged >= firstOf(m.Events):
		return h, task.ErrStale, err
	}
	return h, nil, err
}

// remove deletes a terminal task, if the guard holds.
func (t *tx) remove(ctx context.Context, m *task.Mutation) (refused, err error) {
	old, refused, err := t.guarded(ctx, m)
	if err != nil || refused != nil {
		return refused, err
	}
	return nil, t.forget(ctx, m.Task.ID, m.Guard.State, old)
}

// forget deletes a task and all that belongs to it.
func (t *tx) forget(ctx context.Context, id task.ID, state task.State, old head) error {
	var spec task.Spec
	if err := codec.DecodeSpec(old.spec, &spec); err != nil {
		return err
	}
	for key, value := range spec.Labels {
		_, err := t.conn.exec(ctx, "DELETE FROM labels WHERE namespace = ? AND key = ? AND value = ? AND created = ? AND task = ?",
			old.namespace, key, value, old.created, id[:])
		if err != nil {
			return err
		}
	}
	for _, text := range []string{
		"DELETE FROM segments WHERE task = ?",
		"DELETE FROM bodies WHERE task = ?",
		"DELETE FROM requests WHERE task = ?",
		dropMemos,
		dropSignals,
		dropCallback,
		"DELETE FROM tasks WHERE id = ?",
	} {
		if _, err := t.conn.exec(ctx, text, id[:]); err != nil {
			return err
		}
	}
	t.moved(old.namespace, old.queue, old.batch, state, 0)
	t.grew(old.namespace, -old.bytes)
	return nil
}
