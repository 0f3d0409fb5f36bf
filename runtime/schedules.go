package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/runtime/cron"
	"github.com/troupe-run/troupe/runtime/task"
)

// scheduleTries bounds how often a change of a schedule is tried against others who
// change it at the same time.
const scheduleTries = 10

// AddSchedule makes a new schedule; [task.ErrScheduled] where there is one of its name.
func (r *Runtime) AddSchedule(ctx context.Context, s task.Schedule) (task.Schedule, error) {
	s.Revision = 0
	return r.putSchedule(ctx, s, nil)
}

// SetSchedule makes a schedule, or another one of that of its name, and says whether
// it is new.
func (r *Runtime) SetSchedule(ctx context.Context, s task.Schedule) (stored task.Schedule, created bool, err error) {
	s.Namespace = cmp.Or(s.Namespace, task.DefaultNamespace)
	for range scheduleTries {
		stored, err = r.ChangeSchedule(ctx, s.Namespace, s.Name, func(there *task.Schedule) error {
			s.Created, s.Last, s.LastTask, s.Fired, s.Revision = there.Created, there.Last, there.LastTask, there.Fired, there.Revision
			*there = s
			return nil
		})
		if !errors.Is(err, task.ErrNoSchedule) {
			return stored, false, err
		}
		if stored, err = r.AddSchedule(ctx, s); !errors.Is(err, task.ErrScheduled) {
			return stored, true, err
		}
	}
	return stored, false, err
}

// ChangeSchedule changes a schedule; change may be called more than once, and its
// error is given as it is.
func (r *Runtime) ChangeSchedule(ctx context.Context, namespace, name string, change func(*task.Schedule) error) (task.Schedule, error) {
	return r.onSchedule(ctx, namespace, name, func(s task.Schedule) (task.Schedule, error) {
		before := s
		if err := change(&s); err != nil {
			return task.Schedule{}, err
		}
		return r.putSchedule(ctx, s, &before)
	})
}

// putSchedule writes a schedule with its next tick. A change that leaves its times
// alone leaves a tick alone, too, that is due.
func (r *Runtime) putSchedule(ctx context.Context, s task.Schedule, before *task.Schedule) (task.Schedule, error) {
	now := r.node().Now()
	s.Namespace = cmp.Or(s.Namespace, task.DefaultNamespace)
	if s.Revision == 0 {
		s.Created = now.UTC().Truncate(time.Microsecond)
	}
	s, rule, err := r.checkSchedule(s, now)
	if err != nil {
		return task.Schedule{}, err
	}
	switch {
	case s.Paused:
		s.Next = time.Time{}
	case before != nil && !before.Paused && sameTimes(s, *before):
		s.Next = before.Next
	default:
		s.Next = nextTick(s, rule, now)
	}
	if _, err := r.node().ChangeSchedule(ctx, task.Mutation{Op: task.SetSchedule, Schedule: new(s)}); err != nil {
		return task.Schedule{}, err
	}
	s.Revision++
	return s, nil
}

func (r *Runtime) checkSchedule(s task.Schedule, now time.Time) (task.Schedule, cron.Rule, error) {
	s, err := r.limits.CheckSchedule(s, now)
	var bad task.InvalidError
	if err != nil && !errors.As(err, &bad) {
		return s, nil, err
	}
	var rule cron.Rule
	if s.Cron != "" {
		if _, err := cron.Zone(s.Zone); err != nil {
			bad = append(bad, task.Violation{Field: "time_zone", Message: err.Error()})
		} else if rule, err = cron.Parse(s.Cron, s.Zone); err != nil {
			bad = append(bad, task.Violation{Field: "cron", Message: err.Error()})
		}
	}
	if bad != nil {
		return s, nil, bad
	}
	if rule == nil {
		rule = cron.Every{Period: s.Every, From: s.Anchor()}
	}
	return s, rule, nil
}

func sameTimes(a, b task.Schedule) bool {
	return a.Cron == b.Cron && a.Zone == b.Zone && a.Every == b.Every && a.Starts.Equal(b.Starts) && a.Ends.Equal(b.Ends)
}

// nextTick is the first tick of a schedule later than after.
func nextTick(s task.Schedule, rule cron.Rule, after time.Time) time.Time {
	if first := s.First(); first.After(after) {
		after = first
	}
	return s.Within(rule.Next(after))
}

// Ticks gives the next ticks of a schedule, whether or not it is paused.
func (r *Runtime) Ticks(s task.Schedule, count int) ([]time.Time, error) {
	rule, err := cron.New(s.Cron, s.Zone, s.Every, s.Anchor())
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", s.Name, err)
	}
	ticks := make([]time.Time, 0, count)
	at := s.Next
	if at.IsZero() {
		at = nextTick(s, rule, r.node().Now())
	}
	for ; !at.IsZero() && len(ticks) < count; at = s.Within(rule.Next(at)) {
		ticks = append(ticks, at)
	}
	return ticks, nil
}

// Schedule reads one schedule.
func (r *Runtime) Schedule(ctx context.Context, namespace, name string) (task.Schedule, error) {
	found, err := r.Schedules(ctx, task.ScheduleFilter{Namespace: namespace, Name: name, Limit: 1})
	if err != nil {
		return task.Schedule{}, err
	}
	if len(found) == 0 {
		return task.Schedule{}, fmt.Errorf("read schedule %s: %w", name, task.ErrNoSchedule)
	}
	return found[0], nil
}

// Schedules lists schedules, by name, a page at a time.
func (r *Runtime) Schedules(ctx context.Context, f task.ScheduleFilter) ([]task.Schedule, error) {
	all, err := r.store.Schedules(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	return all, nil
}

// DropSchedule forgets a schedule. Tasks it has submitted stay.
func (r *Runtime) DropSchedule(ctx context.Context, namespace, name string) error {
	_, err := r.onSchedule(ctx, namespace, name, func(s task.Schedule) (task.Schedule, error) {
		_, err := r.node().ChangeSchedule(ctx, task.Mutation{Op: task.DropSchedule, Schedule: new(s)})
		return s, err
	})
	return err
}

// Trigger submits a schedule's task now, besides its ticks and whether or not it is
// paused.
func (r *Runtime) Trigger(ctx context.Context, namespace, name string) (t task.Task, err error) {
	if err := r.rate.allow(ctx, namespace, 1); err != nil {
		return task.Task{}, err
	}
	_, err = r.onSchedule(ctx, namespace, name, func(s task.Schedule) (task.Schedule, error) {
		after, spec := s.Fire(r.node().Now().UTC().Truncate(time.Microsecond))
		spec.ID = NewID()
		after.LastTask = spec.ID
		t, err = r.node().FireSchedule(ctx, after, spec)
		return after, err
	})
	return t, err
}

// onSchedule does something with a schedule as it is now, again where it has changed
// at the same time.
func (r *Runtime) onSchedule(
	ctx context.Context, namespace, name string, do func(task.Schedule) (task.Schedule, error),
) (s task.Schedule, err error) {
	for range scheduleTries {
		if s, err = r.Schedule(ctx, namespace, name); err != nil {
			return s, err
		}
		if s, err = do(s); !errors.Is(err, task.ErrStale) {
			return s, err
		}
	}
	return s, err
}
