package api

import (
	"context"
	"iter"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Tasks is what the front door needs of the runtime. Errors are those of
// package task; anything else is a defect and answered as one.
type Tasks interface {
	// Enqueue gives one answer for each submission, in order. What has no error
	// is on disk when it returns.
	Enqueue(ctx context.Context, subs []task.Submission) []task.Submitted

	// CheckDependencies says whether tasks could be submitted together, and of which
	// the error is if it is of one.
	CheckDependencies(ctx context.Context, specs []task.Spec) (at int, err error)

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
	// PutSignal keeps a signal for a task that has not ended; it is on disk when it
	// returns. One with an id is kept once.
	PutSignal(ctx context.Context, namespace string, id task.ID, s task.Signal) error
	Explain(ctx context.Context, namespace string, id task.ID) (task.Explanation, error)

	Overview(ctx context.Context, scope task.Scope) (task.Overview, error)
	SetQueue(ctx context.Context, c task.QueueChange) (task.Queue, error)
	SetKind(ctx context.Context, c task.KindChange) (task.Kind, error)
	SetPool(ctx context.Context, c task.PoolChange) error
	Workers(ctx context.Context, namespace string) ([]task.Worker, error)
	DrainWorker(ctx context.Context, namespace, id string) error

	// AddSchedule makes a new one, SetSchedule a new one or another of its name.
	AddSchedule(ctx context.Context, s task.Schedule) (task.Schedule, error)
	SetSchedule(ctx context.Context, s task.Schedule) (stored task.Schedule, created bool, err error)
	ChangeSchedule(ctx context.Context, namespace, name string, change func(*task.Schedule) error) (task.Schedule, error)
	DropSchedule(ctx context.Context, namespace, name string) error
	Schedule(ctx context.Context, namespace, name string) (task.Schedule, error)
	Schedules(ctx context.Context, f task.ScheduleFilter) ([]task.Schedule, error)
	// Ticks gives the next times at which a schedule fires.
	Ticks(s task.Schedule, count int) ([]time.Time, error)
	// Trigger fires a schedule now.
	Trigger(ctx context.Context, namespace, name string) (task.Task, error)

	// Tenant is what a namespace may take up, and Usage what it does. TenantsChanged has
	// a change hold on this node at once.
	Tenant(namespace string) access.Tenant
	TenantsChanged(ctx context.Context) error
	Usage(ctx context.Context, namespace string) (access.Usage, error)

	Resources(ctx context.Context) ([]task.Gauge, error)
	Stats(ctx context.Context, namespace string) (task.Stats, error)

	// Ready says why the node cannot take tasks now, or nil.
	Ready(ctx context.Context) error
}
