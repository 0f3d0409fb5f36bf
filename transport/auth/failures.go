package auth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	freeFailures  = 10          // from one address in a minute
	firstWait     = time.Second // doubles with every failure after these
	longestWait   = 5 * time.Minute
	forgetFailure = 10 * time.Minute // without a further one
	maxFailing    = 10_000           // addresses
)

// failures slows those down who show credentials that are refused.
type failures struct {
	mu sync.Mutex
	of *lru[netip.Prefix, *failing]
}

type failing struct {
	count       int
	began, last time.Time
	wait        time.Duration
	until       time.Time
}

func newFailures() *failures {
	return &failures{of: newLRU[netip.Prefix, *failing](maxFailing)}
}

// wait says for how long nothing is taken from an address.
func (f *failures) wait(from netip.Prefix, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.of.get(from)
	if !ok {
		return 0
	}
	return max(a.until.Sub(now), 0)
}

func (f *failures) add(from netip.Prefix, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.of.get(from)
	if !ok || now.Sub(a.last) > forgetFailure || a.wait == 0 && now.Sub(a.began) > time.Minute {
		a = &failing{began: now}
		f.of.put(from, a)
	}
	a.count++
	a.last = now
	if a.count >= freeFailures {
		a.wait = min(max(2*a.wait, firstWait), longestWait)
		a.until = now.Add(a.wait)
	}
}
