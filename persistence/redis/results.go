package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

const (
	prefix    = "troupe:1:"
	maxResult = 1 << 20
	sealSize  = 16
)

// Results keeps results of tasks for other nodes, for a time.
//
// What Get gives was put under exactly this name, whole. It does not promise that
// anything is found, not even what was put a moment ago.
type Results struct{ c *Client }

// Get looks for a result, and says for how long it may be used. Without an answer
// there is none.
func (r *Results) Get(ctx context.Context, namespace, kind, key string) (result json.RawMessage, left time.Duration, ok bool) {
	at := name("result", namespace, kind, key)
	var value []byte
	err := r.c.ask(ctx, func(ctx context.Context) error {
		p := r.c.redis.Pipeline()
		ttl := p.PTTL(ctx, at) // first, so that it is of this one or of one before
		// A range, so that what somebody else put there cannot be larger than ours.
		found := p.GetRange(ctx, at, 0, sealSize+maxResult)
		_, err := p.Exec(ctx)
		if err != nil {
			return err
		}
		left = max(0, ttl.Val())
		value, err = found.Bytes()
		return err
	})
	switch {
	case err != nil:
		r.c.metrics.count("results", failure(err))
		return nil, 0, false
	case len(value) == 0:
		r.c.metrics.count("results", missed)
		return nil, 0, false
	}
	if result, ok = unseal(at, value); !ok {
		r.c.metrics.count("results", foreign)
		return nil, 0, false
	}
	r.c.metrics.count("results", hit)
	return result, left, true
}

// Put keeps a result for a time. One of more than 1 MiB, or for no time, it does
// not keep.
func (r *Results) Put(ctx context.Context, namespace, kind, key string, result json.RawMessage, ttl time.Duration) {
	if len(result) > maxResult || ttl < time.Millisecond {
		r.c.metrics.count("results", refused)
		return
	}
	at := name("result", namespace, kind, key)
	err := r.c.ask(ctx, func(ctx context.Context) error {
		return r.c.redis.Set(ctx, at, seal(at, result), ttl).Err()
	})
	if err != nil {
		r.c.metrics.count("results", failure(err))
		return
	}
	r.c.metrics.count("results", stored)
}

// name is a key in Redis. Each part is hashed with its length, so that no two
// lists of parts are the same, and a key is short whatever they are.
func name(what string, parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return prefix + what + ":" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// seal puts before a result a sum over it and its key. It finds what was cut,
// changed, moved or never ours; it does not stop who means to deceive.
func seal(key string, result []byte) []byte {
	return append(sum(key, result), result...)
}

func unseal(key string, value []byte) (json.RawMessage, bool) {
	if len(value) < sealSize || len(value) > sealSize+maxResult {
		return nil, false
	}
	result := value[sealSize:]
	if !bytes.Equal(value[:sealSize], sum(key, result)) {
		return nil, false
	}
	if len(result) == 0 {
		return nil, true // as an empty RawMessage, it could not be marshalled
	}
	return result, true
}

func sum(key string, result []byte) []byte {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write(result)
	return h.Sum(nil)[:sealSize]
}
