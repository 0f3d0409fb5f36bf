package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	readCounts = `SELECT namespace, queue, state, sum(n)::bigint FROM troupe.counts
		WHERE $1 = '' OR namespace = $1 GROUP BY namespace, queue, state HAVING sum(n) <> 0`
	readBatchCounts = `SELECT namespace, '', state, sum(n)::bigint FROM troupe.batch_counts
		WHERE batch = $2 AND ($1 = '' OR namespace = $1) GROUP BY namespace, state HAVING sum(n) <> 0`
	readNodes = "SELECT incarnation, name, address, peer, started, seen, gone OR expires <= clock_timestamp(), details FROM troupe.nodes ORDER BY incarnation"
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
			each(b.Queue(callbackOf, scope.Namespace, uuid(scope.Batch)), func(r pgx.Rows) error {
				return r.Scan((*[16]byte)(&o.Callback))
			})
			return t.send(within, b)
		}
		each(b.Queue(readCounts, scope.Namespace), counted)
		t.queueSettings(b, scope.Namespace, &o)
		each(b.Queue(readVolumes, scope.Namespace), func(r pgx.Rows) error {
			var v task.Volume
			err := r.Scan(&v.Namespace, &v.Bytes)
			o.Volumes = append(o.Volumes, v)
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
			var details []byte
			err := r.Scan(&incarnation, &n.Name, &n.Address, &n.Peer, &started, &n.Seen, &n.Left, &details)
			n.Incarnation, n.Started, n.Seen = task.Incarnation(incarnation), codec.Micros(started), n.Seen.UTC()
			if err == nil {
				err = codec.DecodeNode(details, &n)
			}
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
	slices.SortFunc(o.Kinds, func(a, b task.Kind) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(o.Volumes, func(a, b task.Volume) int { return cmp.Compare(a.Namespace, b.Namespace) })
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
