package postgres

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// An idempotency key is taken before the task is made, so of two requests that
// come at once the second waits for the first to commit, and then finds its key.
const (
	dropKeys = `DELETE FROM troupe.requests r USING unnest($1::text[], $2::text[], $3::bigint[]) AS u(namespace, key, now)
		WHERE r.namespace = u.namespace AND r.key = u.key
			AND (r.expires <= u.now OR NOT EXISTS (SELECT FROM troupe.tasks t WHERE t.id = r.task))`
	takeKeys = `INSERT INTO troupe.requests (namespace, key, hash, task, expires)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::bigint[])
		ON CONFLICT (namespace, key) DO NOTHING RETURNING namespace, key`
	findKeys = `SELECT r.namespace, r.key, r.hash, r.task FROM troupe.requests r
		JOIN unnest($1::text[], $2::text[]) AS u(namespace, key) USING (namespace, key)`
	turnKey = "UPDATE troupe.requests SET task = $3 WHERE namespace = $1 AND key = $2"
	freeKey = "DELETE FROM troupe.requests WHERE namespace = $1 AND key = $2"
)

type requestKey struct{ namespace, key string }

func requestOf(m *task.Mutation) requestKey { return requestKey{m.Task.Namespace, m.Request.Key} }

// requests looks at the idempotency keys of inserts and gives those that are to
// be made. A key that has expired, or whose task is gone, is as if it were
// unknown.
func (a *appending) requests(ctx context.Context, which []int) (rest []int, err error) {
	var keyed []int
	for _, i := range which {
		if a.ms[i].Request.Key == "" {
			rest = append(rest, i)
		} else {
			keyed = append(keyed, i)
		}
	}
	if len(keyed) == 0 {
		return which, nil
	}
	slices.SortFunc(keyed, func(i, j int) int {
		x, y := requestOf(&a.ms[i]), requestOf(&a.ms[j])
		return cmp.Or(cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.key, y.key))
	})
	var namespaces, keys []string
	var hashes [][]byte
	var ids []pgtype.UUID
	var now, expires []int64
	for _, i := range keyed {
		m := &a.ms[i]
		namespaces, keys = append(namespaces, m.Task.Namespace), append(keys, m.Request.Key)
		hashes, ids = append(hashes, m.Request.Hash[:]), append(ids, uuid(m.Task.ID))
		now, expires = append(now, m.Task.Created.UnixMicro()), append(expires, m.Request.Expires.UnixMicro())
	}
	taken := map[requestKey]bool{}
	type known struct {
		hash []byte
		task task.ID
	}
	there := map[requestKey]known{}
	b := a.batch()
	b.Queue(dropKeys, namespaces, keys, now)
	each(b.Queue(takeKeys, namespaces, keys, hashes, ids, expires), func(r pgx.Rows) error {
		var k requestKey
		err := r.Scan(&k.namespace, &k.key)
		taken[k] = true
		return err
	})
	each(b.Queue(findKeys, namespaces, keys), func(r pgx.Rows) error {
		var k requestKey
		var of known
		err := r.Scan(&k.namespace, &k.key, &of.hash, (*[16]byte)(&of.task))
		there[k] = of
		return err
	})
	if err := a.send(ctx, b); err != nil {
		return nil, err
	}
	waiting := map[task.ID][]int{}
	for _, i := range keyed {
		m := &a.ms[i]
		k := requestOf(m)
		of, ok := there[k]
		switch {
		case taken[k]:
			rest = append(rest, i)
		case !ok:
			return nil, errAgain // somebody took it and let it go
		case !bytes.Equal(of.hash, m.Request.Hash[:]):
			a.out[i].Err = task.ErrKeyReused
		default:
			waiting[of.task] = append(waiting[of.task], i)
		}
	}
	slices.Sort(rest)
	return rest, a.existing(ctx, waiting)
}

// existing fills in the tasks that requests led to before.
func (a *appending) existing(ctx context.Context, waiting map[task.ID][]int) error {
	if len(waiting) == 0 {
		return nil
	}
	ids := make([]task.ID, 0, len(waiting))
	for id := range waiting {
		ids = append(ids, id)
	}
	err := a.query(ctx, byID, []any{uuids(ids)}, func(r pgx.Rows) error {
		t, _, err := decode(r)
		for _, i := range waiting[t.ID] {
			a.out[i].Existing = &t
		}
		delete(waiting, t.ID)
		return err
	})
	if err == nil && len(waiting) > 0 {
		return errAgain // deleted since
	}
	return err
}

// remember turns the keys of inserts that led to a task that was there already:
// the same request shall lead there again. A refused one keeps no key.
func (a *appending) remember(ctx context.Context, which []int) error {
	b := a.batch()
	for _, i := range which {
		m := &a.ms[i]
		switch {
		case m.Request.Key == "":
		case a.out[i].Err != nil:
			b.Queue(freeKey, m.Task.Namespace, m.Request.Key)
		case a.out[i].Existing.ID != m.Task.ID:
			b.Queue(turnKey, m.Task.Namespace, m.Request.Key, uuid(a.out[i].Existing.ID))
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return a.send(ctx, b)
}
