package auth

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	freshFor     = 2 * time.Second  // a key is believed without asking the store
	unknownFor   = time.Second      // that there is no such key, too
	outageFor    = 30 * time.Second // a key is believed while the store does not answer
	againAfter   = 2 * time.Second  // the store is asked again that did not answer
	storeTimeout = 5 * time.Second
	knownTimeout = time.Second // where there is an answer to go on with
	maxKnown     = 10_000      // keys, and as many hashes that are of no key
)

type digest = [32]byte

// known remembers keys for as long as they may be believed.
type known struct {
	accounts access.Accounts
	now      func() time.Time
	reads    *health
	writes   *health
	flight   singleflight.Group // by hash

	mu   sync.Mutex
	keys *lru[digest, answer]
	none *lru[digest, time.Time] // until when; apart, so that guesses push no key out
	used map[task.ID]time.Time   // not yet told to the store; keys that exist bound it
}

// answer is a key as the store had it.
type answer struct {
	key   access.Key
	asked time.Time // when, before the answer came
	again time.Time // when to ask anew
}

func newKnown(accounts access.Accounts, now func() time.Time, log *slog.Logger) *known {
	return &known{
		accounts: accounts, now: now,
		reads:  &health{log: log, what: "reading keys"},
		writes: &health{log: log, what: "noting when keys were used"},
		keys:   newLRU[digest, answer](maxKnown), none: newLRU[digest, time.Time](maxKnown),
		used: make(map[task.ID]time.Time),
	}
}

// recall gives what is remembered of a key. isKnown says that it was there lately,
// isFresh that the store need not be asked: also where it said there is none.
func (k *known) recall(h digest, now time.Time) (a answer, isKnown, isFresh bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if until, ok := k.none.get(h); ok && now.Before(until) {
		return answer{}, false, true
	}
	a, ok := k.keys.get(h)
	return a, ok, ok && now.Before(a.again)
}

// load asks the store for a key, once for all who ask at the same time.
func (k *known) load(ctx context.Context, h digest) (access.Key, bool, error) {
	// It serves others too, so it does not end with the request that came first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.patience(h))
	defer cancel()
	found, err, _ := k.flight.Do(string(h[:]), func() (any, error) {
		asked := k.now()
		key, err := k.accounts.KeyByHash(ctx, h)
		if errors.Is(err, task.ErrNotFound) || err == nil && !hmac.Equal(key.Hash[:], h[:]) {
			k.reads.note(ctx, nil)
			k.forgetHash(h, asked)
			return (*access.Key)(nil), nil
		}
		k.reads.note(ctx, err)
		if err != nil {
			return k.believe(h, fmt.Errorf("find a key by its hash: %w", err))
		}
		k.remember(h, answer{key, asked, asked.Add(freshFor)})
		return &key, nil
	})
	if err != nil {
		return access.Key{}, false, err
	}
	if key := found.(*access.Key); key != nil {
		return *key, true, nil
	}
	return access.Key{}, false, nil
}

// patience is for how long the store is waited for.
func (k *known) patience(h digest) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a, ok := k.keys.get(h); ok && k.now().Sub(a.asked) < outageFor-knownTimeout {
		return knownTimeout
	}
	return storeTimeout
}

func (k *known) remember(h digest, a answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys.put(h, a)
}

func (k *known) forgetHash(h digest, asked time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys.remove(h)
	k.none.put(h, asked.Add(unknownFor))
}

// believe gives what the store said before, while it says nothing.
func (k *known) believe(h digest, cause error) (*access.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.keys.get(h)
	now := k.now()
	if !ok || now.Sub(a.asked) >= outageFor {
		return nil, cause
	}
	a.again = now.Add(againAfter)
	k.keys.put(h, a)
	return &a.key, nil
}

// forget drops what is remembered of a key.
func (k *known) forget(id task.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys.forget(func(a answer) bool { return a.key.ID == id })
}

func (k *known) touch(id task.ID, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.After(k.used[id]) {
		k.used[id] = now
	}
}

// flush tells the store which keys were used since it was last told.
func (k *known) flush(ctx context.Context) {
	k.mu.Lock()
	used := k.used
	k.used = make(map[task.ID]time.Time)
	k.mu.Unlock()
	if len(used) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := k.accounts.TouchKeys(ctx, used)
	k.writes.note(ctx, err)
	if err != nil {
		for id, at := range used {
			k.touch(id, at)
		}
	}
}
