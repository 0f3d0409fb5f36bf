package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

func TestAServerBoundsItsQueues(t *testing.T) {
	t.Parallel()
	server := serveIn(t, "--max-queued", "2", "--resource", "slots=0")
	submit := func(args ...string) outcome {
		return troupe(t, server, false, "", append([]string{"submit", "demo.echo"}, args...)...)
	}
	wantStatus(t, submit(), 0)
	wantStatus(t, submit(), 0)
	wantStatus(t, submit(), 1, "queue default", "as may")
	wantStatus(t, submit("--queue", "other"), 0)
	lines := strings.Repeat(`{"kind":"demo.echo","queue":"lines"}`+"\n", 3)
	wantStatus(t, troupe(t, server, false, lines, "batch", "-"), 1, "queue lines")
	wantStatus(t, troupe(t, server, false, "", "queues", "set", "default", "--max-queued", "3"), 0)
	wantStatus(t, submit("--deadline", "2999-01-01T00:00:00Z", "--late", "maybe"), 1, "late")
	wantStatus(t, submit("--late", "allow"), 0)
	wantStatus(t, submit("--late", "allow"), 1, "queue default")
}

func TestABreakerIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	server := serveIn(t)
	do := func(args ...string) outcome { return troupe(t, server, false, "", args...) }
	wantStatus(t, do("kinds", "set", "demo.flaky", "--breaker", "2", "--breaker-open", "1h"), 0)
	for range 2 {
		wantStatus(t, do("submit", "demo.flaky", `{"failures":9}`, "--max-attempts", "1", "--wait"), 1)
	}
	wantStatus(t, do("kinds"), 0, "2 in 1m0s for 1h0m0s", "(flaky)")
	id := strings.TrimSpace(do("submit", "demo.flaky", `{"failures":0}`).out)
	await(t.Context(), t, "the scheduler does not hear of the task", func() bool { return !strings.Contains(do("explain", id).out, "about to start") })
	wantStatus(t, do("explain", id), 0, "have failed, and none starts until")
	wantStatus(t, do("explain", id, "--json"), 0, `"reason":"breaker"`, `"until"`)
	wantStatus(t, do("kinds", "set", "demo.flaky", "--breaker", "0"), 0)
	wantStatus(t, do("watch", id), 0)
}

func TestADeadlineThatCannotBeMetIsToldAtOnce(t *testing.T) {
	t.Parallel()
	server := serveIn(t, "--resource", "slots=1")
	// Minutes of work before a deadline of a minute, so that none of it is over by the
	// time a slow machine has said so.
	lines := strings.Repeat(`{"kind":"demo.sleep","payload":{"duration":"100ms"}}`+"\n", 6000)
	wantStatus(t, troupe(t, server, false, lines, "batch", "-"), 0, "6000 stored")
	urgent := func(late string) string {
		deadline, _ := task.Time(time.Now().Add(time.Minute)).MarshalJSON()
		return `{"kind":"demo.echo","late":"` + late + `","deadline":` + string(deadline) + `}`
	}
	await(t.Context(), t, "a refusal", func() bool {
		r, err := http.Post(server+"/v1/tasks", "application/json", strings.NewReader(urgent("refuse")))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode == http.StatusCreated {
			return false // nothing has been learned yet
		}
		var p transport.Problem
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			t.Fatal(err)
		}
		after, _ := strconv.Atoi(r.Header.Get("Retry-After"))
		if r.StatusCode != http.StatusServiceUnavailable || p.Code != "deadline_unreachable" || after < 1 || after > 60 ||
			p.ExpectedStart == nil || !time.Time(*p.ExpectedStart).After(time.Now()) {
			t.Errorf("%s, %+v", r.Status, p)
		}
		return true
	})
	r, err := http.Post(server+"/v1/tasks", "application/json", strings.NewReader(urgent("allow")))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusCreated {
		t.Errorf("%s, where it may be late", r.Status)
	}
}

// flood submits through both nodes at once far more than a queue may hold.
func flood(t *testing.T, nodes []*client.Client, queue string) (taken, refused int64) {
	t.Helper()
	var in, out atomic.Int64
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 40 {
				_, _, err := nodes[i%2].Submit(t.Context(), transport.Submission{Kind: "nobody.serves", Queue: queue})
				p, known := errors.AsType[*transport.Problem](err)
				switch {
				case err == nil:
					in.Add(1)
				case known && p.Code == "queue_full":
					out.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	return in.Load(), out.Load()
}

func TestLimitsOfAClusterOnPostgreSQL(t *testing.T) {
	t.Parallel()
	binary, url := buildTroupe(t), database(t)
	var nodes []*client.Client
	for _, name := range []string{"a", "b"} {
		v := newVictim(t, binary, "--store", url, "--name", name, "--max-queued", "100", "--lease", noDeath)
		v.start(t)
		c, err := client.New("http://"+v.address, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		await(t.Context(), t, "node "+name, func() bool { return c.Ready(t.Context()) == nil })
		nodes = append(nodes, c)
	}
	await(t.Context(), t, "them to meet", func() bool {
		w, err := nodes[0].Workers(t.Context())
		return err == nil && len(w.Workers) == 2
	})
	round := 0
	oneOf(t, 5, func() error {
		round++
		taken, refused := flood(t, nodes, fmt.Sprintf("queue-%d", round))
		if taken < 100 || taken+refused != 320 {
			t.Errorf("%d were taken and %d refused, where 100 may wait", taken, refused)
		}
		// What a node takes before it has heard of the other depends on both being awake.
		if taken > 150 {
			return fmt.Errorf("%d were taken, where 100 may wait", taken)
		}
		return nil
	})

	breaker := &transport.Breaker{Failures: 2, OpenFor: "1h"}
	if _, err := nodes[0].SetKind(t.Context(), "demo.flaky", transport.KindChange{Breaker: breaker}); err != nil {
		t.Fatal(err)
	}
	await(t.Context(), t, "each node to tell the other that it starts none", func() bool {
		for _, c := range nodes {
			_, _, err := c.Submit(t.Context(), transport.Submission{
				Kind: "demo.flaky", Queue: "flaky", Payload: json.RawMessage(`{"failures":9}`), MaxAttempts: 1,
			})
			if err != nil && !strings.Contains(err.Error(), "may") {
				t.Fatal(err)
			}
		}
		kinds, err := nodes[1].Kinds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kinds.Kinds {
			if len(k.Tripped) == 2 {
				return k.Name == "demo.flaky" && k.Tripped[0].Node != k.Tripped[1].Node && k.Tripped[0].Code == "flaky"
			}
		}
		return false
	})
}
