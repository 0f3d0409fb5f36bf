package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	readCounts = `SELECT namespace, queue, state, sum(n)::bigint FROM troupe.counts
		WHERE $1 = '' OR namespace = $1 GROUP BY namespace, queue, state HAVING sum(n) <> 0`
	readBatchCounts = `SELECT namespace, '', state, sum(n)::bigint FROM troupe.batch_counts
		WHERE batch = $2 AND ($1 = '' OR namespace = $1) GROUP BY namespace, state HAVING sum(n) <> 0`
	readQueues = `SELECT q.namespace, q.name, q.paused, coalesce(c.ceiling, 0), coalesce(r.rate_count, 0), coalesce(r.rate_per, 0)
		FROM troupe.queues q
		LEFT JOIN troupe.limits c ON (c.scope, c.namespace, c.name) = (2, q.namespace, q.name)
		LEFT JOIN troupe.limits r ON (r.scope, r.namespace, r.name) = (4, q.namespace, q.name)
		WHERE $1 = '' OR q.namespace = $1`
	readNodes = "SELECT incarnation, name, address, peer, started, seen, gone OR expires <= clock_timestamp() FROM troupe.nodes ORDER BY incarnation"
)

// Overview implements [task.Store]. What is to be in order is put so here: the
// database may sort by another alphabet.
func (s *Store) Overview(ctx context.Context, scope task.Scope) (task.Overview, error) {
	var o task.Overview
	err := s.read(ctx, "read overview", func(within context.Context, t *tx) error {
		o = task.Overview{}
		counted := func(r pgx.Rows) error {
			var c task.Count
			var state int16
			err := r.Scan(&c.Namespace, &c.Queue, &state, &c.Tasks)
			c.State = stateOf(state)
			o.Counts = append(o.Counts, c)
			return err
		}
		b := t.batch()
		if !scope.Batch.IsZero() {
			each(b.Queue(readBatchCounts, scope.Namespace, uuid(scope.Batch)), counted)
			return t.send(within, b)
		}
		each(b.Queue(readCounts, scope.Namespace), counted)
		each(b.Queue(readQueues, scope.Namespace), func(r pgx.Rows) error {
			var q task.Queue
			var concurrency, count, per int64
			err := r.Scan(&q.Namespace, &q.Name, &q.Paused, &concurrency, &count, &per)
			q.Concurrency = int(concurrency / 1000)
			q.Rate = task.Rate{Count: int(count), Per: time.Duration(per) * time.Microsecond}
			o.Queues = append(o.Queues, q)
			return err
		})
		each(b.Queue(readPools), func(r pgx.Rows) error {
			var p task.Pool
			err := r.Scan(&p.Name, (*int64)(&p.Capacity), (*int64)(&p.Used))
			o.Pools = append(o.Pools, p)
			return err
		})
		each(b.Queue(readNodes), func(r pgx.Rows) error {
			var n task.Node
			var incarnation, started int64
			err := r.Scan(&incarnation, &n.Name, &n.Address, &n.Peer, &started, &n.Seen, &n.Left)
			n.Incarnation, n.Started, n.Seen = task.Incarnation(incarnation), codec.Micros(started), n.Seen.UTC()
			o.Nodes = append(o.Nodes, n)
			return err
		})
		return t.send(within, b)
	})
	if err != nil {
		return task.Overview{}, err
	}
	slices.SortFunc(o.Counts, func(a, b task.Count) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
	})
	slices.SortFunc(o.Pools, func(a, b task.Pool) int { return cmp.Compare(a.Name, b.Name) })
	if scope.Batch.IsZero() {
		o.Queues = withCounted(o.Queues, o.Counts)
	}
	return o, nil
}

// withCounted adds to the queues that have settings those that have tasks.
func withCounted(queues []task.Queue, counts []task.Count) []task.Queue {
	known := make(map[namedKey]bool, len(queues))
	for _, q := range queues {
		known[namedKey{namespace: q.Namespace, key: q.Name}] = true
	}
	for _, c := range counts {
		name := namedKey{namespace: c.Namespace, key: c.Queue}
		if !known[name] {
			known[name] = true
			queues = append(queues, task.Queue{Namespace: c.Namespace, Name: c.Queue})
		}
	}
	slices.SortFunc(queues, func(a, b task.Queue) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return queues
}
