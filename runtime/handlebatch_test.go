package runtime_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// submitted stores n tasks of a kind with the payloads 0, 1, 2 …
func submitted(t *testing.T, rt *runtime.Runtime, kind string, n int, change ...func(*task.Spec)) []task.ID {
	t.Helper()
	ids := make([]task.ID, n)
	for i := range ids {
		one, err := rt.Submit(t.Context(), kind, i, change...)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = one.ID
	}
	return ids
}

type squares = []runtime.Outcome[int]

func TestManyTasksRunAtOnceAndEachHasItsOwnEnd(t *testing.T) {
	rt := open(t)
	var calls atomic.Int64
	runtime.HandleBatch(rt, "square", runtime.Gather{Most: 10, Wait: time.Hour},
		func(_ context.Context, tasks []*runtime.Task[int]) (squares, error) {
			calls.Add(1)
			out := make(squares, len(tasks))
			for i, one := range tasks {
				out[i].Value = one.Payload * one.Payload
				if one.Payload == 3 {
					out[i].Err = runtime.Permanent(errors.New("not three"))
				}
				if err := one.Progress(1, "done"); err != nil {
					return nil, err
				}
			}
			return out, nil
		})
	ids := submitted(t, rt, "square", 20)
	for i, id := range ids {
		done := wait(t, rt, id)
		if i == 3 {
			if done.State != task.Failed || done.Failure.Message != "not three" {
				t.Errorf("task 3: %s %+v", done.State, done.Failure)
			}
			continue
		}
		if string(done.Result) != strconv.Itoa(i*i) || done.Progress.Message != "done" {
			t.Errorf("task %d: %s %+v", i, done.Result, done.Progress)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("%d calls for 20 tasks, want 2", calls.Load())
	}
}

func TestFewTasksRunWhenTheTimeIsUp(t *testing.T) {
	rt := open(t)
	sizes := make(chan int, 3)
	runtime.HandleBatch(rt, "few", runtime.Gather{Wait: time.Millisecond},
		func(_ context.Context, tasks []*runtime.Task[int]) (squares, error) {
			sizes <- len(tasks)
			return make(squares, len(tasks)), nil
		})
	wait(t, rt, submitted(t, rt, "few", 1)[0])
	if n := <-sizes; n != 1 {
		t.Errorf("%d tasks in a call", n)
	}
}

func TestWhatGoesWrongWithManyGoesWrongWithEach(t *testing.T) {
	for name, c := range map[string]struct {
		fn   func([]*runtime.Task[int]) (squares, error)
		code string
		says string
	}{
		"panic":          {func([]*runtime.Task[int]) (squares, error) { panic("oh") }, task.CodePanic, "oh"},
		"error":          {func([]*runtime.Task[int]) (squares, error) { return nil, errors.New("no") }, task.CodeError, "no"},
		"one is missing": {func(ts []*runtime.Task[int]) (squares, error) { return make(squares, len(ts)-1), nil }, task.CodeError, "one outcome for each"},
	} {
		t.Run(name, func(t *testing.T) {
			rt := open(t)
			runtime.HandleBatch(rt, "wrong", runtime.Gather{Most: 2, Wait: time.Hour},
				func(_ context.Context, tasks []*runtime.Task[int]) (squares, error) { return c.fn(tasks) })
			for _, id := range submitted(t, rt, "wrong", 2, func(s *task.Spec) { s.MaxAttempts = 1 }) {
				if done := wait(t, rt, id); done.State != task.Failed || done.Failure.Code != c.code || !strings.Contains(done.Failure.Message, c.says) {
					t.Errorf("%s %+v", done.State, done.Failure)
				}
			}
		})
	}
}

func TestPayloadThatDoesNotFitStopsNoOther(t *testing.T) {
	rt := open(t)
	runtime.HandleBatch(rt, "fit", runtime.Gather{Most: 1}, func(_ context.Context, tasks []*runtime.Task[string]) (squares, error) {
		return make(squares, len(tasks)), nil
	})
	id := submitted(t, rt, "fit", 1)[0]
	if done := wait(t, rt, id); done.State != task.Failed || done.Failure.Code != task.CodeInvalidPayload {
		t.Errorf("%s %+v", done.State, done.Failure)
	}
}

// One of two that run together is cancelled: it is told, the other goes on.
func TestCancelOfOneOfManyLeavesTheOthers(t *testing.T) {
	rt := open(t)
	begun, seen := make(chan struct{}), make(chan error, 1)
	goOn := make(chan struct{})
	runtime.HandleBatch(rt, "pair", runtime.Gather{Most: 2, Wait: time.Hour},
		func(ctx context.Context, tasks []*runtime.Task[int]) (squares, error) {
			close(begun)
			<-goOn
			i := slices.IndexFunc(tasks, func(one *runtime.Task[int]) bool { return one.Payload == 0 })
			<-tasks[i].Done() // a moment after the end is on disk
			seen <- tasks[i].Err()
			return make(squares, len(tasks)), ctx.Err()
		})
	ids := submitted(t, rt, "pair", 2)
	<-begun
	if _, err := rt.Cancel(t.Context(), task.DefaultNamespace, ids[0], "enough"); err != nil {
		t.Fatal(err)
	}
	if done := wait(t, rt, ids[0]); done.State != task.Cancelled {
		t.Errorf("the first: %s", done.State)
	}
	close(goOn)
	if err := <-seen; !errors.Is(err, runtime.ErrCancelled) {
		t.Errorf("the handler saw %v", err)
	}
	if done := wait(t, rt, ids[1]); done.State != task.Succeeded {
		t.Errorf("the second: %s %+v", done.State, done.Failure)
	}
}

// idle waits until no handler runs.
func idle(t *testing.T, rt *runtime.Runtime) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		s, err := rt.Stats(t.Context(), task.DefaultNamespace)
		if err != nil {
			t.Fatal(err)
		}
		if s.Running == 0 {
			return
		}
		<-look.C
	}
}

