package sqlite

import (
	"context"

	"github.com/troupe-run/troupe/runtime/task"
)

// A batch's callback: the counts of the batch say when it is time.
const (
	anyCallbacks   = "SELECT EXISTS (SELECT 1 FROM callbacks WHERE done = 0)"
	callbackOf     = "SELECT task FROM callbacks WHERE namespace = ? AND batch = ?"
	insertCallback = "INSERT INTO callbacks (namespace, batch, task) VALUES (?, ?, ?)"
	callbackDone   = "UPDATE callbacks SET done = 1 WHERE task = ?"
	dropCallback   = "DELETE FROM callbacks WHERE task = ?"
	readyCallbacks = `SELECT c.task FROM callbacks c INDEXED BY callbacks_waiting WHERE c.done = 0 AND NOT EXISTS
		(SELECT 1 FROM batch_counts b WHERE b.namespace = c.namespace AND b.batch = c.batch AND b.state < 5 AND b.n > 0) LIMIT ?`
)

// hasCallback says whether the batch that a new task is to be the callback of has
// another one.
func (t *tx) hasCallback(ctx context.Context, k *task.Task) (has bool, err error) {
	if k.AfterBatch.IsZero() {
		return false, nil
	}
	err = t.conn.query(ctx, callbackOf, []any{k.Namespace, k.AfterBatch[:]}, func(r row) error {
		has = idOf(r.blob(0)) != k.ID
		return nil
	})
	return has, err
}
