package runtime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// unheard makes a store that does not answer a node's renewals, nor its joining,
// until it is told to.
func unheard(s *memory.Store) (answer func()) {
	s.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
		if call == "Renew" {
			return task.ErrUnavailable
		}
		return nil
	}})
	return func() { s.Hook(memory.Hooks{}) }
}

func TestNodeThatLostItsLeaseGoesOnWithItsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewShared()
		rt, err := runtime.Open(t.Context(), runtime.WithStore(store), runtime.WithLease(3*time.Second), runtime.WithName("n"))
		if err != nil {
			t.Fatal(err)
		}
		lost := make(chan error, 1)
		runtime.Handle(rt, "once", func(ctx context.Context, j *runtime.Task[int]) (int, error) {
			if j.Attempt > 1 {
				return j.Attempt, nil
			}
			<-ctx.Done()
			lost <- context.Cause(ctx)
			return 0, ctx.Err()
		})
		one, err := rt.Submit(t.Context(), "once", 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		answer := unheard(store)
		if cause := <-lost; cause == nil {
			t.Error("the attempt was not cut off")
		}
		synctest.Wait()
		if err := rt.Ready(t.Context()); !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("without a lease it is ready: %v", err)
		}
		if _, err := rt.Submit(t.Context(), "once", 2); err == nil {
			t.Error("without a lease it takes tasks")
		}
		answer()
		time.Sleep(time.Minute)
		got, err := rt.Task(t.Context(), one.Namespace, one.ID)
		if err != nil || got.State != task.Succeeded || string(got.Result) != "2" {
			t.Errorf("the task is %s with %s, %v", got.State, got.Result, err)
		}
		if err := rt.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(settled)
	})
}

func TestNodeCanBeClosedWhileItHasNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewShared()
		rt, err := runtime.Open(t.Context(), runtime.WithStore(store), runtime.WithLease(3*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		unheard(store)
		time.Sleep(10 * time.Second)
		began := time.Now()
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(settled)
	})
}
