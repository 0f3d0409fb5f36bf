package postgres

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// slots is how many transactions can add to one count at once.
const slots = 16

// count is one number kept: tasks of a queue, or of a batch, in a state.
type count struct {
	namespace, queue string
	batch            task.ID
	state            task.State
}

func (c count) compare(d count) int {
	return cmp.Or(cmp.Compare(c.namespace, d.namespace), cmp.Compare(c.queue, d.queue),
		cmp.Compare(c.batch.String(), d.batch.String()), cmp.Compare(c.state, d.state))
}

// moved keeps the counts right for a task that went from one state to another;
// the state 0 is not to be there.
func (t *tx) moved(namespace, queue string, batch task.ID, from, to task.State) {
	if t.counts == nil {
		t.counts = map[count]int64{}
	}
	if from == to {
		return
	}
	add := func(state task.State, n int64) {
		if state == 0 {
			return
		}
		t.counts[count{namespace: namespace, queue: queue, state: state}] += n
		if !batch.IsZero() {
			t.counts[count{namespace: namespace, batch: batch, state: state}] += n
		}
	}
	add(from, -1)
	add(to, 1)
}

const (
	addCounts = `INSERT INTO troupe.counts AS c (namespace, queue, state, slot, n)
		SELECT u.namespace, u.queue, u.state, $4, u.n
		FROM unnest($1::text[], $2::text[], $3::bigint[], $5::bigint[]) AS u(namespace, queue, state, n)
		ON CONFLICT (namespace, queue, state, slot) DO UPDATE SET n = c.n + excluded.n`
	addBatchCounts = `INSERT INTO troupe.batch_counts AS c (batch, namespace, state, slot, n)
		SELECT u.batch, u.namespace, u.state, $4, u.n
		FROM unnest($1::uuid[], $2::text[], $3::bigint[], $5::bigint[]) AS u(batch, namespace, state, n)
		ON CONFLICT (batch, namespace, state, slot) DO UPDATE SET n = c.n + excluded.n`
)

// storeCounts is the last that a transaction does: who has one of these rows
// only commits, and nobody who waits for one is waited for. All take them in the
// same order.
func (t *tx) storeCounts(b *pgx.Batch) {
	var queues, batches countRows
	for _, c := range slices.SortedFunc(maps.Keys(t.counts), count.compare) {
		n := t.counts[c]
		switch {
		case n == 0:
		case c.batch.IsZero():
			queues.add(c, n)
		default:
			batches.add(c, n)
		}
	}
	slot := rand.Int64N(slots) //nolint:gosec // spread, not a secret
	if len(queues.n) > 0 {
		b.Queue(addCounts, queues.namespace, queues.queue, queues.state, slot, queues.n)
	}
	if len(batches.n) > 0 {
		b.Queue(addBatchCounts, batches.batch, batches.namespace, batches.state, slot, batches.n)
	}
}

// grew notes that more is kept of a namespace, or less.
func (t *tx) grew(namespace string, bytes int64) {
	if t.growth == nil {
		t.growth = map[string]int64{}
	}
	t.growth[namespace] += bytes
}

const (
	addVolumes = `INSERT INTO troupe.volumes AS v (namespace, slot, bytes)
		SELECT u.namespace, $2, u.bytes FROM unnest($1::text[], $3::bigint[]) AS u(namespace, bytes)
		ON CONFLICT (namespace, slot) DO UPDATE SET bytes = v.bytes + excluded.bytes`
	readVolumes = `SELECT namespace, sum(bytes)::bigint FROM troupe.volumes
		WHERE $1 = '' OR namespace = $1 GROUP BY namespace HAVING sum(bytes) <> 0`
)

// storeVolumes is as storeCounts, and comes behind it.
func (t *tx) storeVolumes(b *pgx.Batch) {
	var namespaces []string
	var bytes []int64
	for _, namespace := range slices.Sorted(maps.Keys(t.growth)) {
		if n := t.growth[namespace]; n != 0 {
			namespaces, bytes = append(namespaces, namespace), append(bytes, n)
		}
	}
	if len(namespaces) > 0 {
		b.Queue(addVolumes, namespaces, rand.Int64N(slots), bytes) //nolint:gosec // spread, not a secret
	}
}

type countRows struct {
	namespace, queue []string
	batch            []pgtype.UUID
	state, n         []int64
}

func (r *countRows) add(c count, n int64) {
	r.namespace, r.queue = append(r.namespace, c.namespace), append(r.queue, c.queue)
	r.batch, r.state, r.n = append(r.batch, uuid(c.batch)), append(r.state, int64(c.state)), append(r.n, n)
}
