package task

import (
	"math"
	"time"
)

// Retry is how long a failed task waits before its next attempt: Initial,
// then Factor times as long each time, spread by ±Jitter (a fraction) so that
// tasks that failed together do not come back together. No wait is longer than
// Max: near it the spread goes downwards only. A Jitter of 1 is full: any wait from
// none to what it would be without.
type Retry struct {
	Initial time.Duration
	Factor  float64
	Max     time.Duration
	Jitter  float64
}

// DefaultRetry is what a task gets that names none.
var DefaultRetry = Retry{Initial: time.Second, Factor: 2, Max: time.Hour, Jitter: 0.2}

// orDefault fills what was left out, with no wait above longest. A wholly empty
// Retry is the default; in a given one only the jitter may be zero and mean it.
func (r Retry) orDefault(longest time.Duration) Retry {
	if r == (Retry{}) {
		r.Jitter = DefaultRetry.Jitter
	}
	if r.Initial == 0 {
		r.Initial = min(DefaultRetry.Initial, longest)
		if r.Max > 0 {
			r.Initial = min(r.Initial, r.Max)
		}
	}
	if r.Factor == 0 {
		r.Factor = DefaultRetry.Factor
	}
	if r.Max == 0 {
		r.Max = max(min(DefaultRetry.Max, longest), r.Initial)
	}
	return r
}

// Backoff is the wait after the n-th failure (n from 1). chance is uniform in
// [0,1) and picks the place within the jitter.
func (r Retry) Backoff(n int, chance float64) time.Duration {
	longest := float64(r.Max)
	wait := float64(r.Initial) * math.Pow(r.Factor, float64(max(n, 1)-1))
	wait = min(wait, longest) // also catches +Inf
	from, to := wait*(1-r.Jitter), min(wait*(1+r.Jitter), longest)
	if r.Jitter == 1 {
		to = wait
	}
	wait = from + chance*(to-from)
	if wait < longest {
		return time.Duration(wait)
	}
	return r.Max // and not longest, which may be more: a float has 53 bits
}
