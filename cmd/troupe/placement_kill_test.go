package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// zones is three nodes on one PostgreSQL, each in a zone of its own, that know each
// other.
type zones struct {
	nodes []*victim
	at    []*client.Client
}

func startZones(ctx context.Context, t *testing.T, lease string) *zones {
	t.Helper()
	nodes, _ := victims(ctx, t, 3, func(i int) []string {
		return []string{"--node-label", fmt.Sprintf("zone=z%d", i), "--resource", "slots=20", "--lease", lease}
	})
	z := &zones{nodes: nodes}
	for _, n := range nodes {
		c, err := client.New("http://"+n.address, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		n.ready(ctx, t, c)
		z.at = append(z.at, c)
	}
	return z
}

func inZone(zones ...string) map[string]transport.Values {
	return map[string]transport.Values{"zone": zones}
}

// submit gives a task to a node.
func (z *zones) submit(ctx context.Context, t *testing.T, node int, s transport.Submission) string {
	t.Helper()
	s.MaxAttempts = mostAttempts
	s.Retry = &transport.RetrySubmission{Initial: "10ms", Max: "10ms"}
	s.ID = uuid.Must(uuid.NewV7()).String() // so that who insists gets one task
	insist(ctx, t, func() error {
		_, _, err := z.at[node].Submit(ctx, s)
		return err
	})
	return s.ID
}

// ran waits until tasks have been done, and says on which nodes.
func (z *zones) ran(ctx context.Context, t *testing.T, ids []string) (on map[string]int) {
	t.Helper()
	on = map[string]int{}
	for _, id := range ids {
		outcomeOf(ctx, t, z.at[0], id)
		on[lookAt(ctx, t, z.at[0], id).Node]++
	}
	return on
}

// run waits until tasks run, says on which nodes, and ends them.
func (z *zones) run(ctx context.Context, t *testing.T, ids []string) (on map[string]int) {
	t.Helper()
	on = map[string]int{}
	for _, id := range ids {
		var v transport.Task
		await(ctx, t, "a task does not run", func() bool {
			var err error
			v, err = z.at[0].Get(ctx, id)
			return err == nil && v.State == task.Running
		})
		on[v.Node]++
	}
	for _, id := range ids {
		insist(ctx, t, func() error {
			_, err := z.at[0].Cancel(ctx, id, "seen")
			return err
		})
	}
	return on
}

func sleepFor(d time.Duration, placement *transport.Placement) transport.Submission {
	return transport.Submission{Kind: "demo.sleep", Payload: fmt.Appendf(nil, `{"duration":"%s"}`, d), Placement: placement}
}

// TestPlacementOnACluster has three nodes tell the store and each other what there is,
// by their labels and by what they run.
func TestPlacementOnACluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := within(t)
	defer cancel()
	z := startZones(ctx, t, noDeath)

	var ids []string
	for i := range 30 {
		ids = append(ids, z.submit(ctx, t, i%3, sleepFor(0, &transport.Placement{Require: inZone("z0", "z1")})))
	}
	if on := z.ran(ctx, t, ids); on["n2"] > 0 {
		t.Errorf("what requires z0 or z1 ran on %v", on)
	}
	stuck := z.submit(ctx, t, 0, sleepFor(0, &transport.Placement{Require: inZone("z7")}))
	for _, c := range z.at {
		await(ctx, t, "a node that does not say what the task waits for", func() bool {
			e, err := c.Explain(ctx, stuck)
			return err == nil && e.Waiting != nil && e.Waiting.Reason == task.WaitsForPlacement
		})
	}

	prefers := &transport.Placement{Prefer: inZone("z2")}
	await(ctx, t, "the others to know that n2 has room", func() bool {
		return z.ran(ctx, t, []string{z.submit(ctx, t, 0, sleepFor(0, prefers)), z.submit(ctx, t, 1, sleepFor(0, prefers))})["n2"] == 2
	})
	// Nodes leave a task to another for as long as they hear of its room, so one that
	// stands still for a moment spoils a round.
	round := func(count int, to func(i int) int, s transport.Submission) map[string]int {
		t.Helper()
		var ids []string
		for i := range count {
			ids = append(ids, z.submit(ctx, t, to(i), s))
		}
		return z.run(ctx, t, ids)
	}
	byTurns := func(i int) int { return i % 3 }
	oneOf(t, 10, func() error {
		if on := round(20, byTurns, sleepFor(time.Hour, prefers)); on["n2"] < 15 { // some may come while it is not known yet that it has room again
			return fmt.Errorf("what prefers z2 ran on %v", on)
		}
		return nil
	})

	pack := string(task.PlacementPack)
	if _, err := z.at[1].SetQueue(ctx, "packed", transport.QueueChange{Placement: &pack}); err != nil {
		t.Fatal(err)
	}
	packed := func(d time.Duration) transport.Submission {
		s := sleepFor(d, nil)
		s.Queue = "packed"
		return s
	}
	first := "" // who joined first has room first
	await(ctx, t, "all to know of the queue", func() bool {
		on := z.ran(ctx, t, []string{z.submit(ctx, t, 0, packed(0)), z.submit(ctx, t, 1, packed(0)), z.submit(ctx, t, 2, packed(0))})
		for first = range on {
		}
		return len(on) == 1
	})
	oneOf(t, 10, func() error {
		if on := round(15, byTurns, packed(time.Hour)); on[first] < 12 {
			return fmt.Errorf("packed tasks ran on %v, and before on %s", on, first)
		}
		return nil
	})
	oneOf(t, 10, func() error {
		on := round(30, func(int) int { return 0 }, sleepFor(time.Hour, nil))
		if most := slices.Max([]int{on["n0"], on["n1"], on["n2"]}); most > 20 {
			t.Errorf("%d tasks ran in 20 slots", most)
		}
		if len(on) != 3 {
			return fmt.Errorf("tasks that may run anywhere ran on %v", on)
		}
		return nil
	})
}

