package redis_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
)

func TestRateHoldsForAllNodesTogether(t *testing.T) {
	server := redistest.New(t)
	const (
		rate  = 50.0
		burst = 30
	)
	var taken, denied atomic.Int64
	within, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	var all sync.WaitGroup
	for range 3 {
		node := open(t, server.URL(""), redis.Options{})
		for worker := range 4 {
			all.Go(func() {
				for within.Err() == nil && (taken.Load() < 3*burst || denied.Load() == 0) {
					n := 1 + worker%2
					switch isAllowed, retryAfter, ok := node.Rates.Allow(t.Context(), "k", rate, burst, n); {
					case isAllowed && ok:
						taken.Add(int64(n))
					case isAllowed:
						t.Error("allowed by a Redis that cannot say")
					case ok:
						denied.Add(1)
						if longest := time.Duration(float64(burst) / rate * float64(time.Second)); retryAfter <= 0 || retryAfter > longest {
							t.Errorf("come again after %v, want at most %v", retryAfter, longest)
						}
					}
				}
			})
		}
	}
	all.Wait()
	atMost := burst + rate*time.Since(began).Seconds()
	if got := float64(taken.Load()); got > atMost+1 {
		t.Errorf("%v went through, want at most %v", got, atMost)
	} else if got < 3*burst {
		t.Errorf("only %v went through", got)
	}
	if denied.Load() == 0 {
		t.Error("nobody was denied: there was no load")
	}
}

func TestRateIsTheCallersOwnWhereRedisCannotSay(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Metrics: reg})
	for _, limit := range []struct {
		rate     float64
		burst, n int
	}{
		{0, 1, 1},
		{-1, 1, 1},
		{math.NaN(), 1, 1},
		{math.Inf(1), 1, 1},
		{1e9, 1, 1},
		{1e-9, 1, 1},
		{1, 0, 1},
		{1, 1, 0},
		{1, 1, -1},
		{1, 1, 2},
		{1, math.MaxInt, 1},
	} {
		if isAllowed, _, ok := c.Rates.Allow(t.Context(), "k", limit.rate, limit.burst, limit.n); isAllowed || ok {
			t.Errorf("%+v: Redis had a say", limit)
		}
	}

	// Its clock went back a day, as if another server with another clock took over.
	eventually(t, "a key is made", func() bool {
		_, _, ok := c.Rates.Allow(t.Context(), "k", 1e-3, 5, 1) // so that the key is there for long
		return ok
	})
	key := server.Do(t, "RANDOMKEY")
	server.Do(t, "EVAL", "return redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) + 86400)", "1", key)
	eventually(t, "it is noticed", func() bool {
		if _, _, ok := c.Rates.Allow(t.Context(), "k", 1e-3, 5, 1); ok {
			t.Fatal("a node waits a day for a clock")
		}
		return calls(t, reg, "rates", "foreign") > 0
	})

	server.Kill()
	if isAllowed, _, ok := c.Rates.Allow(t.Context(), "k", 1, 1, 1); isAllowed || ok {
		t.Error("a dead server had a say")
	}
}

func TestAnotherLimitUnderTheSameKeyIsAnother(t *testing.T) {
	c := open(t, redistest.New(t).URL(""), redis.Options{})
	for _, burst := range []int{1, 2} {
		eventually(t, "a new limit begins with its burst", func() bool {
			isAllowed, _, ok := c.Rates.Allow(t.Context(), "k", 1e-6, burst, burst)
			if ok && !isAllowed {
				t.Fatalf("burst %d is used up already", burst)
			}
			return ok
		})
	}
}
