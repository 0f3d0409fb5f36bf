package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Accounts: who may do what, and what was done about it.

func (s *suite) accounts() access.Accounts {
	s.Helper()
	a, ok := s.store.(access.Accounts)
	if !ok {
		s.Fatalf("%T keeps no accounts", s.store)
	}
	return a
}

// key is a key with something in every field that a new one has.
func (s *suite) key(change ...func(*access.Key)) access.Key {
	s.made++
	k := access.Key{
		ID: id(s.made), Namespace: "acme", Name: fmt.Sprintf("key %d — ü", s.made), Hint: "trp_ab", Hash: hash(s.made),
		Scopes: []access.Scope{access.TasksWrite, access.TasksRead}, Created: epoch, Expires: epoch.Add(time.Hour),
	}
	for _, f := range change {
		f(&k)
	}
	return k
}

func hash(n int) [32]byte {
	i := id(n)
	return [32]byte{0: 0xff, 1: i[14], 30: i[15]}
}

// act is an act that has not been.
func (s *suite) act(action string, change ...func(*access.Audit)) access.Audit {
	s.made++
	a := access.Audit{
		ID: id(s.made), At: epoch, Namespace: "acme", Actor: "key:1", Action: action, Target: "it", Detail: `{"name": "ü"}`,
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

func (s *suite) putKey(change ...func(*access.Key)) access.Key {
	s.Helper()
	k := s.key(change...)
	if err := s.accounts().PutKey(s.ctx, k, s.act("key.create")); err != nil {
		s.Fatal(err)
	}
	return k
}

func (s *suite) changeKey(k access.Key, c access.KeyChange) access.Key {
	s.Helper()
	changed, err := s.accounts().ChangeKey(s.ctx, k.Namespace, k.ID, c, s.act("key.change"))
	if err != nil {
		s.Fatal(err)
	}
	return changed
}

// kept says that a key is as it should be.
func (s *suite) kept(want access.Key) {
	s.Helper()
	got, err := s.accounts().KeyByHash(s.ctx, want.Hash)
	if err != nil {
		s.Fatal(err)
	}
	s.same(got, want)
}

// keys reads a whole list of keys in pages.
func (s *suite) keys(f access.KeyFilter) []access.Key {
	s.Helper()
	var all []access.Key
	for {
		page, err := s.accounts().Keys(s.ctx, f)
		if err != nil {
			s.Fatal(err)
		}
		if len(page) > access.Page(f.Limit) {
			s.Fatalf("a page of %d, asked for %d", len(page), f.Limit)
		}
		all = append(all, page...)
		if len(page) < access.Page(f.Limit) {
			return all
		}
		f.Before = page[len(page)-1].ID
	}
}

// audits reads a whole list of acts in pages.
func (s *suite) audits(namespace string, limit int) []access.Audit {
	s.Helper()
	var all []access.Audit
	var before task.ID
	for {
		page, err := s.accounts().Audits(s.ctx, namespace, before, limit)
		if err != nil {
			s.Fatal(err)
		}
		if len(page) > access.Page(limit) {
			s.Fatalf("a page of %d, asked for %d", len(page), limit)
		}
		all = append(all, page...)
		if len(page) < access.Page(limit) {
			return all
		}
		before = page[len(page)-1].ID
	}
}

func (s *suite) addAudit(a access.Audit) {
	s.Helper()
	if err := s.accounts().AddAudit(s.ctx, a); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) want(err, why error) {
	s.Helper()
	if !errors.Is(err, why) {
		s.Errorf("%v, want %v", err, why)
	}
}

func (s *suite) spend(n int, expires time.Time, want bool) {
	s.Helper()
	if first, err := s.accounts().Spend(s.ctx, id(n), expires); err != nil || first != want {
		s.Errorf("spending %d: %v, %v; want %v", n, first, err, want)
	}
}

var accountRules = []rule{
	{"KeyIsFoundByItsHashInAnyNamespace", func(s *suite) {
		one := s.putKey()
		never := s.putKey(func(k *access.Key) {
			k.Namespace, k.Expires, k.Scopes, k.Name, k.Hint = "other", time.Time{}, nil, "", ""
		})
		all := s.putKey(func(k *access.Key) {
			k.Scopes, k.Used, k.Revoked = access.Scopes(), epoch.Add(time.Minute), epoch.Add(2*time.Minute)
		})
		fine := s.putKey(func(k *access.Key) {
			k.Created, k.Expires = epoch.Add(999), epoch.In(time.FixedZone("", 3600)).Add(999)
		})
		fine.Created, fine.Expires = epoch, epoch
		s.reopen()
		for _, k := range []access.Key{one, never, all, fine} {
			s.kept(k)
		}
		_, err := s.accounts().KeyByHash(s.ctx, hash(1000))
		s.want(err, task.ErrNotFound)
	}},
	{"KeyIsPutOnce", func(s *suite) {
		one := s.putKey()
		for _, again := range []access.Key{
			one,
			s.key(func(k *access.Key) { k.ID, k.Namespace = one.ID, "other" }),
			s.key(func(k *access.Key) { k.Hash, k.Namespace = one.Hash, "other" }),
		} {
			s.want(s.accounts().PutKey(s.ctx, again, s.act("key.create")), task.ErrExists)
		}
		s.kept(one)
		s.same(s.keys(access.KeyFilter{}), []access.Key{one})
		s.same(len(s.audits("acme", 0)), 1)
	}},
	{"ChangeIsThereWithItsAuditOrNeitherIs", func(s *suite) {
		one := s.putKey()
		before := s.audits("acme", 0)
		known := before[0]
		s.want(s.accounts().PutKey(s.ctx, s.key(), known), task.ErrExists)
		_, err := s.accounts().ChangeKey(s.ctx, "acme", one.ID, access.KeyChange{Name: new("new")}, known)
		s.want(err, task.ErrExists)
		s.want(s.accounts().SetTenant(s.ctx, access.Tenant{Namespace: "acme", Queued: 1}, known), task.ErrExists)
		s.want(s.accounts().AddAudit(s.ctx, known), task.ErrExists)
		_, err = s.accounts().ChangeKey(s.ctx, "acme", id(1000), access.KeyChange{}, s.act("key.change"))
		s.want(err, task.ErrNotFound)
		_, err = s.accounts().ChangeKey(s.ctx, "acme", one.ID, access.KeyChange{Expires: new(epoch.Add(2 * time.Hour))}, s.act("key.change"))
		s.want(err, task.ErrInvalid)
		s.reopen()
		s.same(s.keys(access.KeyFilter{}), []access.Key{one})
		s.same(s.audits("acme", 0), before)
		tenants, err := s.accounts().Tenants(s.ctx)
		if err != nil || len(tenants) != 0 {
			s.Errorf("%v, %v", tenants, err)
		}
		// With an act of its own each of them is made, and told.
		renamed := s.changeKey(one, access.KeyChange{Name: new("new")})
		if err := s.accounts().SetTenant(s.ctx, access.Tenant{Namespace: "acme", Queued: 1}, s.act("tenant.set")); err != nil {
			s.Fatal(err)
		}
		s.reopen()
		one.Name = "new"
		s.same(renamed, one)
		s.kept(one)
		after := s.audits("acme", 0)
		if len(after) != 3 || after[0].Action != "tenant.set" || after[1].Action != "key.change" {
			s.Errorf("%+v", after)
		}
	}},
	{"KeyOfAnotherNamespaceIsNoneAtAll", func(s *suite) {
		mine, theirs := s.putKey(), s.putKey(func(k *access.Key) { k.Namespace = "other" })
		for _, namespace := range []string{"acme", "", "oth", "Other"} {
			_, err := s.accounts().ChangeKey(s.ctx, namespace, theirs.ID, access.KeyChange{Revoked: new(epoch)}, s.act("key.revoke"))
			s.want(err, task.ErrNotFound)
		}
		s.kept(theirs)
		s.same(s.keys(access.KeyFilter{Namespace: "acme"}), []access.Key{mine})
		s.same(s.keys(access.KeyFilter{Namespace: "acme", IDs: []task.ID{mine.ID, theirs.ID}}), []access.Key{mine})
		s.same(s.keys(access.KeyFilter{Namespace: "nobody"}), []access.Key(nil))
		s.same(s.keys(access.KeyFilter{}), []access.Key{theirs, mine})
	}},
	{"RevokedKeyStaysRevoked", func(s *suite) {
		k := s.putKey()
		k.Revoked = epoch.Add(time.Minute)
		s.same(s.changeKey(k, access.KeyChange{Revoked: new(k.Revoked.Add(999))}), k)
		for _, c := range []access.KeyChange{{Revoked: new(time.Time{})}, {Revoked: new(epoch)}, {Revoked: new(epoch.Add(time.Hour))}, {}} {
			s.same(s.changeKey(k, c), k)
		}
		s.reopen()
		s.kept(k)
		live := s.putKey()
		s.same(s.changeKey(live, access.KeyChange{Revoked: new(time.Time{})}), live)
	}},
	{"KeyNeverExpiresLater", func(s *suite) {
		k := s.putKey()
		for _, later := range []time.Time{{}, k.Expires.Add(time.Microsecond), k.Expires.Add(1000 * time.Hour)} {
			_, err := s.accounts().ChangeKey(s.ctx, "acme", k.ID, access.KeyChange{Expires: &later}, s.act("key.change"))
			s.want(err, task.ErrInvalid)
		}
		s.kept(k)
		s.same(s.changeKey(k, access.KeyChange{Expires: new(k.Expires.Add(999))}), k)
		k.Expires = epoch.Add(time.Minute)
		s.same(s.changeKey(k, access.KeyChange{Expires: &k.Expires}), k)
		s.kept(k)
		never := s.putKey(func(k *access.Key) { k.Expires = time.Time{} })
		s.same(s.changeKey(never, access.KeyChange{Expires: new(time.Time{})}), never)
		never.Expires = epoch.Add(1000 * time.Hour)
		s.same(s.changeKey(never, access.KeyChange{Expires: &never.Expires}), never)
		s.kept(never)
	}},
	{"UseOfAKeyNeverGoesBack", func(s *suite) {
		one, other := s.putKey(), s.putKey(func(k *access.Key) { k.Namespace, k.Used = "other", epoch })
		touch := func(used map[task.ID]time.Time) {
			s.Helper()
			if err := s.accounts().TouchKeys(s.ctx, used); err != nil {
				s.Fatal(err)
			}
		}
		touch(nil)
		touch(map[task.ID]time.Time{one.ID: epoch.Add(time.Minute + 999), other.ID: epoch.Add(-time.Minute), id(1000): epoch})
		one.Used = epoch.Add(time.Minute)
		s.kept(one)
		s.kept(other)
		touch(map[task.ID]time.Time{one.ID: epoch, other.ID: {}})
		s.reopen()
		s.kept(one)
		s.kept(other)
		_, err := s.accounts().KeyByHash(s.ctx, hash(1000))
		s.want(err, task.ErrNotFound)
	}},
	{"UsesOfKeysByManyAtOnceLeaveTheLatest", func(s *suite) {
		keys := []access.Key{s.putKey(), s.putKey(), s.putKey()}
		var all sync.WaitGroup
		for n := range 12 {
			all.Go(func() {
				for i := range 5 {
					used := map[task.ID]time.Time{}
					for _, k := range keys {
						used[k.ID] = epoch.Add(time.Duration(100*i+n) * time.Second)
					}
					if err := s.accounts().TouchKeys(s.ctx, used); err != nil {
						s.Error(err)
					}
				}
			})
		}
		all.Wait()
		for _, k := range keys {
			k.Used = epoch.Add(411 * time.Second)
			s.kept(k)
		}
	}},
	{"TenantIsAsItWasSetLast", func(s *suite) {
		set := func(t access.Tenant) access.Tenant {
			s.Helper()
			if err := s.accounts().SetTenant(s.ctx, t, s.act("tenant.set")); err != nil {
				s.Fatal(err)
			}
			return t
		}
		set(access.Tenant{Namespace: "b", Weight: 2, Queued: 9, Running: 9, Bytes: 9, Connections: 9, Events: 9})
		b := set(access.Tenant{Namespace: "b", Weight: 0.1, Queued: 1, Running: 2, Bytes: 1 << 50, Connections: 4, Events: 5})
		c := set(access.Tenant{Namespace: "C"})
		d := set(access.Tenant{Namespace: "a"})
		s.reopen()
		got, err := s.accounts().Tenants(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		s.same(got, []access.Tenant{c, d, b})
	}},
	{"IDIsSpentOnce", func(s *suite) {
		const callers = 50
		var firsts atomic.Int64
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				first, err := s.accounts().Spend(s.ctx, id(1), epoch.Add(time.Minute))
				if err != nil {
					s.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		s.same(firsts.Load(), int64(1))
		s.reopen()
		s.spend(1, epoch.Add(time.Hour), false)
		s.spend(2, epoch.Add(2*time.Minute), true)
		s.swept(task.Retention{Now: epoch.Add(time.Minute - time.Microsecond)}, 10, 0)
		s.spend(1, epoch.Add(time.Minute), false)
		s.swept(task.Retention{Now: epoch.Add(time.Minute)}, 10, 0)
		s.spend(1, epoch.Add(time.Minute), true)
		s.spend(2, epoch.Add(time.Minute), false)
	}},
	{"ListsOfAccountsAreNewestFirstInPages", func(s *suite) {
		var keys []access.Key
		var acts []access.Audit
		s.addAudit(s.act("pool.set", func(a *access.Audit) { a.Namespace = "other" }))
		for range 7 {
			k := s.key()
			a := s.act("key.create", func(a *access.Audit) { a.At, a.Actor, a.Target = epoch.Add(time.Hour), "open", k.ID.String() })
			if err := s.accounts().PutKey(s.ctx, k, a); err != nil {
				s.Fatal(err)
			}
			keys, acts = append(keys, k), append(acts, a)
		}
		s.putKey(func(k *access.Key) { k.Namespace = "other" })
		acts = append(acts, s.audits("acme", 1)[0])
		fine := s.act("queue.set", func(a *access.Audit) { a.At, a.Detail = epoch.Add(999), "" })
		s.addAudit(fine)
		fine.At = epoch
		acts = append(acts, fine)
		s.reopen()
		among := access.KeyFilter{Namespace: "acme", IDs: []task.ID{keys[5].ID, keys[1].ID, id(1000), keys[3].ID, keys[5].ID}}
		for _, limit := range []int{0, 1, 2, 3, 7, 1000, 5000} {
			s.same(s.keys(access.KeyFilter{Namespace: "acme", Limit: limit}), reversed(keys))
			s.same(s.audits("acme", limit), reversed(acts))
			among.Limit = limit
			s.same(s.keys(among), []access.Key{keys[5], keys[3], keys[1]})
		}
		s.same(s.audits("nobody", 10), []access.Audit(nil))
		s.same(s.audits("", 10), []access.Audit(nil))
		s.same(len(s.audits("other", 10)), 1)
	}},
	{"PageOfAccountsHoldsAThousand", func(s *suite) {
		var all sync.WaitGroup
		for n := range 4 {
			var own []access.Audit
			for range 260 {
				own = append(own, s.act("test", func(a *access.Audit) { a.Detail = strconv.Itoa(n) }))
			}
			all.Go(func() {
				for _, a := range own {
					if err := s.accounts().AddAudit(s.ctx, a); err != nil {
						s.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		page, err := s.accounts().Audits(s.ctx, "acme", task.ID{}, 2000)
		if err != nil || len(page) != 1000 || page[0].ID != id(1040) || page[999].ID != id(41) {
			s.Fatalf("a page of %d, %v", len(page), err)
		}
		rest, err := s.accounts().Audits(s.ctx, "acme", page[999].ID, 0)
		if err != nil || len(rest) != 40 {
			s.Errorf("and one of %d, %v", len(rest), err)
		}
	}},
	{"WhatIsNoAccountIsRefused", func(s *suite) {
		for name, change := range map[string]func(*access.Key){
			"no id":        func(k *access.Key) { k.ID = task.ID{} },
			"no namespace": func(k *access.Key) { k.Namespace = "" },
			"no hash":      func(k *access.Key) { k.Hash = [32]byte{} },
			"no such":      func(k *access.Key) { k.Scopes = []access.Scope{"tasks:read admin"} },
			"no text":      func(k *access.Key) { k.Name = "a\x00b" },
		} {
			if err := s.accounts().PutKey(s.ctx, s.key(change), s.act("key.create")); !errors.Is(err, task.ErrInvalid) || !strings.Contains(err.Error(), name) && name != "no text" {
				s.Errorf("%s: %v", name, err)
			}
		}
		k := s.putKey()
		_, err := s.accounts().ChangeKey(s.ctx, "acme", k.ID, access.KeyChange{Name: new("\xff")}, s.act("key.change"))
		s.want(err, task.ErrInvalid)
		s.want(s.accounts().SetTenant(s.ctx, access.Tenant{}, s.act("tenant.set")), task.ErrInvalid)
		s.want(s.accounts().SetTenant(s.ctx, access.Tenant{Namespace: "acme", Events: -1}, s.act("tenant.set")), task.ErrInvalid)
		s.want(s.accounts().AddAudit(s.ctx, access.Audit{Namespace: "acme", Action: "test", At: epoch}), task.ErrInvalid)
		_, err = s.accounts().Spend(s.ctx, task.ID{}, epoch)
		s.want(err, task.ErrInvalid)
		_, err = s.accounts().Spend(s.ctx, id(1), time.Time{})
		s.want(err, task.ErrInvalid)
		s.same(s.keys(access.KeyFilter{}), []access.Key{k})
		s.same(len(s.audits("acme", 0)), 1)
	}},
	{"SweepForgetsAccountsLongOver", func(s *suite) {
		const day = 24 * time.Hour
		never := func(k *access.Key) { k.Expires = time.Time{} }
		s.putKey(func(k *access.Key) { k.Expires = epoch.Add(-time.Microsecond) })
		s.putKey(never, func(k *access.Key) { k.Revoked = epoch.Add(-time.Microsecond) })
		s.putKey(func(k *access.Key) { k.Expires, k.Revoked = epoch.Add(day), epoch.Add(-day) })
		s.putKey(func(k *access.Key) { k.Expires, k.Revoked = epoch.Add(-day), epoch.Add(day) })
		stay := []access.Key{
			s.putKey(never, func(k *access.Key) { k.Created = epoch.Add(-1000 * day) }),
			s.putKey(func(k *access.Key) { k.Expires = epoch }),
			s.putKey(never, func(k *access.Key) { k.Revoked = epoch }),
			// One that guards the door is not forgotten.
			s.putKey(func(k *access.Key) {
				k.Namespace, k.Scopes, k.Revoked = access.Operator, []access.Scope{access.TasksRead, access.Admin}, epoch.Add(-day)
			}),
		}
		for _, over := range []access.Key{
			{Namespace: access.Operator, Scopes: []access.Scope{access.TasksRead, access.Workers}}, {Namespace: "acme", Scopes: []access.Scope{access.Admin}},
		} {
			s.putKey(func(k *access.Key) { k.Namespace, k.Scopes, k.Revoked = over.Namespace, over.Scopes, epoch.Add(-day) })
		}
		s.swept(task.Retention{Now: epoch.Add(90 * day)}, 100, 0)
		s.same(s.keys(access.KeyFilter{}), reversed(stay))
		acts := s.audits("acme", 0)
		s.addAudit(s.act("old", func(a *access.Audit) { a.At = epoch.Add(-time.Microsecond) }))
		s.swept(task.Retention{Now: epoch.Add(400 * day)}, 100, 0)
		s.same(s.audits("acme", 0), acts)
		if err := s.accounts().PutKey(s.ctx, s.key(func(k *access.Key) { k.ID, k.Hash = id(1), hash(1) }), s.act("key.create")); err != nil {
			s.Errorf("a key under the id and hash of one that was forgotten: %v", err)
		}
	}},
	{"SweepOfAccountsIsBounded", func(s *suite) {
		for range 7 {
			s.putKey()
		}
		for _, left := range []int{4, 1, 0} {
			s.swept(task.Retention{Now: epoch.Add(1000 * 24 * time.Hour)}, 3, 0)
			s.same(len(s.keys(access.KeyFilter{})), left)
			s.same(len(s.audits("acme", 0)), left)
		}
	}},
	{"CallForAccountsWithoutTimeLeftDoesNothing", func(s *suite) {
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		a, k := s.accounts(), s.key()
		there := s.putKey()
		acts := s.audits("acme", 0)
		for name, call := range map[string]func() error{
			"PutKey":    func() error { return a.PutKey(ctx, k, s.act("test")) },
			"KeyByHash": func() error { _, err := a.KeyByHash(ctx, there.Hash); return err },
			"Keys":      func() error { _, err := a.Keys(ctx, access.KeyFilter{}); return err },
			"ChangeKey": func() error {
				_, err := a.ChangeKey(ctx, "acme", there.ID, access.KeyChange{Name: new("new")}, s.act("test"))
				return err
			},
			"TouchKeys": func() error { return a.TouchKeys(ctx, map[task.ID]time.Time{there.ID: epoch}) },
			"SetTenant": func() error { return a.SetTenant(ctx, access.Tenant{Namespace: "acme"}, s.act("test")) },
			"Tenants":   func() error { _, err := a.Tenants(ctx); return err },
			"Spend":     func() error { _, err := a.Spend(ctx, id(1), epoch.Add(time.Hour)); return err },
			"AddAudit":  func() error { return a.AddAudit(ctx, s.act("test")) },
			"Audits":    func() error { _, err := a.Audits(ctx, "acme", task.ID{}, 1); return err },
		} {
			if err := call(); !errors.Is(err, task.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				s.Errorf("%s: %v, want ErrUnavailable and context.Canceled", name, err)
			}
		}
		s.same(s.keys(access.KeyFilter{}), []access.Key{there})
		s.same(s.audits("acme", 0), acts)
		s.spend(1, epoch.Add(time.Hour), true)
	}},
}
