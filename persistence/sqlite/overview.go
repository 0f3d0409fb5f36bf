package sqlite

import (
	"context"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	countRows = `SELECT namespace, queue, state, n FROM counts
		WHERE ?1 = '' OR namespace = ?1 ORDER BY namespace, queue, state`
	batchCountRows = `SELECT namespace, '', state, n FROM batch_counts
		WHERE batch = ?2 AND (?1 = '' OR namespace = ?1) ORDER BY namespace, state`
	queueRows = `SELECT namespace, queue, 0, NULL, 0, 0, 0, 0 FROM counts WHERE (?1 = '' OR namespace = ?1)
		AND (namespace, queue) NOT IN (SELECT namespace, name FROM queues)
		UNION SELECT q.namespace, q.name, q.paused, q.settings, ifnull(c.ceiling, 0), ifnull(r.rate_count, 0), ifnull(r.rate_per, 0),
			ifnull(r.rate_burst, 0) FROM queues q
			LEFT JOIN limits c ON (c.scope, c.namespace, c.name) = (2, q.namespace, q.name)
			LEFT JOIN limits r ON (r.scope, r.namespace, r.name) = (4, q.namespace, q.name)
			WHERE ?1 = '' OR q.namespace = ?1 ORDER BY 1, 2`
	nodeRows = "SELECT incarnation, name, address, started, seen, left, details FROM nodes ORDER BY incarnation"
)

// Overview implements [task.Store].
func (s *Store) Overview(ctx context.Context, scope task.Scope) (task.Overview, error) {
	var o task.Overview
	err := s.read(ctx, "read overview", func(c *conn) (err error) {
		o = task.Overview{}
		if !scope.Batch.IsZero() {
			if o.Counts, err = readCounts(ctx, c, batchCountRows, scope.Namespace, scope.Batch[:]); err != nil {
				return err
			}
			return c.query(ctx, callbackOf, []any{scope.Namespace, scope.Batch[:]}, func(r row) error {
				o.Callback = idOf(r.blob(0))
				return nil
			})
		}
		if o.Counts, err = readCounts(ctx, c, countRows, scope.Namespace); err != nil {
			return err
		}
		if o.Queues, err = readQueues(ctx, c, scope.Namespace); err != nil {
			return err
		}
		if o.Kinds, err = readKinds(ctx, c, scope.Namespace); err != nil {
			return err
		}
		if o.Pools, err = readPools(ctx, c); err != nil {
			return err
		}
		if o.Nodes, err = readNodes(ctx, c); err != nil {
			return err
		}
		return c.query(ctx, volumeRows, []any{scope.Namespace}, func(r row) error {
			o.Volumes = append(o.Volumes, task.Volume{Namespace: r.text(0), Bytes: r.int(1)})
			return nil
		})
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
		q := task.Queue{
			Namespace: r.text(0), Name: r.text(1), Paused: r.int(2) != 0, Concurrency: int(r.int(4) / 1000), Rate: rateOf(r, 5),
		}
		err := codec.DecodeQueue(r.blob(3), &q)
		queues = append(queues, q)
		return err
	})
	return queues, err
}

func readNodes(ctx context.Context, c *conn) ([]task.Node, error) {
	var nodes []task.Node
	err := c.query(ctx, nodeRows, nil, func(r row) error {
		n := task.Node{
			Incarnation: task.Incarnation(r.int(0)), Name: r.text(1), Address: r.text(2),
			Started: codec.Micros(r.int(3)), Seen: codec.Micros(r.int(4)), Left: r.int(5) != 0,
		}
		err := codec.DecodeNode(r.blob(6), &n)
		nodes = append(nodes, n)
		return err
	})
	return nodes, err
}
