package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	keepResults = `INSERT INTO troupe.results AS r (namespace, kind, key, task, expires, result)
		SELECT u.* FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bytea[]) AS u
		ON CONFLICT (namespace, kind, key) DO UPDATE SET task = excluded.task, expires = excluded.expires, result = excluded.result`
	findResult = "SELECT result, task, expires FROM troupe.results WHERE namespace = $1 AND kind = $2 AND key = $3 AND expires > $4"
	// expiredResults leaves alone what somebody is just putting there anew.
	expiredResults = `DELETE FROM troupe.results WHERE (namespace, kind, key) IN (SELECT namespace, kind, key
		FROM troupe.results WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1`
)

// cached is what a result is found by.
type cached struct{ namespace, kind, key string }

func (c cached) compare(d cached) int {
	return cmp.Or(cmp.Compare(c.namespace, d.namespace), cmp.Compare(c.kind, d.kind), cmp.Compare(c.key, d.key))
}

// keep keeps the result of k for others, once this is committed.
func (t *tx) keep(k *task.Task) {
	if t.results == nil {
		t.results = map[cached]*task.Task{}
	}
	t.results[cached{k.Namespace, k.Kind, k.Cache.Key}] = k
}

// storeResults writes what is kept, in the order in which everybody does.
func (t *tx) storeResults(b *pgx.Batch) {
	if t.results == nil {
		return
	}
	var namespaces, kinds, keys []string
	var ids []task.ID
	var expires []int64
	var results [][]byte
	for _, at := range slices.SortedFunc(maps.Keys(t.results), cached.compare) {
		k := t.results[at]
		namespaces, kinds, keys = append(namespaces, at.namespace), append(kinds, at.kind), append(keys, at.key)
		ids, expires, results = append(ids, k.ID), append(expires, k.ResultExpires().UnixMicro()), append(results, k.Result)
	}
	b.Queue(keepResults, namespaces, kinds, keys, uuids(ids), expires, results)
}

// Result implements [task.Store].
func (s *Store) Result(ctx context.Context, namespace, kind, key string, now time.Time) (kept task.Kept, found bool, err error) {
	err = s.read(ctx, "read result", func(within context.Context, t *tx) error {
		found = false
		return t.query(within, findResult, []any{namespace, kind, key, now.UnixMicro()}, func(r pgx.Rows) error {
			var id pgtype.UUID
			var text []byte
			var expires int64
			err := r.Scan(&text, &id, &expires)
			kept, found = task.Kept{Result: text, Of: id.Bytes, Expires: codec.Micros(expires)}, true
			return err
		})
	})
	if err != nil {
		return task.Kept{}, false, err
	}
	return kept, found, nil
}
