package sealed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
	"github.com/troupe-run/troupe/persistence/sealed"
)

// shelf keeps what it is given, whole.
type shelf map[string]json.RawMessage

func (s shelf) Get(_ context.Context, namespace, kind, key string) (json.RawMessage, time.Duration, bool) {
	r, ok := s[namespace+"/"+kind+"/"+key]
	return r, time.Minute, ok
}

func (s shelf) Put(_ context.Context, namespace, kind, key string, result json.RawMessage, _ time.Duration) {
	s[namespace+"/"+kind+"/"+key] = result
}

func TestResultsBesideTheStoreAreSealed(t *testing.T) {
	ctx, kept := t.Context(), shelf{}
	old := sealed.NewResults(kept, keys(t, first))
	old.Put(ctx, "acme", "job", "k", json.RawMessage(`"a secret"`), time.Hour)
	stored := kept["acme/job/k"]
	if bytes.Contains(stored, []byte("secret")) {
		t.Fatalf("kept as %q", stored)
	}
	both := sealed.NewResults(kept, keys(t, second+first))
	for _, r := range []*sealed.Results{old, both} {
		if got, left, ok := r.Get(ctx, "acme", "job", "k"); !ok || string(got) != `"a secret"` || left != time.Minute {
			t.Errorf("got %s, %s, %v", got, left, ok)
		}
	}
	if _, _, ok := both.Get(ctx, "acme", "job", "other"); ok {
		t.Error("found what nobody put")
	}
	if got, _, ok := sealed.NewResults(kept, keys(t, second)).Get(ctx, "acme", "job", "k"); ok {
		t.Errorf("opened without the key: %s", got)
	}
	for bit := range len(stored) * 8 {
		changed := bytes.Clone(stored)
		changed[bit/8] ^= 1 << (bit % 8)
		kept["acme/job/k"] = changed
		if got, _, ok := both.Get(ctx, "acme", "job", "k"); ok {
			t.Errorf("bit %d changed, and opened as %q", bit, got)
		}
	}
	for _, foreign := range []string{"", "\x01", "\x01\x042025", "1", `{"a":1}`, "\x01\xff2025"} {
		kept["acme/job/k"] = json.RawMessage(foreign)
		if got, _, ok := both.Get(ctx, "acme", "job", "k"); ok {
			t.Errorf("%q opened as %q", foreign, got)
		}
	}
	kept["acme/job/other"], kept["evil/job/k"], kept["acme/play/k"] = stored, stored, stored
	for _, name := range [][3]string{{"acme", "job", "other"}, {"evil", "job", "k"}, {"acme", "play", "k"}} {
		if got, _, ok := both.Get(ctx, name[0], name[1], name[2]); ok {
			t.Errorf("moved to %v, and opened as %q", name, got)
		}
	}
}

func TestNothingSaidIsInRedis(t *testing.T) {
	const canary = "CANARY-5f1e"
	server := redistest.New(t)
	c, err := redis.Open(t.Context(), server.URL(""), redis.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := sealed.NewResults(c.Results, keys(t, first))
	r.Put(t.Context(), "acme", "job", "k", json.RawMessage(`"`+canary+`"`), time.Hour)
	if got, _, ok := r.Get(t.Context(), "acme", "job", "k"); !ok || string(got) != `"`+canary+`"` {
		t.Fatalf("got %s, %v", got, ok)
	}
	stored := server.Do(t, "GET", server.Do(t, "RANDOMKEY"))
	if !strings.Contains(stored, "2025") || strings.Contains(stored, canary) {
		t.Errorf("kept as %q", stored)
	}
	// A result of nearly the greatest size is kept, too.
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20-100) + `"`)
	r.Put(t.Context(), "acme", "job", "large", large, time.Hour)
	if got, _, ok := r.Get(t.Context(), "acme", "job", "large"); !ok || !bytes.Equal(got, large) {
		t.Errorf("of %d bytes, got %d, %v", len(large), len(got), ok)
	}
}
