package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/client"
)

// TestANamespaceRunsNoMoreThanItMayOnAClusterThatDies has two nodes run tasks of a
// namespace that may run three at once, and kills one of them meanwhile.
func TestANamespaceRunsNoMoreThanItMayOnAClusterThatDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	binary, url := buildTroupe(t), pgtest.New(t).Database(t)
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
		v := newVictim(t, binary, "--store", url, "--name", name, "--lease", "2s")
		v.start(t)
		c, err := client.New("http://"+v.address, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		v.ready(ctx, t, c)
		nodes, at = append(nodes, v), append(at, c)
	}
	submit := func(tasks int) {
		t.Helper()
		for i := range tasks {
			s := sleepFor(200*time.Millisecond, nil)
			s.MaxAttempts = 10
			if _, _, err := at[i%2].Submit(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	submit(40)
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
	submit(60)
	most = 0
	await(ctx, t, "the others to have run", func() bool {
		most = max(most, count(task.Running))
		return count(task.Succeeded) == 100
	})
	if most <= 3 || most > 6 {
		t.Errorf("%d ran at once, where 3 could and 6 may since", most)
	}
}
