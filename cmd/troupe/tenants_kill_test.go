package main

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/client"
)

// TestANamespaceRunsNoMoreThanItMayOnAClusterThatDies has two nodes run tasks of a
// namespace that may run three at once, and kills one of them meanwhile.
func TestANamespaceRunsNoMoreThanItMayOnAClusterThatDies(t *testing.T) {
	t.Parallel()
	ctx, cancel := within(t)
	defer cancel()
	binary, url := buildTroupe(t), database(t)
	store, err := persistence.Open(ctx, url, persistence.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	may := func(running int) {
		t.Helper()
		accounts, ok := store.(access.Accounts)
		if !ok {
			t.Fatalf("%T keeps no accounts", store)
		}
		act := access.Audit{ID: runtime.NewID(), At: time.Now(), Namespace: task.DefaultNamespace, Action: "tenant.set"}
		if err := accounts.SetTenant(ctx, access.Tenant{Namespace: task.DefaultNamespace, Running: running}, act); err != nil {
			t.Fatal(err)
		}
	}
	count := func(state task.State) (n int64) {
		t.Helper()
		o, err := store.Overview(ctx, task.Scope{Namespace: task.DefaultNamespace})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range o.Counts {
			if c.State == state {
				n += c.Tasks
			}
		}
		return n
	}
	may(3)
	var nodes []*victim
	var at []*client.Client
	for _, name := range []string{"a", "b"} {
		v := newVictim(t, binary, "--store", url, "--name", name, "--lease", clusterLease.String(), "--max-crashes", strconv.Itoa(mostAttempts))
		v.start(t)
		c, err := client.New("http://"+v.address, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		v.ready(ctx, t, c)
		nodes, at = append(nodes, v), append(at, c)
	}
	submit := func(tasks int, d time.Duration) (ids []string) {
		t.Helper()
		for i := range tasks {
			s := sleepFor(d, nil)
			s.ID, s.MaxAttempts = uuid.Must(uuid.NewV7()).String(), mostAttempts
			insist(ctx, t, func() error {
				_, _, err := at[i%2].Submit(ctx, s)
				return err
			})
			ids = append(ids, s.ID)
		}
		return ids
	}
	submit(40, 200*time.Millisecond)
	most := int64(0)
	await(ctx, t, "some to have run", func() bool {
		most = max(most, count(task.Running))
		return count(task.Succeeded) >= 10
	})
	nodes[0].mustKill(t)
	await(ctx, t, "all to have run", func() bool {
		most = max(most, count(task.Running))
		return count(task.Succeeded) == 40
	})
	if most < 1 || most > 3 {
		t.Errorf("%d ran at once, where 3 may", most)
	}
	nodes[0].start(t)
	nodes[0].ready(ctx, t, at[0])
	may(6)
	ids := submit(20, time.Hour)
	most = 0
	await(ctx, t, "as many to run as may", func() bool {
		running := count(task.Running)
		most = max(most, running)
		return running >= 6
	})
	for _, id := range ids { // by turns, so that others take the place of each
		insist(ctx, t, func() error {
			_, err := at[1].Cancel(ctx, id, "seen")
			return err
		})
		most = max(most, count(task.Running))
	}
	if most != 6 {
		t.Errorf("%d ran at once, where 3 could and 6 may since", most)
	}
}
