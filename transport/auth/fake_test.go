package auth

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// accounts keeps keys and what was spent in maps. While err is set it says nothing
// else.
type accounts struct {
	access.Accounts // what the door has no use for

	mu      sync.Mutex
	err     error
	wait    time.Duration // before each answer
	keys    map[task.ID]access.Key
	spent   map[task.ID]time.Time
	touched map[task.ID]time.Time
	asked   int // KeyByHash
	listed  [][]task.ID
}

func newAccounts() *accounts {
	return &accounts{keys: make(map[task.ID]access.Key), spent: make(map[task.ID]time.Time), touched: make(map[task.ID]time.Time)}
}

func (a *accounts) with(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// ready waits as a slow store does and says whether it answers.
func (a *accounts) ready(ctx context.Context) error {
	a.mu.Lock()
	wait, err := a.wait, a.err
	a.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (a *accounts) KeyByHash(ctx context.Context, hash [32]byte) (access.Key, error) {
	a.with(func() { a.asked++ })
	if err := a.ready(ctx); err != nil {
		return access.Key{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		if k.Hash == hash {
			return k, nil
		}
	}
	return access.Key{}, task.ErrNotFound
}

func (a *accounts) Keys(ctx context.Context, f access.KeyFilter) ([]access.Key, error) {
	a.with(func() { a.listed = append(a.listed, f.IDs) })
	if err := a.ready(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []access.Key
	for _, id := range f.IDs {
		if k, ok := a.keys[id]; ok && (f.Namespace == "" || f.Namespace == k.Namespace) {
			found = append(found, k)
		}
	}
	return found[:min(len(found), f.Limit)], nil
}

func (a *accounts) TouchKeys(ctx context.Context, used map[task.ID]time.Time) error {
	if err := a.ready(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(a.touched, used)
	return nil
}

func (a *accounts) Spend(ctx context.Context, id task.ID, expires time.Time) (bool, error) {
	if err := a.ready(ctx); err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.spent[id]; ok {
		return false, nil
	}
	a.spent[id] = expires
	return true, nil
}

func (a *accounts) revoke(id task.ID, now time.Time) {
	a.with(func() {
		k := a.keys[id]
		k.Revoked = now
		a.keys[id] = k
	})
}

func (a *accounts) fail(err error) { a.with(func() { a.err = err }) }

func (a *accounts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func testSecret(tb testing.TB) Secret {
	tb.Helper()
	s, err := NewSecret([]byte("correct horse battery staple"))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newDoor(tb testing.TB, a *accounts, change ...func(*Config)) *Door {
	tb.Helper()
	cfg := Config{Secret: testSecret(tb), Accounts: a}
	for _, c := range change {
		c(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// add keeps a new key.
func (a *accounts) add(tb testing.TB, namespace string, expires time.Time, scopes ...access.Scope) (string, access.Key) {
	tb.Helper()
	plain, k, err := NewKey(testSecret(tb), namespace, "a test", scopes, time.Now(), expires)
	if err != nil {
		tb.Fatal(err)
	}
	a.with(func() { a.keys[k.ID] = k })
	return plain, k
}

// from is a request of an address with a credential, or without one if that is empty.
func from(address, credential string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/tasks", http.NoBody)
	r.RemoteAddr = address + ":4711"
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	return r
}

const home = "192.0.2.1"

func scopes(s ...access.Scope) []access.Scope { return slices.Clone(s) }