const (
	stickyKeys  = 4
	stickyKills = 4
)

// TestStickyKeysClusterKill kills three nodes by turns while tasks with sticky keys come
// in on all of them: of one key no two tasks ever ran at once on two nodes.
func TestStickyKeysClusterKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := within(t)
	defer cancel()
	z := startZones(ctx, t, clusterLease.String())
	tasks := map[string][]string{}
	give := func(living ...int) {
		for i := range 6 * stickyKeys {
			s := sleepFor(time.Duration(50+i*10)*time.Millisecond, nil)
			s.StickyKey = fmt.Sprintf("k%d", i%stickyKeys)
			tasks[s.StickyKey] = append(tasks[s.StickyKey], z.submit(ctx, t, living[i%len(living)], s))
		}
	}
	give(0, 1, 2)
	for kill := range stickyKills {
		v := lookAt(ctx, t, z.at[(kill+1)%3], tasks["k0"][0])
		home := kill % 3 // of some key, perhaps; the first time, of the first one
		if kill == 0 && v.Node != "" {
			home = int(v.Node[1] - '0')
		}
		z.nodes[home].mustKill(t)
		give((home+1)%3, (home+2)%3)
		z.nodes[home].start(t)
		z.nodes[home].ready(ctx, t, z.at[home])
		give(0, 1, 2)
	}
	type run struct {
		node       string
		start, end time.Time
	}
	for key, ids := range tasks {
		on := z.ran(ctx, t, ids)
		var runs []run
		for _, id := range ids {
			v := lookAt(ctx, t, z.at[0], id)
			runs = append(runs, run{v.Node, time.Time(*v.StartedAt), time.Time(*v.FinishedAt)})
		}
		for i, a := range runs {
			for _, b := range runs[:i] {
				if a.node != b.node && a.start.Before(b.end) && b.start.Before(a.end) {
					t.Errorf("tasks with the key %s ran at once: %+v and %+v", key, a, b)
				}
			}
		}
		t.Logf("%d tasks with the key %s ran on %v", len(ids), key, on)
	}
}
