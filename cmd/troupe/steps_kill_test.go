package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

const (
	steppers    = 24
	stepsOfEach = 6
	stepKills   = 6
)

// TestStepsClusterKill kills two nodes on one PostgreSQL by turns, while tasks of
// steps run, sleep and wait for signals on whichever node there is. No step that
// was done is done again, and every task takes the first signal it was sent.
func TestStepsClusterKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := within(t)
	defer cancel()
	nodes, c := victims(ctx, t, 2)
	var ids []string
	for i := range steppers {
		payload := fmt.Sprintf(`{"steps":%d,"duration":"%dms","sleep":"%dms","wait_for":"go"}`, stepsOfEach, 20*(i%4), []int{0, 1200, 50}[i%3])
		id := uuid.Must(uuid.NewV7()).String()
		insist(ctx, t, func() error {
			_, _, err := c.Submit(ctx, transport.Submission{
				ID: id, Kind: "demo.steps", Payload: json.RawMessage(payload), MaxAttempts: mostAttempts,
				Retry: &transport.RetrySubmission{Initial: "10ms", Max: "10ms"},
			})
			return err
		})
		ids = append(ids, id)
	}
	for kill := range stepKills {
		pause(ctx, t, rand.N(900*time.Millisecond))
		n := nodes[kill%2]
		n.mustKill(t)
		for i, id := range ids {
			if i%stepKills == kill { // through the node that lives
				for v := range 2 {
					insist(ctx, t, func() error {
						err := c.Signal(ctx, id, "go", json.RawMessage(strconv.Itoa(v)))
						if p, ok := errors.AsType[*transport.Problem](err); ok && p.Code == "task_ended" {
							return nil // by the first, whose answer may be lost
						}
						return err
					})
				}
			}
		}
		if kill < len(nodes) { // each node has its part in it
			outcomeOf(ctx, t, c, ids[kill])
		}
		pause(ctx, t, rand.N(2*clusterLease))
		n.start(t)
		n.ready(ctx, t, c)
	}
	ranOn := map[string]bool{}
	most := 0
	for _, id := range ids {
		most = max(most, judgeSteps(ctx, t, c, id, outcomeOf(ctx, t, c, id), ranOn))
	}
	if len(ranOn) != len(nodes) {
		t.Errorf("all ran on %v", ranOn)
	}
	t.Logf("up to %d attempts", most)
}

// judgeSteps looks whether a task did each of its steps once; it notes where it ran,
// and gives how many attempts it took.
func judgeSteps(ctx context.Context, t *testing.T, c *client.Client, id string, result json.RawMessage, ranOn map[string]bool) (attempts int) {
	t.Helper()
	var got struct {
		RanIn  []int `json:"ran_in"`
		Signal int   `json:"signal"`
	}
	if err := json.Unmarshal(result, &got); err != nil || len(got.RanIn) != stepsOfEach || !slices.IsSorted(got.RanIn) || got.Signal != 0 {
		t.Errorf("%s gave %s", id, result)
	}
	finished := map[string]int{}
	for f, err := range c.Watch(ctx, client.Topic{Task: id, After: "0.0"}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e := f.Event; e.Type {
		case task.EventLog:
			var line struct {
				Message string
				Fields  struct{ Name string }
			}
			if err := json.Unmarshal(e.Data, &line); err != nil {
				t.Fatal(err)
			}
			if line.Message == "step finished" || line.Message == "signal taken" {
				finished[line.Fields.Name]++
			}
		case task.EventState:
			var state task.StateData
			if err := json.Unmarshal(e.Data, &state); err != nil {
				t.Fatal(err)
			}
			attempts = max(attempts, state.Attempt)
			if state.State == task.Running {
				ranOn[state.Node] = true
			}
		default:
		}
	}
	for name, times := range finished {
		if times != 1 {
			t.Errorf("%s did %q %d times", id, name, times)
		}
	}
	if len(finished) != stepsOfEach+1 {
		t.Errorf("%s did %v", id, finished)
	}
	return attempts
}

// victims starts nodes on one PostgreSQL, and gives a client that finds those that
// live; each is told more by its number.
func victims(ctx context.Context, t *testing.T, count int, more ...func(node int) []string) ([]*victim, *client.Client) {
	t.Helper()
	if testing.Short() {
		t.Skip("it kills processes for a while")
	}
	url, binary := database(t), buildTroupe(t)
	var nodes []*victim
	var addresses []string
	for i := range count {
		args := []string{"--store", url, "--lease", clusterLease.String(), "--name", "n" + strconv.Itoa(i), "--max-crashes", strconv.Itoa(mostAttempts)}
		for _, f := range more {
			args = append(args, f(i)...)
		}
		n := newVictim(t, binary, args...)
		n.start(t)
		nodes, addresses = append(nodes, n), append(addresses, n.address)
	}
	c, err := client.New("http://"+balancer(t, addresses), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].ready(ctx, t, c)
	return nodes, c
}

func pause(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		t.Fatal("out of time")
	}
}
