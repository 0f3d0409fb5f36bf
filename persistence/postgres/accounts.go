package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Of two who write the same at once the second waits for the first, and finds it
// there. Conditions on a parameter that is empty are gone from the plan, as each
// statement is planned with its parameters.
const (
	insertAccessKey = `INSERT INTO troupe.api_keys (id, namespace, name, hint, hash, scopes, created, expires, used, revoked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8::bigint, 0), nullif($9::bigint, 0), nullif($10::bigint, 0))
		ON CONFLICT DO NOTHING RETURNING 1`
	changeAccessKey = "UPDATE troupe.api_keys SET name = $2, expires = nullif($3::bigint, 0), revoked = nullif($4::bigint, 0) WHERE id = $1"
	// touchAccessKeys locks the rows in order, as do all who touch several.
	touchAccessKeys = `UPDATE troupe.api_keys k SET used = u.at FROM (SELECT k.id, u.at
			FROM unnest($1::uuid[], $2::bigint[]) AS u(id, at) JOIN troupe.api_keys k ON k.id = u.id ORDER BY k.id FOR UPDATE OF k) u
		WHERE k.id = u.id AND coalesce(k.used, 0) < u.at`
	accessKeyRows = `SELECT id, namespace, name, hint, hash, scopes, created, coalesce(expires, 0), coalesce(used, 0), coalesce(revoked, 0)
		FROM troupe.api_keys `
	accessKeyOfHash   = accessKeyRows + "WHERE hash = $1"
	accessKeyToChange = accessKeyRows + "WHERE id = $1 AND namespace = $2 FOR UPDATE"
	accessKeysOf      = accessKeyRows + `WHERE ($1 = '' OR namespace = $1) AND ($2::uuid[] IS NULL OR id = ANY($2))
		AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4`
	endedAccessKeys = `DELETE FROM troupe.api_keys WHERE id IN (SELECT id FROM troupe.api_keys
		WHERE least(revoked, expires) < $1 AND NOT (namespace = '` + access.Operator + `' AND scopes LIKE '%` + string(access.Admin) + `%') ORDER BY least(revoked, expires) LIMIT $2 FOR UPDATE SKIP LOCKED)`

	setTenant = `INSERT INTO troupe.tenants (namespace, weight, queued, running, bytes, connections, events) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (namespace) DO UPDATE SET weight = excluded.weight, queued = excluded.queued, running = excluded.running,
			bytes = excluded.bytes, connections = excluded.connections, events = excluded.events`
	allTenants = "SELECT namespace, weight, queued, running, bytes, connections, events FROM troupe.tenants ORDER BY namespace"

	spend     = "INSERT INTO troupe.spent (id, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1"
	spentLong = `DELETE FROM troupe.spent WHERE id IN (SELECT id FROM troupe.spent WHERE expires <= $1 ORDER BY expires LIMIT $2
		FOR UPDATE SKIP LOCKED) RETURNING 1`
	insertAct = `INSERT INTO troupe.audits (id, at, namespace, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT DO NOTHING RETURNING 1`
	auditsOf = `SELECT id, at, namespace, actor, action, target, detail FROM troupe.audits
		WHERE namespace = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`
	auditsPast = `DELETE FROM troupe.audits WHERE id IN (SELECT id FROM troupe.audits WHERE at < $1 ORDER BY at LIMIT $2
		FOR UPDATE SKIP LOCKED)`
)

// audited makes a change, if it can be made, and keeps its audit with it.
func (s *Store) audited(ctx context.Context, what string, a access.Audit, f func(context.Context, *tx) error) error {
	if err := a.Check(); err != nil {
		return err
	}
	return s.write(ctx, what, func(within context.Context, t *tx) error {
		if err := f(within, t); err != nil {
			return err
		}
		made, err := t.inserts(within, insertAct, uuid(a.ID), a.At.UnixMicro(), a.Namespace, a.Actor, a.Action, a.Target, a.Detail)
		if err == nil && !made {
			err = fmt.Errorf("audit %s: %w", a.ID, task.ErrExists)
		}
		return err
	})
}

// inserts says whether an insertion made a row.
func (t *tx) inserts(ctx context.Context, text string, args ...any) (made bool, err error) {
	err = t.query(ctx, text, args, func(pgx.Rows) error {
		made = true
		return nil
	})
	return made, err
}

// PutKey implements [access.Accounts].
func (s *Store) PutKey(ctx context.Context, k access.Key, a access.Audit) error {
	if err := k.Check(); err != nil {
		return err
	}
	return s.audited(ctx, "put key", a, func(within context.Context, t *tx) error {
		made, err := t.inserts(within, insertAccessKey, uuid(k.ID), k.Namespace, k.Name, k.Hint, k.Hash[:], access.JoinScopes(k.Scopes),
			k.Created.UnixMicro(), codec.MicrosOrNone(k.Expires), codec.MicrosOrNone(k.Used), codec.MicrosOrNone(k.Revoked))
		if err == nil && !made {
			err = fmt.Errorf("key %s: %w", k.ID, task.ErrExists)
		}
		return err
	})
}

