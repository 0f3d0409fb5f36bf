package postgres

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	// Those that live go to where they are by its name: to find the partition of each
	// takes a fourth of an insert.
	insertLive  = newPlaces + ", made AS (INSERT INTO troupe.tasks_live" + newTasks + orNothing
	insertTasks = newPlaces + ", made AS (INSERT INTO troupe.tasks" + newTasks + orNothing
	insertFresh = newPlaces + " INSERT INTO troupe.tasks_live" + newTasks
	newPlaces   = "WITH base AS MATERIALIZED (SELECT nextval('troupe.arrivals') AS n)"
	newTasks    = ` (n, id, namespace, state, holder, attempt, logged, lane, rank, wake_at, created,
				finished, queue, kind, batch, unique_key, life, spec, payload, checkpoint, result, birth, bytes)
			SELECT base.n + u.place, u.id, u.namespace, u.state, u.holder, u.attempt, u.logged, nullif(u.lane, 0),
				CASE WHEN u.lane <> 0 THEN u.rank END, nullif(u.wake_at, 0), u.created,
				CASE WHEN u.state >= 5 THEN u.finished END, u.queue, u.kind, u.batch, nullif(u.unique_key, ''),
				u.life, u.spec, u.payload, u.checkpoint, u.result, u.birth, u.bytes
			FROM base, unnest($1::bigint[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
				$8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::uuid[],
				$16::text[], $17::bytea[], $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bigint[])
			AS u(place, id, namespace, state, holder, attempt, logged, lane, rank, wake_at, created, finished, queue, kind,
				batch, unique_key, life, spec, payload, checkpoint, result, birth, bytes)`
	orNothing    = " ON CONFLICT DO NOTHING RETURNING id) SELECT id FROM made"
	insertLabels = `INSERT INTO troupe.labels (namespace, key, value, created, task)
		SELECT u.* FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::uuid[]) AS u(namespace, key, value, created, task)`
	// endedBefore is asked behind an insert: an id that was taken until just now
	// belongs to a task that has moved.
	endedBefore = "SELECT id FROM troupe.tasks_ended WHERE id = ANY($1::uuid[])"
)

type labelRows struct {
	namespace, key, value []string
	created               []int64
	task                  []pgtype.UUID
}

func (r *labelRows) add(id task.ID, namespace string, created int64, labels map[string]string) {
	for key, value := range labels {
		r.namespace, r.key, r.value = append(r.namespace, namespace), append(r.key, key), append(r.value, value)
		r.created, r.task = append(r.created, created), append(r.task, uuid(id))
	}
}

// queueInserts has new tasks made. Those whose id or unique key is taken are not
// written; of those in twice the id belongs to a task that has ended.
func (a *appending) queueInserts(b *pgx.Batch, which []int, note func(pgx.Rows) error, twice *[]task.ID) {
	if len(which) == 0 {
		return
	}
	text := insertLive
	if slices.ContainsFunc(which, func(i int) bool { return a.ms[i].Task.State.Terminal() }) {
		text = insertTasks
	}
	rows := a.newRows(which)
	each(a.queue(b, text, rows...), note)
	each(a.queue(b, endedBefore, rows[1]), func(r pgx.Rows) error {
		var id [16]byte
		err := r.Scan(&id)
		*twice = append(*twice, id)
		return err
	})
}

// newRows is what newTasks is given: places, then ids, and the rest.
func (a *appending) newRows(which []int) []column {
	n := len(which)
	came := make([]int, n) // the places in which
	for at := range came {
		came[at] = at
	}
	// In the order of their unique keys, so that two transactions do not wait for
	// each other; place keeps the order in which they came.
	slices.SortStableFunc(came, func(x, y int) int {
		return cmp.Compare(a.ms[which[x]].Task.UniqueKey, a.ms[which[y]].Task.UniqueKey)
	})
	id, batch := make(uuidColumn, n), make(uuidColumn, n)
	ints := make(int8Column, 11*n)
	numbers := func(c int) int8Column { return ints[c*n : (c+1)*n : (c+1)*n] }
	place, state, holder, attempt, logged := numbers(0), numbers(1), numbers(2), numbers(3), numbers(4)
	lane, rank, wake, created, done := numbers(5), numbers(6), numbers(7), numbers(8), numbers(9)
	brings := numbers(10)
	words := make(textColumn, 4*n)
	namespace, queue, kind, uniqueKey := words[:n], words[n:2*n], words[2*n:3*n], words[3*n:]
	bodies := make(byteaColumn, 6*n)
	life, spec, payload := bodies[:n], bodies[n:2*n], bodies[2*n:3*n]
	checkpoint, result, birth := bodies[3*n:4*n], bodies[4*n:5*n], bodies[5*n:]
	for at, x := range came {
		i := which[x]
		k := &a.ms[i].Task
		w := a.store.waits(k)
		place[at], id[at], namespace[at] = int64(x), uuid(k.ID), k.Namespace
		state[at], holder[at], attempt[at] = int64(k.State), int64(k.Holder), int64(k.Attempt)
		logged[at], lane[at], rank[at], wake[at] = lastOf(a.ms[i].Events), w.lane, w.rank, w.wake
		created[at], done[at] = k.Created.UnixMicro(), finished(k)
		queue[at], kind[at], batch[at], uniqueKey[at] = k.Queue, k.Kind, uuid(k.BatchID), k.UniqueKey
		life[at], spec[at] = codec.Life(k), codec.Spec(&k.Spec)
		payload[at], checkpoint[at], result[at] = orNull(k.Payload), orNull(k.Checkpoint), orNull(k.Result)
		birth[at], brings[at] = codec.Segment(a.ms[i].Events), a.ms[i].Bytes()
	}
	return []column{
		place, id, namespace, state, holder, attempt, logged, lane, rank, wake, created, done,
		queue, kind, batch, uniqueKey, life, spec, payload, checkpoint, result, birth, brings,
	}
}