// All that gather are cancelled: none of them is run later, and a new one starts
// its own wait.
func TestCancelWhileTheyGather(t *testing.T) {
	// Two slots: the later two run together only once the first has let go of its own.
	rt := open(t, runtime.WithCapacity(task.Resources{task.SlotResource: 2000}))
	sizes := make(chan int, 2)
	runtime.HandleBatch(rt, "gather", runtime.Gather{Most: 2, Wait: time.Hour},
		func(_ context.Context, tasks []*runtime.Task[int]) (squares, error) {
			sizes <- len(tasks)
			return make(squares, len(tasks)), nil
		})
	first := submitted(t, rt, "gather", 1)[0]
	for e, err := range rt.Watch(t.Context(), task.DefaultNamespace, first, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Data), `"running"`) {
			break
		}
	}
	if _, err := rt.Cancel(t.Context(), task.DefaultNamespace, first, ""); err != nil {
		t.Fatal(err)
	}
	wait(t, rt, first)
	// Its end is told before its handler has heard of it, and would be joined by one of the two.
	idle(t, rt)
	for _, id := range submitted(t, rt, "gather", 2) {
		if done := wait(t, rt, id); done.State != task.Succeeded {
			t.Errorf("%s", done.State)
		}
	}
	if n := <-sizes; n != 2 {
		t.Errorf("%d tasks in a call, want the two that are left", n)
	}
}

// Cut off, all of them: the context of the call ends with the last.
func TestContextOfManyEndsWithTheLast(t *testing.T) {
	rt := open(t)
	cause := make(chan error, 1)
	begun := make(chan struct{})
	runtime.HandleBatch(rt, "both", runtime.Gather{Most: 2, Wait: time.Hour},
		func(ctx context.Context, tasks []*runtime.Task[int]) (squares, error) {
			close(begun)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return make(squares, len(tasks)), nil
		})
	ids := submitted(t, rt, "both", 2)
	<-begun
	for _, id := range ids {
		if _, err := rt.Cancel(t.Context(), task.DefaultNamespace, id, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-cause; !errors.Is(err, runtime.ErrCancelled) {
		t.Errorf("cause %v", err)
	}
}
