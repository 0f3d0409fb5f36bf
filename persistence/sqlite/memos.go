package sqlite

import (
	"context"
	"fmt"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// What tasks remember, and the signals they have not taken. A task that ends drops
// what it remembers; signals that it never asked for are left to the sweep.
const (
	// insertMemo counts by what is there: a node of a version that knows no memos may
	// have saved the task meanwhile, and with it the number of none.
	insertMemo = `INSERT INTO memos (task, n, kind, name, at, signal, data)
		SELECT ?1, ifnull(max(n), 0) + 1, ?2, ?3, ?4, ?5, ?6 FROM memos WHERE task = ?1`
	readMemos    = "SELECT kind, name, at, signal, data FROM memos WHERE task = ? ORDER BY n"
	dropMemos    = "DELETE FROM memos WHERE task = ?"
	insertSignal = "INSERT INTO signals (task, id, name, at, awaited, data) VALUES (?, ?, ?, ?, ?, ?)"
	readSignals  = "SELECT id, name, at, data FROM signals WHERE task = ? AND name = ? ORDER BY n LIMIT ?"
	takeSignal   = "DELETE FROM signals WHERE task = ? AND id = ?"
	dropSignals  = "DELETE FROM signals WHERE task = ?"
	countSignals = "SELECT count(*) FROM signals WHERE task = ?"
	sameSignal   = `SELECT name = ?3 AND data = ?4 FROM signals WHERE task = ?1 AND id = ?2
		UNION ALL SELECT data = ?4 FROM memos WHERE task = ?1 AND signal = ?2`
	awaitSignals  = "UPDATE signals SET awaited = 1 WHERE task = ? AND name = ?"
	ignoreSignals = "UPDATE signals SET awaited = 0 WHERE task = ? AND awaited = 1"
	signalled     = "SELECT DISTINCT task FROM signals INDEXED BY signals_awaited WHERE awaited = 1 ORDER BY task LIMIT ?"
	lateSignals   = `DELETE FROM signals WHERE n IN
		(SELECT s.n FROM signals s JOIN tasks t ON t.id = s.task WHERE t.finished IS NOT NULL LIMIT ?)`
	readLife = "SELECT state, life FROM tasks WHERE id = ? AND namespace = ?"
)

// remembers stores what a task that was saved remembers, and says whether a signal
// is there that it waits for now.
func (t *tx) remembers(ctx context.Context, m *task.Mutation) (signalled bool, err error) {
	id := m.Task.ID
	for _, memo := range m.Memos {
		var signal any
		if !memo.Signal.IsZero() {
			signal = memo.Signal[:]
			if _, err := t.conn.exec(ctx, takeSignal, id[:], signal); err != nil {
				return false, err
			}
		}
		if _, err := t.conn.exec(ctx, insertMemo, id[:], int64(memo.Kind), memo.Name,
			codec.MicrosOrNone(memo.At), signal, orNull(memo.Data)); err != nil {
			return false, err
		}
	}
	if m.Forget {
		return false, t.forgetMemos(ctx, id)
	}
	switch was, awaits := m.Guard.State == task.Blocked, m.Task.State == task.Blocked && m.Task.Awaits != ""; {
	case awaits:
		n, err := t.conn.exec(ctx, awaitSignals, id[:], m.Task.Awaits)
		return n > 0, err
	case was:
		_, err := t.conn.exec(ctx, ignoreSignals, id[:])
		return false, err
	}
	return false, nil
}

func (t *tx) forgetMemos(ctx context.Context, id task.ID) error {
	for _, text := range []string{dropMemos, dropSignals} {
		if _, err := t.conn.exec(ctx, text, id[:]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) putSignal(ctx context.Context, m *task.Mutation) (out task.Outcome, err error) {
	id, signal := m.Task.ID, m.Signal
	var k task.Task
	err = t.conn.query(ctx, readLife, []any{id[:], m.Task.Namespace}, func(r row) error {
		k.State = r.state(0)
		return codec.DecodeLife(r.blob(1), &k)
	})
	switch {
	case err != nil:
		return out, err
	case k.State == 0:
		return task.Outcome{Err: task.ErrNotFound}, nil
	case k.State.Terminal():
		return task.Outcome{Err: task.ErrTerminal}, nil
	}
	known, same, there := false, true, int64(0)
	if err = t.conn.query(ctx, sameSignal, []any{id[:], signal.ID[:], signal.Name, []byte(signal.Data)}, func(r row) error {
		known, same = true, same && r.int(0) != 0
		return nil
	}); err != nil {
		return out, err
	}
	if known {
		if !same {
			out.Err = task.ErrKeyReused
		}
		return out, nil
	}
	if err = t.conn.query(ctx, countSignals, []any{id[:]}, func(r row) error {
		there = r.int(0)
		return nil
	}); err != nil {
		return out, err
	}
	if there >= task.MaxSignals {
		return task.Outcome{Err: task.ErrTooManySignals}, nil
	}
	out.Settles = k.State == task.Blocked && k.Awaits == signal.Name
	_, err = t.conn.exec(ctx, insertSignal, id[:], signal.ID[:], signal.Name, signal.At.UnixMicro(), number(out.Settles), []byte(signal.Data))
	return out, err
}

// Memos implements [task.Store].
func (s *Store) Memos(ctx context.Context, namespace string, id task.ID) (memos []task.Memo, err error) {
	err = s.read(ctx, "read memos", func(c *conn) error {
		memos = nil
		if err := there(ctx, c, namespace, id); err != nil {
			return err
		}
		return c.query(ctx, readMemos, []any{id[:]}, func(r row) error {
			memos = append(memos, task.Memo{
				Kind: task.MemoKind(r.int(0) & 0xff), Name: r.text(1), At: codec.OrNone(r.int(2)), Signal: idOf(r.blob(3)), Data: raw(r.blob(4)),
			})
			return nil
		})
	})
	return memos, err
}

// Signals implements [task.Store].
func (s *Store) Signals(ctx context.Context, namespace string, id task.ID, name string, limit int) (signals []task.Signal, err error) {
	err = s.read(ctx, "read signals", func(c *conn) error {
		signals = nil
		if err := there(ctx, c, namespace, id); err != nil {
			return err
		}
		return c.query(ctx, readSignals, []any{id[:], name, int64(max(limit, 0))}, func(r row) error {
			signals = append(signals, task.Signal{ID: idOf(r.blob(0)), Name: r.text(1), At: codec.Micros(r.int(2)), Data: raw(r.blob(3))})
			return nil
		})
	})
	return signals, err
}

// there says whether a task is.
func there(ctx context.Context, c *conn, namespace string, id task.ID) error {
	found := false
	err := c.query(ctx, stateOfOne, []any{id[:], namespace}, func(row) error {
		found = true
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("task %s: %w", id, task.ErrNotFound)
	}
	return err
}
