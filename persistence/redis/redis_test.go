package redis_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := leaked(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// leaked is what is left running. After an outage the driver dials once more
// before it sees that it was closed, which takes longer than one look does.
func leaked(options ...goleak.Option) (err error) {
	for range 30 {
		if err = goleak.Find(options...); err == nil {
			break
		}
	}
	return err
}

// patience is how long a test waits for what must come. Only those that fail wait so
// long, so it is more than a slow machine ever needs.
const patience = 2 * time.Minute

func open(tb testing.TB, url string, opt redis.Options) *redis.Client {
	tb.Helper()
	c, err := redis.Open(tb.Context(), url, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// eventually asks until it is so: a call that a busy machine made too slow finds
// no Redis, which is right, and not what these tests are about.
func eventually(tb testing.TB, what string, isSo func() bool) {
	tb.Helper()
	within, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !isSo() {
		select {
		case <-again.C:
		case <-within.Done():
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

// put puts until it is there.
func put(tb testing.TB, r *redis.Results, key, result string) {
	tb.Helper()
	eventually(tb, "a result is found", func() bool {
		r.Put(tb.Context(), "ns", "kind", key, json.RawMessage(result), time.Hour)
		got, _, ok := r.Get(tb.Context(), "ns", "kind", key)
		if ok && string(got) != result {
			tb.Fatalf("put %s, got %s", result, got)
		}
		return ok
	})
}

// unasked says that none of some calls asks Redis, nor so waits for it.
func unasked(tb testing.TB, reg *prometheus.Registry, part string, call func()) {
	tb.Helper()
	const times = 20
	before, failures := calls(tb, reg, part, "skipped"), calls(tb, reg, part, "failed")
	for range times {
		call()
	}
	if n := calls(tb, reg, part, "skipped") - before; n != times || calls(tb, reg, part, "failed") > failures {
		tb.Errorf("with an open breaker, %v of %d %s asked nobody", n, times, part)
	}
}

// calls reads how often a part came to a result.
func calls(tb testing.TB, reg *prometheus.Registry, part, result string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); len(l) == 2 && l[0].GetValue() == part && l[1].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func isUp(tb testing.TB, reg *prometheus.Registry) bool {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "troupe_redis_up" {
			return f.GetMetric()[0].GetGauge().GetValue() == 1
		}
	}
	tb.Fatal("no troupe_redis_up")
	return false
}

// spoken is a log that a test may read while it is written.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *spoken) log() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func TestHangingServerCostsAFewTimeoutsAndThenNothing(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Metrics: reg})
	put(t, c.Results, "k", "1")

	server.Stop(t)
	before := calls(t, reg, "results", "failed")
	eventually(t, "the breaker opens", func() bool {
		c.Results.Get(t.Context(), "ns", "kind", "k")
		return !isUp(t, reg)
	})
	if n := calls(t, reg, "results", "failed") - before; n > 3 {
		t.Errorf("%v calls of one caller were made until the breaker opened, want 3 at most", n)
	}
	unasked(t, reg, "results", func() { c.Results.Get(t.Context(), "ns", "kind", "k") })
	unasked(t, reg, "results", func() { c.Results.Put(t.Context(), "ns", "kind", "k", json.RawMessage("1"), time.Hour) })
	unasked(t, reg, "rates", func() { c.Rates.Allow(t.Context(), "k", 10, 1, 1) })
	c.Hints.Tell([]string{"kind"})
	eventually(t, "a hint is not sent", func() bool { return calls(t, reg, "hints", "skipped") > 0 })

	server.Continue(t)
	eventually(t, "the breaker closes", func() bool { return isUp(t, reg) })
	put(t, c.Results, "k", "1")
}

func TestServerThatComesLateOrAgainIsUsed(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	server.Kill()
	var said spoken
	c := open(t, server.URL(""), redis.Options{Log: said.log(), Metrics: reg})
	if isUp(t, reg) {
		t.Fatal("a server that is not there is up")
	}
	unasked(t, reg, "results", func() { c.Results.Get(t.Context(), "ns", "kind", "k") })
	for range 2 {
		server.Restart(t)
		put(t, c.Results, "k", "1")
		server.Kill()
		eventually(t, "the breaker opens", func() bool {
			c.Results.Get(t.Context(), "ns", "kind", "k")
			return !isUp(t, reg)
		})
	}
	// Open saw an outage, and two came later: said once each, not once a call. A machine
	// that stands still makes more of them.
	eventually(t, "three outages are logged", func() bool { return strings.Count(said.String(), "does not answer") >= 3 })
	if outages, ends := strings.Count(said.String(), "does not answer"), strings.Count(said.String(), "redis answers"); outages > ends+1 {
		t.Errorf("of outages, %d begins and %d ends were logged:\n%s", outages, ends, said.String())
	}
}

func TestCallersEndSaysNothingOfRedis(t *testing.T) {
	server, reg := redistest.New(t), prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Metrics: reg})
	eventually(t, "Redis is up", func() bool { return isUp(t, reg) })
	ended, end := context.WithCancel(t.Context())
	end()
	for range 50 {
		c.Results.Get(ended, "ns", "kind", "k")
	}
	if n := calls(t, reg, "results", "skipped"); n > 0 {
		t.Errorf("callers that gave up opened the breaker: %v calls skipped", n)
	}
}

func TestPasswordIsNeverShown(t *testing.T) {
	const secret = "s3cr3t"
	long := strings.Repeat(secret, 40) // a server that repeats it cuts it somewhere
	for _, url := range []string{
		"redis://u:" + secret + "#x@127.0.0.1:1/0", // the parser takes it for a port
		"redis://:1/" + secret + "@127.0.0.1:1/0",  // and here for a database
		"redis://127.0.0.1:1/0?" + secret + "=1",
		"http://u:" + secret + "@127.0.0.1:1/0",
		secret,
		"",
		"unix://u:" + secret + "@/run/redis.sock",
	} {
		c, err := redis.Open(t.Context(), url, redis.Options{})
		if err == nil {
			_ = c.Close()
			t.Errorf("%q was opened", url)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows it: %v", err)
		}
	}

	for _, server := range []string{
		redistest.New(t, "--requirepass", "another").Addr(),
		// One that does not know a command repeats what it was given.
		redistest.New(t, "--rename-command", "HELLO", "", "--rename-command", "AUTH", "").Addr(),
		parrot(t, "-ERR what is "+long+"?\r\n"),
	} {
		var said spoken
		c := open(t, "redis://u:"+long+"@"+server, redis.Options{Log: said.log()})
		if _, _, ok := c.Results.Get(t.Context(), "ns", "kind", "k"); ok {
			t.Error("found a result without the password")
		}
		if said.String() == "" || strings.Contains(said.String(), secret) {
			t.Errorf("the log shows it, or nothing:\n%s", said.String())
		}
	}
}

// parrot is a server that answers everything with the same words.
func parrot(t *testing.T, words string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				for heard := make([]byte, 4096); ; {
					if _, err := conn.Read(heard); err != nil {
						return
					}
					if _, err := conn.Write([]byte(words)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

func TestServerThatRefusesIsComplainedOfOnce(t *testing.T) {
	server := redistest.New(t, "--maxmemory", "1")
	var said spoken
	reg := prometheus.NewRegistry()
	c := open(t, server.URL(""), redis.Options{Log: said.log(), Metrics: reg})
	eventually(t, "writes are refused, and not skipped", func() bool {
		c.Results.Put(t.Context(), "ns", "kind", "k", json.RawMessage("1"), time.Hour)
		return calls(t, reg, "results", "failed") > 20
	})
	// Once, and once more after each outage that a machine makes which stands still.
	if n := strings.Count(said.String(), "OOM"); n < 1 || n > 1+strings.Count(said.String(), "redis answers") {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for name, harm := range map[string]func(*redistest.Server){
		"answering": func(*redistest.Server) {},
		"hanging":   func(s *redistest.Server) { s.Stop(t) },
		"dead":      func(s *redistest.Server) { s.Kill() },
	} {
		server := redistest.New(t)
		c, err := redis.Open(t.Context(), server.URL(""), redis.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var listening sync.WaitGroup
		connected := make(chan struct{}, 1)
		listening.Go(func() {
			c.Hints.Listen(t.Context(), func([]string) {
				select {
				case connected <- struct{}{}:
				default:
				}
			})
		})
		<-connected
		harm(server)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatalf("closed twice: %v", err)
		}
		listening.Wait()
		c.Hints.Tell([]string{"kind"})
		if _, _, ok := c.Results.Get(t.Context(), "ns", "kind", "k"); ok {
			t.Errorf("%s: a closed client found something", name)
		}
		server.Kill()
	}
	if err := leaked(before); err != nil {
		t.Error(err)
	}
}
