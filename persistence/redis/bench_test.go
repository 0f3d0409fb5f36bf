package redis_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
)

// BenchmarkCalls is what a call costs, over loopback and with the breaker open.
func BenchmarkCalls(b *testing.B) {
	server := redistest.New(b)
	c := open(b, server.URL(""), redis.Options{})
	result := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
	put(b, c.Results, "k", string(result))
	kinds := []string{"demo.work"}
	all := []struct {
		name string
		call func()
	}{
		{"Get", func() { c.Results.Get(b.Context(), "ns", "kind", "k") }},
		{"Put", func() { c.Results.Put(b.Context(), "ns", "kind", "k", result, time.Hour) }},
		{"Allow", func() { c.Rates.Allow(b.Context(), "k", 1e5, 1000, 1) }},
		{"Tell", func() { c.Hints.Tell(kinds) }},
	}
	for _, state := range []string{"up", "down"} {
		if state == "down" {
			server.Kill()
			for range 10 {
				all[0].call()
			}
		}
		for _, a := range all {
			b.Run(state+"/"+a.name, func(b *testing.B) {
				for b.Loop() {
					a.call()
				}
			})
			b.Run(state+"/"+a.name+"/parallel", func(b *testing.B) {
				b.SetParallelism(8)
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						a.call()
					}
				})
			})
		}
	}
}

// BenchmarkHint is the way of a hint from one node to another, the time it is
// gathered included.
func BenchmarkHint(b *testing.B) {
	server := redistest.New(b)
	from, to := open(b, server.URL(""), redis.Options{}), open(b, server.URL(""), redis.Options{})
	heard := make(chan struct{}, 1)
	go to.Hints.Listen(b.Context(), func([]string) { heard <- struct{}{} })
	<-heard
	for b.Loop() {
		from.Hints.Tell([]string{"demo.work"})
		<-heard
	}
}
