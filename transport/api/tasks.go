package api

import (
	"context"
	"iter"

	"github.com/troupe-run/troupe/runtime/task"
)

// Tasks is what the front door needs of the runtime. Errors are those of
// package task; anything else is a defect and answered as one.
type Tasks interface {
	// Enqueue gives one answer for each submission, in order. What has no error
	// is on disk when it returns.
	Enqueue(ctx context.Context, subs []task.Submission) []task.Submitted

	Task(ctx context.Context, namespace string, id task.ID) (task.Task, error)
	Tasks(ctx context.Context, f task.Filter) ([]task.Task, task.Place, error)
	Events(ctx context.Context, namespace string, id task.ID, after task.Cursor, limit int) ([]task.Event, error)

	// Follow yields Subscribed first, then events and gaps; it ends by itself
	// after Ended, after Goodbye, after an error and when ctx does.
	Follow(ctx context.Context, topic task.Topic, after *task.Cursor) iter.Seq2[*task.Frame, error]

	// Wait returns when the task has ended, or with ctx's error and the task as
	// it is.
	Wait(ctx context.Context, namespace string, id task.ID) (task.Task, error)

	Cancel(ctx context.Context, namespace string, id task.ID, reason string) (task.Task, error)
	CancelBatch(ctx context.Context, namespace string, batch task.ID) (cancelled int, err error)
	Rerun(ctx context.Context, namespace string, id task.ID) (task.Task, error)
	Delete(ctx context.Context, namespace string, id task.ID) error
	Explain(ctx context.Context, namespace string, id task.ID) (task.Explanation, error)

	Overview(ctx context.Context, scope task.Scope) (task.Overview, error)
	SetQueue(ctx context.Context, c task.QueueChange) (task.Queue, error)
	SetPool(ctx context.Context, c task.PoolChange) error
	Workers(ctx context.Context) ([]task.Worker, error)
	Resources(ctx context.Context) ([]task.Gauge, error)
	Stats(ctx context.Context, namespace string) (task.Stats, error)

	// Ready says why the node cannot take tasks now, or nil.
	Ready(ctx context.Context) error
}

// namespace is whose tasks a request is about. Without credentials there is one.
func namespace(context.Context) string { return task.DefaultNamespace }
