package actors

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// slowToSave is a store in which changes of tasks take a second, and new ones no time.
type slowToSave struct{ task.Store }

func (s slowToSave) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	if slices.ContainsFunc(ms, func(m task.Mutation) bool { return m.Op == task.Save }) {
		time.Sleep(time.Second)
	}
	return s.Store.Append(ctx, ms)
}

// onlyOne is the same, and takes one batch at a time.
type onlyOne struct{ slowToSave }

func (onlyOne) Writers() int { return 1 }

func TestNewTasksWaitForOtherWritesOnlyWhereTheStoreHasOneWriter(t *testing.T) {
	for _, tt := range []struct {
		store task.Store
		waits bool
	}{{slowToSave{memory.New()}, false}, {onlyOne{slowToSave{memory.New()}}, true}} {
		bubble(t, func(t *testing.T) {
			t.Helper()
			n := startNode(t, tt.store)
			first := submitOne(t, n, "echo", `1`)
			time.Sleep(time.Second / 2) // its end is being written
			began := time.Now()
			second := submitOne(t, n, "echo", `2`)
			if waited := time.Since(began) > 0; waited != tt.waits {
				t.Errorf("with %d writers a new task waits: %v", tt.store.Writers(), waited)
			}
			awaitState(t, n, first.ID, task.Succeeded)
			awaitState(t, n, second.ID, task.Succeeded)
		})
	}
}
