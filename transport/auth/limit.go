package auth

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
)

// maxBuckets are remembered, of credentials and addresses together. One that is
// forgotten starts anew.
const maxBuckets = 50_000

// Quota is how many requests may come in a time: at once or one by one, after which
// they come as fast as the quota fills again. The zero Quota is no limit.
type Quota struct {
	Requests int
	Window   time.Duration
}

func (q Quota) perSecond() float64 { return float64(q.Requests) / q.Window.Seconds() }

// Shared limits for all nodes together. It takes n of what fills at a rate up to a
// burst, or nothing; retryAfter is then how long to wait. Where ok is false it cannot
// say.
type Shared interface {
	Allow(ctx context.Context, key string, rate float64, burst, n int) (allowed bool, retryAfter time.Duration, ok bool)
}

// LimiterConfig is what a [Limiter] is made with.
type LimiterConfig struct {
	Registerer prometheus.Registerer // nil: its metrics go nowhere
	Credential Quota                 // of each
	Address    Quota                 // of each; an IPv6 address counts with all of its /64
	Shared     Shared                // nil: each node limits by itself
	Now        func() time.Time      // nil: [time.Now]
}

// Limiter limits how fast requests come. It is made by [NewLimiter].
type Limiter struct {
	cfg     LimiterConfig
	limited *prometheus.CounterVec

	mu      sync.Mutex
	buckets *lru[bucket, *rate.Limiter]
}

type bucket struct{ by, of string }

const (
	byAddress    = "address"
	byCredential = "credential"
)

var errQuota = errors.New("a quota is a number of requests in a time, or nothing")

// NewLimiter makes a limiter.
func NewLimiter(cfg LimiterConfig) (*Limiter, error) {
	for _, q := range []Quota{cfg.Credential, cfg.Address} {
		if q != (Quota{}) && (q.Requests <= 0 || q.Window <= 0) {
			return nil, fmt.Errorf("make a limiter: %w", errQuota)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Limiter{cfg: cfg, buckets: newLRU[bucket, *rate.Limiter](maxBuckets)}
	l.limited = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "troupe_rate_limited_total", Help: "Requests that came too fast, by whose they were.",
	}, []string{"by"})
	if cfg.Registerer == nil {
		return l, nil
	}
	if err := cfg.Registerer.Register(l.limited); err != nil {
		return nil, fmt.Errorf("make a limiter: register metrics: %w", err)
	}
	return l, nil
}

// Take counts a request, of its address and of its credential. Either may be left zero:
// so that the address can be asked about before the credential is known. Nobody shows
// one where it is open, so that "open" is not limited as a credential. The error is a
// [transport.Problem]; the state is then of what was exceeded, else of what is nearer
// to its end.
func (l *Limiter) Take(ctx context.Context, p access.Principal, addr netip.Addr) (State, error) {
	var state State
	if addr.IsValid() && l.cfg.Address != (Quota{}) {
		state = l.take(ctx, bucket{byAddress, subscriber(addr).String()}, l.cfg.Address)
		if state.RetryAfter > 0 {
			return state, l.tooFast(byAddress, state)
		}
	}
	if p.Actor != "" && p.Actor != Nobody && l.cfg.Credential != (Quota{}) {
		of := l.take(ctx, bucket{byCredential, p.Namespace + " " + p.Actor}, l.cfg.Credential)
		if of.RetryAfter > 0 {
			return of, l.tooFast(byCredential, of)
		}
		if state.Limit == 0 || of.share() <= state.share() {
			state = of
		}
	}
	return state, nil
}

func (l *Limiter) tooFast(by string, s State) *transport.Problem {
	l.limited.WithLabelValues(by).Inc()
	p := transport.NewProblem(http.StatusTooManyRequests, "rate_limited", "Requests of this "+by+" come faster than they may; try again later.")
	p.RetryAfter = s.RetryAfter
	return p
}

// take counts on this node, which is enough to refuse; then, where there is such a
// thing, for all nodes.
func (l *Limiter) take(ctx context.Context, b bucket, q Quota) State {
	now := l.cfg.Now()
	here := l.bucket(b, q)
	allowed := here.AllowN(now, 1)
	tokens := max(here.TokensAt(now), 0)
	s := State{
		Limit: q.Requests, Window: q.Window, Remaining: int(tokens),
		Reset: seconds((float64(q.Requests) - tokens) / q.perSecond()),
	}
	if !allowed {
		s.RetryAfter = max(seconds((1-tokens)/q.perSecond()), 1)
		return s
	}
	if l.cfg.Shared == nil {
		return s
	}
	if allowed, wait, ok := l.cfg.Shared.Allow(ctx, b.by+" "+b.of, q.perSecond(), q.Requests, 1); ok && !allowed {
		s.Remaining, s.RetryAfter = 0, max(wait, 1)
	}
	return s
}

func seconds(s float64) time.Duration { return time.Duration(math.Ceil(s * float64(time.Second))) }

func (l *Limiter) bucket(b bucket, q Quota) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if here, ok := l.buckets.get(b); ok {
		return here
	}
	here := rate.NewLimiter(rate.Limit(q.perSecond()), q.Requests)
	l.buckets.put(b, here)
	return here
}

// State is what is left of a quota. The zero State is of no quota.
type State struct {
	Limit      int
	Window     time.Duration
	Remaining  int           // as far as this node knows
	Reset      time.Duration // until all of it is there again
	RetryAfter time.Duration // until the next request may come; 0: it may now
}

// share is the part that is left.
func (s State) share() float64 { return float64(s.Remaining) / float64(s.Limit) }

// Set says it in the header of an answer, as draft-ietf-httpapi-ratelimit-headers has
// it.
func (s State) Set(h http.Header) {
	if s.Limit == 0 {
		return
	}
	h.Set("RateLimit-Policy", fmt.Sprintf(`"default";q=%d;w=%d`, s.Limit, wholeSeconds(s.Window)))
	h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%d`, s.Remaining, wholeSeconds(s.Reset)))
	if s.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(wholeSeconds(s.RetryAfter)))
	}
}

// wholeSeconds rounds up: who waits for so long does not come too early.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
