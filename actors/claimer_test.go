package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestPriorityReachesIntoTheBacklog(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		gate := make(chan struct{})
		var ran []string // one slot: one writer at a time
		n.Handle("gate", func(context.Context, *Job) (json.RawMessage, error) { <-gate; return nil, nil })
		n.Handle("note", func(_ context.Context, j *Job) (json.RawMessage, error) {
			time.Sleep(time.Millisecond) // the next tasks are claimed meanwhile, which takes less
			ran = append(ran, string(j.Task.Payload))
			return nil, nil
		})
		submitOne(t, n, "gate", `0`)
		synctest.Wait()
		large := strings.Repeat("x", holdSmall) // far fewer of them are held at once
		payload := func(priority, i int) string { return fmt.Sprintf("[%d,%d,%q]", priority, i, large) }
		for _, priority := range []int{0, -50, 50, 10} {
			for i := range holdLeast {
				submitOne(t, n, "note", payload(priority, i), func(s *task.Spec) { s.Priority = priority })
				time.Sleep(time.Microsecond) // or they were of the same age
			}
		}
		close(gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		var want []string
		for _, priority := range []int{50, 10, 0, -50} {
			for i := range holdLeast {
				want = append(want, payload(priority, i))
			}
		}
		if len(ran) != len(want) {
			t.Fatalf("%d of %d ran", len(ran), len(want))
		}
		for i := range want {
			if ran[i] != want[i] {
				t.Fatalf("number %d was %.20s, want %.20s", i, ran[i], want[i])
			}
		}
	}, oneSlot)
}

// TestBacklogIsWorkedOffWithoutAPause has a node claim again as soon as it has room,
// not when it looks around the next time.
func TestBacklogIsWorkedOffWithoutAPause(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		const all = 8 * holdLeast
		submitMany(t, n, all, "later", func(*task.Spec) {}) // which nobody runs yet
		var ran atomic.Int32
		n.Handle("later", func(context.Context, *Job) (json.RawMessage, error) {
			ran.Add(1)
			return nil, nil
		})
		time.Sleep(n.pollEvery() / 2)
		synctest.Wait()
		if got := ran.Load(); got != all {
			t.Errorf("%d of %d ran", got, all)
		}
	})
}

// TestNewTasksPassOnlyWhatIsClaimedInAMoment has a lane with a few tasks in the backlog:
// while no claim would be made, those that come go behind them.
func TestNewTasksPassOnlyWhatIsClaimedInAMoment(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		fresh := task.New(spec("echo", `1`).Spec, time.Now(), 0).Task
		for what, tt := range map[string]struct {
			busy  int  // other lanes, in each of which some wait, but not enough to be full
			total int  // that are held, of lanes that cannot start
			deep  bool // more is in the backlog than a claim takes
			wants bool
		}{
			"a claim takes them":               {wants: true},
			"it would not take all":            {deep: true},
			"other lanes have all the room":    {busy: 3},
			"the node holds as much as it may": {total: holdMost - 10},
		} {
			c := &claimer{node: n, places: newPlaces(n), backlog: noBacklog, total: tt.total, lanes: map[task.Lane]*heldLane{
				fresh.Lane(): {waiting: 1, worst: fresh.Rank() - 2, left: fresh.Rank() - 1, deep: tt.deep},
			}}
			for i := range tt.busy {
				c.lanes[task.Lane{Queue: strconv.Itoa(i)}] = &heldLane{waiting: holdLeast / 2, worst: allBacklog, left: noBacklog}
			}
			if got := c.wants(&fresh); got != tt.wants {
				t.Errorf("%s: a new task is held: %v", what, got)
			}
		}
	})
}

// slowToClaim is a store whose claims take their time, and that counts the new tasks
// that nobody holds.
type slowToClaim struct {
	task.Store
	unheld atomic.Int32
}

func (s *slowToClaim) Claim(ctx context.Context, q task.Claim) ([]task.Task, error) {
	time.Sleep(10 * time.Millisecond)
	return s.Store.Claim(ctx, q)
}

func (s *slowToClaim) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	for _, m := range ms {
		if m.Op == task.Insert && m.Task.Holder == 0 {
			s.unheld.Add(1)
		}
	}
	return s.Store.Append(ctx, ms)
}

