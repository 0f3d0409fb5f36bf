package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// A batch's callback: the counts of the batch say when it is time. Of two who make
// one at once the second waits for the first.
const (
	insertCallback = `INSERT INTO troupe.callbacks (namespace, batch, task) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	callbackOf     = "SELECT task FROM troupe.callbacks WHERE namespace = $1 AND batch = $2"
	callbacksDone  = "UPDATE troupe.callbacks SET done = true WHERE task = ANY($1::uuid[]) AND NOT done"
	callbacksWait  = "SELECT EXISTS (SELECT FROM troupe.callbacks WHERE batch = ANY($1::uuid[]) AND NOT done)"
	dropCallback   = "DELETE FROM troupe.callbacks WHERE namespace = $1 AND batch = $2 AND task = $3"
	dropCallbacks  = "DELETE FROM troupe.callbacks WHERE task = ANY($1::uuid[])"
	readyCallbacks = "SELECT " + columns + ` FROM troupe.tasks_live t JOIN troupe.callbacks c ON c.task = t.id AND NOT c.done
		WHERE t.state = 2 AND NOT EXISTS (SELECT FROM troupe.batch_counts b WHERE b.namespace = c.namespace AND b.batch = c.batch
			AND b.state < 5 GROUP BY b.batch HAVING sum(b.n) > 0) LIMIT $1`
)

// callbacks notes new tasks that wait for a batch, and leaves out those whose batch
// has another callback.
func (a *appending) callbacks(ctx context.Context, which []int) (rest []int, err error) {
	for at, i := range which {
		k := &a.ms[i].Task
		if k.AfterBatch.IsZero() {
			if rest != nil {
				rest = append(rest, i)
			}
			continue
		}
		if rest == nil {
			rest = append(make([]int, 0, len(which)), which[:at]...)
		}
		var there [16]byte
		b := a.batch()
		b.Queue(insertCallback, k.Namespace, uuid(k.AfterBatch), uuid(k.ID))
		each(b.Queue(callbackOf, k.Namespace, uuid(k.AfterBatch)), func(r pgx.Rows) error { return r.Scan(&there) })
		if err := a.send(ctx, b); err != nil {
			return nil, err
		}
		if there != k.ID {
			a.out[i].Err = task.ErrHasCallback
			continue
		}
		a.out[i].Settles = true
		rest = append(rest, i)
	}
	if rest == nil {
		rest = which
	}
	return rest, nil
}

// uncalled takes back what was noted of tasks that did not come to be.
func (a *appending) uncalled(ctx context.Context, which []int) error {
	for _, i := range which {
		if k := &a.ms[i].Task; !k.AfterBatch.IsZero() && a.out[i].Err != nil {
			if err := a.exec(ctx, dropCallback, k.Namespace, uuid(k.AfterBatch), uuid(k.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

// called sees to the callbacks of tasks that were saved: just before the commit, in
// its round trip.
func (a *appending) called(which []int, written map[task.ID]bool) {
	var done []task.ID
	var batches []pgtype.UUID
	first := -1
	for _, i := range which {
		m := &a.ms[i]
		if !written[m.Task.ID] {
			continue
		}
		if m.Guard.State == task.Blocked && m.Task.State != task.Blocked && !m.Task.AfterBatch.IsZero() {
			done = append(done, m.Task.ID)
		}
		if m.Task.State.Terminal() && !m.Task.BatchID.IsZero() {
			first = i
			if id := uuid(m.Task.BatchID); len(batches) == 0 || batches[len(batches)-1] != id {
				batches = append(batches, id)
			}
		}
	}
	if len(done) == 0 && len(batches) == 0 {
		return
	}
	a.last = append(a.last, func(b *pgx.Batch) {
		if len(done) > 0 {
			b.Queue(callbacksDone, uuids(done))
		}
		if len(batches) > 0 {
			each(b.Queue(callbacksWait, batches), func(r pgx.Rows) error {
				var waits bool
				err := r.Scan(&waits)
				a.out[first].Settles = a.out[first].Settles || waits
				return err
			})
		}
	})
}
