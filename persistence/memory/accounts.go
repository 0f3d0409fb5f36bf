package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// accounts is what a store keeps for [access.Accounts].
type accounts struct {
	keys    map[task.ID]access.Key
	tenants map[string]access.Tenant
	audits  map[task.ID]access.Audit
	spent   map[task.ID]time.Time // until when it is remembered
}

func newAccounts() accounts {
	return accounts{
		keys:    map[task.ID]access.Key{},
		tenants: map[string]access.Tenant{},
		audits:  map[task.ID]access.Audit{},
		spent:   map[task.ID]time.Time{},
	}
}

// audited makes a change, if it can be made, and keeps its audit with it.
func (s *Store) audited(ctx context.Context, call string, a access.Audit, f func() error) error {
	if err := a.Check(); err != nil {
		return err
	}
	return s.do(ctx, call, nil, func() error {
		if _, known := s.accounts.audits[a.ID]; known {
			return fmt.Errorf("audit %s: %w", a.ID, task.ErrExists)
		}
		if err := f(); err != nil {
			return err
		}
		a.At = micro(a.At)
		s.accounts.audits[a.ID] = a
		return nil
	})
}

// PutKey implements [access.Accounts].
func (s *Store) PutKey(ctx context.Context, k access.Key, a access.Audit) error {
	if err := k.Check(); err != nil {
		return err
	}
	return s.audited(ctx, "PutKey", a, func() error {
		for _, old := range s.accounts.keys {
			if old.ID == k.ID || old.Hash == k.Hash {
				return fmt.Errorf("put key %s: %w", k.ID, task.ErrExists)
			}
		}
		for _, at := range []*time.Time{&k.Created, &k.Expires, &k.Used, &k.Revoked} {
			*at = micro(*at)
		}
		s.accounts.keys[k.ID] = ownKey(k)
		return nil
	})
}

// ownKey is k as it may be handed over.
func ownKey(k access.Key) access.Key {
	k.Scopes = slices.Clone(k.Scopes)
	return k
}

// KeyByHash implements [access.Accounts].
func (s *Store) KeyByHash(ctx context.Context, hash [32]byte) (access.Key, error) {
	var found access.Key
	err := s.do(ctx, "KeyByHash", nil, func() error {
		for _, k := range s.accounts.keys {
			if k.Hash == hash {
				found = ownKey(k)
				return nil
			}
		}
		return task.ErrNotFound
	})
	return found, err
}

// Keys implements [access.Accounts].
func (s *Store) Keys(ctx context.Context, f access.KeyFilter) ([]access.Key, error) {
	var page []access.Key
	err := s.do(ctx, "Keys", nil, func() error {
		for _, k := range s.accounts.keys {
			if (f.Namespace == "" || k.Namespace == f.Namespace) && (len(f.IDs) == 0 || slices.Contains(f.IDs, k.ID)) && older(k.ID, f.Before) {
				page = append(page, ownKey(k))
			}
		}
		return nil
	})
	return newest(page, f.Limit, func(k access.Key) task.ID { return k.ID }), err
}

// older says whether an id is on a page before which another stands; zero: none.
func older(id, before task.ID) bool { return before.IsZero() || bytes.Compare(id[:], before[:]) < 0 }

// newest is the page that the newest of all make.
func newest[T any](all []T, limit int, id func(T) task.ID) []T {
	slices.SortFunc(all, func(a, b T) int {
		x, y := id(a), id(b)
		return bytes.Compare(y[:], x[:])
	})
	return all[:min(len(all), access.Page(limit))]
}

// ChangeKey implements [access.Accounts].
func (s *Store) ChangeKey(ctx context.Context, namespace string, id task.ID, c access.KeyChange, a access.Audit) (access.Key, error) {
	var changed access.Key
	err := s.audited(ctx, "ChangeKey", a, func() (err error) {
		old, ok := s.accounts.keys[id]
		if !ok || old.Namespace != namespace {
			return task.ErrNotFound
		}
		if changed, err = c.Of(old); err != nil {
			return err
		}
		s.accounts.keys[id] = changed
		changed = ownKey(changed)
		return nil
	})
	if err != nil {
		return access.Key{}, err
	}
	return changed, nil
}

// TouchKeys implements [access.Accounts].
func (s *Store) TouchKeys(ctx context.Context, used map[task.ID]time.Time) error {
	return s.do(ctx, "TouchKeys", nil, func() error {
		for id, at := range used {
			if k, ok := s.accounts.keys[id]; ok && micro(at).After(k.Used) {
				k.Used = micro(at)
				s.accounts.keys[id] = k
			}
		}
		return nil
	})
}

// SetTenant implements [access.Accounts].
func (s *Store) SetTenant(ctx context.Context, t access.Tenant, a access.Audit) error {
	if err := t.Check(); err != nil {
		return err
	}
	return s.audited(ctx, "SetTenant", a, func() error {
		s.change(task.NamespaceLimit(t.Namespace), task.CeilingOf(t.Running), task.Rate{})
		s.accounts.tenants[t.Namespace] = t
		return nil
	})
}

// Tenants implements [access.Accounts].
func (s *Store) Tenants(ctx context.Context) ([]access.Tenant, error) {
	var all []access.Tenant
	err := s.do(ctx, "Tenants", nil, func() error {
		all = slices.Collect(maps.Values(s.accounts.tenants))
		return nil
	})
	slices.SortFunc(all, func(a, b access.Tenant) int { return cmp.Compare(a.Namespace, b.Namespace) })
	return all, err
}

// Spend implements [access.Accounts].
func (s *Store) Spend(ctx context.Context, id task.ID, expires time.Time) (first bool, err error) {
	if err := access.CheckSpent(id, expires); err != nil {
		return false, err
	}
	err = s.do(ctx, "Spend", nil, func() error {
		if _, spent := s.accounts.spent[id]; !spent {
			first = true
			s.accounts.spent[id] = micro(expires)
		}
		return nil
	})
	return first && err == nil, err
}

// AddAudit implements [access.Accounts].
func (s *Store) AddAudit(ctx context.Context, a access.Audit) error {
	return s.audited(ctx, "AddAudit", a, func() error { return nil })
}

// Audits implements [access.Accounts].
func (s *Store) Audits(ctx context.Context, namespace string, before task.ID, limit int) ([]access.Audit, error) {
	var page []access.Audit
	err := s.do(ctx, "Audits", nil, func() error {
		for _, a := range s.accounts.audits {
			if a.Namespace == namespace && older(a.ID, before) {
				page = append(page, a)
			}
		}
		return nil
	})
	return newest(page, limit, func(a access.Audit) task.ID { return a.ID }), err
}

// sweep forgets up to limit of each of what is long over.
func (s *accounts) sweep(now time.Time, limit int) {
	upTo := func() func(over bool) bool {
		n := 0
		return func(over bool) bool {
			if over = over && n < limit; over {
				n++
			}
			return over
		}
	}
	spent, audits, keys := upTo(), upTo(), upTo()
	maps.DeleteFunc(s.spent, func(_ task.ID, expires time.Time) bool { return spent(!expires.After(now)) })
	maps.DeleteFunc(s.audits, func(_ task.ID, a access.Audit) bool { return audits(a.At.Before(now.Add(-access.KeepAudits))) })
	maps.DeleteFunc(s.keys, func(_ task.ID, k access.Key) bool {
		return keys(!k.Guards() && !k.Ended().IsZero() && k.Ended().Before(now.Add(-access.KeepEndedKeys)))
	})
}