// TestNewTasksDoNotAllGoBehindAFewInTheBacklog has tasks come faster than claims end,
// the first of them while the node does not know yet whether there is a backlog.
func TestNewTasksDoNotAllGoBehindAFewInTheBacklog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := &slowToClaim{Store: memory.New()}
		n := startNode(t, store)
		var all []task.Task
		for range 200 {
			all = append(all, submitOne(t, n, "echo", `1`))
			time.Sleep(time.Millisecond)
		}
		for _, k := range all {
			awaitState(t, n, k.ID, task.Succeeded)
		}
		if got := store.unheld.Load(); got == 0 || got > 50 {
			t.Errorf("%d of 200 new tasks were held by nobody", got)
		}
	})
}

func TestWhatCannotStartDoesNotBarTheWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		needsGPU := func(s *task.Spec) { s.Priority, s.Resources = 100, task.Resources{"gpu": 1000} }
		submitMany(t, n, 4*holdLeast, "echo", needsGPU)
		submitMany(t, n, 4*holdLeast, "nobody", func(s *task.Spec) { s.Priority = 100 })
		if _, err := n.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "paused", Paused: new(true)}); err != nil {
			t.Fatal(err)
		}
		paused := submitMany(t, n, 2*holdLeast, "echo", func(s *task.Spec) { s.Priority, s.Queue = 100, "paused" })[0]
		for _, id := range submitMany(t, n, 3*holdLeast, "echo") {
			awaitState(t, n, id, task.Succeeded)
		}
		w, err := n.Explain(t.Context(), awaitState(t, n, paused, task.Queued))
		if err != nil || w.Reason != task.WaitsPaused {
			t.Errorf("explain: %+v, %v", w, err)
		}
		if _, err := n.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "paused", Paused: new(false)}); err != nil {
			t.Fatal(err)
		}
		awaitState(t, n, paused, task.Succeeded)
	})
}

func TestExplainNamesTheReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		for want, one := range map[string]task.Submission{
			task.WaitsForTime:    spec("echo", `0`, func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) }),
			task.WaitsForHandler: spec("nobody", `0`),
			task.WaitsForever:    spec("echo", `0`, func(s *task.Spec) { s.Resources = task.Resources{task.SlotResource: 17_000} }),
		} {
			if answer := n.Submit(t.Context(), []task.Submission{one})[0]; answer.Err != nil {
				t.Fatal(answer.Err)
			}
			deadline := time.Now().Add(patience)
			for {
				row, err := n.cfg.Store.Task(t.Context(), task.DefaultNamespace, one.Spec.ID)
				if err != nil {
					t.Fatal(err)
				}
				w, err := n.Explain(t.Context(), row)
				if err == nil && w != nil && w.Reason == want {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("explain: %+v, %v, want %s", w, err, want)
				}
				time.Sleep(time.Millisecond)
			}
		}
		hanging := make([]task.Task, 16)
		for i := range hanging {
			hanging[i] = submitOne(t, n, "hang", `0`)
		}
		for _, h := range hanging {
			awaitState(t, n, h.ID, task.Running)
		}
		waits := submitOne(t, n, "echo", `0`)
		w, err := n.Explain(t.Context(), awaitState(t, n, waits.ID, task.Queued))
		for err == nil && w != nil && w.Reason == task.WaitsForItsWorker { // its actor is only being made
			w, err = n.Explain(t.Context(), waits)
		}
		if err != nil || w.Reason != task.WaitsForResource || w.Resource != task.SlotResource || w.Needed != 1000 || w.Free != 0 {
			t.Errorf("explain: %+v, %v", w, err)
		}
	})
}

// bubble runs a test where time is virtual: it passes only while everybody waits. So a
// machine that is slow, or stands still, ends no lease and lets no deadline pass.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(quieted) }) // the nodes have been stopped then
		test(t)
	})
}

// virtual runs f in a bubble where time is virtual and ends with its node.
func virtual(t *testing.T, f func(t *testing.T, n *Node), change ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, memory.New(), change...)
		f(t, n)
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(quieted)
	})
}

func TestBackoffOfHoursIsKept(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		began := time.Now()
		one := submitOne(t, n, "fail", `0`, func(s *task.Spec) {
			s.MaxAttempts, s.Retry = 4, task.Retry{Initial: 20 * time.Minute, Factor: 2, Max: 10 * time.Hour}
		})
		es := followTaskFor(t, n, one.ID)
		checkSeen(t, task.Cursor{}, es)
		took := time.Since(began)
		if want := (1 + 2 + 4) * 20 * time.Minute; took < want || took > want+time.Minute {
			t.Errorf("four attempts took %s, want about %s", took, want)
		}
		row := awaitState(t, n, one.ID, task.Failed)
		if row.Attempt != 4 || len(row.Failures) != 4 {
			t.Errorf("attempt %d, failures %v", row.Attempt, row.Failures)
		}
	})
}

