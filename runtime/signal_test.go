package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// oneSlot is a node in a bubble of virtual time.
func oneSlot(t *testing.T, opts ...runtime.Option) *runtime.Runtime {
	t.Helper()
	rt, err := runtime.Open(t.Context(), append([]runtime.Option{
		runtime.WithStore(memory.New()), runtime.WithName("n"), runtime.WithCapacity(task.Resources{"slots": 1000}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(settled)
	})
	return rt
}

func read(t *testing.T, rt *runtime.Runtime, id task.ID) task.Task {
	t.Helper()
	got, err := rt.Task(t.Context(), task.DefaultNamespace, id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func signal(t *testing.T, rt *runtime.Runtime, id task.ID, name string, payload any) {
	t.Helper()
	if err := rt.Signal(t.Context(), task.DefaultNamespace, id, name, payload); err != nil {
		t.Fatal(err)
	}
}

func explained(t *testing.T, rt *runtime.Runtime, id task.ID) task.Explanation {
	t.Helper()
	why, err := rt.Explain(t.Context(), task.DefaultNamespace, id)
	if err != nil {
		t.Fatal(err)
	}
	return why
}

func TestSleepingTaskHoldsNothingAndGoesOnInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		began := time.Now()
		runtime.Handle(rt, "sleep", func(ctx context.Context, t *runtime.Task[int]) ([]string, error) {
			var at []string
			for range 2 {
				if err := runtime.Sleep(ctx, t, time.Hour); err != nil {
					return nil, fmt.Errorf("wrapped: %w", err)
				}
				now, err := runtime.Step(ctx, t, "now", func(context.Context) (string, error) {
					return time.Since(began).Round(time.Minute).String(), nil
				})
				if err != nil {
					return nil, err
				}
				at = append(at, now)
			}
			return at, nil
		})
		runtime.Handle(rt, "other", func(context.Context, *runtime.Task[int]) (int, error) { return 1, nil })
		one := submit(t, rt, "sleep", 0, func(s *task.Spec) { s.MaxAttempts, s.Timeout = 1, time.Minute })
		time.Sleep(time.Minute)
		got := read(t, rt, one)
		if got.State != task.Scheduled || got.Holder != 0 || got.Counted() != 0 || !got.Asleep || got.RunAt.Sub(began).Round(time.Second) != time.Hour {
			t.Errorf("asleep as %+v", got)
		}
		if why := explained(t, rt, one); why.Waiting.Reason != task.WaitsForTime || !why.Waiting.Until.Equal(got.RunAt) || !strings.HasPrefix(why.Message, "It sleeps until") {
			t.Errorf("%+v %s", why.Waiting, why.Message)
		}
		wait(t, rt, submit(t, rt, "other", 0)) // there is one slot
		time.Sleep(3 * time.Hour)
		done := read(t, rt, one)
		if string(done.Result) != `["1h0m0s","2h0m0s"]` || done.Counted() != 1 || done.Attempt != 3 || len(done.Failures) != 0 {
			t.Errorf("%s after %d attempts, %d of which count, %+v", done.Result, done.Attempt, done.Counted(), done.Failure)
		}
	})
}

func TestSleepingTaskGivesBackWhatItHeldOfLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		runtime.Handle(rt, "sleep", func(ctx context.Context, t *runtime.Task[string]) (string, error) {
			d, err := time.ParseDuration(t.Payload)
			if err != nil {
				return "", err
			}
			return t.Payload, runtime.Sleep(ctx, t, d)
		})
		alone := func(s *task.Spec) { s.ConcurrencyKey, s.ConcurrencyLimit = "k", 1 }
		long, short := submit(t, rt, "sleep", "2h", alone), submit(t, rt, "sleep", "1h", alone)
		time.Sleep(90 * time.Minute)
		if a, b := read(t, rt, long), read(t, rt, short); a.State != task.Scheduled || b.State != task.Succeeded {
			t.Errorf("%s and %s", a.State, b.State)
		}
		time.Sleep(time.Hour)
		if a := read(t, rt, long); a.State != task.Succeeded {
			t.Errorf("%s", a.State)
		}
	})
}

func TestShortAndPastSleepsDoNotEndTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		runtime.Handle(rt, "nap", func(ctx context.Context, t *runtime.Task[int]) (string, error) {
			began := time.Now()
			err := errors.Join(runtime.Sleep(ctx, t, -time.Hour), runtime.Sleep(ctx, t, time.Second), runtime.SleepUntil(ctx, t, began))
			return time.Since(began).Round(time.Second).String(), err
		})
		runtime.Handle(rt, "ages", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
			return 0, runtime.Sleep(ctx, t, 100*365*24*time.Hour)
		})
		if done := wait(t, rt, submit(t, rt, "nap", 0)); string(done.Result) != `"1s"` || done.Attempt != 1 {
			t.Errorf("%s in attempt %d: %+v", done.Result, done.Attempt, done.Failure)
		}
		if done := wait(t, rt, submit(t, rt, "ages", 0)); done.State != task.Failed || done.Attempt != 1 {
			t.Errorf("%s in attempt %d: %+v", done.State, done.Attempt, done.Failure)
		}
	})
}

func TestSuspendedAttemptDoesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		var r ran
		runtime.Handle(rt, "stubborn", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
			err := runtime.Sleep(ctx, t, time.Hour)
			_, again := runtime.Step(ctx, t, "s", func(context.Context) (int, error) {
				r.note("step in %d", t.Attempt)
				return 0, nil
			})
			if err != nil && !errors.Is(again, err) {
				r.note("%v", again)
			}
			if err := errors.Join(err, again); err != nil {
				return 0, runtime.Permanent(err)
			}
			return t.Attempt, nil
		})
		one := submit(t, rt, "stubborn", 0)
		time.Sleep(2 * time.Hour)
		if done := read(t, rt, one); done.Attempt != 2 {
			t.Errorf("%+v", done)
		}
		r.is(t, "step in 2")
	})
}

// approval waits for a signal, twice, and gives what came.
func approval(ctx context.Context, t *runtime.Task[string]) ([]any, error) {
	var timeout []time.Duration
	if d, err := time.ParseDuration(t.Payload); err == nil {
		timeout = append(timeout, d)
	}
	var got []any
	for range 2 {
		v, err := runtime.WaitFor[any](ctx, t, "approve", timeout...)
		if errors.Is(err, runtime.ErrNoSignal) {
			v, err = "none", nil
		}
		if err != nil {
			return nil, err
		}
		got = append(got, v)
	}
	first := false
	_, err := runtime.Step(ctx, t, "fail once", func(context.Context) (int, error) {
		first = true
		return 0, nil
	})
	if err == nil && first { // what was taken stays taken
		err = errors.New("once more")
	}
	if err != nil {
		return nil, err
	}
	return got, nil
}

func TestTaskWaitsForSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		runtime.Handle(rt, "approval", approval)
		one := submit(t, rt, "approval", "")
		time.Sleep(time.Minute)
		got := read(t, rt, one)
		if got.State != task.Blocked || got.Awaits != "approve" || got.Holder != 0 || got.Counted() != 0 {
			t.Errorf("waits as %+v", got)
		}
		if why := explained(t, rt, one); why.Waiting.Reason != task.WaitsForSignal || why.Waiting.Signal != "approve" ||
			!why.Waiting.Until.IsZero() || why.Message != `It waits for the signal "approve".` {
			t.Errorf("%+v %s", why.Waiting, why.Message)
		}
		signal(t, rt, one, "other", 0)
		signal(t, rt, one, "approve", map[string]int{"a": 1})
		time.Sleep(time.Second)
		if got := read(t, rt, one); got.State != task.Blocked || got.Attempt != 2 {
			t.Errorf("%s in attempt %d", got.State, got.Attempt)
		}
		signal(t, rt, one, "approve", nil)
		signal(t, rt, one, "approve", 3)
		time.Sleep(time.Minute)
		if done := read(t, rt, one); string(done.Result) != `[{"a":1},null]` || done.Counted() != 2 {
			t.Errorf("%s %s %+v", done.State, done.Result, done)
		}
		if err := rt.Signal(t.Context(), task.DefaultNamespace, one, "approve", 4); !errors.Is(err, task.ErrTerminal) {
			t.Errorf("%v", err)
		}
	})
}

func TestSignalsThatAreThereAreTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		runtime.Handle(rt, "approval", approval)
		one := submit(t, rt, "approval", "", func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) })
		signal(t, rt, one, "approve", 1)
		signal(t, rt, one, "approve", 2)
		time.Sleep(2 * time.Hour)
		if done := read(t, rt, one); string(done.Result) != `[1,2]` || done.Attempt != 2 {
			t.Errorf("%s %s in attempt %d", done.State, done.Result, done.Attempt)
		}
	})
}

func TestWaitingForASignalHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		runtime.Handle(rt, "approval", approval)
		began := time.Now()
		one, none := submit(t, rt, "approval", "1h"), submit(t, rt, "approval", "0s")
		time.Sleep(time.Minute)
		if why := explained(t, rt, one); why.Waiting.Until.Sub(began).Round(time.Second) != time.Hour || !strings.Contains(why.Message, "and no longer") {
			t.Errorf("%+v %s", why.Waiting, why.Message)
		}
		if done := read(t, rt, none); string(done.Result) != `["none","none"]` || done.Attempt != 2 {
			t.Errorf("%s in attempt %d", done.Result, done.Attempt)
		}
		time.Sleep(time.Hour) // the first is over, the second is not
		signal(t, rt, one, "approve", "late")
		time.Sleep(time.Minute)
		if done := read(t, rt, one); string(done.Result) != `["none","late"]` {
			t.Errorf("%s %s %+v", done.State, done.Result, done.Failure)
		}
	})
}

func TestDeadlineAndCancelEndWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := oneSlot(t)
		runtime.Handle(rt, "approval", approval)
		runtime.Handle(rt, "sleep", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
			return 0, runtime.Sleep(ctx, t, time.Hour)
		})
		soon := func(s *task.Spec) { s.Deadline = time.Now().Add(time.Minute) }
		late := []task.ID{submit(t, rt, "approval", "", soon), submit(t, rt, "sleep", 0, soon), submit(t, rt, "approval", "1h", soon)}
		unwanted := submit(t, rt, "approval", "")
		time.Sleep(2 * time.Minute)
		for _, id := range late {
			if done := read(t, rt, id); done.State != task.Failed || done.Failure.Code != task.CodeDeadline {
				t.Errorf("%s %+v", done.State, done.Failure)
			}
		}
		if done, err := rt.Cancel(t.Context(), task.DefaultNamespace, unwanted, ""); err != nil || done.State != task.Cancelled {
			t.Errorf("%s %v", done.State, err)
		}
	})
}

func TestSignalsAreChecked(t *testing.T) {
	rt := open(t, runtime.WithLimits(task.Limits{Event: 100}))
	runtime.Handle(rt, "bad", func(ctx context.Context, t *runtime.Task[string]) (int, error) {
		return runtime.WaitFor[int](ctx, t, t.Payload)
	})
	one := submit(t, rt, "bad", "go")
	for _, s := range []task.Signal{
		{Name: "", Data: json.RawMessage("1")},
		{Name: "A", Data: json.RawMessage("1")},
		{Name: "go", Data: json.RawMessage("{")},
		{Name: "go", Data: json.RawMessage(`"` + strings.Repeat("x", 100) + `"`)},
	} {
		if err := rt.PutSignal(t.Context(), task.DefaultNamespace, one, s); !errors.Is(err, task.ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := rt.Signal(t.Context(), task.DefaultNamespace, one, "go", func() {}); err == nil {
		t.Error("a function was sent")
	}
	if err := rt.Signal(t.Context(), task.DefaultNamespace, runtime.NewID(), "go", 1); !errors.Is(err, task.ErrNotFound) {
		t.Errorf("%v", err)
	}
	signal(t, rt, one, "go", "no number")
	if done := wait(t, rt, one); done.State != task.Failed || done.Failure.Code != task.CodeInvalidPayload || done.Counted() != 1 {
		t.Errorf("%+v", done.Failure)
	}
	if done := wait(t, rt, submit(t, rt, "bad", "No Name")); done.State != task.Failed || done.Failure.Code != "invalid_step" {
		t.Errorf("%+v", done.Failure)
	}
}

// However signals and the task meet, each is taken once and in order.
func TestSignalsAreTakenInOrderAndOnce(t *testing.T) {
	rt := open(t)
	const many = 200
	runtime.Handle(rt, "sum", func(ctx context.Context, t *runtime.Task[int]) ([]int, error) {
		var all []int
		for range many {
			n, err := runtime.WaitFor[int](ctx, t, "n")
			if err != nil {
				return nil, err
			}
			all = append(all, n)
		}
		return all, nil
	})
	ids := []task.ID{submit(t, rt, "sum", 0), submit(t, rt, "sum", 0), submit(t, rt, "sum", 0)}
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			for i := range many {
				if err := rt.Signal(t.Context(), task.DefaultNamespace, id, "n", i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		done := wait(t, rt, id)
		var got []int
		if err := json.Unmarshal(done.Result, &got); err != nil || len(got) != many {
			t.Fatalf("%d taken, %v, %+v", len(got), err, done.Failure)
		}
		for i, n := range got {
			if i != n {
				t.Fatalf("number %d is %d", i, n)
			}
		}
		t.Logf("in %d attempts", done.Attempt)
	}
}

// A store that does not answer refuses signals, and keeps none of them.
func TestSignalIsRefusedWhereTheStoreIs(t *testing.T) {
	store := memory.New()
	rt := open(t, runtime.WithStore(store))
	one := submit(t, rt, "nobody", 0)
	store.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
		if call == "Append" {
			return task.ErrUnavailable
		}
		return nil
	}})
	if err := rt.Signal(t.Context(), task.DefaultNamespace, one, "go", 1); !errors.Is(err, task.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	store.Hook(memory.Hooks{})
	if there, err := store.Signals(t.Context(), task.DefaultNamespace, one, "go", 1); err != nil || len(there) != 0 {
		t.Errorf("%d %v", len(there), err)
	}
}

// A write whose fate is not known leads to one signal.
func TestSignalOfUnknownFateIsKeptOnce(t *testing.T) {
	for _, kept := range []bool{false, true} {
		store := memory.New()
		rt := open(t, runtime.WithStore(store))
		one := submit(t, rt, "nobody", 0)
		failed := false
		fail := func(call string, _ []task.Mutation) error {
			if call != "Append" || failed {
				return nil
			}
			failed = true
			return task.ErrUnknown
		}
		if kept {
			store.Hook(memory.Hooks{After: fail})
		} else {
			store.Hook(memory.Hooks{Before: fail})
		}
		signal(t, rt, one, "go", 1)
		if there, err := store.Signals(t.Context(), task.DefaultNamespace, one, "go", 10); err != nil || len(there) != 1 {
			t.Errorf("%d %v", len(there), err)
		}
		store.Hook(memory.Hooks{})
	}
}
