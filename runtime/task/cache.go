package task

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// Cache is how a task shares its result with tasks of its namespace and kind that
// have the same key. They run one at a time.
type Cache struct {
	Key string        // empty: a hash of kind and payload
	TTL time.Duration // for how long the task's own result serves others; zero: no cache
}

// CacheStatus is how a task with a cache came to its result.
type CacheStatus string

// How it did. A task that has not succeeded has none of them.
const (
	CacheHit    CacheStatus = "hit"    // another's was there
	CacheMiss   CacheStatus = "miss"   // it ran
	CacheShared CacheStatus = "shared" // another's was there after it had waited
)

// Bounds of a cache's time.
const (
	minTTL = time.Second
	maxTTL = 30 * 24 * time.Hour
)

func (c Cache) check(refuse refusal) {
	if c != (Cache{}) && (c.TTL < minTTL || c.TTL > maxTTL) {
		refuse("cache.ttl", "must be between %s and %s", minTTL, maxTTL)
	}
	if len(c.Key) > maxKey || !ValidText(c.Key) {
		refuse("cache.key", "must be at most %d bytes of printable UTF-8", maxKey)
	}
}

// cacheKey is the key of a spec that gives none.
func (s Spec) cacheKey(secret [32]byte) string {
	text := append([]byte(s.Kind+"\n"), canonical(s.Payload)...) // no kind has a line break
	if secret == [32]byte{} {
		sum := sha256.Sum256(text)
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte(s.Namespace + "\n")) // so that equal payloads of two namespaces look different
	h.Write(text)
	return "hmac:" + hex.EncodeToString(h.Sum(nil))
}

// cacheLimit is what identical tasks start one at a time by.
func (s Spec) cacheLimit() LimitName {
	sum := sha256.Sum256([]byte(s.Kind + "\n" + s.Cache.Key))
	return LimitName{OfCache, s.Namespace, base64.RawURLEncoding.EncodeToString(sum[:])}
}

// Keeps says that a write, if it holds, makes a result that others may use: a
// store keeps it in the same transaction, in place of an older one.
func (m *Mutation) Keeps() bool {
	return m.Op == Save && m.Guard.State == Running && m.Task.State == Succeeded && m.Task.Cached == CacheMiss
}

// Kept is a result that others may use.
type Kept struct {
	Result  json.RawMessage
	Of      ID // the task that left it
	Expires time.Time
}

// ResultExpires is when the result of t serves others no more.
func (t Task) ResultExpires() time.Time { return t.Finished.Add(t.Cache.TTL) }

// canonical is valid JSON without space and with the members of each object in
// order. Numbers and strings stay as they are written, so that what differs for any
// handler differs here: two spellings of one text are two.
func canonical(b []byte) []byte {
	var compact bytes.Buffer
	_ = json.Compact(&compact, b) // it is valid
	c := canon{text: compact.Bytes()}
	c.value(0)
	return c.text
}

// canon puts a text in order where it stands. The nesting is bounded, by [ValidJSON].
type canon struct{ text, moved []byte }

// value does so with the value that begins at a place, and gives where it ends.
func (c *canon) value(at int) int {
	switch c.text[at] {
	case '{':
		return c.object(at)
	case '[':
		for at++; c.text[at] != ']'; {
			at = c.behindComma(c.value(at))
		}
		return at + 1
	case '"':
		return c.quoted(at)
	}
	if n := bytes.IndexAny(c.text[at:], ",]}"); n >= 0 {
		return at + n
	}
	return len(c.text) // it is all there is
}

func (c *canon) behindComma(at int) int {
	if c.text[at] == ',' {
		at++
	}
	return at
}

func (c *canon) quoted(at int) int {
	for at++; c.text[at] != '"'; at++ {
		if c.text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

func (c *canon) object(at int) int {
	type member struct{ from, colon, to int }
	var members []member
	begin := at + 1
	for at = begin; c.text[at] != '}'; {
		colon := c.quoted(at)
		end := c.value(colon + 1)
		members = append(members, member{at, colon, end})
		at = c.behindComma(end)
	}
	// Of members with the same name the last one counts for most readers, so they
	// keep their order.
	byName := func(a, b member) int { return bytes.Compare(c.text[a.from:a.colon], c.text[b.from:b.colon]) }
	if slices.IsSortedFunc(members, byName) {
		return at + 1
	}
	slices.SortStableFunc(members, byName)
	c.moved = c.moved[:0]
	for _, m := range members {
		c.moved = append(append(c.moved, c.text[m.from:m.to]...), ',')
	}
	copy(c.text[begin:at], c.moved)
	return at + 1
}
