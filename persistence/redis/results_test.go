package redis_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
)

func TestResultIsFoundUntilItsTimeIsOver(t *testing.T) {
	c := open(t, redistest.New(t).URL(""), redis.Options{})
	if _, _, ok := c.Results.Get(t.Context(), "ns", "kind", "never put"); ok {
		t.Error("found what nobody put")
	}
	put(t, c.Results, "k", `{"a":[1,2]}`)
	put(t, c.Results, "k", "")

	put(t, c.Results, "brief", "1")
	eventually(t, "it is over", func() bool {
		c.Results.Put(t.Context(), "ns", "kind", "brief", json.RawMessage("1"), 200*time.Millisecond)
		_, _, ok := c.Results.Get(t.Context(), "ns", "kind", "brief")
		return ok
	})
	eventually(t, "it is gone", func() bool {
		_, _, ok := c.Results.Get(t.Context(), "ns", "kind", "brief")
		return !ok
	})
}

func TestEveryResultHasATimeAndABound(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Metrics: reg})
	largest := `"` + strings.Repeat("x", 1<<20-2) + `"`
	put(t, c.Results, "largest", largest)
	if ttl := server.Do(t, "PTTL", server.Do(t, "RANDOMKEY")); ttl == "-1" {
		t.Error("a result is kept for ever")
	}
	server.Flush(t)
	c.Results.Put(t.Context(), "ns", "kind", "k", json.RawMessage(largest+" "), time.Hour)
	for _, ttl := range []time.Duration{-1, 0, time.Microsecond} { // -1 means "as before" to the driver
		c.Results.Put(t.Context(), "ns", "kind", "k", json.RawMessage("1"), ttl)
	}
	if n := server.Do(t, "DBSIZE"); n != "0" {
		t.Errorf("%s of these were kept", n)
	}
	if n := calls(t, reg, "results", "refused"); n != 4 {
		t.Errorf("%v were refused, want 4", n)
	}
}

func TestNamesNeverCollide(t *testing.T) {
	c := open(t, redistest.New(t).URL(""), redis.Options{})
	part := rapid.StringOf(rapid.SampledFrom([]rune("a:é\x00")))
	of := func(parts []string) string { return fmt.Sprintf("%q", strings.Join(parts, "|")) }
	rapid.Check(t, func(rt *rapid.T) {
		one := []string{part.Draw(rt, "namespace"), part.Draw(rt, "kind"), part.Draw(rt, "key")}
		// The same text, divided otherwise.
		between := rapid.SampledFrom([]string{"", ":"}).Draw(rt, "between")
		pieces := strings.Split(strings.Join(one, between), between)
		i := rapid.IntRange(0, len(pieces)).Draw(rt, "i")
		j := rapid.IntRange(i, len(pieces)).Draw(rt, "j")
		other := []string{strings.Join(pieces[:i], between), strings.Join(pieces[i:j], between), strings.Join(pieces[j:], between)}

		c.Results.Put(t.Context(), one[0], one[1], one[2], json.RawMessage(of(one)), time.Hour)
		if got, _, ok := c.Results.Get(t.Context(), other[0], other[1], other[2]); ok && string(got) != of(other) {
			rt.Fatalf("%q was put, and found as %q", one, other)
		}
	})
}

func TestWhatIsNotOursIsAMiss(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Metrics: reg})
	put(t, c.Results, "other", `"other"`)
	elsewhere := server.Do(t, "RANDOMKEY")
	server.Do(t, "RENAME", elsewhere, "kept")
	put(t, c.Results, "k", `"mine"`)
	var key string
	for name := range strings.FieldsSeq(server.Do(t, "KEYS", "troupe:1:*")) {
		key = name
	}

	for name, harm := range map[string][]string{
		"text":         {"SET", key, "hello"},
		"JSON":         {"SET", key, `{"a":1}`},
		"changed":      {"SETRANGE", key, "18", "X"},
		"seal changed": {"SETRANGE", key, "3", "XXXX"},
		"longer":       {"APPEND", key, "X"},
		"large":        {"SETRANGE", key, "4000000", "X"},
		"another's":    {"COPY", "kept", key, "REPLACE"},
		"no string":    {"EVAL", "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 1)", "1", key},
	} {
		server.Do(t, "DEL", key)
		put(t, c.Results, "k", `"mine"`)
		server.Do(t, harm...)
		before := calls(t, reg, "results", "foreign") + calls(t, reg, "results", "failed")
		eventually(t, "it is looked at", func() bool {
			if got, _, ok := c.Results.Get(t.Context(), "ns", "kind", "k"); ok {
				t.Fatalf("%s: got %s", name, got)
			}
			return calls(t, reg, "results", "foreign")+calls(t, reg, "results", "failed") > before
		})
	}
}

// TestFlushesAndOutagesNeverGiveAWrongResult has many read and write while all
// that Redis has is taken away again and again.
func TestFlushesAndOutagesNeverGiveAWrongResult(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Metrics: reg})
	of := func(key int) string { return fmt.Sprintf(`{"of":%d,"pad":%q}`, key, strings.Repeat("x", 37*key)) }
	done := make(chan struct{})
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := worker; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				key := i % 20
				got, _, ok := c.Results.Get(t.Context(), "ns", "kind", strconv.Itoa(key))
				if ok && string(got) != of(key) {
					t.Errorf("the result of %d is %s", key, got)
					return
				}
				if !ok {
					c.Results.Put(t.Context(), "ns", "kind", strconv.Itoa(key), json.RawMessage(of(key)), time.Hour)
				}
			}
		})
	}
	for range 3 {
		for range 20 {
			server.Flush(t)
		}
		hits := calls(t, reg, "results", "hit")
		eventually(t, "results are found again", func() bool { return calls(t, reg, "results", "hit") > hits+100 })
		server.Stop(t)
		eventually(t, "the breaker opens", func() bool { return !isUp(t, reg) })
		server.Continue(t)
		eventually(t, "the breaker closes", func() bool { return isUp(t, reg) })
	}
	close(done)
	all.Wait()
}
