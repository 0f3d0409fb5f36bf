package runtime

import (
	"fmt"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// inWords says for a person what an explanation says for a program.
func inWords(t task.Task, w *task.Waiting) string {
	if w == nil {
		if t.State.Terminal() {
			return fmt.Sprintf("The task has ended: %s.", t.State)
		}
		return fmt.Sprintf("Attempt %d is running on %s.", t.Attempt, t.Node)
	}
	switch w.Reason {
	case task.WaitsForTime:
		why := "It was submitted to run"
		if t.Attempt > 0 {
			why = fmt.Sprintf("Attempt %d failed; the next one comes", t.Attempt)
		}
		return fmt.Sprintf("%s at %s.", why, w.Until.UTC().Format(time.RFC3339))
	case task.WaitsForResource:
		if !w.Limit.IsZero() {
			return fmt.Sprintf("It needs %s of the cluster's %q and %s is free.", w.Needed, w.Resource, w.Free)
		}
		return fmt.Sprintf("It needs %s of %q and %s is free; %s.", w.Needed, w.Resource, w.Free, place(w.Position))
	case task.WaitsForever:
		return fmt.Sprintf("It needs %s of %q and no node has that much (at most %s).", w.Needed, w.Resource, w.Free)
	case task.WaitsForLimit:
		if w.Limit.Scope == task.OfKey {
			return fmt.Sprintf("Of tasks with its concurrency key %q at most %s run at once.", w.Limit.Name, w.Most)
		}
		return fmt.Sprintf("Of tasks of its queue %q at most %s run at once.", w.Limit.Name, w.Most)
	case task.WaitsForRate:
		return fmt.Sprintf("Tasks of its queue %q start only so often, and others stand before it.", w.Limit.Name)
	case task.WaitsForResult:
		return "An identical task is running, whose result it may use."
	case task.WaitsPaused:
		return fmt.Sprintf("Its queue %q is paused.", t.Queue)
	case task.WaitsForHandler:
		return fmt.Sprintf("Nobody serves its kind %q.", t.Kind)
	case task.WaitsForNode:
		return "The node is shutting down; it goes on when one is up again."
	case task.WaitsForItsWorker:
		return "It is about to start."
	case task.WaitsInBacklog:
		return "It is in the backlog: others that may run stand before it."
	default:
		return fmt.Sprintf("It waits its turn; %s.", place(w.Position))
	}
}

func place(position int) string {
	switch position {
	case 0:
		return "others stand before it"
	case 1:
		return "it is the next"
	default:
		return fmt.Sprintf("%d stand before it", position-1)
	}
}
