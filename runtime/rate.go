package runtime

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/troupe-run/troupe/runtime/task"
)

// Rates keeps rates that all nodes share. If ok is false, it cannot say: the rate is
// then kept by each node for itself.
type Rates interface {
	Allow(ctx context.Context, key string, perSecond float64, burst, n int) (allowed bool, retryAfter time.Duration, ok bool)
}

// submitRate bounds how many tasks of a namespace are taken in a second: of all
// nodes together where they share rates, else of each.
type submitRate struct {
	rate   task.Rate
	shared Rates // nil: this node alone

	mu  sync.Mutex
	own map[string]*rate.Limiter // by namespace
}

func newSubmitRate(r task.Rate, shared Rates) *submitRate {
	return &submitRate{rate: r, shared: shared, own: map[string]*rate.Limiter{}}
}

// allow takes n tasks off a namespace's allowance, a second's worth of which may
// come at once, or says when to come again. Nobody is asked to wait for longer
// than a second's worth.
func (s *submitRate) allow(ctx context.Context, namespace string, n int) error {
	if s.rate.Count == 0 {
		return nil
	}
	perSecond := float64(s.rate.Count) / s.rate.Per.Seconds()
	burst := max(1, int(perSecond))
	n = min(n, burst)
	if s.shared != nil {
		if allowed, after, ok := s.shared.Allow(ctx, "submit "+namespace, perSecond, burst, n); ok {
			return tooFast(allowed, after)
		}
	}
	now := time.Now()
	take := s.limiter(namespace, perSecond, burst).ReserveN(now, n)
	after := take.DelayFrom(now)
	if after > 0 {
		take.CancelAt(now)
	}
	return tooFast(after == 0, after)
}

func (s *submitRate) limiter(namespace string, perSecond float64, burst int) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own[namespace] == nil {
		s.own[namespace] = rate.NewLimiter(rate.Limit(perSecond), burst)
	}
	return s.own[namespace]
}

func tooFast(allowed bool, after time.Duration) error {
	if allowed {
		return nil
	}
	return &task.TooFastError{After: after}
}
