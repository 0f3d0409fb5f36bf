package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// ran notes what ran, in order.
type ran struct {
	mu  sync.Mutex
	all []string
}

func (r *ran) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf(format, args...))
}

func (r *ran) is(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := cmp.Diff(want, r.all); d != "" {
		t.Error(d)
	}
}

func soon(s *task.Spec) {
	s.Retry = task.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond}
}

func logged(t *testing.T, rt *runtime.Runtime, id task.ID) (lines []string) {
	t.Helper()
	events, err := rt.Events(t.Context(), task.DefaultNamespace, id, task.Cursor{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == task.EventLog {
			lines = append(lines, string(e.Data))
		}
	}
	return lines
}

func TestRetryGoesOnBehindTheLastFinishedStep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		rt := open(t)
		var r ran
		runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (string, error) {
			var all []string
			for i := range 3 {
				made, err := runtime.Step(ctx, t, "part", func(context.Context) (string, error) {
					r.note("%d in %d", i, t.Attempt)
					if i == t.Attempt {
						return "", errors.New("not yet")
					}
					return fmt.Sprintf("%d of %d", i, t.Attempt), nil
				})
				if err != nil {
					return "", err
				}
				all = append(all, made)
			}
			return strings.Join(all, ", "), nil
		})
		one := submit(t, rt, "steps", 0, soon)
		done := wait(t, rt, one)
		if string(done.Result) != `"0 of 1, 1 of 2, 2 of 3"` || done.Memos != 0 || len(done.Failures) != 2 {
			t.Errorf("%s %+v", done.Result, done)
		}
		r.is(t, "0 in 1", "1 in 1", "1 in 2", "2 in 2", "2 in 3")
		lines := logged(t, rt, one)
		if len(lines) != 3 || !strings.Contains(lines[2], `"message":"step finished","fields":{"ms":0,"name":"part#3"}`) {
			t.Errorf("%s", lines)
		}
	})
}

func TestStepsGiveTheSameInEveryAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		rt := open(t)
		type odd struct {
			Kept   any
			hidden int
		}
		var r ran
		runtime.Handle(rt, "odd", func(ctx context.Context, t *runtime.Task[int]) (bool, error) {
			got, err := runtime.Step(ctx, t, "odd", func(context.Context) (odd, error) { return odd{Kept: 1, hidden: 2}, nil })
			r.note("%T %v %d %v", got.Kept, got.Kept, got.hidden, err)
			if t.Attempt == 1 {
				return false, errors.New("again")
			}
			return true, nil
		})
		wait(t, rt, submit(t, rt, "odd", 0, soon))
		r.is(t, "float64 1 0 <nil>", "float64 1 0 <nil>")
	})
}

// A node of a version that knows no steps may hold the task in between.
func TestStepsOutliveAnOlderNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		rt := open(t, runtime.WithStore(store))
		var r ran
		store.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
			for i := range ms {
				if m := &ms[i]; m.Op == task.Save && m.Task.State == task.Scheduled && call == "Append" {
					m.Task.Memos, m.Task.MemoBytes = 0, 0
				}
			}
			return nil
		}})
		runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
			for i := range 3 {
				if _, err := runtime.Step(ctx, t, "s", func(context.Context) (int, error) {
					r.note("%d in %d", i, t.Attempt)
					return 0, nil
				}); err != nil {
					return 0, err
				}
				if i == t.Attempt {
					return 0, errors.New("again")
				}
			}
			return 0, nil
		})
		// Longer than a node holds a task for: it reads the row again.
		wait(t, rt, submit(t, rt, "steps", 0, func(s *task.Spec) {
			s.Retry = task.Retry{Initial: 2500 * time.Millisecond, Factor: 1, Max: 2500 * time.Millisecond}
		}))
		r.is(t, "0 in 1", "1 in 1", "2 in 2")
	})
}

func TestEveryUseOfANameIsAStepOfItsOwn(t *testing.T) {
	rt := open(t)
	runtime.Handle(rt, "names", func(ctx context.Context, t *runtime.Task[int]) ([]int, error) {
		var got []int
		for i, name := range []string{"a", "a", "a#2", "b", "a", "a#2"} {
			n, err := runtime.Step(ctx, t, name, func(context.Context) (int, error) { return 10*t.Attempt + i, nil })
			if err != nil {
				return nil, err
			}
			got = append(got, n)
		}
		if t.Attempt == 1 {
			return nil, errors.New("again")
		}
		return got, nil
	})
	if done := wait(t, rt, submit(t, rt, "names", 0, soon)); string(done.Result) != "[10,11,12,13,14,15]" {
		t.Errorf("%s %+v", done.Result, done.Failure)
	}
}

