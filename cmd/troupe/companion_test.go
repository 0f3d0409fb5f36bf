package main

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/redis/redistest"
	"github.com/troupe-run/troupe/transport/client"
)

// TestRedisMayForgetAndFall has two nodes share a Redis that is flushed all the
// time, killed and held still, while clients submit and watch. Nothing may come of
// that but time.
func TestRedisMayForgetAndFall(t *testing.T) {
	t.Parallel()
	cache := redistest.New(t)
	binary := buildTroupe(t)
	var addresses []string
	url := database(t)
	for _, name := range []string{"a", "b"} {
		v := newVictim(t, binary, "--store", url, "--redis", cache.URL(""), "--submit-rate", "2000/s", "--name", name, "--lease", noDeath)
		v.start(t)
		addresses = append(addresses, v.address)
	}
	w := newWitness(t, balancer(t, addresses))
	ctx, cancel := within(t)
	t.Cleanup(w.watchers.Wait)
	t.Cleanup(cancel)
	await(ctx, t, "the nodes to be ready", func() bool { return w.client.Ready(ctx) == nil })
	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	w.follow(feeds, &client.Filter{})
	random := rand.New(rand.NewPCG(1, 2))
	beat := time.NewTicker(100 * time.Millisecond)
	defer beat.Stop()
	for i := range 40 {
		switch i {
		case 10, 20:
			cache.Kill()
		case 13, 23:
			cache.Restart(t)
		case 30:
			cache.Stop(t)
		case 35:
			cache.Continue(t)
		}
		if i < 10 || i > 35 {
			cache.Flush(t)
		}
		if i%5 == 0 {
			lines := w.lines(random, 150)
			w.submitting.Go(func() { w.batch(ctx, lines, len(lines), nil) })
		}
		w.stream(ctx, "20", 3, 0)
		<-beat.C
	}
	w.submitting.Wait()
	w.settle(ctx, t)
	endFeeds()
	await(ctx, t, "watchers that do not end with their tasks", func() bool { return w.watching.Load() == 0 })
	w.collect(ctx, t)
	w.verdict(t)
	if len(w.h.acked) < 500 || len(w.h.acked) != len(w.h.tasks) {
		t.Errorf("%d tasks acknowledged, %d there", len(w.h.acked), len(w.h.tasks))
	}
}
