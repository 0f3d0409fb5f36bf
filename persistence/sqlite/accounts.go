package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	insertAccessKey = `INSERT INTO api_keys (id, namespace, name, hint, hash, scopes, created, expires, used, revoked)
		VALUES (?, ?, ?, ?, ?, ?, ?, nullif(?, 0), nullif(?, 0), nullif(?, 0)) ON CONFLICT DO NOTHING`
	changeAccessKey   = "UPDATE api_keys SET name = ?2, expires = nullif(?3, 0), revoked = nullif(?4, 0) WHERE id = ?1"
	touchAccessKey    = "UPDATE api_keys SET used = ?2 WHERE id = ?1 AND ifnull(used, 0) < ?2"
	accessKeyRows     = "SELECT id, namespace, name, hint, hash, scopes, created, expires, used, revoked FROM api_keys "
	accessKeyOfHash   = accessKeyRows + "WHERE hash = ?"
	accessKeyOfID     = accessKeyRows + "WHERE id = ?1 AND (?2 = '' OR namespace = ?2)"
	accessKeyToChange = accessKeyRows + "WHERE id = ? AND namespace = ?"
	accessKeysOf      = accessKeyRows + "WHERE namespace = ? AND id < ? ORDER BY id DESC LIMIT ?"
	accessKeysOfAll   = accessKeyRows + "WHERE id < ? ORDER BY id DESC LIMIT ?"
	endedAccessKeys   = `DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys
		WHERE coalesce(min(revoked, expires), revoked, expires) < ? AND NOT (namespace = '` + access.Operator + `' AND scopes LIKE '%` + string(access.Admin) + `%') ORDER BY coalesce(min(revoked, expires), revoked, expires) LIMIT ?)`

	setTenant = `INSERT INTO tenants (namespace, weight, queued, running, bytes, connections, events) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET weight = excluded.weight, queued = excluded.queued, running = excluded.running, bytes = excluded.bytes,
			connections = excluded.connections, events = excluded.events`
	allTenants = "SELECT namespace, weight, queued, running, bytes, connections, events FROM tenants ORDER BY namespace"

	spend      = "INSERT INTO spent (id, expires) VALUES (?, ?) ON CONFLICT DO NOTHING"
	spentLong  = "DELETE FROM spent WHERE id IN (SELECT id FROM spent WHERE expires <= ? ORDER BY expires LIMIT ?)"
	insertAct  = "INSERT INTO audits (id, at, namespace, actor, action, target, detail) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
	auditsOf   = "SELECT id, at, namespace, actor, action, target, detail FROM audits WHERE namespace = ? AND id < ? ORDER BY id DESC LIMIT ?"
	auditsPast = "DELETE FROM audits WHERE rowid IN (SELECT rowid FROM audits WHERE at < ? ORDER BY at LIMIT ?)"
)

// audited makes a change, if it can be made, and keeps its audit with it.
func (s *Store) audited(ctx context.Context, what string, a access.Audit, f func(context.Context, *tx) error) error {
	if err := a.Check(); err != nil {
		return err
	}
	within := context.WithoutCancel(ctx)
	return s.write(ctx, what, func(t *tx) error {
		if err := f(within, t); err != nil {
			return err
		}
		n, err := t.conn.exec(within, insertAct, a.ID[:], a.At.UnixMicro(), a.Namespace, a.Actor, a.Action, a.Target, a.Detail)
		if err == nil && n == 0 {
			err = fmt.Errorf("audit %s: %w", a.ID, task.ErrExists)
		}
		return err
	})
}

// PutKey implements [access.Accounts].
func (s *Store) PutKey(ctx context.Context, k access.Key, a access.Audit) error {
	if err := k.Check(); err != nil {
		return err
	}
	return s.audited(ctx, "put key", a, func(ctx context.Context, t *tx) error {
		n, err := t.conn.exec(ctx, insertAccessKey, k.ID[:], k.Namespace, k.Name, k.Hint, k.Hash[:], access.JoinScopes(k.Scopes),
			k.Created.UnixMicro(), codec.MicrosOrNone(k.Expires), codec.MicrosOrNone(k.Used), codec.MicrosOrNone(k.Revoked))
		if err == nil && n == 0 {
			err = fmt.Errorf("key %s: %w", k.ID, task.ErrExists)
		}
		return err
	})
}

