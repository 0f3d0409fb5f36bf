package actors

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// placed starts nodes of one store, each labelled with its name as zone, that serve
// the kinds hang, of which others know first, and echo.
func placed(t *testing.T, s task.Store, names string, change ...func(*Config)) []*Node {
	t.Helper()
	w := newWires()
	nodes := make([]*Node, 0, len(names))
	for _, name := range names {
		nodes = append(nodes, zoned(t, s, w, string(name), change...))
	}
	acquainted(t, nodes...)
	return nodes
}

func zoned(t *testing.T, s task.Store, w *wires, name string, change ...func(*Config)) *Node {
	t.Helper()
	n := peer(t, s, w, name, append([]func(*Config){func(c *Config) { c.Labels = map[string]string{"zone": name} }}, change...)...)
	n.Handle("hang", func(ctx context.Context, _ *Job) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	n.Handle("echo", func(_ context.Context, j *Job) (json.RawMessage, error) { return j.Task.Payload, nil })
	return n
}

func in(zones ...string) task.Selector { return task.Select(map[string][]string{"zone": zones}) }

// ran gives the nodes on which tasks run or ran.
func ran(t *testing.T, s task.Store, tasks []task.Task, state task.State) (on []string) {
	t.Helper()
	for _, one := range tasks {
		var got task.Task
		eventually(t, "task "+one.ID.String()+" to be "+state.String(), func() bool {
			var err error
			if got, err = s.Task(t.Context(), one.Namespace, one.ID); err != nil {
				t.Fatal(err)
			}
			return got.State == state
		})
		on = append(on, got.Node)
	}
	return on
}

func count(all []string, name string) (n int) {
	for _, x := range all {
		if x == name {
			n++
		}
	}
	return n
}

func TestTaskRunsOnlyWhereItsLabelsAreRequired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		w := newWires()
		nodes := []*Node{zoned(t, store, w, "a"), zoned(t, store, w, "b"), zoned(t, store, w, "c")}
		acquainted(t, nodes...)
		var tasks []task.Task
		for i := range 60 {
			tasks = append(tasks, submitOne(t, nodes[i%3], "echo", `1`, func(s *task.Spec) { s.Affinity.Require = in("a", "b") }))
		}
		if on := ran(t, store, tasks, task.Succeeded); slices.Contains(on, "c") {
			t.Errorf("one that requires another node ran on c: %v", on)
		}
		stuck := submitOne(t, nodes[0], "echo", `1`, func(s *task.Spec) { s.Affinity.Require = in("d") })
		for _, n := range nodes {
			got, err := n.Explain(t.Context(), stuck)
			if want := (task.Waiting{Reason: task.WaitsForPlacement, Require: in("d")}); err != nil || got == nil || got.Require != want.Require || got.Reason != want.Reason {
				t.Errorf("%s says %+v, %v", n.cfg.Name, got, err)
			}
		}
		paused := submitOne(t, nodes[2], "none", `1`, func(s *task.Spec) { s.Affinity.Require = in("a") })
		if got, err := nodes[2].Explain(t.Context(), paused); err != nil || got.Reason != task.WaitsInBacklog {
			t.Errorf("of one that another node could run: %+v, %v", got, err)
		}
		zoned(t, store, w, "d")
		if on := ran(t, store, []task.Task{stuck}, task.Succeeded); on[0] != "d" {
			t.Errorf("ran on %s", on[0])
		}
	})
}

// A node with a little room must not sit on what only another one has enough for.
func TestTaskThatNeverFitsGoesElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		w := newWires()
		with := func(gpus task.Quantity) func(*Config) {
			return func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 16_000, "gpu": gpus} }
		}
		none, one, two := zoned(t, store, w, "none"), zoned(t, store, w, "one", with(1000)), zoned(t, store, w, "two", with(2000))
		acquainted(t, none, one, two)
		var tasks []task.Task
		for _, n := range []*Node{none, one, two, none, one, two} {
			tasks = append(tasks, submitOne(t, n, "echo", `1`, func(s *task.Spec) { s.Resources = task.Resources{"gpu": 2000} }))
		}
		if on := ran(t, store, tasks, task.Succeeded); count(on, "two") != len(tasks) {
			t.Errorf("ran on %v", on)
		}
		stuck := submitOne(t, none, "echo", `1`, func(s *task.Spec) { s.Resources = task.Resources{"gpu": 3000} })
		eventually(t, "all nodes to have looked at it", func() bool {
			got, err := none.Explain(t.Context(), stuck)
			return err == nil && got != nil && got.Reason == task.WaitsForever && got.Resource == "gpu" && got.Free == 2000
		})
		// As a resource of the cluster alone it is no matter of a node.
		if err := none.SetPool(t.Context(), task.PoolChange{Name: "gpu", Capacity: new(task.Quantity(5000))}); err != nil {
			t.Fatal(err)
		}
		if on := ran(t, store, []task.Task{stuck}, task.Succeeded); on[0] != "none" {
			t.Errorf("ran on %s", on[0])
		}
	})
}

