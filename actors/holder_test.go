package actors

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// actorsOf counts all actors of a node.
func actorsOf(n *Node) int {
	count := 0
	for _, some := range n.system.ProcessRegistry.LocalPIDs.LocalPIDs {
		count += some.Count()
	}
	return count
}

func TestActorsOfTasksThatHaveGoneSpeakForOthers(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		before := actorsOf(n)
		for range 10 {
			for _, id := range submitMany(t, n, 2*keepSpare, "echo") {
				awaitState(t, n, id, task.Succeeded)
			}
		}
		time.Sleep(time.Second) // those that are too many go
		if got := actorsOf(n) - before; got < keepSpare || got > keepSpare+keepFree {
			t.Errorf("there are %d actors more than before, of tasks and of workers", got)
		}
	}, func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 2 * keepSpare * 1000} })
}

// TestWhoOnlyWaitsHasNoActor until somebody speaks to it, and goes back when the node
// drains.
func TestWhoOnlyWaitsHasNoActor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		n := startNode(t, store, oneSlot)
		awaitState(t, n, submitOne(t, n, "hang", `0`).ID, task.Running)
		before := actorsOf(n)
		waiting := submitMany(t, n, 100, "echo")
		time.Sleep(time.Second)
		if got := actorsOf(n); got > before {
			t.Errorf("%d actors came with tasks that only wait", got-before)
		}
		if _, err := n.Cancel(t.Context(), task.DefaultNamespace, waiting[50], ""); err != nil {
			t.Error(err)
		}
		awaitState(t, n, waiting[50], task.Cancelled)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n.Drain(ctx)
		for i, id := range waiting {
			k, err := store.Task(t.Context(), task.DefaultNamespace, id)
			if want := task.Queued; err != nil || k.Holder != 0 || i != 50 && k.State != want {
				t.Errorf("number %d is %s and held by %d: %v", i, k.State, k.Holder, err)
			}
		}
	})
}
