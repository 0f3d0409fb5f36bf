package redis

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/go-redis/redis_rate/v10"
)

// Limits outside of these Redis is not asked about. Its clock counts microseconds,
// so a faster rate would be an inexact one.
const (
	minRate  = 1e-6 // events a second
	maxRate  = 1e5
	maxBurst = 1_000_000
)

// Rates limits how often something happens on all nodes together.
//
// As long as Redis keeps what it was told, no more than burst and the rate since
// go through. A flush forgets what was used, which allows one more burst.
type Rates struct {
	c       *Client
	limiter *redis_rate.Limiter
}

func newRates(c *Client) *Rates { return &Rates{c, redis_rate.NewLimiter(c.redis)} }

// Allow takes n events of the limit that key names, or none of them; retryAfter is
// then how long to wait. If ok is false, Redis cannot say, and the caller has to
// limit by itself. Another rate or burst under the same key is another limit.
func (r *Rates) Allow(ctx context.Context, key string, rate float64, burst, n int) (isAllowed bool, retryAfter time.Duration, ok bool) {
	if !(rate >= minRate && rate <= maxRate) || n < 1 || n > burst || burst > maxBurst {
		r.c.metrics.count("rates", refused)
		return false, 0, false
	}
	at := name("rate", key, strconv.FormatFloat(rate, 'g', -1, 64), strconv.Itoa(burst))
	// Rounded up: rather a little less than the rate than more.
	limit := redis_rate.Limit{Rate: 1, Period: time.Duration(math.Ceil(1e9 / rate)), Burst: burst}
	var said *redis_rate.Result
	err := r.c.ask(ctx, func(ctx context.Context) (err error) {
		said, err = r.limiter.AllowN(ctx, at, limit, n)
		return err
	})
	switch {
	case err != nil:
		r.c.metrics.count("rates", failure(err))
		return false, 0, false
	case said.Allowed == n:
		r.c.metrics.count("rates", allowed)
		return true, 0, true
	case said.RetryAfter < 0 || said.RetryAfter.Seconds() > float64(burst)*limit.Period.Seconds()+1:
		// Longer than it takes to refill: the clock of Redis went back, as after a
		// failover, or this is not what we stored.
		r.c.metrics.count("rates", foreign)
		return false, 0, false
	}
	r.c.metrics.count("rates", denied)
	return false, max(said.RetryAfter, time.Millisecond), true
}
