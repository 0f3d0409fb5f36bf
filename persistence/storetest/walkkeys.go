package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// keyWalker takes random steps with the keys of a store and with a list of them, and
// compares the two.
type keyWalker struct {
	*rapid.T

	test *suite
	keys []*access.Key // in the order of their ids
	acts int           // how many there must be
}

func walkKeys(t *testing.T, subject Subject) {
	t.Helper()
	fewWalks(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := &keyWalker{T: rt, test: newSuite(t, subject)}
		rt.Repeat(map[string]func(*rapid.T){
			"":            w.compare,
			"put":         w.put,
			"change":      w.change,
			"change_more": w.change, // twice as often
			"touch":       w.touch,
			"sweep":       w.sweep,
			"reopen":      w.reopen,
		})
		if err := w.test.store.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

func (w *keyWalker) must(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%v, want %v", err, want)
	}
}

// moment is a time that may be none.
func moment(rt *rapid.T, label string) time.Time {
	if day := rapid.IntRange(-1, 30).Draw(rt, label); day >= 0 {
		return epoch.Add(time.Duration(day) * 24 * time.Hour)
	}
	return time.Time{}
}

func (w *keyWalker) put(rt *rapid.T) {
	k := w.test.key(func(k *access.Key) {
		k.Namespace, k.Expires = pick(rt, "namespace", "acme", "other"), moment(rt, "expires")
		k.Scopes = pick(rt, "scopes", nil, access.Scopes(), []access.Scope{access.Workers})
		if rapid.IntRange(0, 5).Draw(rt, "known") == 0 {
			k.Hash = hash(rapid.IntRange(1, w.test.made).Draw(rt, "hash"))
		}
	})
	var want error
	if slices.ContainsFunc(w.keys, func(old *access.Key) bool { return old.Hash == k.Hash }) {
		want = task.ErrExists
	} else {
		w.keys = append(w.keys, &k)
		w.acts++
	}
	w.must(w.test.accounts().PutKey(w.test.ctx, k, w.test.act("key.create")), want)
}

// change changes a key that may be another's, or none, in a way that may not be.
func (w *keyWalker) change(rt *rapid.T) {
	var c access.KeyChange
	if rapid.Bool().Draw(rt, "rename") {
		c.Name = new(pick(rt, "name", "a", "", "b"))
	}
	if rapid.Bool().Draw(rt, "end") {
		c.Expires = new(moment(rt, "expires"))
	}
	if rapid.IntRange(0, 3).Draw(rt, "revoke") == 0 {
		c.Revoked = new(moment(rt, "revoked"))
	}
	namespace, at := pick(rt, "namespace", "acme", "other"), id(rapid.IntRange(1, w.test.made+1).Draw(rt, "key"))
	got, err := w.test.accounts().ChangeKey(w.test.ctx, namespace, at, c, w.test.act("key.change"))
	i := slices.IndexFunc(w.keys, func(k *access.Key) bool { return k.ID == at && k.Namespace == namespace })
	if i < 0 {
		w.must(err, task.ErrNotFound)
		return
	}
	k := w.keys[i]
	if c.Expires != nil && !k.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(k.Expires)) {
		w.must(err, task.ErrInvalid)
		return
	}
	w.must(err, nil)
	if c.Name != nil {
		k.Name = *c.Name
	}
	if c.Expires != nil {
		k.Expires = *c.Expires
	}
	if c.Revoked != nil && k.Revoked.IsZero() {
		k.Revoked = *c.Revoked
	}
	w.acts++
	w.same(got, *k)
}

func (w *keyWalker) touch(rt *rapid.T) {
	used := map[task.ID]time.Time{}
	for range rapid.IntRange(0, 4).Draw(rt, "n") {
		used[id(rapid.IntRange(1, w.test.made+1).Draw(rt, "key"))] = moment(rt, "used")
	}
	w.must(w.test.accounts().TouchKeys(w.test.ctx, used), nil)
	for _, k := range w.keys {
		if at := used[k.ID]; at.After(k.Used) {
			k.Used = at
		}
	}
}

// sweep forgets keys; the acts, all of one day, are too young for it.
func (w *keyWalker) sweep(rt *rapid.T) {
	now := epoch.Add(time.Duration(rapid.IntRange(80, 125).Draw(rt, "day")) * 24 * time.Hour)
	_, err := w.test.store.Sweep(w.test.ctx, task.Retention{Now: now}, 1000)
	w.must(err, nil)
	long := now.Add(-90 * 24 * time.Hour)
	w.keys = slices.DeleteFunc(w.keys, func(k *access.Key) bool {
		return !k.Expires.IsZero() && k.Expires.Before(long) || !k.Revoked.IsZero() && k.Revoked.Before(long)
	})
}

// reopen is what takes longest, so it is done more seldom.
func (w *keyWalker) reopen(rt *rapid.T) {
	if rapid.IntRange(0, 3).Draw(rt, "now") == 0 {
		w.test.reopen()
	}
}

func (w *keyWalker) compare(rt *rapid.T) {
	limit := pick(rt, "limit", 0, 1, 2, 5)
	for _, namespace := range []string{"", "acme", "other"} {
		var want []access.Key
		for _, k := range reversed(w.keys) {
			if namespace == "" || k.Namespace == namespace {
				want = append(want, *k)
			}
		}
		w.same(w.test.keys(access.KeyFilter{Namespace: namespace, Limit: limit}), want)
	}
	w.same(len(w.test.audits("acme", 0)), w.acts)
	asked := hash(rapid.IntRange(1, w.test.made+1).Draw(rt, "asked"))
	found, err := w.test.accounts().KeyByHash(w.test.ctx, asked)
	i := slices.IndexFunc(w.keys, func(k *access.Key) bool { return k.Hash == asked })
	if i < 0 {
		w.must(err, task.ErrNotFound)
		return
	}
	w.must(err, nil)
	w.same(found, *w.keys[i])
}

func (w *keyWalker) same(got, want any) {
	w.Helper()
	if d := diff(got, want); d != "" {
		w.Fatalf("(-got +want)\n%s", d)
	}
}
