package sqlite

import (
	"bytes"
	"context"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const insertTask = `INSERT INTO tasks (id, namespace, state, holder, attempt, logged, lane, rank, wake_at, created,
	finished, queue, kind, batch, unique_key, life, spec, payload, checkpoint, result, birth, bytes)
	VALUES (?, ?, ?, ?, ?, ?, ifnull(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

// insert makes a new task. It is tried first and asked about later: that a task
// with this id or this unique key exists is rare.
func (t *tx) insert(ctx context.Context, m *task.Mutation) (task.Outcome, error) {
	k := &m.Task
	if m.Request.Key != "" {
		outcome, known, err := t.request(ctx, m)
		if known || err != nil {
			return outcome, err
		}
	}
	if m.Known {
		return t.known(ctx, m)
	}
	if has, err := t.hasCallback(ctx, k); has || err != nil {
		return task.Outcome{Err: task.ErrHasCallback}, err
	}
	var parents []task.State
	if k.State == task.Blocked {
		var missing, err error
		if parents, missing, err = t.parents(ctx, k); err != nil {
			return task.Outcome{}, err
		}
		if missing != nil { // and it may be there from a time when they were
			outcome, err := t.clash(ctx, k, codec.Spec(&k.Spec))
			if outcome.Existing == nil && outcome.Err == nil {
				outcome.Err = missing
			}
			return outcome, err
		}
	}
	lane, rank, wake, err := t.waits(ctx, k)
	if err != nil {
		return task.Outcome{}, err
	}
	var batch any
	if !k.BatchID.IsZero() {
		batch = k.BatchID[:]
	}
	spec := codec.Spec(&k.Spec)
	made, err := t.conn.exec(ctx, insertTask,
		k.ID[:], k.Namespace, int64(k.State), int64(k.Holder), int64(k.Attempt), lastOf(m.Events), lane, rank, wake,
		k.Created.UnixMicro(), finished(k), k.Queue, k.Kind, batch, textOrNull(k.UniqueKey),
		codec.Life(k), spec, body(k.Payload), body(k.Checkpoint), orNull(k.Result),
		orNull(codec.Segment(m.Events)), m.Bytes())
	if err != nil {
		return task.Outcome{}, err
	}
	if made == 0 {
		outcome, err := t.clash(ctx, k, spec)
		if err != nil || outcome.Err != nil {
			return outcome, err
		}
		return outcome, t.remember(ctx, m, outcome.Existing.ID)
	}
	if err := t.storeBody(ctx, k.ID, partPayload, k.Payload); err != nil {
		return task.Outcome{}, err
	}
	if err := t.storeBody(ctx, k.ID, partCheckpoint, k.Checkpoint); err != nil {
		return task.Outcome{}, err
	}
	for key, value := range k.Labels {
		if _, err := t.conn.exec(ctx, "INSERT INTO labels (namespace, key, value, created, task) VALUES (?, ?, ?, ?, ?)",
			k.Namespace, key, value, k.Created.UnixMicro(), k.ID[:]); err != nil {
			return task.Outcome{}, err
		}
	}
	outcome := task.Outcome{}
	if parents != nil {
		if outcome.Settles, err = t.depend(ctx, k, parents); err != nil {
			return task.Outcome{}, err
		}
	}
	if !k.AfterBatch.IsZero() {
		outcome.Settles, t.calls = true, true
		if _, err := t.conn.exec(ctx, insertCallback, k.Namespace, k.AfterBatch[:], k.ID[:]); err != nil {
			return task.Outcome{}, err
		}
	}
	t.moved(k.Namespace, k.Queue, k.BatchID, 0, k.State)
	t.grew(k.Namespace, m.Bytes())
	return outcome, t.remember(ctx, m, k.ID)
}

// known looks for the task an insert would find that is not to make one.
func (t *tx) known(ctx context.Context, m *task.Mutation) (task.Outcome, error) {
	outcome, err := t.clash(ctx, &m.Task, codec.Spec(&m.Task.Spec))
	switch {
	case err != nil || outcome.Err != nil:
		return outcome, err
	case outcome.Existing == nil:
		return task.Outcome{Err: task.ErrNotFound}, nil
	}
	return outcome, t.remember(ctx, m, outcome.Existing.ID)
}

// byUniqueKey finds the live task that has a unique key.
const byUniqueKey = "namespace = ? AND kind = ? AND unique_key = ? AND unique_key IS NOT NULL AND finished IS NULL"

// clash says what stood in the way of an insert: the id, or the unique key.
func (t *tx) clash(ctx context.Context, k *task.Task, spec []byte) (task.Outcome, error) {
	there, stored, err := find(ctx, t.conn, "id = ?", k.ID[:])
	if err != nil {
		return task.Outcome{}, err
	}
	if there == nil {
		there, _, err = find(ctx, t.conn, byUniqueKey, k.Namespace, k.Kind, k.UniqueKey)
		return task.Outcome{Existing: there}, err
	}
	same := bytes.Equal(stored, spec) && bytes.Equal(there.Payload, k.Payload) && there.Namespace == k.Namespace &&
		there.Queue == k.Queue && there.Kind == k.Kind && there.BatchID == k.BatchID && there.UniqueKey == k.UniqueKey
	if !same {
		return task.Outcome{Err: task.ErrExists}, nil
	}
	return task.Outcome{Existing: there}, nil
}

// request looks an idempotency key up. One that has expired, or whose task is
// gone, is as if it were unknown.
func (t *tx) request(ctx context.Context, m *task.Mutation) (outcome task.Outcome, known bool, err error) {
	var hash, id []byte
	err = t.conn.query(ctx, "SELECT hash, task FROM requests WHERE namespace = ? AND key = ? AND expires > ?",
		[]any{m.Task.Namespace, m.Request.Key, m.Task.Created.UnixMicro()}, func(r row) error {
			hash, id = r.blob(0), r.blob(1)
			return nil
		})
	switch {
	case err != nil || hash == nil:
		return task.Outcome{}, false, err
	case !bytes.Equal(hash, m.Request.Hash[:]):
		return task.Outcome{Err: task.ErrKeyReused}, true, nil
	}
	there, _, err := find(ctx, t.conn, "id = ?", id)
	return task.Outcome{Existing: there}, there != nil, err
}

// remember keeps the idempotency key an insert came with, also where it led to
// a task that was there: the same request shall lead there again.
func (t *tx) remember(ctx context.Context, m *task.Mutation, id task.ID) error {
	if m.Request.Key == "" {
		return nil
	}
	_, err := t.conn.exec(ctx, "INSERT OR REPLACE INTO requests (namespace, key, hash, task, expires) VALUES (?, ?, ?, ?, ?)",
		m.Task.Namespace, m.Request.Key, m.Request.Hash[:], id[:], m.Request.Expires.UnixMicro())
	return err
}