func TestTaskGoesToTheNodeItPrefersWhileThatHasRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		nodes := placed(t, store, "ab", func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 4000} })
		eventually(t, "a to know that b has nothing to do", func() bool { return rivalsOf(nodes[0]) == 1 })
		var tasks []task.Task
		began := time.Now()
		for range 8 {
			tasks = append(tasks, submitOne(t, nodes[0], "hang", `1`, func(s *task.Spec) { s.Affinity.Prefer = in("b") }))
		}
		on := ran(t, store, tasks, task.Running)
		if count(on, "a") != 4 || count(on, "b") != 4 {
			t.Errorf("they run on %v", on)
		}
		if took := time.Since(began); took < preferFor/2 {
			t.Errorf("a did not wait for b: %v", took)
		}
	})
}

func rivalsOf(n *Node) int64 { return n.rivals.Load() }

// oneHome finds where tasks run, and fails where those of one key run on two nodes.
func oneHome(t *testing.T, s task.Store, tasks []task.Task, state task.State) string {
	t.Helper()
	on := ran(t, s, tasks, state)
	if len(on) != count(on, on[0]) {
		t.Fatalf("tasks of one key are on %v", on)
	}
	return on[0]
}

func TestTasksOfOneStickyKeyRunOnOneNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		nodes := placed(t, store, "abc")
		sticky := func(key string) func(*task.Spec) { return func(s *task.Spec) { s.StickyKey = key } }
		first := submitOne(t, nodes[1], "hang", `1`, sticky("k"))
		home := oneHome(t, store, []task.Task{first}, task.Running)
		tasks := []task.Task{first}
		for i := range 9 {
			tasks = append(tasks, submitOne(t, nodes[i%3], "hang", `1`, sticky("k")))
		}
		if at := oneHome(t, store, tasks, task.Running); at != home {
			t.Errorf("the key moved from %s to %s", home, at)
		}
		var done []task.Task
		for i := range 30 {
			done = append(done, submitOne(t, nodes[i%3], "echo", `1`, sticky("k")))
		}
		if at := oneHome(t, store, done, task.Succeeded); at != home {
			t.Errorf("the key moved from %s to %s", home, at)
		}

		// While its node is full, a task waits for it, and says so wherever it is asked.
		for range 6 {
			tasks = append(tasks, submitOne(t, nodes[0], "hang", `1`, sticky("k")))
		}
		oneHome(t, store, tasks, task.Running)
		waits := submitOne(t, nodes[0], "hang", `1`, sticky("k"))
		eventually(t, "it to wait at its node", func() bool {
			got, err := store.Task(t.Context(), waits.Namespace, waits.ID)
			if err != nil || got.State != task.Queued {
				t.Fatalf("%s, %v", got.State, err)
			}
			w, err := nodes[0].Explain(t.Context(), got)
			return err == nil && w != nil && (w.Reason == task.WaitsForSticky && w.Node == home || w.Reason == task.WaitsForResource)
		})

		// The node dies without a word: all go on, together, on another.
		for _, n := range nodes {
			if n.cfg.Name == home {
				n.fence("the test says so")
			}
		}
		tasks = append(tasks, waits)
		eventually(t, "as many as fit to run on one other node", func() bool {
			var on []string
			for _, one := range tasks {
				got, err := store.Task(t.Context(), one.Namespace, one.ID)
				if err != nil {
					t.Fatal(err)
				}
				if got.State == task.Running && got.Node != home {
					on = append(on, got.Node)
				}
			}
			if len(on) > 0 && len(on) > count(on, on[0]) {
				t.Fatalf("tasks of one key are on %v", on)
			}
			return len(on) == 16
		})
	})
}

func TestStickyKeyGoesWithADrainedNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		nodes := placed(t, store, "ab")
		sticky := func(s *task.Spec) { s.StickyKey = "k" }
		first := submitOne(t, nodes[0], "echo", `1`, sticky)
		if on := ran(t, store, []task.Task{first}, task.Succeeded); on[0] != "a" {
			t.Fatalf("ran on %s", on[0])
		}
		second := submitOne(t, nodes[1], "echo", `1`, sticky)
		if on := ran(t, store, []task.Task{second}, task.Succeeded); on[0] != "a" {
			t.Fatalf("ran on %s", on[0])
		}
		nodes[0].Drain(t.Context())
		third := submitOne(t, nodes[1], "echo", `1`, sticky)
		eventually(t, "it to wait for the node", func() bool {
			got, err := store.Task(t.Context(), third.Namespace, third.ID)
			w, _ := nodes[1].Explain(t.Context(), got)
			return err == nil && w != nil && w.Reason == task.WaitsForSticky && w.Node == "a"
		})
		if err := nodes[0].Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if on := ran(t, store, []task.Task{third}, task.Succeeded); on[0] != "b" {
			t.Errorf("ran on %s", on[0])
		}
	})
}

func TestTasksSpreadOverNodesThatHaveRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		nodes := placed(t, store, "abc", func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 100_000} })
		eventually(t, "a to know that the others have nothing to do", func() bool { return rivalsOf(nodes[0]) == 2 })
		var tasks []task.Task
		for range 60 {
			tasks = append(tasks, submitOne(t, nodes[0], "hang", `1`))
			ran(t, store, tasks[len(tasks)-1:], task.Running)
		}
		on := ran(t, store, tasks, task.Running)
		for _, n := range nodes {
			if got := count(on, n.cfg.Name); got < 5 || got > 40 {
				t.Errorf("%d of 60 run on %s", got, n.cfg.Name)
			}
		}
	})
}

func TestPackedQueueFillsOneNodeAfterAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		nodes := placed(t, store, "abc", func(c *Config) { c.Capacity = task.Resources{task.SlotResource: 8000} })
		pack := task.PlacementPack
		if _, err := nodes[2].SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "packed", Placement: &pack}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all to know of each other and of the queue", func() bool {
			for _, n := range nodes {
				if rivalsOf(n) != 2 || len(n.packed()) != 1 {
					return false
				}
			}
			return true
		})
		var tasks []task.Task
		for range 12 {
			tasks = append(tasks, submitOne(t, nodes[2], "hang", `1`, func(s *task.Spec) { s.Queue = "packed" }))
		}
		on := ran(t, store, tasks, task.Running)
		if count(on, "a") != 8 || count(on, "b") != 4 {
			t.Errorf("they run on %v", on)
		}
	})
}

// A node that has claimed what it could never start gives it back, and asks for it no
// more until it could.
func TestNodeLeavesAloneWhatItCouldNeverStart(t *testing.T) {
	store := memory.New()
	var wrote atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, store)
		gpus := func(s *task.Spec) { s.Resources = task.Resources{"gpu": 2000} }
		stuck := []task.Task{submitOne(t, n, "echo", `1`, gpus), submitOne(t, n, "echo", `1`, gpus)}
		time.Sleep(3 * time.Second) // a poll finds them
		store.Hook(memory.Hooks{After: func(call string, _ []task.Mutation) error {
			if call == "Append" {
				wrote.Add(1)
			}
			return nil
		}})
		time.Sleep(time.Minute)
		if n := wrote.Load(); n > 0 {
			t.Errorf("it gives them back again and again: %d writes", n)
		}
		w, err := n.Explain(t.Context(), awaitVirtual(t, n, stuck[0].ID, task.Queued))
		if err != nil || w == nil || w.Reason != task.WaitsForever || w.Resource != "gpu" {
			t.Errorf("%+v, %v", w, err)
		}
		if err := n.SetPool(t.Context(), task.PoolChange{Name: "gpu", Capacity: new(task.Quantity(2000))}); err != nil {
			t.Fatal(err)
		}
		for _, one := range stuck {
			awaitVirtual(t, n, one.ID, task.Succeeded)
		}
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second) // the actor library's dead-letter ticker
	})
}
