// Package recent keeps results of tasks in a process's own memory, for a time, as
// many as fit in so many bytes. Which of them stay is decided by how often and how
// lately they are asked for.
package recent

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
)

// Results is such a memory. It may lose what was put there, and never gives what has
// expired.
type Results struct{ cache *otter.Cache[name, kept] }

type name struct{ namespace, kind, key string }

type kept struct {
	result  json.RawMessage
	expires time.Time
}

// overhead is about what an entry takes besides its texts.
const overhead = 256

// New makes one that holds about so many bytes.
func New(bytes uint64) (*Results, error) {
	// Entries expire by their own time, looked at when they are read. The library's
	// expiry would keep a goroutine, and the bytes are bounded without it.
	cache, err := otter.New(&otter.Options[name, kept]{
		MaximumWeight: bytes,
		Weigher: func(n name, k kept) uint32 {
			return uint32(overhead + len(n.namespace) + len(n.kind) + len(n.key) + len(k.result)) //nolint:gosec // a result is bounded
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache of %d bytes: %w", bytes, err)
	}
	return &Results{cache}, nil
}

// Get looks for a result.
func (r *Results) Get(namespace, kind, key string) (json.RawMessage, bool) {
	at := name{namespace, kind, key}
	k, ok := r.cache.GetIfPresent(at)
	if !ok {
		return nil, false
	}
	if !time.Now().Before(k.expires) {
		r.cache.ComputeIfPresent(at, func(now kept) (kept, otter.ComputeOp) {
			if now.expires.Equal(k.expires) {
				return now, otter.InvalidateOp
			}
			return now, otter.CancelOp // a newer one has come
		})
		return nil, false
	}
	return k.result, true
}

// Put keeps a result in place of an older one.
func (r *Results) Put(namespace, kind, key string, result json.RawMessage, ttl time.Duration) {
	at := name{namespace, kind, key}
	if ttl <= 0 {
		r.cache.Invalidate(at) // an older one is not the newest any more
		return
	}
	r.cache.Set(at, kept{result, time.Now().Add(ttl)})
}

// Add keeps a result unless there is one that has not expired.
func (r *Results) Add(namespace, kind, key string, result json.RawMessage, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	now := time.Now()
	r.cache.Compute(name{namespace, kind, key}, func(old kept, found bool) (kept, otter.ComputeOp) {
		if found && now.Before(old.expires) {
			return old, otter.CancelOp
		}
		return kept{result, now.Add(ttl)}, otter.WriteOp
	})
}
