package task

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyRetry(t *rapid.T, longest time.Duration) Retry {
	initial := anyTime(1, longest).Draw(t, "initial")
	return Retry{
		Initial: initial, Max: anyTime(initial, longest).Draw(t, "max"),
		Factor: rapid.Float64Range(1, 100).Draw(t, "factor"), Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter"),
	}
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRetry(t, math.MaxInt64)
		n := rapid.OneOf(rapid.IntRange(1, 70), rapid.IntRange(math.MinInt, math.MaxInt)).Draw(t, "n")
		wait := r.Backoff(n, rapid.Float64Range(0, 0.9999999).Draw(t, "chance"))
		if wait < 0 || wait > r.Max {
			t.Fatalf("%+v waits %v before attempt %d", r, wait, n)
		}
		if lowest := float64(r.Initial) * (1 - r.Jitter); float64(wait) < lowest*(1-1e-12)-1 {
			t.Fatalf("%+v waits %v before attempt %d", r, wait, n)
		}
	})
}

func TestBackoffGrowsByItsFactor(t *testing.T) {
	r := Retry{Initial: time.Second, Factor: 3, Max: 20 * time.Second}
	for n, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: time.Second, 2: 3 * time.Second, 3: 9 * time.Second,
		4: 20 * time.Second, 5: 20 * time.Second, math.MaxInt: 20 * time.Second,
	} {
		if got := r.Backoff(n, 0.5); got != want {
			t.Errorf("after failure %d it waits %v, want %v", n, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r, chance := anyRetry(t, 1000*time.Hour), rapid.Float64Range(0, 0.999).Draw(t, "chance")
		for n := 1; n < 20; n++ {
			if r.Backoff(n+1, chance) < r.Backoff(n, chance) {
				t.Fatalf("%+v waits %v, then %v", r, r.Backoff(n, chance), r.Backoff(n+1, chance))
			}
		}
	})
}

func TestJitterSpreadsTasksThatFailedTogether(t *testing.T) {
	r := Retry{Initial: 10 * time.Second, Factor: 2, Max: 40 * time.Second, Jitter: 0.2}
	for _, tt := range []struct {
		n      int
		chance float64
		want   time.Duration
	}{
		{n: 1, chance: 0, want: 8 * time.Second},
		{n: 1, chance: 0.5, want: 10 * time.Second},
		{n: 1, chance: 1, want: 12 * time.Second},
		{n: 2, chance: 1, want: 24 * time.Second},
		{n: 9, chance: 0, want: 32 * time.Second},
		{n: 9, chance: 0.5, want: 36 * time.Second},
		{n: 9, chance: 1, want: 40 * time.Second},
	} {
		if got := r.Backoff(tt.n, tt.chance); (got - tt.want).Abs() > time.Microsecond {
			t.Errorf("failure %d, chance %v: waits %v, want %v", tt.n, tt.chance, got, tt.want)
		}
	}
	r.Jitter = 1
	for n, most := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 9: 40 * time.Second} {
		if least, half, all := r.Backoff(n, 0), r.Backoff(n, 0.5), r.Backoff(n, 1); least != 0 || half != most/2 || all != most {
			t.Errorf("failure %d with full jitter: waits %v, %v, %v", n, least, half, all)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := anyRetry(t, 1000*time.Hour)
		r.Jitter, r.Initial, r.Max = max(r.Jitter, 0.01), r.Initial+time.Second, r.Max+time.Second
		n := rapid.IntRange(1, 100).Draw(t, "n")
		chance := rapid.Float64Range(0, 0.9).Draw(t, "chance")
		if r.Backoff(n, chance) >= r.Backoff(n, chance+0.05) {
			t.Fatalf("%+v: two tasks that failed together come back together, after %v", r, r.Backoff(n, chance))
		}
	})
}

func TestRetryFillsOnlyWhatWasLeftOut(t *testing.T) {
	for _, tt := range []struct{ give, want Retry }{
		{Retry{}, DefaultRetry},
		{Retry{Jitter: 0.5}, Retry{time.Second, 2, time.Hour, 0.5}},
		{Retry{Initial: time.Minute}, Retry{time.Minute, 2, time.Hour, 0}},
		{Retry{Initial: 2 * time.Hour}, Retry{2 * time.Hour, 2, 2 * time.Hour, 0}},
		{Retry{Max: time.Millisecond}, Retry{time.Millisecond, 2, time.Millisecond, 0}},
		{Retry{Max: time.Minute, Factor: 1}, Retry{time.Second, 1, time.Minute, 0}},
	} {
		got, err := Limits{}.Check(Spec{Kind: "a", Retry: tt.give}, epoch)
		if err != nil || got.Retry != tt.want {
			t.Errorf("%+v became %+v, %v", tt.give, got.Retry, err)
		}
	}
}
