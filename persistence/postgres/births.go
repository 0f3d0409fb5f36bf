package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/runtime/task"
)

// Most batches of new tasks have nothing to do with what is stored: no key that may be
// taken, nothing that they depend on. They are written as if nothing could be in their
// way, in one round trip with the commit. If something is, the server refuses all of it,
// and they are written as any others.

// errTaken says that a task was not as fresh as it seemed.
var errTaken = errors.New("a fresh task is there already")

// areFresh says whether all are such tasks.
func areFresh(ms []task.Mutation) bool {
	for i := range ms {
		m := &ms[i]
		fresh := m.Op == task.Insert && m.Fresh && !m.Known && m.Request.Key == "" && m.Task.UniqueKey == "" &&
			len(m.Task.DependsOn) == 0 && m.Task.AfterBatch.IsZero() && !m.Task.State.Terminal() && m.Check() == nil
		if !fresh {
			return false
		}
	}
	return true
}

// areSimple says whether all are changes of tasks that live, which touch nothing but the
// tasks, what hangs on their ends, and counts.
func areSimple(ms []task.Mutation) bool {
	for i := range ms {
		m := &ms[i]
		simple := m.Op == task.Save && !m.Guard.State.Terminal() && m.Guard.State != task.Blocked && m.Task.State != task.Blocked &&
			len(m.Take)+len(m.Give)+len(m.Memos) == 0 && !m.Forget && !m.Keeps()
		if !simple {
			return false
		}
	}
	return true
}

// bear writes fresh tasks.
func (s *Store) bear(ctx context.Context, ms []task.Mutation) error {
	return s.write(ctx, "append", func(_ context.Context, t *tx) error {
		t.simple, t.fresh = true, true
		a := appending{tx: t, ms: ms}
		which := make([]int, len(ms))
		var labels labelRows
		for i := range ms {
			k := &ms[i].Task
			which[i] = i
			labels.add(k.ID, k.Namespace, k.Created.UnixMicro(), k.Labels)
			t.moved(k.Namespace, k.Queue, k.BatchID, 0, k.State)
			t.grew(k.Namespace, ms[i].Bytes())
		}
		t.last = append(t.last, func(b *pgx.Batch) {
			t.queue(b, insertFresh, a.newRows(which)...)
			if len(labels.key) > 0 {
				b.Queue(insertLabels, labels.namespace, labels.key, labels.value, labels.created, labels.task)
			}
		})
		return nil
	})
}
