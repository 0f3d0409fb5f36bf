package sqlite

import (
	"context"
	"encoding/json"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// columns is what makes a task, in the order that decode reads.
const columns = `tasks.id, tasks.namespace, state, holder, attempt, tasks.created, log_start, queue, kind, batch, unique_key, life, spec,
	CASE WHEN payload = x'' THEN (SELECT data FROM bodies WHERE task = tasks.id AND part = 1) ELSE payload END,
	CASE WHEN checkpoint = x'' THEN (SELECT data FROM bodies WHERE task = tasks.id AND part = 2) ELSE checkpoint END,
	result, called, (SELECT scope FROM limits WHERE id = abs(parked)), (SELECT namespace FROM limits WHERE id = abs(parked)),
	(SELECT name FROM limits WHERE id = abs(parked)), (SELECT used FROM limits WHERE id = abs(parked)),
	(SELECT ifnull(ceiling, -1) FROM limits WHERE id = abs(parked)), bound, bound_until`

// decode makes a task of a row of columns.
func decode(r row) (task.Task, error) {
	t := task.Task{
		Spec: task.Spec{
			ID: idOf(r.blob(0)), Namespace: r.text(1), Queue: r.text(7), Kind: r.text(8),
			BatchID: idOf(r.blob(9)), UniqueKey: r.text(10), Payload: raw(r.blob(13)),
		},
		State: r.state(2), Holder: task.Incarnation(r.int(3)), Attempt: int(r.int(4)),
		Created: codec.Micros(r.int(5)), LogStart: codec.Unpack(r.int(6)),
		Checkpoint: raw(r.blob(14)), Result: raw(r.blob(15)),
		Called: r.int(16) != 0,
	}
	if scope := r.int(17); scope != 0 {
		t.Parked = &task.Parked{
			Limit: task.LimitName{Scope: task.LimitScope(scope & 15), Namespace: r.text(18), Name: r.text(19)},
			Used:  task.Quantity(r.int(20)), Most: task.Quantity(r.int(21)),
		}
	}
	if t.Bound = task.Incarnation(r.int(22)); t.Bound != 0 {
		t.BoundUntil = codec.Micros(r.int(23))
	}
	if err := codec.DecodeLife(r.blob(11), &t); err != nil {
		return task.Task{}, err
	}
	return t, codec.DecodeSpec(r.blob(12), &t.Spec)
}

func raw(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

func idOf(b []byte) task.ID {
	var id task.ID
	copy(id[:], b)
	return id
}

// find reads the one task that where, a constant of this package, selects, and
// its spec as it is stored; nil if there is none.
func find(ctx context.Context, c *conn, where string, args ...any) (found *task.Task, spec []byte, err error) {
	err = c.query(ctx, "SELECT "+columns+" FROM tasks WHERE "+where, args, func(r row) error {
		t, err := decode(r)
		found, spec = &t, r.blob(12)
		return err
	})
	return found, spec, err
}

// list reads the tasks that a query over columns gives.
func list(ctx context.Context, c *conn, query string, args ...any) ([]task.Task, error) {
	var tasks []task.Task
	err := c.query(ctx, query, args, func(r row) error {
		t, err := decode(r)
		tasks = append(tasks, t)
		return err
	})
	return tasks, err
}
