package spec

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// The names of what the examples are about.
const (
	TaskID  = "019a5d3c-8c00-7d2e-9f41-5b6c7d8e9f01"
	NextID  = "019a5d3c-8c00-7d2e-9f41-5b6c7d8e9f02"
	BatchID = "019a5d3c-8c00-7d2e-9f41-5b6c7d8e9f0b"
	KeyID   = "019a5d3c-8c00-7d2e-9f41-5b6c7d8e9f0c"
	Kind    = "report.render"
	Queue   = "reports"
)

// At is a moment of the examples, so long after they begin.
func At(after time.Duration) task.Time {
	return task.Time(time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC).Add(after))
}

// Submission is a task as a client asks for it.
func Submission() transport.Submission {
	return transport.Submission{
		Kind: Kind, Queue: Queue, Priority: 10, Payload: json.RawMessage(`{"report":7,"format":"pdf"}`),
		Labels: map[string]string{"customer": "7"}, Timeout: "10m", MaxAttempts: 5,
	}
}

// Waiting is a task that has not started.
func Waiting() transport.Task {
	return transport.Task{
		ID: TaskID, Namespace: task.DefaultNamespace, Kind: Kind, Queue: Queue, Priority: 10,
		Payload: json.RawMessage(`{"report":7,"format":"pdf"}`), Resources: task.Resources{"slots": task.Quantity(1000)},
		Labels: map[string]string{"customer": "7"}, Timeout: "10m0s", MaxAttempts: 5,
		Retry: transport.Retry{Initial: "1s", Factor: 2, Max: "1h0m0s", Jitter: 0.2},
		State: task.Queued, Cursor: "0.1", CreatedAt: At(0),
	}
}

// Running is the task while it runs.
func Running() transport.Task {
	t := Waiting()
	t.State, t.Attempt, t.Node, t.Worker, t.Cursor, t.StartedAt = task.Running, 1, "n1", "n1", "1.1", moment(time.Second)
	return t
}

// Succeeded is the task at its end.
func Succeeded() transport.Task {
	t := Running()
	t.State, t.Cursor, t.FinishedAt = task.Succeeded, "1.4", moment(time.Minute)
	t.Progress = &transport.Progress{Fraction: new(0.5), Message: "page 6 of 12", At: At(30 * time.Second)}
	t.Result = json.RawMessage(`{"pages":12}`)
	return t
}

// Cancelled is the task if somebody cancels it.
func Cancelled() transport.Task {
	t := Waiting()
	t.State, t.Cursor, t.FinishedAt = task.Cancelled, "0.2", moment(time.Second)
	return t
}

// Progress is what a task says of how far it is.
func Progress() transport.Event {
	return transport.Event{
		Task: TaskID, Cursor: "1.2", Type: "progress", At: At(30 * time.Second),
		Data: json.RawMessage(`{"fraction":0.5,"message":"page 6 of 12"}`),
	}
}

// Output is a piece of what a task makes while it runs.
func Output() transport.Event {
	return transport.Event{
		Task: TaskID, Cursor: "1.3", Type: "output", At: At(31 * time.Second), Data: json.RawMessage(`{"text":"page 6\n"}`),
	}
}

func moment(after time.Duration) *task.Time { return new(At(after)) }
