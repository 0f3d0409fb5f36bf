package task

import (
	"math"
	"time"
)

// Retry is how long a failed task waits before its next attempt: Initial,
// then Factor times as long each time, never more than Max, each wait spread by
// ±Jitter (a fraction) so that tasks that failed together do not come back
// together.
type Retry struct {
	Initial time.Duration
	Factor  float64
	Max     time.Duration
	Jitter  float64
}

// DefaultRetry is what a task gets that names none.
var DefaultRetry = Retry{Initial: time.Second, Factor: 2, Max: time.Hour, Jitter: 0.2}

// orDefault fills what was left out. A wholly empty Retry is the default; in a
// given one only the jitter may be zero and mean it.
func (r Retry) orDefault() Retry {
	if r == (Retry{}) {
		return DefaultRetry
	}
	if r.Initial == 0 {
		r.Initial = DefaultRetry.Initial
		if r.Max > 0 {
			r.Initial = min(r.Initial, r.Max)
		}
	}
	if r.Factor == 0 {
		r.Factor = DefaultRetry.Factor
	}
	if r.Max == 0 {
		r.Max = max(DefaultRetry.Max, r.Initial)
	}
	return r
}

// Backoff is the wait after the n-th failure (n from 1). chance is uniform in
// [0,1) and picks the place within the jitter.
func (r Retry) Backoff(n int, chance float64) time.Duration {
	wait := float64(r.Initial) * math.Pow(r.Factor, float64(max(n, 1)-1))
	wait = min(wait, float64(r.Max)) // also catches +Inf
	wait *= 1 + r.Jitter*(2*chance-1)
	return time.Duration(min(wait, float64(r.Max)))
}
