package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// standing says whether a schedule is there as a change takes it to be.
func (s *Store) standing(c task.Schedule) error {
	old, ok := s.timed[named{c.Namespace, c.Name}]
	switch {
	case ok && c.Revision == 0:
		return task.ErrScheduled
	case !ok && c.Revision != 0:
		return task.ErrNoSchedule
	case old.Revision != c.Revision:
		return task.ErrStale
	}
	return nil
}

func (s *Store) setSchedule(c task.Schedule) error {
	if err := s.standing(c); err != nil {
		return err
	}
	for _, at := range []*time.Time{&c.Starts, &c.Ends, &c.Created, &c.Next, &c.Last} {
		*at = micro(*at)
	}
	c.Revision++
	s.timed[named{c.Namespace, c.Name}] = c
	return nil
}

func (s *Store) dropSchedule(c task.Schedule) error {
	if err := s.standing(c); err != nil {
		return err
	}
	delete(s.timed, named{c.Namespace, c.Name})
	return nil
}

// fire inserts a tick's task, and moves the schedule behind it.
func (s *Store) fire(m task.Mutation) task.Outcome {
	c := *m.Schedule
	if err := s.standing(c); err != nil {
		return task.Outcome{Err: err}
	}
	out := s.insert(m)
	if out.Existing != nil {
		c.LastTask = out.Existing.ID
	}
	_ = s.setSchedule(c) // it stands
	return out
}

// Schedules implements [task.Store].
func (s *Store) Schedules(ctx context.Context, f task.ScheduleFilter) ([]task.Schedule, error) {
	var all []task.Schedule
	err := s.do(ctx, "Schedules", nil, func() error {
		for _, c := range s.timed {
			in := c.Namespace == f.Namespace && c.Name > f.After && (f.Name == "" || c.Name == f.Name)
			if f.Coming {
				in = !c.Next.IsZero()
			}
			if in {
				all = append(all, c)
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b task.Schedule) int {
		byName := cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		if f.Coming {
			return cmp.Or(a.Next.Compare(b.Next), byName)
		}
		return byName
	})
	return all[:min(len(all), f.Limit)], err
}
