package sqlite

import (
	"context"
	"fmt"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// Renew implements [task.Store]. That we have the directory's lock proves every
// earlier node dead.
func (s *Store) Renew(ctx context.Context, n task.Node) (task.Node, error) {
	n.Lease = 0 // the lock on the directory is all it takes
	n.Started, n.Seen = codec.Micros(n.Started.UnixMicro()), codec.Micros(n.Seen.UnixMicro())
	err := s.write(ctx, "renew node", func(t *tx) error {
		within := context.WithoutCancel(ctx)
		if n.Incarnation != 0 {
			return t.renew(within, n)
		}
		joined, err := t.join(within, n)
		n.Incarnation = joined
		return err
	})
	if err != nil {
		return task.Node{}, err
	}
	return n, nil
}

func (t *tx) renew(ctx context.Context, n task.Node) error {
	changed, err := t.conn.exec(ctx,
		"UPDATE nodes SET name = ?, address = ?, started = ?, seen = ?, left = ?, details = ? WHERE incarnation = ? AND left = 0",
		n.Name, n.Address, n.Started.UnixMicro(), n.Seen.UnixMicro(), number(n.Left), codec.Node(n), int64(n.Incarnation))
	if err == nil && changed == 0 {
		return fmt.Errorf("node %d: %w", n.Incarnation, task.ErrStale)
	}
	return err
}

func (t *tx) join(ctx context.Context, n task.Node) (joined task.Incarnation, err error) {
	if _, err := t.conn.exec(ctx, "UPDATE nodes SET left = 1 WHERE left = 0"); err != nil {
		return 0, err
	}
	err = t.conn.query(ctx,
		"INSERT INTO nodes (name, address, started, seen, left, details) VALUES (?, ?, ?, ?, ?, ?) RETURNING incarnation",
		[]any{n.Name, n.Address, n.Started.UnixMicro(), n.Seen.UnixMicro(), number(n.Left), codec.Node(n)}, func(r row) error {
			joined = task.Incarnation(r.int(0))
			return nil
		})
	return joined, err
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
