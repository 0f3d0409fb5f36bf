package main

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/persistence/redis/redistest"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

func TestCacheKeyAloneIsWrongUsage(t *testing.T) {
	wantStatus(t, troupe(t, "", false, "", "submit", "demo.echo", "--cache-key", "k"), exitUsage, "--cache")
}

// TestResultsAreSharedThroughRedisAndWithoutIt submits the same task to two nodes
// again and again, while Redis is there, knows nothing, and is gone.
func TestResultsAreSharedThroughRedisAndWithoutIt(t *testing.T) {
	t.Parallel()
	cache := redistest.New(t)
	binary, url := buildTroupe(t), database(t)
	ctx, cancel := within(t)
	defer cancel()
	var nodes []*client.Client
	var servers []string
	for _, name := range []string{"a", "b"} {
		v := newVictim(t, binary, "--store", url, "--redis", cache.URL(""), "--name", name, "--lease", noDeath)
		v.start(t)
		c, err := client.New("http://"+v.address, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		await(ctx, t, "node "+name, func() bool { return c.Ready(ctx) == nil })
		nodes, servers = append(nodes, c), append(servers, "http://"+v.address)
	}
	submit := func(n int, key string) string {
		t.Helper()
		v, _, err := nodes[n%2].Submit(ctx, transport.Submission{
			Kind: "demo.sleep", Payload: []byte(`{"duration":"300ms"}`), Cache: &transport.CacheSubmission{Key: key, TTL: "1h"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return v.ID
	}
	ended := func(id string) task.CacheStatus {
		t.Helper()
		var v transport.Task
		await(ctx, t, "task "+id, func() (over bool) {
			var err error
			v, err = nodes[0].Get(ctx, id)
			return err == nil && v.State.Terminal()
		})
		if v.State != task.Succeeded || string(v.Result) != `{"slept":"300ms"}` {
			t.Errorf("%s with %s", v.State, v.Result)
		}
		return v.Cache.Status
	}
	var ids []string
	for n := range 10 {
		ids = append(ids, submit(n, "k"))
	}
	ran := 0
	for _, id := range ids {
		if ended(id) == task.CacheMiss {
			ran++
		}
	}
	if ran != 1 {
		t.Errorf("%d of %d ran", ran, len(ids))
	}
	other := 0
	// One node keeps a result there, a moment after its task has ended, and the other
	// finds it; a call that takes too long is let go, so more than one may be needed.
	await(ctx, t, "a result found in Redis", func() bool {
		other++
		for n := range 2 {
			ended(submit(n, strconv.Itoa(other)))
		}
		return counted(ctx, t, servers[1], `troupe_redis_calls_total{part="results",result="hit"}`)
	})
	cache.Flush(t)
	if how := ended(submit(0, "k")); how != task.CacheHit {
		t.Errorf("after a flush: %q", how)
	}
	cache.Kill()
	for n := range 6 {
		if how := ended(submit(n, "k")); how != task.CacheHit {
			t.Errorf("without Redis: %q", how)
		}
	}
}

// counted says whether a server has a sample of that name above nought.
func counted(ctx context.Context, t *testing.T, server, name string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok && value != "0" {
			return true
		}
	}
	return false
}
