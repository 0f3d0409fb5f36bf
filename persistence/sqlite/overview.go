package sqlite

import (
	"context"
	"time"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	countRows = `SELECT namespace, queue, state, n FROM counts
		WHERE ?1 = '' OR namespace = ?1 ORDER BY namespace, queue, state`
	batchCountRows = `SELECT namespace, '', state, n FROM batch_counts
		WHERE batch = ?2 AND (?1 = '' OR namespace = ?1) ORDER BY namespace, state`
	queueRows = `SELECT namespace, queue, 0, 0, 0, 0 FROM counts WHERE (?1 = '' OR namespace = ?1)
		AND (namespace, queue) NOT IN (SELECT namespace, name FROM queues)
		UNION SELECT q.namespace, q.name, q.paused, ifnull(c.ceiling, 0), ifnull(r.rate_count, 0), ifnull(r.rate_per, 0) FROM queues q
			LEFT JOIN limits c ON (c.scope, c.namespace, c.name) = (2, q.namespace, q.name)
			LEFT JOIN limits r ON (r.scope, r.namespace, r.name) = (4, q.namespace, q.name)
			WHERE ?1 = '' OR q.namespace = ?1 ORDER BY 1, 2`
	nodeRows = "SELECT incarnation, name, address, started, seen, left FROM nodes ORDER BY incarnation"
)

// Overview implements [task.Store].
func (s *Store) Overview(ctx context.Context, scope task.Scope) (task.Overview, error) {
	var o task.Overview
	err := s.read(ctx, "read overview", func(c *conn) (err error) {
		o = task.Overview{}
		if !scope.Batch.IsZero() {
			o.Counts, err = readCounts(ctx, c, batchCountRows, scope.Namespace, scope.Batch[:])
			return err
		}
		if o.Counts, err = readCounts(ctx, c, countRows, scope.Namespace); err != nil {
			return err
		}
		if o.Queues, err = readQueues(ctx, c, scope.Namespace); err != nil {
			return err
		}
		if o.Pools, err = readPools(ctx, c); err != nil {
			return err
		}
		o.Nodes, err = readNodes(ctx, c)
		return err
	})
	if err != nil {
		return task.Overview{}, err
	}
	return o, nil
}

func readCounts(ctx context.Context, c *conn, query string, args ...any) ([]task.Count, error) {
	var counts []task.Count
	err := c.query(ctx, query, args, func(r row) error {
		counts = append(counts, task.Count{
			Namespace: r.text(0), Queue: r.text(1), State: r.state(2), Tasks: r.int(3),
		})
		return nil
	})
	return counts, err
}

func readQueues(ctx context.Context, c *conn, namespace string) ([]task.Queue, error) {
	var queues []task.Queue
	err := c.query(ctx, queueRows, []any{namespace}, func(r row) error {
		queues = append(queues, task.Queue{
			Namespace: r.text(0), Name: r.text(1), Paused: r.int(2) != 0, Concurrency: int(r.int(3) / 1000),
			Rate: task.Rate{Count: int(r.int(4)), Per: time.Duration(r.int(5)) * time.Microsecond},
		})
		return nil
	})
	return queues, err
}

func readNodes(ctx context.Context, c *conn) ([]task.Node, error) {
	var nodes []task.Node
	err := c.query(ctx, nodeRows, nil, func(r row) error {
		nodes = append(nodes, task.Node{
			Incarnation: task.Incarnation(r.int(0)), Name: r.text(1), Address: r.text(2),
			Started: codec.Micros(r.int(3)), Seen: codec.Micros(r.int(4)), Left: r.int(5) != 0,
		})
		return nil
	})
	return nodes, err
}
