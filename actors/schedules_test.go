package actors

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/cron"
	"github.com/troupe-run/troupe/runtime/task"
)

// clocked collects when a kind's tasks were to run.
type clocked struct {
	mu    sync.Mutex
	ticks []time.Time
	late  time.Duration
}

func (c *clocked) handle(n *Node) {
	n.Handle("tick", func(_ context.Context, j *Job) (json.RawMessage, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ticks = append(c.ticks, j.Task.Tick.At)
		c.late = max(c.late, time.Since(j.Task.Tick.At))
		return nil, nil
	})
}

func (c *clocked) seen() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.ticks
	slices.SortFunc(seen, time.Time.Compare) // they are fired in order, and run at once
	c.ticks, c.late = nil, 0
	return seen
}

// timed makes a schedule of the kind tick, with its first tick behind now.
func timed(t *testing.T, n *Node, change func(*task.Schedule)) task.Schedule {
	t.Helper()
	s := task.Schedule{
		Namespace: task.DefaultNamespace, Name: "s", Task: task.Spec{Kind: "tick"}, Created: time.Now().UTC(),
	}
	change(&s)
	s, err := task.Limits{}.CheckSchedule(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if s.Next.IsZero() {
		rule, err := cron.New(s.Cron, s.Zone, s.Every, s.Anchor())
		if err != nil {
			t.Fatal(err)
		}
		s.Next = rule.Next(s.First())
	}
	if _, err := n.ChangeSchedule(t.Context(), task.Mutation{Op: task.SetSchedule, Schedule: new(s)}); err != nil {
		t.Fatal(err)
	}
	s.Revision++
	return s
}

func TestScheduleFiresEachTickInTime(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var c clocked
		c.handle(n)
		timed(t, n, func(s *task.Schedule) { s.Cron, s.Zone = "*/30 * * * *", "Asia/Kolkata" })
		timed(t, n, func(s *task.Schedule) {
			s.Name, s.Every, s.Ends = "every", 40*time.Minute, time.Now().Add(2*time.Hour)
		})
		timed(t, n, func(s *task.Schedule) { s.Name, s.Cron, s.Zone = "daily", "15 2 * * *", "Europe/Berlin" })
		time.Sleep(3*time.Hour - time.Second)
		synctest.Wait()
		late := c.late
		if got := len(c.seen()); got != 5+3+1 || late > 100*time.Millisecond {
			t.Errorf("%d ticks, up to %s late", got, late)
		}
	})
}

func TestMissedTicksAreCaughtUpWith(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var c clocked
		c.handle(n)
		now := time.Now()
		for name, tt := range map[string]struct {
			change func(*task.Schedule)
			want   []time.Duration // before now
		}{
			"one":  {func(s *task.Schedule) { s.CatchUp = task.CatchUpOne }, []time.Duration{5 * time.Minute}},
			"skip": {func(s *task.Schedule) { s.CatchUp = task.CatchUpSkip }, nil},
			"all": {
				func(s *task.Schedule) { s.CatchUp, s.CatchUpLimit = task.CatchUpAll, 3 },
				[]time.Duration{25 * time.Minute, 15 * time.Minute, 5 * time.Minute},
			},
			"late":  {func(s *task.Schedule) { s.CatchUp, s.Next = task.CatchUpSkip, now.Add(-20*time.Second) }, []time.Duration{20 * time.Second}},
			"ended": {func(s *task.Schedule) { s.Ends = now.Add(-time.Hour) }, []time.Duration{65 * time.Minute}},
		} {
			// Ticks every ten minutes, and the last of them five minutes before now.
			s := timed(t, n, func(s *task.Schedule) {
				s.Name, s.Every = name, 10*time.Minute
				s.Created = now.Add(-2*time.Hour - 5*time.Minute)
				s.Next = s.Created.Add(s.Every)
				if tt.change(s); name == "late" {
					s.Created = s.Next.Add(-s.Every)
				}
			})
			time.Sleep(2 * time.Second)
			synctest.Wait()
			seen := c.seen()
			if len(seen) != len(tt.want) {
				t.Errorf("%s: %v", name, seen)
				continue
			}
			for i, at := range seen {
				if before := now.Sub(at); before != tt.want[i] {
					t.Errorf("%s: %s before", name, before)
				}
			}
			got, err := n.cfg.Store.Schedules(t.Context(), task.ScheduleFilter{Namespace: s.Namespace, Name: name, Limit: 1})
			if err != nil || len(got) != 1 {
				t.Fatal(err)
			}
			if _, err := n.ChangeSchedule(t.Context(), task.Mutation{Op: task.DropSchedule, Schedule: new(got[0])}); err != nil {
				t.Error(err)
			}
			now = time.Now()
		}
	})
}

