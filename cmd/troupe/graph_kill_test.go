package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

const (
	graphTasks = 150
	graphKills = 6
)

// TestGraphClusterKill kills three nodes on one PostgreSQL by turns while they work
// through a batch whose tasks depend on each other, with a callback behind it, and
// while a schedule fires every second. Nothing runs before its time, and what is to
// be once is once.
func TestGraphClusterKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := within(t)
	defer cancel()
	nodes, c := victims(ctx, t, 3)
	insist(ctx, t, func() error {
		_, err := c.SetSchedule(ctx, transport.ScheduleBody{
			Name: "tick", Every: "1s", CatchUp: "all", CatchUpLimit: 1000, Task: transport.Submission{Kind: "demo.echo", MaxAttempts: mostAttempts},
		})
		return err
	})
	var graph []transport.Submission
	var batch transport.BatchSummary
	insist(ctx, t, func() (err error) {
		graph = randomGraph()
		var lines bytes.Buffer
		for _, s := range graph {
			if err := json.NewEncoder(&lines).Encode(s); err != nil {
				t.Fatal(err)
			}
		}
		if batch, err = c.Batch(ctx, &lines, func(transport.BatchLine) {}); err == nil && batch.Accepted != graphTasks {
			err = fmt.Errorf("not all were taken: %+v", batch)
		}
		return err
	})
	var callback transport.Task
	insist(ctx, t, func() (err error) {
		callback, err = c.SetCallback(ctx, batch.BatchID, transport.Submission{Kind: "demo.echo", MaxAttempts: mostAttempts})
		return err
	})
	for kill := range graphKills {
		pause(ctx, t, rand.N(900*time.Millisecond))
		n := nodes[kill%3]
		n.mustKill(t)
		pause(ctx, t, rand.N(2*clusterLease))
		n.start(t)
		n.ready(ctx, t, c)
	}
	outcomeOf(ctx, t, c, callback.ID)
	last := judgeGraph(ctx, t, c, graph)
	called := lookAt(ctx, t, c, callback.ID)
	if time.Time(*called.StartedAt).Before(last) {
		t.Errorf("the callback began at %s, and the batch ended at %s", time.Time(*called.StartedAt), last)
	}
	judgeTicks(ctx, t, c)
}

// randomGraph is tasks of which each depends on up to three before it.
func randomGraph() []transport.Submission {
	graph := make([]transport.Submission, graphTasks)
	for i := range graph {
		graph[i] = transport.Submission{
			ID: uuid.Must(uuid.NewV7()).String(), Kind: "demo.sleep", MaxAttempts: mostAttempts,
			Payload: fmt.Appendf(nil, `{"duration":"%dms"}`, rand.N(300)),
			Retry:   &transport.RetrySubmission{Initial: "10ms", Max: "10ms"},
		}
		seen := map[string]bool{}
		for range min(i, rand.N(4)) {
			if parent := graph[max(0, i-1-rand.N(30))].ID; !seen[parent] {
				seen[parent] = true
				graph[i].DependsOn = append(graph[i].DependsOn, parent)
			}
		}
	}
	return graph
}

// judgeGraph looks whether each ran behind those it depends on, and gives when the
// last one ended.
func judgeGraph(ctx context.Context, t *testing.T, c *client.Client, graph []transport.Submission) (last time.Time) {
	t.Helper()
	ended := map[string]time.Time{}
	for _, s := range graph {
		got := lookAt(ctx, t, c, s.ID)
		if got.State != task.Succeeded {
			t.Fatalf("%s is %s", s.ID, got.State)
		}
		ended[s.ID] = time.Time(*got.FinishedAt)
		for _, parent := range s.DependsOn {
			if began := time.Time(*got.StartedAt); began.Before(ended[parent]) {
				t.Errorf("%s began at %s, and %s ended at %s", s.ID, began, parent, ended[parent])
			}
		}
		if ended[s.ID].After(last) {
			last = ended[s.ID]
		}
	}
	return last
}

// judgeTicks looks whether each second since the schedule was made has its task.
func judgeTicks(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	await(ctx, t, "a schedule that does not fire", func() bool {
		s, err := c.Schedule(ctx, "tick")
		return err == nil && s.LastAt != nil && time.Time(*s.LastAt).Sub(time.Time(s.CreatedAt)) > graphKills*time.Second
	})
	closed := true
	var s transport.Schedule
	insist(ctx, t, func() (err error) {
		s, err = c.ChangeSchedule(ctx, "tick", transport.ScheduleChange{Paused: &closed})
		return err
	})
	seen := map[time.Time]int{}
	for v, err := range c.List(ctx, url.Values{"kind": {"demo.echo"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if v.Schedule != nil {
			seen[time.Time(v.Schedule.At).UTC()]++
		}
	}
	ticks := 0
	for at := time.Time(s.CreatedAt).Add(time.Second); !at.After(time.Time(*s.LastAt)); at = at.Add(time.Second) {
		if ticks++; seen[at.UTC()] != 1 {
			t.Errorf("tick %s has %d tasks", at, seen[at.UTC()])
		}
	}
	if len(seen) != ticks || s.Fired != int64(ticks) || ticks < graphKills {
		t.Errorf("%d tasks of %d ticks, %d fired", len(seen), ticks, s.Fired)
	}
	t.Logf("%d ticks", ticks)
}
