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
		if t.Asleep {
			return fmt.Sprintf("It sleeps until %s.", w.Until.UTC().Format(time.RFC3339))
		}
		if t.Attempt > 0 {
			why = fmt.Sprintf("Attempt %d failed; the next one comes", t.Attempt)
		}
		return fmt.Sprintf("%s at %s.", why, w.Until.UTC().Format(time.RFC3339))
	case task.WaitsForResource:
		if !w.Limit.IsZero() {
			return fmt.Sprintf("It needs %s of the cluster's %q and %s is free.", w.Needed, w.Resource, w.Free)
		}
		return fmt.Sprintf("It needs %s of %q and %s is free; %s.%s", w.Needed, w.Resource, w.Free, place(w.Position), about(w.ExpectedStart))
	case task.WaitsForever:
		return fmt.Sprintf("It needs %s of %q and no node has that much (at most %s).", w.Needed, w.Resource, w.Free)
	case task.WaitsForLimit:
		of := "of its queue"
		switch w.Limit.Scope {
		case task.OfKey:
			of = "with its concurrency key"
		case task.OfKind:
			of = "of its kind"
		case task.OfNamespace:
			of = "of its namespace"
		default:
		}
		return fmt.Sprintf("Of tasks %s %q at most %s run at once.", of, w.Limit.Name, w.Most)
	case task.WaitsForRate:
		if w.Limit.Scope == task.OfKeyRate {
			return fmt.Sprintf("Tasks with its rate key %q start only so often, and others stand before it.", w.Limit.Name)
		}
		return fmt.Sprintf("Tasks of its queue %q start only so often, and others stand before it.", w.Limit.Name)
	case task.WaitsForResult:
		return "An identical task is running, whose result it may use."
	case task.WaitsForOthers:
		if w.Pending == 0 {
			return "The tasks it depends on have ended; it goes on in a moment."
		}
		return fmt.Sprintf("It depends on %d of its %d tasks that have not ended yet.", w.Pending, len(t.DependsOn))
	case task.WaitsForBatch:
		if w.Pending == 0 {
			return "All tasks of its batch have ended; it goes on in a moment."
		}
		return fmt.Sprintf("It is the callback of a batch of which %d tasks have not ended yet.", w.Pending)
	case task.WaitsForSignal:
		if w.Until.IsZero() {
			return fmt.Sprintf("It waits for the signal %q.", w.Signal)
		}
		return fmt.Sprintf("It waits for the signal %q, until %s and no longer.", w.Signal, w.Until.UTC().Format(time.RFC3339))
	case task.WaitsForPlacement:
		return fmt.Sprintf("It requires a node or a worker with %s that runs its kind, and there is none.", w.Require.Words())
	case task.WaitsForSticky:
		return fmt.Sprintf("Tasks with its sticky key %q run on %s, which has not taken it yet.", t.StickyKey, w.Node)
	case task.WaitsPaused:
		return fmt.Sprintf("Its queue %q is paused.", t.Queue)
	case task.WaitsForWorkers:
		if w.Slots == 0 {
			return fmt.Sprintf("It waits for a worker that serves its kind %q.", t.Kind)
		}
		return fmt.Sprintf("The workers that serve its kind %q have %d slots, and none is free.", t.Kind, w.Slots)
	case task.WaitsForHandler:
		return fmt.Sprintf("Nobody serves its kind %q.", t.Kind)
	case task.WaitsForBreaker:
		return fmt.Sprintf("Tasks of its kind %q have failed, and none starts until %s; then one does, to see how it goes.",
			t.Kind, w.Until.UTC().Format(time.RFC3339))
	case task.WaitsForNode:
		return "The node is shutting down; it goes on when one is up again."
	case task.WaitsForItsWorker:
		return "It is about to start."
	case task.WaitsInBacklog:
		return "It is in the backlog: others that may run stand before it."
	case task.WaitsForReserved:
		return "What it needs is free, but kept for a larger task that it would delay." + about(w.ExpectedStart)
	default:
		return fmt.Sprintf("It waits its turn; %s.%s", place(w.Position), about(w.ExpectedStart))
	}
}

// about says when a task will start, as far as anybody can tell.
func about(start time.Time) string {
	if start.IsZero() {
		return ""
	}
	return fmt.Sprintf(" It is expected to start at about %s.", start.UTC().Format(time.RFC3339))
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
