package redis_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
)

// listen has a client listen and waits until it does.
func listen(t *testing.T, c *redis.Client) <-chan []string {
	t.Helper()
	heard := make(chan []string, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		c.Hints.Listen(ctx, func(kinds []string) { heard <- kinds })
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	if kinds := next(t, heard); kinds != nil {
		t.Fatalf("the first thing heard is %q, want nil: look", kinds)
	}
	return heard
}

func next(t *testing.T, heard <-chan []string) []string {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case kinds := <-heard:
		return kinds
	case <-late.C:
		t.Fatal("nothing is heard")
		return nil
	}
}

// hint is the next thing heard that is not a call to look, which comes behind every
// connection: a machine that stands still makes more of them.
func hint(t *testing.T, heard <-chan []string) []string {
	t.Helper()
	for {
		if kinds := next(t, heard); kinds != nil {
			return kinds
		}
	}
}

func TestHintReachesOthersAndNotItsSender(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	one, other := open(t, server.URL(""), redis.Options{Metrics: reg}), open(t, server.URL(""), redis.Options{})
	atOne, atOther := listen(t, one), listen(t, other)
	var kinds []string
	eventually(t, "a hint arrives", func() bool {
		one.Hints.Tell([]string{"b", "a", "Not a kind", "b"})
		for len(atOther) > 0 && kinds == nil {
			kinds = <-atOther
		}
		return kinds != nil
	})
	if !slices.Equal(kinds, []string{"a", "b"}) {
		t.Errorf("heard %q", kinds)
	}
	eventually(t, "its sender sees it, too", func() bool { return calls(t, reg, "hints", "own") > 0 })
	for len(atOne) > 0 {
		if kinds := <-atOne; kinds != nil {
			t.Errorf("a node woke itself with %q", kinds)
		}
	}
}

func TestManyHintsAreSentAsOne(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	one, other := open(t, server.URL(""), redis.Options{Metrics: reg}), open(t, server.URL(""), redis.Options{})
	heard := listen(t, other)
	began := time.Now()
	for i := range 20_000 {
		one.Hints.Tell([]string{fmt.Sprint("kind", i%5)})
	}
	all := map[string]bool{}
	eventually(t, "all kinds are heard", func() bool {
		for len(heard) > 0 {
			for _, kind := range <-heard {
				all[kind] = true
			}
		}
		for i := range 5 { // again, as a hint may be lost
			one.Hints.Tell([]string{fmt.Sprint("kind", i)})
		}
		return len(all) == 5
	})
	took := time.Since(began)
	if n := calls(t, reg, "hints", "sent"); n > took.Seconds()/0.002+2 {
		t.Errorf("%v hints were sent within %v, want one in 2 ms", n, took)
	}

	// More kinds at once than a hint holds are told as "any".
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprint("many", i))
	}
	eventually(t, "any", func() bool {
		one.Hints.Tell(many)
		for len(heard) > 0 {
			kinds := <-heard
			if len(kinds) > 256 {
				t.Fatalf("%d kinds in one hint", len(kinds))
			}
			if kinds == nil {
				return true
			}
		}
		return false
	})
}

func TestListenerLooksAfterEveryLostConnection(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	heard := listen(t, open(t, server.URL(""), redis.Options{Metrics: reg}))
	for name, harm := range map[string]func(){
		"cut": func() { server.Do(t, "CLIENT", "KILL", "TYPE", "pubsub") },
		"killed": func() {
			server.Kill()
			server.Restart(t)
		},
	} {
		harm()
		if kinds := next(t, heard); kinds != nil {
			t.Errorf("%s: heard %q, want nil: look", name, kinds)
		}
	}

	// A connection that leads nowhere is noticed though nothing closes it.
	before := calls(t, reg, "hints", "lost")
	server.Stop(t)
	eventually(t, "the silence is noticed", func() bool { return calls(t, reg, "hints", "lost") > before })
	server.Continue(t)
	if kinds := next(t, heard); kinds != nil {
		t.Errorf("after a hang: heard %q, want nil: look", kinds)
	}
}

func TestUnreadableHintsAreCountedAndDropped(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, strings.TrimSuffix(server.URL(""), "0")+"3", redis.Options{Metrics: reg})
	heard := listen(t, c)
	bad := []string{"", " ", "a  b", `{"kinds":["a"]}`, "x\ny", "from A", strings.Repeat("a ", 20_000) + "a", "a" + strings.Repeat(" a", 257)}
	// say says it until it is noticed: whoever is just connecting anew does not hear it.
	say := func(hint, as string) {
		t.Helper()
		for before := calls(t, reg, "hints", as); calls(t, reg, "hints", as) == before; {
			connections := calls(t, reg, "hints", "connected")
			server.Do(t, "PUBLISH", "troupe:1:hints:3", hint)
			eventually(t, "it is counted as "+as, func() bool {
				return calls(t, reg, "hints", as) > before || calls(t, reg, "hints", "connected") > connections
			})
		}
	}
	for _, bad := range bad {
		say(bad, "unreadable")
	}
	server.Do(t, "PUBLISH", "troupe:1:hints:0", "from another.database")
	say("from good", "heard")
	if kinds := hint(t, heard); !slices.Equal(kinds, []string{"good"}) {
		t.Errorf("heard %.100q", kinds)
	}
}