// inserted sees to what else belongs to the tasks that were made, and finds out
// what stood in the way of the others.
func (a *appending) inserted(ctx context.Context, which []int, written map[task.ID]bool, twice []task.ID) error {
	var labels labelRows
	var clashing []int
	var back []task.ID
	for _, id := range twice {
		if written[id] {
			back = append(back, id)
			delete(written, id)
		}
	}
	for _, i := range which {
		k := &a.ms[i].Task
		if !written[k.ID] {
			clashing = append(clashing, i)
			continue
		}
		labels.add(k.ID, k.Namespace, k.Created.UnixMicro(), k.Labels)
		a.moved(k.Namespace, k.Queue, k.BatchID, 0, k.State)
		a.grew(k.Namespace, a.ms[i].Bytes())
	}
	b := a.batch()
	if len(back) > 0 {
		b.Queue("DELETE FROM troupe.tasks_live WHERE id = ANY($1::uuid[])", uuids(back))
	}
	if len(labels.key) > 0 {
		b.Queue(insertLabels, labels.namespace, labels.key, labels.value, labels.created, labels.task)
	}
	if len(clashing) > 0 {
		return a.clash(ctx, b, clashing)
	}
	if b.Len() == 0 {
		return nil
	}
	return a.send(ctx, b)
}

const (
	byID         = "SELECT " + columns + " FROM troupe.tasks t WHERE t.id = ANY($1::uuid[])"
	byUniqueKeys = "SELECT " + columns + ` FROM troupe.tasks_live t
		JOIN unnest($1::text[], $2::text[], $3::text[]) AS u(namespace, kind, unique_key) USING (namespace, kind, unique_key)`
)

// stored is a task and its spec as it stands in the row.
type stored struct {
	task.Task

	spec []byte
}

type namedKey struct{ namespace, kind, key string }

// clash says what stood in the way of inserts: the id, or the unique key.
func (a *appending) clash(ctx context.Context, b *pgx.Batch, which []int) error {
	ids := make([]task.ID, 0, len(which))
	var namespaces, kinds, keys []string
	for _, i := range which {
		k := &a.ms[i].Task
		ids = append(ids, k.ID)
		if k.UniqueKey != "" {
			namespaces, kinds, keys = append(namespaces, k.Namespace), append(kinds, k.Kind), append(keys, k.UniqueKey)
		}
	}
	found := map[task.ID]stored{}
	holders := map[namedKey]stored{}
	each(b.Queue(byID, uuids(ids)), func(r pgx.Rows) error {
		t, spec, err := decode(r)
		found[t.ID] = stored{t, spec}
		return err
	})
	if len(keys) > 0 {
		each(b.Queue(byUniqueKeys, namespaces, kinds, keys), func(r pgx.Rows) error {
			t, spec, err := decode(r)
			holders[namedKey{t.Namespace, t.Kind, t.UniqueKey}] = stored{t, spec}
			return err
		})
	}
	if err := a.send(ctx, b); err != nil {
		return err
	}
	for _, i := range which {
		k := &a.ms[i].Task
		there, ok := found[k.ID]
		if ok && !there.same(k) {
			a.out[i].Err = task.ErrExists
		} else if !ok {
			if there, ok = holders[namedKey{k.Namespace, k.Kind, k.UniqueKey}]; !ok && !a.ms[i].Known {
				return errAgain // it has ended since
			} else if !ok {
				a.out[i].Err = task.ErrNotFound
			}
		}
		if a.out[i].Err == nil {
			a.out[i].Existing = &there.Task
		}
	}
	return a.remember(ctx, which)
}

// known answers the inserts that are only to find a task, and gives the others.
func (a *appending) known(ctx context.Context, inserts []int) (rest []int, err error) {
	var known []int
	for _, i := range inserts {
		if a.ms[i].Known {
			known = append(known, i)
		} else {
			rest = append(rest, i)
		}
	}
	if len(known) == 0 {
		return inserts, nil
	}
	return rest, a.clash(ctx, a.batch(), known)
}

// same says whether a task is what an insert would have made.
func (s stored) same(k *task.Task) bool {
	return bytes.Equal(s.spec, codec.Spec(&k.Spec)) && bytes.Equal(s.Payload, k.Payload) && s.Namespace == k.Namespace &&
		s.Queue == k.Queue && s.Kind == k.Kind && s.BatchID == k.BatchID && s.UniqueKey == k.UniqueKey
}
