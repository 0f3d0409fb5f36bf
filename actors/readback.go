package actors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// A batch is handed to the store here, until its fate is known.

// appendAll stores a batch and comes back only when its fate is known. A write
// that the store cannot digest is set apart, so that it fails alone.
func appendAll(ctx context.Context, s task.Store, ms []task.Mutation, log *slog.Logger) ([]task.Outcome, error) {
	outcomes, err := s.Append(ctx, ms)
	for errors.Is(err, task.ErrUnknown) && ctx.Err() == nil {
		log.Warn("reading back a batch of unknown fate", "writes", len(ms), "error", err)
		if outcomes, err = readBack(ctx, s, ms); err == nil && outcomes != nil {
			return outcomes, nil
		}
		if err == nil {
			for i := range ms {
				ms[i].Fresh = false // it may be there, and have ended
			}
			outcomes, err = s.Append(ctx, ms)
			continue
		}
		err = task.ErrUnknown
		select {
		case <-ctx.Done():
		case <-time.After(commitRetry):
		}
	}
	if err == nil || errors.Is(err, task.ErrUnavailable) || ctx.Err() != nil {
		return outcomes, err
	}
	if len(ms) == 1 {
		log.Error("the store cannot digest a write", "task", ms[0].Task.ID.String(), "op", ms[0].Op, "error", err)
		return []task.Outcome{{Err: err}}, nil
	}
	outcomes = make([]task.Outcome, 0, len(ms))
	for i := range ms {
		one, err := appendAll(ctx, s, ms[i:i+1], log)
		if err != nil {
			// Part of the batch is stored. Saying so of the rest is right: they
			// are not, and stale is what a repetition of the stored ones would be.
			for range ms[i:] {
				outcomes = append(outcomes, task.Outcome{Err: err})
			}
			return outcomes, nil
		}
		outcomes = append(outcomes, one...)
	}
	return outcomes, nil
}

// readBack gives the outcomes of a batch that was kept, or none if it was not. It
// is atomic, so one write that left a mark tells of all; but what depended on a
// limit is looked at itself, and so are signals. One that was kept and has been
// taken since is kept once more only if the task has ended meanwhile.
func readBack(ctx context.Context, s task.Store, ms []task.Mutation) ([]task.Outcome, error) {
	outcomes, looked := make([]task.Outcome, len(ms)), false
	for i, m := range ms {
		if m.Op == task.PutSignal {
			kept, err := signalKept(ctx, s, m)
			switch {
			case err != nil:
				return nil, err
			case kept:
				looked = true
			default:
				outcomes[i].Err = task.ErrUnknown
			}
			continue
		}
		if m.Known { // it has left no mark
			outcomes[i].Err = task.ErrUnknown
			continue
		}
		if !m.Inserts() && m.Op != task.Save || looked && len(m.Take) == 0 {
			continue
		}
		looked = true
		t, err := s.Task(ctx, m.Task.Namespace, m.Task.ID)
		switch {
		case errors.Is(err, task.ErrNotFound):
			return nil, nil
		case err != nil:
			return nil, err
		}
		same := t.Cursor == m.Task.Cursor && t.Guard() == m.Task.Guard()
		if m.Inserts() {
			same = same && t.Created.Equal(m.Task.Created.Truncate(time.Microsecond))
		}
		switch {
		case same:
		case len(m.Take) > 0 && t.Bound != 0:
			limit := task.LimitName{Scope: task.OfSticky, Namespace: t.Namespace, Name: t.StickyKey}
			outcomes[i] = task.Outcome{Err: task.ErrParked, Limit: limit, Bound: t.Bound}
		case len(m.Take) > 0 && t.Parked != nil:
			outcomes[i] = task.Outcome{Err: task.ErrParked, Limit: t.Parked.Limit}
		default:
			return nil, nil
		}
	}
	if !looked {
		return nil, nil // settings alone, which may be set twice, or signals
	}
	return outcomes, nil
}