func accessKey(r row) access.Key {
	k := access.Key{
		ID: idOf(r.blob(0)), Namespace: r.text(1), Name: r.text(2), Hint: r.text(3), Scopes: access.SplitScopes(r.text(5)),
		Created: codec.Micros(r.int(6)), Expires: codec.OrNone(r.int(7)), Used: codec.OrNone(r.int(8)), Revoked: codec.OrNone(r.int(9)),
	}
	copy(k.Hash[:], r.blob(4))
	return k
}

// accessKeys reads the keys that a query over their rows gives.
func (c *conn) accessKeys(ctx context.Context, query string, args ...any) (keys []access.Key, err error) {
	err = c.query(ctx, query, args, func(r row) error {
		keys = append(keys, accessKey(r))
		return nil
	})
	return keys, err
}

// oneAccessKey is accessKeys where there is one at most.
func (c *conn) oneAccessKey(ctx context.Context, query string, args ...any) (access.Key, error) {
	keys, err := c.accessKeys(ctx, query, args...)
	if err == nil && len(keys) == 0 {
		err = task.ErrNotFound
	}
	if err != nil {
		return access.Key{}, err
	}
	return keys[0], nil
}

// KeyByHash implements [access.Accounts].
func (s *Store) KeyByHash(ctx context.Context, hash [32]byte) (k access.Key, err error) {
	err = s.read(ctx, "find key", func(c *conn) (err error) {
		k, err = c.oneAccessKey(ctx, accessKeyOfHash, hash[:])
		return err
	})
	return k, err
}

// behindAll is greater than any id.
var behindAll = bytes.Repeat([]byte{0xff}, len(task.ID{})+1)

// before is where a page begins.
func before(id task.ID) []byte {
	if id.IsZero() {
		return behindAll
	}
	return id[:]
}

// Keys implements [access.Accounts].
func (s *Store) Keys(ctx context.Context, f access.KeyFilter) (page []access.Key, err error) {
	limit := access.Page(f.Limit)
	err = s.read(ctx, "list keys", func(c *conn) (err error) {
		switch {
		case len(f.IDs) > 0:
			page, err = c.accessKeysAmong(ctx, f, limit)
		case f.Namespace != "":
			page, err = c.accessKeys(ctx, accessKeysOf, f.Namespace, before(f.Before), int64(limit))
		default:
			page, err = c.accessKeys(ctx, accessKeysOfAll, before(f.Before), int64(limit))
		}
		return err
	})
	return page, err
}

// accessKeysAmong looks each of a filter's ids up, the newest first.
func (c *conn) accessKeysAmong(ctx context.Context, f access.KeyFilter, limit int) (page []access.Key, err error) {
	ids := slices.Clone(f.IDs)
	slices.SortFunc(ids, func(a, b task.ID) int { return bytes.Compare(b[:], a[:]) })
	for _, id := range slices.Compact(ids) {
		if len(page) == limit {
			break
		}
		if bytes.Compare(id[:], before(f.Before)) >= 0 {
			continue
		}
		found, err := c.accessKeys(ctx, accessKeyOfID, id[:], f.Namespace)
		if err != nil {
			return nil, err
		}
		page = append(page, found...)
	}
	return page, nil
}