// accessKeys reads the keys that a query over their rows gives.
func (t *tx) accessKeys(ctx context.Context, query string, args ...any) (keys []access.Key, err error) {
	err = t.query(ctx, query, args, func(r pgx.Rows) error {
		var k access.Key
		var id pgtype.UUID
		var hash []byte
		var scopes string
		var created, expires, used, revoked int64
		err := r.Scan(&id, &k.Namespace, &k.Name, &k.Hint, &hash, &scopes, &created, &expires, &used, &revoked)
		k.ID, k.Scopes = id.Bytes, access.SplitScopes(scopes)
		copy(k.Hash[:], hash)
		k.Created, k.Expires, k.Used, k.Revoked = codec.Micros(created), codec.OrNone(expires), codec.OrNone(used), codec.OrNone(revoked)
		keys = append(keys, k)
		return err
	})
	return keys, err
}

// oneAccessKey is accessKeys where there is one at most.
func (t *tx) oneAccessKey(ctx context.Context, query string, args ...any) (access.Key, error) {
	keys, err := t.accessKeys(ctx, query, args...)
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
	err = s.read(ctx, "find key", func(within context.Context, t *tx) (err error) {
		k, err = t.oneAccessKey(within, accessKeyOfHash, hash[:])
		return err
	})
	return k, err
}

// Keys implements [access.Accounts].
func (s *Store) Keys(ctx context.Context, f access.KeyFilter) (page []access.Key, err error) {
	var among []pgtype.UUID
	if len(f.IDs) > 0 {
		among = uuids(f.IDs)
	}
	err = s.read(ctx, "list keys", func(within context.Context, t *tx) (err error) {
		page, err = t.accessKeys(within, accessKeysOf, f.Namespace, among, uuid(f.Before), access.Page(f.Limit))
		return err
	})
	return page, err
}

// ChangeKey implements [access.Accounts].
func (s *Store) ChangeKey(ctx context.Context, namespace string, id task.ID, c access.KeyChange, a access.Audit) (k access.Key, err error) {
	err = s.audited(ctx, "change key", a, func(within context.Context, t *tx) error {
		old, err := t.oneAccessKey(within, accessKeyToChange, uuid(id), namespace)
		if err != nil {
			return err
		}
		if k, err = c.Of(old); err != nil {
			return err
		}
		return t.exec(within, changeAccessKey, uuid(id), k.Name, codec.MicrosOrNone(k.Expires), codec.MicrosOrNone(k.Revoked))
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
	ids, times := make([]pgtype.UUID, 0, len(used)), make([]int64, 0, len(used))
	for id, at := range used {
		ids, times = append(ids, uuid(id)), append(times, codec.MicrosOrNone(at))
	}
	return s.write(ctx, "touch keys", func(within context.Context, t *tx) error { return t.exec(within, touchAccessKeys, ids, times) })
}

// SetTenant implements [access.Accounts].
func (s *Store) SetTenant(ctx context.Context, n access.Tenant, a access.Audit) error {
	if err := n.Check(); err != nil {
		return err
	}
	return s.audited(ctx, "set tenant", a, func(within context.Context, t *tx) error {
		limit := task.NamespaceLimit(n.Namespace)
		if err := t.lockLimits(within, []task.LimitName{limit}); err != nil {
			return err
		}
		b := t.batch()
		b.Queue(setTenant, n.Namespace, n.Weight, n.Queued, n.Running, n.Bytes, n.Connections, n.Events)
		t.change(b, limit, task.CeilingOf(n.Running), task.Rate{})
		return t.send(within, b)
	})
}

// Tenants implements [access.Accounts].
func (s *Store) Tenants(ctx context.Context) (all []access.Tenant, err error) {
	err = s.read(ctx, "list tenants", func(within context.Context, t *tx) error {
		all = nil
		return t.query(within, allTenants, nil, func(r pgx.Rows) error {
			var n access.Tenant
			err := r.Scan(&n.Namespace, &n.Weight, &n.Queued, &n.Running, &n.Bytes, &n.Connections, &n.Events)
			all = append(all, n)
			return err
		})
	})
	return all, err
}

// Spend implements [access.Accounts].
func (s *Store) Spend(ctx context.Context, id task.ID, expires time.Time) (first bool, err error) {
	if err := access.CheckSpent(id, expires); err != nil {
		return false, err
	}
	err = s.write(ctx, "spend", func(within context.Context, t *tx) (err error) {
		first, err = t.inserts(within, spend, uuid(id), expires.UnixMicro())
		return err
	})
	return first && err == nil, err
}

// AddAudit implements [access.Accounts].
func (s *Store) AddAudit(ctx context.Context, a access.Audit) error {
	return s.audited(ctx, "add audit", a, func(context.Context, *tx) error { return nil })
}

// Audits implements [access.Accounts].
func (s *Store) Audits(ctx context.Context, namespace string, before task.ID, limit int) (page []access.Audit, err error) {
	err = s.read(ctx, "list audits", func(within context.Context, t *tx) error {
		page = nil
		return t.query(within, auditsOf, []any{namespace, uuid(before), access.Page(limit)}, func(r pgx.Rows) error {
			var a access.Audit
			var id pgtype.UUID
			var at int64
			err := r.Scan(&id, &at, &a.Namespace, &a.Actor, &a.Action, &a.Target, &a.Detail)
			a.ID, a.At = id.Bytes, codec.Micros(at)
			page = append(page, a)
			return err
		})
	})
	return page, err
}