func TestTickDoesNotFireWhileTheTaskBeforeLives(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var mu sync.Mutex
		started, goOn := 0, make(chan struct{})
		n.Handle("tick", func(context.Context, *Job) (json.RawMessage, error) {
			mu.Lock()
			started++
			mu.Unlock()
			<-goOn
			return nil, nil
		})
		timed(t, n, func(s *task.Schedule) { s.Every, s.Overlap = time.Minute, task.OverlapSkip })
		time.Sleep(10*time.Minute + time.Second)
		mu.Lock()
		if started != 1 {
			t.Errorf("%d ran at once", started)
		}
		mu.Unlock()
		close(goOn)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if started != 3 {
			t.Errorf("then %d", started)
		}
	})
}

// A schedule that no version understands is put aside, and the others go on.
func TestScheduleThatIsNotUnderstoodIsPaused(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var c clocked
		c.handle(n)
		timed(t, n, func(s *task.Schedule) { s.Name, s.Cron, s.Next = "odd", "whenever", time.Now().Add(time.Second) })
		timed(t, n, func(s *task.Schedule) { s.Every = time.Minute })
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if got := len(c.seen()); got != 1 {
			t.Errorf("%d ticks", got)
		}
		got, err := n.cfg.Store.Schedules(t.Context(), task.ScheduleFilter{Namespace: task.DefaultNamespace, Name: "odd", Limit: 1})
		if err != nil || len(got) != 1 || !got[0].Paused || !got[0].Next.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestNodesFireEachTickOnce has three nodes over one store, of which two end.
func TestNodesFireEachTickOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, w := memory.NewShared(), newWires()
		var c clocked
		var nodes []*Node
		for _, name := range []string{"a", "b", "c"} {
			n := peer(t, store, w, name, func(c *Config) { c.Lease = 10 * time.Second })
			c.handle(n)
			nodes = append(nodes, n)
		}
		timed(t, nodes[0], func(s *task.Schedule) { s.Every = time.Second })
		began := time.Now()
		for i, n := range nodes {
			time.Sleep(100*time.Second + 300*time.Millisecond)
			if i < 2 {
				if err := n.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}
		synctest.Wait()
		// One whose node ended under it may have been seen before its end was stored, and
		// again after.
		ticks := map[time.Time]bool{}
		for _, at := range c.seen() {
			ticks[at] = true
		}
		if want := int(time.Since(began) / time.Second); len(ticks) != want {
			t.Errorf("%d ticks, want %d", len(ticks), want)
		}
		all, _, err := store.Tasks(t.Context(), task.Filter{Namespace: task.DefaultNamespace, Limit: 1000})
		if err != nil || len(all) != len(ticks) {
			t.Errorf("%d tasks for %d ticks, %v", len(all), len(ticks), err)
		}
		if err := nodes[2].Stop(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second)
	})
}

// While the store keeps nothing, ticks do not pile up: they are refused, and looked for
// again.
func TestTicksDoNotPileUpBeforeAStoreThatKeepsNothing(t *testing.T) {
	alone(t, func(t *testing.T, store *memory.Store, n *Node) {
		t.Helper()
		var c clocked
		c.handle(n)
		n.Handle("talk", func(ctx context.Context, j *Job) (json.RawMessage, error) {
			for ctx.Err() == nil {
				_ = j.Log("info", "here", nil) // a save that is not refused
				time.Sleep(time.Second)
			}
			return nil, nil
		})
		submitOne(t, n, "talk", `0`)
		timed(t, n, func(s *task.Schedule) { s.Every = time.Second })
		time.Sleep(3*time.Second + time.Millisecond)
		synctest.Wait()
		c.seen()
		var mu sync.Mutex
		refuses, most := true, 0
		store.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
			mu.Lock()
			defer mu.Unlock()
			if call == "Append" && refuses {
				return task.ErrUnavailable
			}
			fires := 0
			for _, m := range ms {
				if m.Op == task.Fire {
					fires++
				}
			}
			most = max(most, fires)
			return nil
		}})
		time.Sleep(10 * time.Minute)
		if got := len(c.seen()); got != 0 {
			t.Errorf("%d ticks meanwhile", got)
		}
		mu.Lock()
		refuses = false
		mu.Unlock()
		time.Sleep(5 * time.Second)
		mu.Lock()
		if most > 1 {
			t.Errorf("%d ticks of one schedule at once", most)
		}
		mu.Unlock()
		if got := len(c.seen()); got < 30 || got > 38 { // those that are hardly late, one of those missed, and what comes
			t.Errorf("%d ticks since", got)
		}
		if _, err := n.ChangeSchedule(t.Context(), task.Mutation{Op: task.SetSchedule, Schedule: new(task.Schedule{Namespace: "a", Name: "b"})}); err != nil {
			t.Error(err)
		}
	})
}
