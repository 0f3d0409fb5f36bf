package runtime_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// Many tasks that come due at once are moved on once each, however slow the store:
// what was found again while it is on its way would be more and more.
func TestDueTasksAreMovedOnOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 1200
		store := memory.New()
		rt := oneSlot(t, runtime.WithStore(store))
		runtime.Handle(rt, "nap", func(context.Context, *runtime.Task[int]) (int, error) { return 0, nil })
		due := time.Now().Add(10 * time.Second)
		subs := make([]task.Submission, many)
		for i := range subs {
			subs[i].Spec = task.Spec{Namespace: task.DefaultNamespace, Kind: "nap", RunAt: due, Resources: task.Resources{"slots": 0}}
		}
		for _, done := range rt.Enqueue(t.Context(), subs) {
			if done.Err != nil {
				t.Fatal(done.Err)
			}
		}
		var moves atomic.Int64
		store.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
			if call == "Append" {
				time.Sleep(time.Second)
			}
			for _, m := range ms {
				if m.Guard.State == task.Scheduled {
					moves.Add(1)
				}
			}
			return nil
		}})
		time.Sleep(time.Minute)
		store.Hook(memory.Hooks{})
		o, err := rt.Overview(t.Context(), task.Scope{})
		if err != nil || len(o.Counts) != 1 || o.Counts[0].State != task.Succeeded || o.Counts[0].Tasks != many {
			t.Errorf("%+v %v", o.Counts, err)
		}
		if n := moves.Load(); n != many {
			t.Errorf("%d writes for %d tasks", n, many)
		}
	})
}
