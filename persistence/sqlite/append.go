package sqlite

import (
	"context"
	"fmt"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// Writers implements [task.Store]: a file has one.
func (s *Store) Writers() int { return 1 }

// Append implements [task.Store].
func (s *Store) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	var out []task.Outcome
	err := s.write(ctx, "append", func(t *tx) error {
		out = make([]task.Outcome, len(ms))
		within := context.WithoutCancel(ctx)
		for i := range ms {
			m := &ms[i]
			if err := ctx.Err(); err != nil {
				return err
			}
			if out[i].Err = m.Check(); out[i].Err != nil {
				continue
			}
			var err error
			if out[i], err = t.apply(within, m); err != nil {
				return fmt.Errorf("task %s: %w", m.Task.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// apply makes one mutation, or says in the outcome why it does not hold. Its
// error is the transaction's.
func (t *tx) apply(ctx context.Context, m *task.Mutation) (task.Outcome, error) {
	switch m.Op {
	case task.Insert:
		return t.insert(ctx, m)
	case task.Save:
		return t.saveLimited(ctx, m)
	case task.Delete:
		refused, err := t.remove(ctx, m)
		return task.Outcome{Err: refused}, err
	case task.SetQueue:
		return task.Outcome{}, t.setQueue(ctx, m.Queue)
	case task.SetPool:
		return task.Outcome{}, t.setPool(ctx, m.Pool)
	case task.SetKind:
		return task.Outcome{}, t.setKind(ctx, m.Kind)
	case task.PutSignal:
		return t.putSignal(ctx, m)
	case task.SetSchedule, task.DropSchedule, task.Fire:
		return t.schedule(ctx, m)
	}
	return task.Outcome{}, nil
}

// saveLimited is save for a task that takes of limits or gives back, or makes a
// result for others.
func (t *tx) saveLimited(ctx context.Context, m *task.Mutation) (out task.Outcome, err error) {
	if len(m.Take) > 0 {
		if out, err = t.takes(ctx, m); out.Err != nil || err != nil {
			return out, err
		}
	}
	if out.Err, err = t.save(ctx, m); out.Err != nil || err != nil {
		return out, err
	}
	if len(m.Give) > 0 {
		err = t.gives(ctx, m.Give)
	}
	if err == nil {
		out.Settles, err = t.settle(ctx, m)
	}
	if err == nil && (len(m.Memos) > 0 || m.Forget || m.Guard.State == task.Blocked || m.Task.State == task.Blocked) {
		var signalled bool
		signalled, err = t.remembers(ctx, m)
		out.Settles = out.Settles || signalled
	}
	if m.Keeps() && err == nil {
		err = t.keep(ctx, &m.Task)
	}
	return out, err
}

// inRow is how large a payload or a checkpoint may be to stand in the row, which
// is written again with every change.
const inRow = 1 << 10

// Parts of a task in the table bodies.
const (
	partPayload    = int64(1)
	partCheckpoint = int64(2)
)

// elsewhere marks a body that stands in the table bodies.
var elsewhere = []byte{}

// body gives what stands in the row for a body.
func body(b []byte) any {
	switch {
	case len(b) == 0:
		return nil
	case len(b) > inRow:
		return elsewhere
	}
	return b
}

// storeBody puts a body that is too large for the row into its place.
func (t *tx) storeBody(ctx context.Context, id task.ID, part int64, b []byte) error {
	if len(b) <= inRow {
		return nil
	}
	_, err := t.conn.exec(ctx, "INSERT OR REPLACE INTO bodies (task, part, data) VALUES (?, ?, ?)", id[:], part, b)
	return err
}

// orNull gives NULL for nothing, where the driver would write an empty blob.
func orNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// finished gives the column of that name: whatever the task says, a terminal
// one has it and no other.
func finished(k *task.Task) any {
	if !k.State.Terminal() {
		return nil
	}
	return k.Finished.UnixMicro()
}

// lastOf is the newest cursor among events, or NULL.
func lastOf(events []task.Event) any {
	if len(events) == 0 {
		return nil
	}
	return codec.Pack(events[len(events)-1].Cursor)
}
