package runtime_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func after(parents ...task.ID) func(*task.Spec) {
	return func(s *task.Spec) { s.DependsOn = append(s.DependsOn, parents...) }
}

// sums adds what its parents give to its payload.
func sums(ctx context.Context, t *runtime.Task[int]) (int, error) {
	sum := t.Payload
	for _, id := range t.Dependencies() {
		n, err := runtime.ResultOf[int](ctx, t, id)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func submit(t *testing.T, rt *runtime.Runtime, kind string, payload any, change ...func(*task.Spec)) task.ID {
	t.Helper()
	one, err := rt.Submit(t.Context(), kind, payload, change...)
	if err != nil {
		t.Fatal(err)
	}
	return one.ID
}

func TestChildRunsBehindItsParentsAndReadsTheirResults(t *testing.T) {
	rt := open(t)
	goOn := make(chan struct{})
	runtime.Handle(rt, "sum", sums)
	runtime.Handle(rt, "gate", func(_ context.Context, t *runtime.Task[int]) (int, error) {
		<-goOn
		return t.Payload, nil
	})
	a, b := submit(t, rt, "gate", 1), submit(t, rt, "sum", 2)
	child := submit(t, rt, "sum", 4, after(a, b))
	last := submit(t, rt, "sum", 8, after(child))
	wait(t, rt, b)
	why, err := rt.Explain(t.Context(), task.DefaultNamespace, child)
	if err != nil || why.Task.State != task.Blocked || why.Waiting.Reason != task.WaitsForOthers ||
		why.Waiting.Pending != 1 || !slices.Equal(why.Waiting.Tasks, []task.ID{a}) {
		t.Fatalf("%+v %+v %v", why.Task.State, why.Waiting, err)
	}
	close(goOn)
	if done := wait(t, rt, last); string(done.Result) != "15" {
		t.Errorf("%s %s %+v", done.State, done.Result, done.Failure)
	}
	late := submit(t, rt, "sum", 16, after(last))
	if done := wait(t, rt, late); string(done.Result) != "31" {
		t.Errorf("%s %s %+v", done.State, done.Result, done.Failure)
	}
}

func TestFailureGoesDownTheGraph(t *testing.T) {
	rt := open(t)
	runtime.Handle(rt, "sum", sums)
	runtime.Handle(rt, "fail", func(context.Context, *runtime.Task[int]) (int, error) {
		return 0, runtime.Permanent(errors.New("no"))
	})
	parent := submit(t, rt, "fail", 0)
	child := submit(t, rt, "sum", 1, after(parent))
	grandchild := submit(t, rt, "sum", 1, after(child))
	for id, of := range map[task.ID]task.ID{child: parent, grandchild: child} {
		done := wait(t, rt, id)
		if done.State != task.Cancelled || done.Failure.Code != task.CodeDependency || string(done.Failure.Details) != `{"task":"`+of.String()+`"}` {
			t.Errorf("%s %+v", done.State, done.Failure)
		}
	}
	runs := submit(t, rt, "sum", 1, after(parent), func(s *task.Spec) { s.OnDependencyFailure, s.MaxAttempts = task.RunOnFailure, 1 })
	if done := wait(t, rt, runs); done.State != task.Failed || done.Failure.Message != "no" {
		t.Errorf("%s %+v, want what its parent failed of", done.State, done.Failure)
	}
}

func TestDependencyMustBeThere(t *testing.T) {
	rt := open(t)
	var missing *task.MissingError
	_, err := rt.Submit(t.Context(), "sum", 1, after(runtime.NewID()))
	if !errors.As(err, &missing) || missing.Field != "depends_on[0]" {
		t.Errorf("%v", err)
	}
	ids := []task.ID{runtime.NewID(), runtime.NewID(), runtime.NewID(), runtime.NewID()}
	specs := make([]task.Spec, len(ids))
	subs := make([]task.Submission, len(ids))
	for i := range specs {
		specs[i] = task.Spec{Namespace: task.DefaultNamespace, ID: ids[i], Kind: "sum", Payload: []byte("1"), DependsOn: []task.ID{ids[(i+1)%3]}}
		subs[i].Spec = specs[i]
	}
	specs[3].DependsOn = nil
	subs[3].Spec = specs[3]
	var cycle task.CycleError
	if _, err := rt.CheckDependencies(t.Context(), specs); !errors.As(err, &cycle) || len(cycle) != 3 {
		t.Errorf("%v", err)
	}
	// Of tasks that come together those in a circle are refused, and no others.
	for i, answer := range rt.Enqueue(t.Context(), subs) {
		if i < 3 != errors.As(answer.Err, &cycle) {
			t.Errorf("%d: %v", i, answer.Err)
		}
	}
	specs[0].DependsOn[0] = runtime.NewID()
	if at, err := rt.CheckDependencies(t.Context(), specs); at != 0 || !errors.As(err, &missing) {
		t.Errorf("%d %v", at, err)
	}
}

// Any graph, submitted in any order, ends as one would work it out by hand.
func TestGraphsEndAsTheyMust(t *testing.T) {
	rt := open(t)
	runtime.Handle(rt, "node", func(_ context.Context, t *runtime.Task[bool]) (bool, error) {
		if !t.Payload {
			return false, runtime.Permanent(errors.New("no"))
		}
		return true, nil
	})
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(r, "tasks")
		subs := make([]task.Submission, n)
		want := map[task.ID]task.State{}
		for i := range subs {
			good := rapid.IntRange(0, 3).Draw(r, "good") > 0
			s := task.Spec{ID: runtime.NewID(), Namespace: task.DefaultNamespace, Kind: "node", Payload: []byte(strconv.FormatBool(good))}
			s.OnDependencyFailure = rapid.SampledFrom([]task.OnFailure{"cancel", "run"}).Draw(r, "way")
			lost := false
			for _, parent := range subs[:i] {
				if rapid.IntRange(0, 2).Draw(r, "edge") == 0 {
					s.DependsOn = append(s.DependsOn, parent.Spec.ID)
					lost = lost || want[parent.Spec.ID] != task.Succeeded
				}
			}
			switch {
			case lost && s.OnDependencyFailure == task.CancelOnFailure:
				want[s.ID] = task.Cancelled
			case good:
				want[s.ID] = task.Succeeded
			default:
				want[s.ID] = task.Failed
			}
			if len(s.DependsOn) == 0 {
				s.OnDependencyFailure = ""
			}
			subs[i].Spec = s
		}
		order := rapid.Permutation(subs).Draw(r, "order")
		for _, answer := range rt.Enqueue(t.Context(), order) {
			if answer.Err != nil {
				r.Fatal(answer.Err)
			}
		}
		for id, state := range want {
			if done := wait(t, rt, id); done.State != state {
				r.Errorf("%s ended %s, want %s", id, done.State, state)
			}
		}
	})
}

