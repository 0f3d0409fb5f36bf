package runtime_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func timed(name string, change ...func(*task.Schedule)) task.Schedule {
	s := task.Schedule{Name: name, Every: time.Hour, Task: task.Spec{Kind: "tick"}}
	for _, f := range change {
		f(&s)
	}
	return s
}

func TestScheduleIsMadeChangedAndForgotten(t *testing.T) {
	rt, ctx := open(t), t.Context()
	made, err := rt.AddSchedule(ctx, timed("s"))
	if err != nil || !made.Next.Equal(made.Created.Add(time.Hour)) || made.CatchUp != task.CatchUpOne || made.Task.Queue != task.DefaultQueue {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := rt.AddSchedule(ctx, timed("s")); !errors.Is(err, task.ErrScheduled) {
		t.Errorf("made twice: %v", err)
	}
	change := func(f func(*task.Schedule)) task.Schedule {
		t.Helper()
		s, err := rt.ChangeSchedule(ctx, task.DefaultNamespace, "s", func(s *task.Schedule) error {
			f(s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// Another payload leaves the tick alone, another time does not.
	if s := change(func(s *task.Schedule) { s.Task.Priority = 7 }); !s.Next.Equal(made.Next) || s.Task.Priority != 7 {
		t.Errorf("%+v", s)
	}
	if s := change(func(s *task.Schedule) { s.Every = 2 * time.Hour }); !s.Next.Equal(made.Created.Add(2 * time.Hour)) {
		t.Errorf("%+v", s)
	}
	if s := change(func(s *task.Schedule) { s.Paused = true }); !s.Next.IsZero() {
		t.Errorf("paused, and next %s", s.Next)
	}
	paused, err := rt.Schedule(ctx, task.DefaultNamespace, "s")
	if err != nil {
		t.Fatal(err)
	}
	if ticks, err := rt.Ticks(paused, 2); err != nil || !slices.Equal(ticks, []time.Time{made.Created.Add(2 * time.Hour), made.Created.Add(4 * time.Hour)}) {
		t.Errorf("%v, %v", ticks, err)
	}
	if s := change(func(s *task.Schedule) { s.Paused = false }); !s.Next.Equal(made.Created.Add(2 * time.Hour)) {
		t.Errorf("resumed, and next %s", s.Next)
	}
	again, created, err := rt.SetSchedule(ctx, timed("s", func(s *task.Schedule) { s.Every, s.Cron = 0, "0 0 1 1 *" }))
	if err != nil || created || !again.Created.Equal(made.Created) || again.Next.Month() != time.January || again.Task.Priority != 0 {
		t.Errorf("%+v, %t, %v", again, created, err)
	}
	if _, created, err := rt.SetSchedule(ctx, timed("t", func(s *task.Schedule) {
		s.Starts = time.Now().Add(48 * time.Hour)
	})); err != nil || !created {
		t.Errorf("%t, %v", created, err)
	}
	all, err := rt.Schedules(ctx, task.ScheduleFilter{Namespace: task.DefaultNamespace, Limit: 10})
	if err != nil || len(all) != 2 || !all[1].Next.Equal(all[1].Starts) {
		t.Errorf("%+v, %v", all, err)
	}
	if err := rt.DropSchedule(ctx, task.DefaultNamespace, "s"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{
		rt.DropSchedule(ctx, task.DefaultNamespace, "s"), rt.DropSchedule(ctx, "other", "t"),
		func() error { _, err := rt.Schedule(ctx, "other", "t"); return err }(),
		func() error { _, err := rt.Trigger(ctx, "other", "t"); return err }(),
	} {
		if !errors.Is(err, task.ErrNoSchedule) {
			t.Errorf("what is not there: %v", err)
		}
	}
}

func TestScheduleFiresAndIsTriggered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		rt, ctx := open(t), t.Context()
		ran := make(chan task.Tick, 100)
		runtime.Handle(rt, "tick", func(_ context.Context, t *runtime.Task[int]) (int, error) {
			ran <- t.Tick
			return 0, nil
		})
		made, err := rt.AddSchedule(ctx, timed("s", func(s *task.Schedule) { s.Every = time.Second }))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if tick := <-ran; tick != (task.Tick{Schedule: "s", At: made.Next.Add(time.Duration(i) * time.Second)}) {
				t.Errorf("%+v", tick)
			}
		}
		if _, err := rt.ChangeSchedule(ctx, task.DefaultNamespace, "s", func(s *task.Schedule) error {
			s.Paused = true
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		triggered, err := rt.Trigger(ctx, task.DefaultNamespace, "s")
		if err != nil {
			t.Fatal(err)
		}
		if got := wait(t, rt, triggered.ID); got.State != task.Succeeded || got.Tick.Schedule != "s" {
			t.Errorf("%s of %+v", got.State, got.Tick)
		}
		s, err := rt.Schedule(ctx, task.DefaultNamespace, "s")
		if err != nil || s.LastTask != triggered.ID || !s.Last.Equal(triggered.Tick.At) || s.Fired < 3 || !s.Next.IsZero() {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

func TestWhatIsNoSchedule(t *testing.T) {
	rt := open(t)
	for field, change := range map[string]func(*task.Schedule){
		"name":           func(s *task.Schedule) { s.Name = "S!" },
		"cron":           func(s *task.Schedule) { s.Every, s.Cron = 0, "99 * * * *" },
		"every":          func(s *task.Schedule) { s.Every = time.Millisecond },
		"time_zone":      func(s *task.Schedule) { s.Every, s.Cron, s.Zone = 0, "* * * * *", "Mars/Olympus" },
		"catch_up":       func(s *task.Schedule) { s.CatchUp = "most" },
		"catch_up_limit": func(s *task.Schedule) { s.CatchUp, s.CatchUpLimit = task.CatchUpAll, 5000 },
		"overlap":        func(s *task.Schedule) { s.Overlap = "maybe" },
		"ends_at":        func(s *task.Schedule) { s.Starts, s.Ends = time.Now(), time.Now().Add(-time.Hour) },
		"task.kind":      func(s *task.Schedule) { s.Task.Kind = "" },
		"task.id":        func(s *task.Schedule) { s.Task.ID = runtime.NewID() },
		"task.deadline":  func(s *task.Schedule) { s.Task.Deadline = time.Now().Add(time.Hour) },
	} {
		_, err := rt.AddSchedule(t.Context(), timed("s", change))
		bad, ok := errors.AsType[task.InvalidError](err)
		if !ok || len(bad) != 1 || bad[0].Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
