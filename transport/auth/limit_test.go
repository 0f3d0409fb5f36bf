package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
)

func newLimiter(tb testing.TB, cfg LimiterConfig) *Limiter {
	tb.Helper()
	l, err := NewLimiter(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

var ada = access.Principal{Namespace: "team", Actor: "jwt:ada"}

// However requests come, no more than the quota and what it fills by go through; and
// who waits for as long as the state says is let through.
func TestNoMoreThanTheQuotaGoesThrough(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		q := Quota{rapid.IntRange(1, 20).Draw(rt, "requests"), time.Duration(rapid.IntRange(1, 60_000).Draw(rt, "window ms")) * time.Millisecond}
		pauses := rapid.SliceOfN(rapid.IntRange(0, 5000), 1, 100).Draw(rt, "pauses ms")
		obeys := rapid.SliceOfN(rapid.Bool(), len(pauses), len(pauses)).Draw(rt, "obeys")
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = playRequests(t, q, pauses, obeys) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func playRequests(t *testing.T, q Quota, pauses []int, obeys []bool) string {
	t.Helper()
	l := newLimiter(t, LimiterConfig{Credential: q})
	began, through := time.Now(), 0
	for i, ms := range pauses {
		time.Sleep(time.Duration(ms) * time.Millisecond)
		s, err := l.Take(t.Context(), ada, netip.Addr{})
		if err != nil && obeys[i] {
			time.Sleep(s.RetryAfter)
			if s, err = l.Take(t.Context(), ada, netip.Addr{}); err != nil {
				return fmt.Sprintf("request %d waited as it was told and is refused: %+v", i, s)
			}
		}
		if err == nil {
			through++
		}
		if most := float64(q.Requests) + q.perSecond()*time.Since(began).Seconds() + 1e-6; float64(through) > most {
			return fmt.Sprintf("%d requests went through, at most %f may", through, most)
		}
		full := s.Reset > 0 && s.Remaining == q.Requests
		if s.Limit != q.Requests || s.Remaining < 0 || s.Remaining >= q.Requests+1 || full || s.Reset > q.Window+time.Nanosecond || (err != nil) != (s.RetryAfter > 0) {
			return fmt.Sprintf("%+v, %v", s, err)
		}
	}
	return ""
}

func TestCredentialsAndAddressesAreLimitedEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		l := newLimiter(t, LimiterConfig{Registerer: reg, Credential: Quota{2, time.Minute}, Address: Quota{4, time.Minute}})
		bob := access.Principal{Namespace: "team", Actor: "jwt:bob"}
		other := access.Principal{Namespace: "other", Actor: "jwt:ada"}
		nobody := access.Principal{}
		here, there := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")
		same := netip.MustParseAddr("2001:db8::2")
		for i, tt := range []struct {
			p         access.Principal
			addr      netip.Addr
			limit     int
			remaining int
			refusal   string
		}{
			{ada, here, 2, 1, ""},
			{ada, there, 2, 0, ""},
			{ada, there, 2, 0, "credential"},
			{other, there, 4, 1, ""}, // a namesake of another namespace is another
			{bob, same, 2, 1, ""},
			{nobody, same, 4, 1, ""},
			{open(), same, 4, 0, ""},
			{bob, here, 4, 0, "address"}, // of one subscriber
			{bob, netip.Addr{}, 2, 0, ""},
			{nobody, netip.Addr{}, 0, 0, ""},
		} {
			s, err := l.Take(t.Context(), tt.p, tt.addr)
			if s.Limit != tt.limit || s.Remaining != tt.remaining || (err != nil) != (tt.refusal != "") {
				t.Errorf("%d: %+v, %v", i, s, err)
			}
			if p := refused(t, err); p != nil && (p.Status != http.StatusTooManyRequests || p.Code != "rate_limited" || p.RetryAfter != s.RetryAfter || !strings.Contains(p.Detail, tt.refusal)) {
				t.Errorf("%d: %+v", i, p)
			}
		}
		const want = `
# HELP troupe_rate_limited_total Requests that came too fast, by whose they were.
# TYPE troupe_rate_limited_total counter
troupe_rate_limited_total{by="address"} 1
troupe_rate_limited_total{by="credential"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "troupe_rate_limited_total"); err != nil {
			t.Error(err)
		}
		if _, err := NewLimiter(LimiterConfig{Registerer: reg}); err == nil {
			t.Error("two limiters count in one place")
		}
	})
}

// sharing answers as a Redis would.
type sharing struct {
	allowed bool
	wait    time.Duration
	ok      bool
	asked   []string
}

func (s *sharing) Allow(_ context.Context, key string, rate float64, burst, n int) (allowed bool, retryAfter time.Duration, ok bool) {
	s.asked = append(s.asked, fmt.Sprintf("%s %g %d %d", key, rate, burst, n))
	return s.allowed, s.wait, s.ok
}

func TestLimitOfAllNodesCountsWhereThereIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &sharing{allowed: true, ok: true}
		l := newLimiter(t, LimiterConfig{Credential: Quota{120, time.Minute}, Shared: shared})
		if s, err := l.Take(t.Context(), ada, netip.Addr{}); err != nil || s.Remaining != 119 {
			t.Errorf("%+v, %v", s, err)
		}
		if diff := cmp.Diff([]string{"credential team jwt:ada 2 120 1"}, shared.asked); diff != "" {
			t.Error(diff)
		}
		shared.allowed, shared.wait = false, 7*time.Second
		if s, err := l.Take(t.Context(), ada, netip.Addr{}); code(t, err) != "rate_limited" || s.Remaining != 0 || s.RetryAfter != 7*time.Second {
			t.Errorf("used up elsewhere: %+v, %v", s, err)
		}
		shared.ok = false
		for range 118 {
			if _, err := l.Take(t.Context(), ada, netip.Addr{}); err != nil {
				t.Fatalf("without Redis: %v", err)
			}
		}
		if _, err := l.Take(t.Context(), ada, netip.Addr{}); code(t, err) != "rate_limited" {
			t.Errorf("without Redis nothing is limited: %v", err)
		}
		if len(shared.asked) != 120 {
			t.Errorf("asked %d times, also for what is refused here", len(shared.asked))
		}
	})
}

func TestLimitIsSaidInHeaders(t *testing.T) {
	for _, tt := range []struct {
		s    State
		want http.Header
	}{
		{State{}, http.Header{}},
		{State{Limit: 100, Window: time.Minute, Remaining: 50, Reset: 29500 * time.Millisecond}, http.Header{
			"Ratelimit-Policy": {`"default";q=100;w=60`}, "Ratelimit": {`"default";r=50;t=30`},
		}},
		{State{Limit: 1, Window: time.Millisecond, RetryAfter: 1, Reset: time.Hour}, http.Header{
			"Ratelimit-Policy": {`"default";q=1;w=1`}, "Ratelimit": {`"default";r=0;t=3600`}, "Retry-After": {"1"},
		}},
	} {
		h := http.Header{}
		tt.s.Set(h)
		if diff := cmp.Diff(tt.want, h); diff != "" {
			t.Error(diff)
		}
	}
}

func TestQuotaThatMakesNoSenseIsRefused(t *testing.T) {
	for _, q := range []Quota{{1, 0}, {0, 1}, {-1, time.Second}, {1, -time.Second}} {
		for _, cfg := range []LimiterConfig{{Credential: q}, {Address: q}} {
			if _, err := NewLimiter(cfg); err == nil {
				t.Errorf("%+v is taken", cfg)
			}
		}
	}
	l := newLimiter(t, LimiterConfig{})
	for range 1000 {
		if s, err := l.Take(t.Context(), ada, netip.MustParseAddr("192.0.2.1")); err != nil || s != (State{}) {
			t.Fatalf("no quota limits: %+v, %v", s, err)
		}
	}
}