func TestFanOutAndFanIn(t *testing.T) {
	rt := open(t)
	runtime.Handle(rt, "sum", sums)
	const wide = 2000
	root := submit(t, rt, "sum", 1)
	subs := make([]task.Submission, wide)
	ids := make([]task.ID, wide)
	for i := range subs {
		ids[i] = runtime.NewID()
		subs[i].Spec = task.Spec{ID: ids[i], Namespace: task.DefaultNamespace, Kind: "sum", Payload: []byte("0"), DependsOn: []task.ID{root}}
	}
	last := task.Submission{Spec: task.Spec{ID: runtime.NewID(), Namespace: task.DefaultNamespace, Kind: "sum", Payload: []byte("0"), DependsOn: ids}}
	began := time.Now()
	for _, answer := range rt.Enqueue(t.Context(), slices.Concat(subs, []task.Submission{last})) {
		if answer.Err != nil {
			t.Fatal(answer.Err)
		}
	}
	if done := wait(t, rt, last.Spec.ID); string(done.Result) != strconv.Itoa(wide) {
		t.Errorf("%s %s %+v", done.State, done.Result, done.Failure)
	}
	t.Logf("%d out and in again: %s", wide, time.Since(began))
}

func TestCallbackRunsBehindItsBatch(t *testing.T) {
	rt := open(t)
	goOn := make(chan struct{})
	runtime.Handle(rt, "gate", func(_ context.Context, t *runtime.Task[bool]) (bool, error) {
		<-goOn
		if !t.Payload {
			return false, runtime.Permanent(errors.New("no"))
		}
		return true, nil
	})
	ran := make(chan task.ID, 10)
	runtime.Handle(rt, "call", func(_ context.Context, t *runtime.Task[int]) (int, error) {
		ran <- t.ID
		return 0, nil
	})
	batch := runtime.NewID()
	in := func(s *task.Spec) { s.BatchID = batch }
	behind := func(s *task.Spec) { s.AfterBatch = batch }
	submit(t, rt, "gate", true, in)
	submit(t, rt, "gate", false, in)
	late := submit(t, rt, "gate", true, in, func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) })
	call := submit(t, rt, "call", 0, behind)
	if _, err := rt.Submit(t.Context(), "call", 0, behind); !errors.Is(err, task.ErrHasCallback) {
		t.Errorf("a second callback: %v", err)
	}
	why, err := rt.Explain(t.Context(), task.DefaultNamespace, call)
	if err != nil || why.Task.State != task.Blocked || why.Waiting.Reason != task.WaitsForBatch || why.Waiting.Pending != 3 {
		t.Errorf("%s %+v %q %v", why.Task.State, why.Waiting, why.Message, err)
	}
	close(goOn)
	if _, err := rt.Cancel(t.Context(), task.DefaultNamespace, late, "enough"); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, rt, call); got.State != task.Succeeded || <-ran != call {
		t.Errorf("it is %s", got.State)
	}
	if _, err := rt.Submit(t.Context(), "call", 0, behind); !errors.Is(err, task.ErrHasCallback) {
		t.Errorf("a second callback, later: %v", err)
	}
	o, err := rt.Overview(t.Context(), task.Scope{Namespace: task.DefaultNamespace, Batch: batch})
	if err != nil || o.Callback != call {
		t.Errorf("%+v, %v", o, err)
	}
	// Of a batch that has none any more it runs at once.
	other := runtime.NewID()
	wait(t, rt, submit(t, rt, "gate", true, func(s *task.Spec) { s.BatchID = other }))
	wait(t, rt, submit(t, rt, "call", 0, func(s *task.Spec) { s.AfterBatch = other }))
}
