package sealed

import (
	"context"
	"encoding/json"
	"time"
)

// Shared keeps results beside the store, as Redis does.
type Shared interface {
	Get(ctx context.Context, namespace, kind, key string) (result json.RawMessage, left time.Duration, ok bool)
	Put(ctx context.Context, namespace, kind, key string, result json.RawMessage, ttl time.Duration)
}

// Results is a [Shared] that never sees a result.
type Results struct {
	inner Shared
	keys  Keys
}

// NewResults seals with keys, of which there must be one.
func NewResults(inner Shared, keys Keys) *Results { return &Results{inner, keys} }

// What is there of each: the form, the key's name with its length, and what raw gives.
// It is no JSON, as nobody asks for it, so that a result of the greatest size there may
// be is not much larger sealed.
const resultForm = 1

// Get looks for a result. What was sealed otherwise, or not at all, is not found: it
// can be made anew.
func (r *Results) Get(ctx context.Context, namespace, kind, key string) (json.RawMessage, time.Duration, bool) {
	stored, left, ok := r.inner.Get(ctx, namespace, kind, key)
	if !ok || len(stored) < 2 || stored[0] != resultForm || len(stored) < 2+int(stored[1]) {
		return nil, 0, false
	}
	id, raw := stored[2:2+stored[1]], stored[2+stored[1]:]
	by, known := r.of(namespace, kind, key).by(string(id))
	if !known {
		return nil, 0, false
	}
	result, err := by.openRaw(placeResult, raw)
	if err != nil || len(result) == 0 {
		return nil, 0, false
	}
	return result, left, true
}

// Put keeps a result for a time.
func (r *Results) Put(ctx context.Context, namespace, kind, key string, result json.RawMessage, ttl time.Duration) {
	by := r.of(namespace, kind, key).first()
	stored := append([]byte{resultForm, byte(len(by.id))}, by.id...) //nolint:gosec // a name is short
	r.inner.Put(ctx, namespace, kind, key, append(stored, by.raw(placeResult, result)...), ttl)
}

func (r *Results) of(namespace, kind, key string) *box {
	return newBox(r.keys, true, "shared result", namespace, kind, key)
}
