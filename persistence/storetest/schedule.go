package storetest

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

// Schedules: rows that move on together with the task a tick submits.

// timed is a schedule with something in every field.
func (s *suite) timed(name string, change ...func(*task.Schedule)) task.Schedule {
	spec := s.spec(func(p *task.Spec) {
		p.ID, p.UniqueKey, p.Labels, p.Timeout = task.ID{}, "", map[string]string{"a": "b"}, time.Minute
	})
	c := task.Schedule{
		Namespace: "acme", Name: name, Cron: "0 9 * * *", Zone: "Europe/Berlin", Task: spec, CatchUp: task.CatchUpAll,
		CatchUpLimit: 7, Overlap: task.OverlapSkip, Starts: epoch.Add(-time.Hour), Ends: epoch.Add(1000 * time.Hour),
		Created: epoch, Next: epoch.Add(time.Hour),
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func put(c task.Schedule) task.Mutation { return task.Mutation{Op: task.SetSchedule, Schedule: new(c)} }

// set stores a schedule as it is then.
func (s *suite) set(c task.Schedule) task.Schedule {
	s.Helper()
	s.ok(put(c))
	c.Revision++
	return c
}

// fires is a tick of a schedule and the task of it.
func fires(c task.Schedule, tick, next time.Time) task.Mutation {
	after, spec := c.Fire(tick)
	after.Next = next
	step := task.New(spec, tick, 0)
	return task.Mutation{Op: task.Fire, Schedule: new(after), Task: step.Task, Events: step.Events}
}

// listed expects schedules.
func (s *suite) listed(f task.ScheduleFilter, want ...task.Schedule) {
	s.Helper()
	got, err := s.store.Schedules(s.ctx, f)
	if err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Fatalf("schedules (-want +got):\n%s", diff)
	}
}

var scheduleRules = []rule{
	{"ScheduleIsKeptAsItWasSet", func(s *suite) {
		one := s.set(s.timed("b"))
		other := s.set(s.timed("a", func(c *task.Schedule) {
			c.Cron, c.Zone, c.Every, c.Paused, c.Next, c.Starts, c.Ends = "", "", time.Minute, true, time.Time{}, time.Time{}, time.Time{}
			c.CatchUp, c.CatchUpLimit, c.Overlap = task.CatchUpOne, 0, task.OverlapAllow
			c.Last, c.LastTask, c.Fired = epoch, id(77), 5
		}))
		far := s.set(s.timed("a", func(c *task.Schedule) {
			c.Namespace, c.Task.Namespace, c.Next = "other", "other", epoch.Add(time.Minute)
		}))
		s.reopen()
		s.listed(task.ScheduleFilter{Namespace: "acme", Limit: 10}, other, one)
		s.listed(task.ScheduleFilter{Namespace: "acme", Limit: 1}, other)
		s.listed(task.ScheduleFilter{Namespace: "acme", After: "a", Limit: 10}, one)
		s.listed(task.ScheduleFilter{Namespace: "acme", Name: "b", Limit: 1}, one)
		s.listed(task.ScheduleFilter{Namespace: "acme", Name: "c", Limit: 1})
		s.listed(task.ScheduleFilter{Namespace: "nobody", Limit: 10})
		s.listed(task.ScheduleFilter{Coming: true, Limit: 10}, far, one)
		s.listed(task.ScheduleFilter{Coming: true, Limit: 1}, far)
	}},
	{"ScheduleChangesOnlyWhereItIsOfTheRevision", func(s *suite) {
		one := s.set(s.timed("a"))
		s.refused(put(s.timed("a")), task.ErrScheduled)
		s.refused(put(s.timed("b", func(c *task.Schedule) { c.Revision = 1 })), task.ErrNoSchedule)
		changed := one
		changed.Paused, changed.Next = true, time.Time{}
		changed = s.set(changed)
		s.refused(put(one), task.ErrStale)
		s.refused(fires(one, one.Next, time.Time{}), task.ErrStale)
		s.listed(task.ScheduleFilter{Namespace: "acme", Limit: 10}, changed)
		s.refused(task.Mutation{Op: task.DropSchedule, Schedule: new(one)}, task.ErrStale)
		s.ok(task.Mutation{Op: task.DropSchedule, Schedule: new(changed)})
		s.refused(task.Mutation{Op: task.DropSchedule, Schedule: new(changed)}, task.ErrNoSchedule)
		s.refused(fires(changed, epoch, time.Time{}), task.ErrNoSchedule)
		s.listed(task.ScheduleFilter{Namespace: "acme", Limit: 10})
		s.set(s.timed("a"))
	}},
	{"TickInsertsItsTaskAndMovesTheSchedule", func(s *suite) {
		one := s.set(s.timed("a"))
		m := fires(one, one.Next, epoch.Add(25*time.Hour))
		s.ok(m)
		s.stored(m.Task)
		after := *m.Schedule
		after.Revision++
		s.listed(task.ScheduleFilter{Namespace: "acme", Limit: 10}, after)
		if m.Task.Tick != (task.Tick{Schedule: "a", At: one.Next}) || after.LastTask != m.Task.ID || after.Fired != 1 {
			s.Errorf("%+v of %+v", m.Task.Tick, after)
		}
		claimed, err := s.store.Claim(s.ctx, task.Claim{Holder: 1, Kinds: []string{"work"}, Limit: 10})
		if err != nil || len(claimed) != 1 || claimed[0].ID != m.Task.ID {
			s.Errorf("claimed %d, %v", len(claimed), err)
		}
		s.refused(m, task.ErrStale)
		// Two ticks of one call, and a task that is another's.
		second := fires(after, epoch.Add(25*time.Hour), epoch.Add(26*time.Hour))
		stands := *second.Schedule
		stands.Revision++
		third := fires(stands, epoch.Add(26*time.Hour), time.Time{})
		s.ok(second, third)
		ended := *third.Schedule
		ended.Revision++
		s.listed(task.ScheduleFilter{Namespace: "acme", Limit: 10}, ended)
		s.listed(task.ScheduleFilter{Coming: true, Limit: 10})
	}},
	{"TickWhoseTaskIsThereMovesTheSchedule", func(s *suite) {
		live := s.insert(s.spec(func(p *task.Spec) { p.UniqueKey = "only" }), 0, 0)
		one := s.set(s.timed("a", func(c *task.Schedule) { c.Task.UniqueKey = "only" }))
		out := s.append(fires(one, one.Next, epoch.Add(25*time.Hour)))[0]
		if out.Err != nil || out.Existing == nil || out.Existing.ID != live.ID {
			s.Fatalf("%+v", out)
		}
		got, err := s.store.Schedules(s.ctx, task.ScheduleFilter{Coming: true, Limit: 1})
		if err != nil || len(got) != 1 || got[0].LastTask != live.ID || !got[0].Next.Equal(epoch.Add(25*time.Hour)) {
			s.Errorf("%+v, %v", got, err)
		}
	}},
	{"OfAllWhoFireATickOneDoes", func(s *suite) {
		const fired, nodes = 40, 4
		s.set(s.timed("a", func(c *task.Schedule) { c.Next = epoch }))
		var all sync.WaitGroup
		for n := range nodes {
			all.Go(func() {
				for {
					got, err := s.store.Schedules(s.ctx, task.ScheduleFilter{Coming: true, Limit: 10})
					if err != nil {
						s.Error(err)
						return
					}
					if len(got) == 0 {
						return
					}
					next := got[0].Next.Add(time.Minute)
					if got[0].Fired == fired-1 {
						next = time.Time{}
					}
					m := fires(got[0], got[0].Next, next)
					m.Task.Labels = map[string]string{"node": strconv.Itoa(n)}
					out, err := s.store.Append(s.ctx, []task.Mutation{m})
					if err != nil || out[0].Err != nil && !errors.Is(out[0].Err, task.ErrStale) || out[0].Existing != nil {
						s.Errorf("%+v, %v", out, err)
						return
					}
				}
			})
		}
		all.Wait()
		tasks, _, err := s.store.Tasks(s.ctx, task.Filter{Namespace: "acme", Limit: 1000})
		if err != nil || len(tasks) != fired {
			s.Fatalf("%d tasks, %v", len(tasks), err)
		}
		var ticks []int64
		for _, t := range tasks {
			ticks = append(ticks, t.Tick.At.Unix())
		}
		slices.Sort(ticks)
		if ticks = slices.Compact(ticks); len(ticks) != fired {
			s.Errorf("of %d ticks", len(ticks))
		}
	}},
}