func TestStepsAtOnceAreAllRemembered(t *testing.T) {
	rt := open(t)
	var r ran
	runtime.Handle(rt, "many", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
		var all sync.WaitGroup
		var mu sync.Mutex
		sum := 0
		for i := range 100 {
			all.Go(func() {
				n, err := runtime.Step(ctx, t, fmt.Sprint("part ", i), func(context.Context) (int, error) {
					r.note("ran")
					return i, nil
				})
				mu.Lock()
				defer mu.Unlock()
				if sum += n; err != nil {
					r.note("%v", err)
				}
			})
		}
		all.Wait()
		if t.Attempt == 1 {
			return 0, errors.New("again")
		}
		return sum, nil
	})
	if done := wait(t, rt, submit(t, rt, "many", 0, soon)); string(done.Result) != "4950" || len(r.all) != 100 {
		t.Errorf("%s after %d", done.Result, len(r.all))
	}
}

func TestStepsHaveBounds(t *testing.T) {
	rt := open(t, runtime.WithLimits(task.Limits{Result: 1000, Memos: 5000}))
	runtime.Handle(rt, "bounds", func(ctx context.Context, t *runtime.Task[struct {
		Name string
		Size int
		Many int
	}],
	) (int, error) {
		for range t.Payload.Many {
			if _, err := runtime.Step(ctx, t, t.Payload.Name, func(context.Context) (string, error) {
				return strings.Repeat("x", t.Payload.Size), nil
			}); err != nil {
				return 0, err
			}
		}
		_, err := runtime.Step(ctx, t, "func", func(context.Context) (func(), error) { return nil, nil })
		return 0, err
	})
	type payload struct {
		Name       string
		Size, Many int
	}
	for _, tt := range []struct {
		payload
		code string
	}{
		{payload{"", 0, 1}, "invalid_step"},
		{payload{strings.Repeat("n", 201), 0, 1}, "invalid_step"},
		{payload{"a\nb", 0, 1}, "invalid_step"},
		{payload{"large", 999, 1}, "invalid_step"},
		{payload{"many", 900, 6}, "too_many_steps"},
		{payload{"none", 0, 0}, "error"},
	} {
		done := wait(t, rt, submit(t, rt, "bounds", tt.payload, soon))
		if done.State != task.Failed || done.Failure.Code != tt.code || len(done.Failures) != 1 {
			t.Errorf("%+v: %+v", tt.payload, done.Failure)
		}
	}
}

// What a step gave is on disk before the handler goes on.
func TestStepReturnsWhenItIsOnDisk(t *testing.T) {
	store := memory.New()
	rt := open(t, runtime.WithStore(store))
	var r ran
	runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
		for range 3 {
			if _, err := runtime.Step(ctx, t, "s", func(context.Context) (int, error) { return 0, nil }); err != nil {
				return 0, err
			}
			memos, err := store.Memos(ctx, task.DefaultNamespace, t.ID)
			r.note("%d %v", len(memos), err)
		}
		return 0, nil
	})
	wait(t, rt, submit(t, rt, "steps", 0))
	r.is(t, "1 <nil>", "2 <nil>", "3 <nil>")
}

func TestStepOfAnAttemptThatIsOverIsNotRemembered(t *testing.T) {
	rt := open(t)
	begun, over := make(chan struct{}), make(chan error, 1)
	runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
		_, err := runtime.Step(ctx, t, "s", func(ctx context.Context) (int, error) {
			close(begun)
			<-ctx.Done()
			return 1, nil
		})
		over <- err
		return 0, err
	})
	one := submit(t, rt, "steps", 0)
	<-begun
	if _, err := rt.Cancel(t.Context(), task.DefaultNamespace, one, "enough"); err != nil {
		t.Fatal(err)
	}
	if err := <-over; !errors.Is(err, runtime.ErrCancelled) {
		t.Errorf("%v", err)
	}
}

// A store that does not answer makes steps wait, and fails nobody.
func TestStepsOutliveAStoreThatDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.New()
		rt := open(t, runtime.WithStore(store))
		var mu sync.Mutex
		left := map[string]int{"Memos": 2, "Append": 0}
		store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
			mu.Lock()
			defer mu.Unlock()
			if left[call]--; left[call] >= 0 {
				return task.ErrUnavailable
			}
			return nil
		}})
		runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
			n, err := runtime.Step(ctx, t, "s", func(context.Context) (int, error) {
				mu.Lock()
				left["Append"] = 1
				mu.Unlock()
				return t.Attempt, nil
			})
			if err == nil && t.Attempt == 1 {
				err = errors.New("again")
			}
			return n, err
		})
		if done := wait(t, rt, submit(t, rt, "steps", 0, soon)); string(done.Result) != "1" || done.Attempt != 2 {
			t.Errorf("%s in attempt %d, %+v", done.Result, done.Attempt, done.Failures)
		}
	})
}

