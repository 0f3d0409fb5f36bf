package actors

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Ten thousand tasks of one tenant wait on a node with eight slots. Those of another
// start as if half of the slots were theirs.
func TestAFloodOfOneTenantLeavesOthersTheirShare(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		const length = 2 * time.Second
		var mu sync.Mutex
		began := map[string][]time.Time{}
		n.Handle("work", func(_ context.Context, j *Job) (json.RawMessage, error) {
			mu.Lock()
			began[j.Task.Namespace] = append(began[j.Task.Namespace], time.Now())
			mu.Unlock()
			time.Sleep(length)
			return nil, nil
		})
		flood := make([]task.Submission, 1000)
		for i := range flood {
			flood[i] = spec("work", `0`, func(s *task.Spec) { s.Namespace = "flood" })
		}
		for range 10 {
			for _, answer := range n.Submit(t.Context(), flood) {
				if answer.Err != nil {
					t.Fatal(answer.Err)
				}
			}
		}
		time.Sleep(time.Minute) // it is learned how long they take

		count := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			return map[string]int{"flood": len(began["flood"]), "single": len(began["single"])}
		}
		var came []time.Time
		before := count()
		for range 100 { // a little less than half of what the node does
			came = append(came, time.Now())
			submitOne(t, n, "work", `0`, func(s *task.Spec) { s.Namespace = "single" })
			time.Sleep(600 * time.Millisecond)
		}
		after := count()
		mu.Lock()
		defer mu.Unlock()
		var worst time.Duration
		for i, at := range began["single"] {
			worst = max(worst, at.Sub(came[i]))
		}
		if worst > 2*length { // all slots come free at once
			t.Errorf("one has waited %s", worst)
		}
		t.Logf("of what the node started in a minute: flood %d, single %d of the 100 it brought, which waited %s at most; each runs %s",
			after["flood"]-before["flood"], after["single"], worst, length)
		if after["single"] < 95 {
			t.Errorf("%d of 100 have started", after["single"])
		}
		if all := after["flood"] - before["flood"]; all < 130 {
			t.Errorf("the flood had only %d starts of what was left", all)
		}
	}, func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 8000} })
}

func TestTenantsShareByTheirWeights(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var mu sync.Mutex
		starts := map[string]int{}
		n.Handle("work", func(_ context.Context, j *Job) (json.RawMessage, error) {
			mu.Lock()
			starts[j.Task.Namespace]++
			mu.Unlock()
			time.Sleep(time.Second)
			return nil, nil
		})
		for range 500 {
			for _, namespace := range []string{"acme", "other"} {
				submitOne(t, n, "work", `0`, func(s *task.Spec) { s.Namespace = namespace })
			}
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if share := float64(starts["acme"]) / float64(starts["acme"]+starts["other"]); share < 0.72 || share > 0.78 {
			t.Errorf("acme had %.2f of %v", share, starts)
		}
	}, func(c *Config) {
		c.Capacity, c.Weights = task.Resources{task.SlotResource: 8000}, map[string]float64{"acme": 3}
	})
}
