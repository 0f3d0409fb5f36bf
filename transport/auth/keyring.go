package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	fileEvery    = 10 * time.Second // a file is read again, as keys in it may be replaced
	fetchEvery   = 5 * time.Minute  // an address, too
	fetchAgain   = 10 * time.Second // at most so often because of a token
	fetchTimeout = 5 * time.Second
	staleAfter   = 24 * time.Hour // keys are believed that could not be read again
)

// keyring has an issuer's keys, and reads them again from time to time.
type keyring struct {
	load   func(context.Context) ([]key, error)
	every  time.Duration
	now    func() time.Time
	health *health
	flight singleflight.Group

	mu     sync.Mutex
	keys   []key
	loaded time.Time // zero: never
	tried  time.Time
}

var errKeysAway = errors.New("the issuer's keys cannot be read")

func newKeyring(i Issuer, now func() time.Time, log *slog.Logger) *keyring {
	r := &keyring{now: now, health: &health{log: log, what: "reading keys of the issuer " + i.Name}}
	if i.Keys != "" {
		r.every = fileEvery
		r.load = func(context.Context) ([]key, error) { return readKeyFile(i.Keys) }
		return r
	}
	r.every = fetchEvery
	client := &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.load = func(ctx context.Context) ([]key, error) { return fetchKeys(ctx, client, i.JWKS) }
	return r
}

// find gives the keys that a token may be signed with which names one. A name that
// nobody knows may be that of a new key.
func (r *keyring) find(ctx context.Context, kid string) ([]key, error) {
	keys, ok := r.recall()
	found := matching(keys, kid)
	if ok && len(found) > 0 {
		return found, nil
	}
	r.refresh(ctx, fetchAgain)
	if keys, ok = r.recall(); !ok {
		return nil, errKeysAway
	}
	return matching(keys, kid), nil
}

func (r *keyring) recall() (keys []key, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys, !r.loaded.IsZero() && r.now().Sub(r.loaded) < staleAfter
}

// refresh reads the keys, unless that was tried a moment ago. Who comes while they are
// being read waits for that.
func (r *keyring) refresh(ctx context.Context, again time.Duration) {
	_, _, _ = r.flight.Do("", func() (any, error) { // it goes by what is there afterwards
		if r.begin(again) {
			// It serves others too, so it does not end with the request that came first.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
			defer cancel()
			r.health.note(ctx, r.read(ctx))
		}
		return struct{}{}, nil
	})
}

func (r *keyring) begin(again time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.tried.IsZero() && now.Sub(r.tried) < again {
		return false
	}
	r.tried = now
	return true
}

func (r *keyring) read(ctx context.Context) error {
	began := r.now()
	keys, err := r.load(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.loaded = keys, began
	return nil
}

// watch reads the keys again and again until ctx ends.
func (r *keyring) watch(ctx context.Context) {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		r.refresh(ctx, r.every/2)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func readKeyFile(path string) ([]key, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	raw, err := io.ReadAll(io.LimitReader(f, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	keys, err := readKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func fetchKeys(ctx context.Context, client *http.Client, address string) ([]key, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: %s answers %s", address, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	keys, err := readKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("fetch keys from %s: %w", address, err)
	}
	return keys, nil
}
