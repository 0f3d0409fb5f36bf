package access_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func key() access.Key {
	return access.Key{ID: task.ID{1}, Namespace: "acme", Name: "n", Hash: [32]byte{1}, Created: epoch, Scopes: access.Scopes()}
}

func TestAdminMayAllAndOthersWhatTheyWereGiven(t *testing.T) {
	for _, asked := range access.Scopes() {
		for _, given := range access.Scopes() {
			p := access.Principal{Scopes: []access.Scope{given}}
			if want := given == asked || given == access.Admin; p.May(asked) != want {
				t.Errorf("%s may %s: %v", given, asked, !want)
			}
		}
		if (access.Principal{}).May(asked) {
			t.Errorf("nobody may %s", asked)
		}
	}
}

func TestKeyIsValidUntilItExpiresOrIsRevoked(t *testing.T) {
	for want, keys := range map[bool][]access.Key{
		true:  {{}, {Expires: epoch.Add(1)}},
		false: {{Expires: epoch}, {Revoked: epoch.Add(time.Hour)}, {Expires: epoch.Add(1), Revoked: epoch}},
	} {
		for _, k := range keys {
			if k.Valid(epoch) != want {
				t.Errorf("%+v is valid: %v", k, !want)
			}
		}
	}
}

func TestKeyEndsWhenTheFirstOfTheTwoComes(t *testing.T) {
	later := epoch.Add(time.Hour)
	for _, c := range []struct{ expires, revoked, want time.Time }{
		{},
		{expires: epoch, want: epoch},
		{revoked: epoch, want: epoch},
		{expires: epoch, revoked: later, want: epoch},
		{expires: later, revoked: epoch, want: epoch},
	} {
		if got := (access.Key{Expires: c.expires, Revoked: c.revoked}).Ended(); !got.Equal(c.want) {
			t.Errorf("%+v: ended at %v", c, got)
		}
	}
}

func TestChangeOfAKeyTakesOnlyAway(t *testing.T) {
	k := key()
	k.Expires = epoch.Add(time.Hour)
	changed, err := access.KeyChange{
		Name: new("other"), Expires: new(epoch.Add(time.Minute + 999).Local()), Revoked: new(epoch.Add(999)),
	}.Of(k)
	if err != nil || changed.Name != "other" || changed.Expires != epoch.Add(time.Minute) || changed.Revoked != epoch {
		t.Errorf("%+v, %v", changed, err)
	}
	if again, err := (access.KeyChange{Revoked: new(epoch.Add(-time.Hour))}).Of(changed); err != nil || again.Revoked != epoch {
		t.Errorf("%+v, %v", again, err)
	}
	for name, c := range map[string]access.KeyChange{
		"never":   {Expires: new(time.Time{})},
		"later":   {Expires: new(k.Expires.Add(time.Microsecond))},
		"no text": {Name: new("a\x00")},
	} {
		if _, err := c.Of(k); !errors.Is(err, task.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.Expires = time.Time{}
	if got, err := (access.KeyChange{Expires: &epoch}).Of(k); err != nil || got.Expires != epoch {
		t.Errorf("of one that never expired: %+v, %v", got, err)
	}
}

func TestScopesAreWrittenAsOneText(t *testing.T) {
	for _, scopes := range [][]access.Scope{nil, {access.Admin}, access.Scopes(), {access.TasksWrite, access.TasksRead}} {
		if got := access.SplitScopes(access.JoinScopes(scopes)); !slices.Equal(got, scopes) {
			t.Errorf("%v come back as %v", scopes, got)
		}
	}
	if text := access.JoinScopes(access.Scopes()); text != "tasks:read tasks:write workers admin" {
		t.Errorf("%q", text)
	}
}

func TestPageIsBounded(t *testing.T) {
	for limit, want := range map[int]int{-1: 1000, 0: 1000, 1: 1, 1000: 1000, 1001: 1000} {
		if got := access.Page(limit); got != want {
			t.Errorf("a page of %d for %d", got, limit)
		}
	}
}

func TestWhatCannotBeKeptIsInvalid(t *testing.T) {
	act := access.Audit{ID: task.ID{1}, At: epoch, Namespace: "acme", Action: "key.create"}
	tenant := access.Tenant{Namespace: "acme", Weight: 0.5, Queued: 1, Running: 1, Bytes: 1, Connections: 1, Events: 1}
	for _, err := range []error{
		key().Check(), act.Check(), tenant.Check(), access.Tenant{Namespace: "acme"}.Check(), access.CheckSpent(task.ID{1}, epoch),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	keyWith := func(change func(*access.Key)) error {
		k := key()
		change(&k)
		return k.Check()
	}
	actWith := func(change func(*access.Audit)) error {
		a := act
		change(&a)
		return a.Check()
	}
	tenantWith := func(change func(*access.Tenant)) error {
		n := tenant
		change(&n)
		return n.Check()
	}
	for name, err := range map[string]error{
		"key without an id":        keyWith(func(k *access.Key) { k.ID = task.ID{} }),
		"key without a namespace":  keyWith(func(k *access.Key) { k.Namespace = "" }),
		"key without a hash":       keyWith(func(k *access.Key) { k.Hash = [32]byte{} }),
		"key never made":           keyWith(func(k *access.Key) { k.Created = time.Time{} }),
		"key with a binary name":   keyWith(func(k *access.Key) { k.Name = "\xff" }),
		"key with a new scope":     keyWith(func(k *access.Key) { k.Scopes = []access.Scope{"root"} }),
		"act without an id":        actWith(func(a *access.Audit) { a.ID = task.ID{} }),
		"act of nobody":            actWith(func(a *access.Audit) { a.Namespace = "" }),
		"act at no time":           actWith(func(a *access.Audit) { a.At = time.Time{} }),
		"act of nothing":           actWith(func(a *access.Audit) { a.Action = "" }),
		"act with a binary target": actWith(func(a *access.Audit) { a.Target = "\x00" }),
		"tenant without a name":    tenantWith(func(n *access.Tenant) { n.Namespace = "" }),
		"tenant of weight -1":      tenantWith(func(n *access.Tenant) { n.Weight = -1 }),
		"tenant of no weight":      tenantWith(func(n *access.Tenant) { n.Weight = math.NaN() }),
		"tenant of all weight":     tenantWith(func(n *access.Tenant) { n.Weight = math.Inf(1) }),
		"tenant of -1 queued":      tenantWith(func(n *access.Tenant) { n.Queued = -1 }),
		"tenant of -1 running":     tenantWith(func(n *access.Tenant) { n.Running = -1 }),
		"tenant of -1 bytes":       tenantWith(func(n *access.Tenant) { n.Bytes = -1 }),
		"tenant of -1 connections": tenantWith(func(n *access.Tenant) { n.Connections = -1 }),
		"tenant of -1 events":      tenantWith(func(n *access.Tenant) { n.Events = -1 }),
		"nothing spent":            access.CheckSpent(task.ID{}, epoch),
		"spent for ever":           access.CheckSpent(task.ID{1}, time.Time{}),
	} {
		if !errors.Is(err, task.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