// followTaskFor follows a task that takes hours.
func followTaskFor(t *testing.T, n *Node, id task.ID) []task.Event {
	t.Helper()
	b := newBox()
	s := n.OpenSession(task.DefaultNamespace, b)
	defer s.Close()
	s.Subscribe(task.Topic{Task: id}, nil, nil)
	for {
		<-b.changed
		b.mu.Lock()
		frames := slices.Clone(b.frames)
		b.mu.Unlock()
		if ended(frames) {
			return events(frames)
		}
	}
}

func TestTimeoutCutsAnAttemptOff(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		began := time.Now()
		one := submitOne(t, n, "hang", `0`, func(s *task.Spec) { s.Timeout, s.MaxAttempts = time.Minute, 1 })
		followTaskFor(t, n, one.ID)
		if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("it took %s", took)
		}
		if row := awaitState(t, n, one.ID, task.Failed); row.Failure.Code != task.CodeTimeout {
			t.Errorf("failure %+v", row.Failure)
		}
	})
}

func TestHandlerThatIgnoresItsTimeoutKeepsItsSlotAndItsTask(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		stubborn := make(chan struct{})
		runs := 0
		n.Handle("stubborn", func(context.Context, *Job) (json.RawMessage, error) {
			if runs++; runs == 1 {
				<-stubborn
			}
			return nil, nil
		})
		one := submitOne(t, n, "stubborn", `0`, func(s *task.Spec) {
			s.Timeout, s.Retry = time.Minute, task.Retry{Initial: time.Second, Factor: 1, Max: time.Second}
		})
		time.Sleep(time.Hour)
		row, err := n.cfg.Store.Task(t.Context(), one.Namespace, one.ID)
		if err != nil || row.State != task.Queued || row.Attempt != 1 || len(row.Failures) != 1 {
			t.Errorf("after an hour: %s, attempt %d, failures %v, %v", row.State, row.Attempt, row.Failures, err)
		}
		if runs != 1 {
			t.Error("a second attempt ran beside the first")
		}
		gauges, err := n.Resources(t.Context())
		if err != nil || gauges[0].Used != 1000 {
			t.Errorf("used %v, %v", gauges, err)
		}
		close(stubborn)
		followTaskFor(t, n, one.ID)
		if row := awaitState(t, n, one.ID, task.Succeeded); row.Attempt != 2 {
			t.Errorf("attempt %d", row.Attempt)
		}
	})
}

func TestDeadlineEndsATaskWhateverItDoes(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		soon := func(s *task.Spec) { s.Deadline = time.Now().Add(time.Minute) }
		running := submitOne(t, n, "hang", `0`, soon)
		unserved := submitOne(t, n, "nobody", `0`, soon)
		retrying := submitOne(t, n, "fail", `0`, soon, func(s *task.Spec) { s.MaxAttempts = 1000 })
		for _, one := range []task.Task{running, unserved, retrying} {
			followTaskFor(t, n, one.ID)
			row := awaitState(t, n, one.ID, task.Failed)
			if took := row.Finished.Sub(row.Created); took > time.Minute+2*time.Second {
				t.Errorf("%s ended after %s", one.Kind, took)
			}
			if one.ID != retrying.ID && row.Failure.Code != task.CodeDeadline {
				t.Errorf("%s: %+v", one.Kind, row.Failure)
			}
		}
	})
}

func TestScheduledTasksStartWhenTheyAreDue(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var ids []task.ID
		for i := range 20 {
			due := time.Now().Add(time.Duration(i) * 10 * time.Minute)
			ids = append(ids, submitOne(t, n, "echo", `0`, func(s *task.Spec) { s.RunAt = due }).ID)
		}
		for i, id := range ids {
			followTaskFor(t, n, id)
			row := awaitState(t, n, id, task.Succeeded)
			want := row.Created
			if i > 0 {
				want = row.RunAt
			}
			if late := row.Started.Sub(want); late < 0 || late > time.Second {
				t.Errorf("number %d started %s late", i, late)
			}
		}
	})
}
