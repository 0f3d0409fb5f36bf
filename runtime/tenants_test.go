package runtime_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestTenantsAreHeldToWhatIsSetOfThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		rt := open(t, runtime.WithStore(store), runtime.WithDrainTimeout(time.Millisecond))
		began := make(chan struct{}, 10)
		runtime.Handle(rt, "wait", func(ctx context.Context, _ *runtime.Task[json.RawMessage]) (int, error) {
			began <- struct{}{}
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		want := access.Tenant{Namespace: task.DefaultNamespace, Running: 1, Queued: 2, Weight: 2}
		act := access.Audit{ID: runtime.NewID(), At: time.Now(), Namespace: task.DefaultNamespace, Action: "tenant.set"}
		if err := store.SetTenant(t.Context(), want, act); err != nil {
			t.Fatal(err)
		}
		if err := rt.TenantsChanged(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := rt.Tenant(task.DefaultNamespace); got != want {
			t.Errorf("%+v", got)
		}
		if _, err := rt.Submit(t.Context(), "wait", 0); err != nil {
			t.Fatal(err)
		}
		<-began
		waits, err := rt.Submit(t.Context(), "wait", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rt.Usage(t.Context(), task.DefaultNamespace); err != nil || got.Queued != 1 || got.Running != 1 || got.Bytes < 2 {
			t.Errorf("%+v, %v", got, err)
		}
		again, late := time.NewTicker(5*time.Millisecond), time.After(patience)
		defer again.Stop()
		for {
			e, err := rt.Explain(t.Context(), task.DefaultNamespace, waits.ID)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(e.Message, `of its namespace "default" at most 1 run at once`) {
				break
			}
			select {
			case <-again.C:
			case <-late:
				t.Fatalf("%+v", e)
			}
		}
	})
}