// ChangeKey implements [access.Accounts].
func (s *Store) ChangeKey(ctx context.Context, namespace string, id task.ID, c access.KeyChange, a access.Audit) (access.Key, error) {
	var k access.Key
	err := s.audited(ctx, "change key", a, func(ctx context.Context, t *tx) error {
		old, err := t.conn.oneAccessKey(ctx, accessKeyToChange, id[:], namespace)
		if err != nil {
			return err
		}
		if k, err = c.Of(old); err != nil {
			return err
		}
		_, err = t.conn.exec(ctx, changeAccessKey, id[:], k.Name, codec.MicrosOrNone(k.Expires), codec.MicrosOrNone(k.Revoked))
		return err
	})
	if err != nil {
		return access.Key{}, err
	}
	return k, nil
}

// TouchKeys implements [access.Accounts].
func (s *Store) TouchKeys(ctx context.Context, used map[task.ID]time.Time) error {
	if len(used) == 0 {
		return nil
	}
	return s.write(ctx, "touch keys", func(t *tx) error {
		for id, at := range used {
			if _, err := t.conn.exec(context.WithoutCancel(ctx), touchAccessKey, id[:], codec.MicrosOrNone(at)); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetTenant implements [access.Accounts].
func (s *Store) SetTenant(ctx context.Context, n access.Tenant, a access.Audit) error {
	if err := n.Check(); err != nil {
		return err
	}
	return s.audited(ctx, "set tenant", a, func(ctx context.Context, t *tx) error {
		if _, err := t.conn.exec(ctx, setTenant, n.Namespace, n.Weight, int64(n.Queued), int64(n.Running), n.Bytes, int64(n.Connections), int64(n.Events)); err != nil {
			return err
		}
		return t.change(ctx, task.NamespaceLimit(n.Namespace), task.CeilingOf(n.Running), task.Rate{})
	})
}

// Tenants implements [access.Accounts].
func (s *Store) Tenants(ctx context.Context) (all []access.Tenant, err error) {
	err = s.read(ctx, "list tenants", func(c *conn) error {
		return c.query(ctx, allTenants, nil, func(r row) error {
			all = append(all, access.Tenant{
				Namespace: r.text(0), Weight: r.float(1), Queued: int(r.int(2)), Running: int(r.int(3)), Bytes: r.int(4),
				Connections: int(r.int(5)), Events: int(r.int(6)),
			})
			return nil
		})
	})
	return all, err
}

// Spend implements [access.Accounts].
func (s *Store) Spend(ctx context.Context, id task.ID, expires time.Time) (first bool, err error) {
	if err := access.CheckSpent(id, expires); err != nil {
		return false, err
	}
	err = s.write(ctx, "spend", func(t *tx) error {
		n, err := t.conn.exec(context.WithoutCancel(ctx), spend, id[:], expires.UnixMicro())
		first = n > 0
		return err
	})
	return first && err == nil, err
}

// AddAudit implements [access.Accounts].
func (s *Store) AddAudit(ctx context.Context, a access.Audit) error {
	return s.audited(ctx, "add audit", a, func(context.Context, *tx) error { return nil })
}

// Audits implements [access.Accounts].
func (s *Store) Audits(ctx context.Context, namespace string, from task.ID, limit int) (page []access.Audit, err error) {
	err = s.read(ctx, "list audits", func(c *conn) error {
		return c.query(ctx, auditsOf, []any{namespace, before(from), int64(access.Page(limit))}, func(r row) error {
			page = append(page, access.Audit{
				ID: idOf(r.blob(0)), At: codec.Micros(r.int(1)), Namespace: r.text(2), Actor: r.text(3), Action: r.text(4),
				Target: r.text(5), Detail: r.text(6),
			})
			return nil
		})
	})
	return page, err
}

// forgetAccounts drops up to limit of each of what nobody looks back to any more.
func (t *tx) forgetAccounts(ctx context.Context, now time.Time, limit int) error {
	if _, err := t.conn.exec(ctx, endedAccessKeys, now.Add(-access.KeepEndedKeys).UnixMicro(), int64(limit)); err != nil {
		return err
	}
	_, err := t.conn.exec(ctx, auditsPast, now.Add(-access.KeepAudits).UnixMicro(), int64(limit))
	return err
}
