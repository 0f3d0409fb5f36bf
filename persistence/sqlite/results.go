package sqlite

import (
	"context"
	"time"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	keepResult = `INSERT INTO results (namespace, kind, key, task, expires, result) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET task = excluded.task, expires = excluded.expires, result = excluded.result`
	findResult     = "SELECT result, task, expires FROM results WHERE namespace = ? AND kind = ? AND key = ? AND expires > ?"
	expiredResults = "DELETE FROM results WHERE rowid IN (SELECT rowid FROM results WHERE expires <= ? ORDER BY expires LIMIT ?)"
)

// keep keeps the result of k for others, in place of an older one.
func (t *tx) keep(ctx context.Context, k *task.Task) error {
	_, err := t.conn.exec(ctx, keepResult, k.Namespace, k.Kind, k.Cache.Key, k.ID[:], k.ResultExpires().UnixMicro(), []byte(k.Result))
	return err
}

// Result implements [task.Store].
func (s *Store) Result(ctx context.Context, namespace, kind, key string, now time.Time) (kept task.Kept, found bool, err error) {
	err = s.read(ctx, "read result", func(c *conn) error {
		found = false
		return c.query(ctx, findResult, []any{namespace, kind, key, now.UnixMicro()}, func(r row) error {
			kept, found = task.Kept{Result: r.blob(0), Of: idOf(r.blob(1)), Expires: codec.Micros(r.int(2))}, true
			return nil
		})
	})
	if err != nil {
		return task.Kept{}, false, err
	}
	return kept, found, nil
}