// A node that shuts down hands its task over, and the next goes on behind its steps.
func TestStepsGoOnOnAnotherNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		store := memory.NewShared()
		var r ran
		begun := make(chan struct{})
		node := func(name string) *runtime.Runtime {
			rt, err := runtime.Open(t.Context(), runtime.WithStore(store), runtime.WithName(name), runtime.WithDrainTimeout(time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
				if _, err := runtime.Step(ctx, t, "first", func(context.Context) (int, error) {
					r.note("first on %s", name)
					return 0, nil
				}); err != nil {
					return 0, err
				}
				return runtime.Step(ctx, t, "second", func(ctx context.Context) (int, error) {
					r.note("second on %s", name)
					if name == "a" {
						close(begun)
						<-ctx.Done()
					}
					return 7, context.Cause(ctx)
				})
			})
			return rt
		}
		a := node("a")
		one := submit(t, a, "steps", 0)
		<-begun
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := node("b")
		defer b.Close(context.WithoutCancel(t.Context()))
		if done := wait(t, b, one); string(done.Result) != "7" || done.Counted() != 1 || done.Attempt != 2 {
			t.Errorf("%s in attempt %d, %+v", done.Result, done.Attempt, done.Failures)
		}
		r.is(t, "first on a", "second on a", "second on b")
	})
}

// Of tasks that are handled together each has steps of its own, and may wait alone.
func TestStepsOfTasksThatAreHandledTogether(t *testing.T) {
	rt := open(t)
	runtime.HandleBatch(rt, "many", runtime.Gather{Most: 2, Wait: time.Minute}, func(ctx context.Context, tasks []*runtime.Task[string]) ([]runtime.Outcome[string], error) {
		out := make([]runtime.Outcome[string], len(tasks))
		for i, t := range tasks {
			out[i].Value, out[i].Err = runtime.WaitFor[string](ctx, t, "go")
		}
		return out, nil
	})
	one, other := submit(t, rt, "many", "a"), submit(t, rt, "many", "b")
	for _, id := range []task.ID{one, other} {
		until(t, rt, id, task.Blocked)
		signal(t, rt, id, "go", id.String())
	}
	for _, id := range []task.ID{one, other} {
		if done := wait(t, rt, id); string(done.Result) != `"`+id.String()+`"` {
			t.Errorf("%s %+v", done.Result, done.Failure)
		}
	}
}

// until waits until a task is in a state.
func until(t *testing.T, rt *runtime.Runtime, id task.ID, state task.State) {
	t.Helper()
	for f, err := range rt.Follow(t.Context(), task.Topic{Namespace: task.DefaultNamespace, Task: id}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if read(t, rt, id).State == state {
			return
		}
		if f.Kind == task.Ended {
			t.Fatalf("it ended before it was %s", state)
		}
	}
}

func TestAttemptThatCameTooEarlyComesAgain(t *testing.T) {
	rt := open(t)
	var r ran
	runtime.Handle(rt, "early", func(_ context.Context, t *runtime.Task[int]) (int, error) {
		var times int
		if _, err := t.Restore(&times); err != nil {
			return 0, err
		}
		r.note("%d after %d", t.Attempt, times)
		if times == t.Payload {
			return times, nil
		}
		if err := t.Checkpoint(times + 1); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("not yet: %w", t.Again(time.Millisecond))
	})
	done := wait(t, rt, submit(t, rt, "early", 3, func(s *task.Spec) { s.MaxAttempts = 1 }))
	if done.State != task.Succeeded || string(done.Result) != "3" || done.Attempt != 4 || len(done.Failures) != 0 {
		t.Errorf("%+v", done)
	}
	r.is(t, "1 after 0", "2 after 1", "3 after 2", "4 after 3")

	runtime.Handle(rt, "late", func(_ context.Context, t *runtime.Task[int]) (int, error) { return 0, t.Again(2 * time.Hour) })
	late := wait(t, rt, submit(t, rt, "late", 0, func(s *task.Spec) { s.Deadline = time.Now().Add(time.Hour) }))
	if late.State != task.Failed || late.Failure.Code != task.CodeDeadline || late.Attempt != 1 {
		t.Errorf("a task that has to wait past its deadline: %+v", late)
	}
}
