package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/persistence/sqlite"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func open(tb testing.TB, opts ...runtime.Option) *runtime.Runtime {
	tb.Helper()
	rt, err := runtime.Open(context.Background(), append([]runtime.Option{runtime.WithStore(memory.New()), runtime.WithName("here")}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return rt
}

// patience is how long a test waits for what must come. Only those that fail wait so
// long, so it is more than a slow machine ever needs.
const patience = 2 * time.Minute

// bubble runs a test where time is virtual: it passes only while everybody waits. So a
// machine that is slow, or stands still, ends no lease and makes nobody miss a moment.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(settled) }) // the nodes have been closed then
		test(t)
	})
}

func wait(t *testing.T, rt *runtime.Runtime, id task.ID) task.Task {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done, err := rt.Wait(ctx, task.DefaultNamespace, id)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestHandlerSpeaksAndTheLogKeepsIt(t *testing.T) {
	rt := open(t)
	runtime.Handle(rt, "speak", func(_ context.Context, t *runtime.Task[map[string]int]) (map[string]int, error) {
		return t.Payload, errors.Join(
			t.Progress(-1, "begun"),
			t.Progress(0.25, "quarter"),
			t.Log(slog.LevelWarn, "careful", "n", 7, "err", errors.New("odd"), slog.Group("g", "d", time.Second)),
			t.Emit([]int{1, 2}),
			t.EmitText("text\n"),
			t.EmitBytes([]byte{0xff, 0}),
			t.EmitBytes([]byte("plain")),
		)
	})
	one, err := rt.Submit(t.Context(), "speak", map[string]int{"a": 1}, func(s *task.Spec) { s.Labels = map[string]string{"k": "v"} })
	if err != nil {
		t.Fatal(err)
	}
	if done := wait(t, rt, one.ID); done.State != task.Succeeded || string(done.Result) != `{"a":1}` || *done.Progress.Fraction != 0.25 {
		t.Errorf("%+v", done)
	}
	events, err := rt.Events(t.Context(), task.DefaultNamespace, one.ID, task.Cursor{Attempt: 1, Seq: 1}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Cursor.String()+" "+string(e.Type)+" "+string(e.Data))
	}
	want := []string{
		`1.2 progress {"fraction":null,"message":"begun"}`,
		`1.3 progress {"fraction":0.25,"message":"quarter"}`,
		`1.4 log {"level":"warn","message":"careful","fields":{"err":"odd","g":{"d":"1s"},"n":7}}`,
		`1.5 output {"chunk":[1,2]}`,
		`1.6 output {"text":"text\n"}`,
		`1.7 output {"base64":"/wA="}`,
		`1.8 output {"text":"plain"}`,
		`1.9 state {"state":"succeeded","attempt":1,"result":{"a":1}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAHandlerMayNotSayIsRefused(t *testing.T) {
	rt := open(t, runtime.WithLimits(task.Limits{Event: 1000, Result: 1000}))
	said := map[string]error{}
	runtime.Handle(rt, "bad", func(_ context.Context, t *runtime.Task[json.RawMessage]) (string, error) {
		said["fraction"] = t.Progress(1.5, "")
		said["large"] = t.EmitText(strings.Repeat("x", 2000))
		said["unencodable"] = t.Emit(func() {})
		said["fields"] = t.Log(slog.LevelInfo, "m", "f", func() {})
		said["checkpoint"] = t.Checkpoint(strings.Repeat("x", 2000))
		said["deep"] = t.Emit(json.RawMessage(strings.Repeat("[", 2000) + strings.Repeat("]", 2000)))
		return strings.Repeat("x", 2000), nil
	})
	one, err := rt.Submit(t.Context(), "bad", 1)
	if err != nil {
		t.Fatal(err)
	}
	if done := wait(t, rt, one.ID); done.State != task.Failed || done.Failure.Code != task.CodeResultTooLarge || done.Attempt != 1 {
		t.Errorf("%s %+v", done.State, done.Failure)
	}
	for what, err := range said {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestErrorsDecideAboutARetry(t *testing.T) {
	rt := open(t)
	soon := func(s *task.Spec) { s.Retry = task.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond} }
	for name, tt := range map[string]struct {
		err     error
		code    string
		attempt int
	}{
		"plain":             {errors.New("no"), task.CodeError, 3},
		"permanent":         {runtime.Permanent(errors.New("never")), task.CodeError, 1},
		"own code":          {&task.Failure{Code: "quota", Message: "spent", Retryable: true}, "quota", 3},
		"wrapped permanent": {fmt.Errorf("wrapped: %w", runtime.Permanent(&task.Failure{Code: "quota", Retryable: true})), "quota", 1},
	} {
		runtime.Handle(rt, "fails", func(context.Context, *runtime.Task[int]) (int, error) { return 0, tt.err })
		one, err := rt.Submit(t.Context(), "fails", 1, soon)
		if err != nil {
			t.Fatal(err)
		}
		done := wait(t, rt, one.ID)
		if done.State != task.Failed || done.Failure.Code != tt.code || done.Attempt != tt.attempt {
			t.Errorf("%s: %s after %d attempts, %+v", name, done.State, done.Attempt, done.Failure)
		}
	}
	one, err := rt.Submit(t.Context(), "fails", "not a number", soon)
	if err != nil {
		t.Fatal(err)
	}
	if done := wait(t, rt, one.ID); done.Attempt != 1 || done.Failure.Code != task.CodeInvalidPayload {
		t.Errorf("%d attempts, %+v", done.Attempt, done.Failure)
	}
	runtime.Handle(rt, "result", func(context.Context, *runtime.Task[int]) (func(), error) { return nil, nil })
	if one, err = rt.Submit(t.Context(), "result", 1, soon); err != nil {
		t.Fatal(err)
	}
	if done := wait(t, rt, one.ID); done.State != task.Failed {
		t.Errorf("a result that is no JSON: %s", done.State)
	}
}

func TestEnqueueAnswersEachInOrder(t *testing.T) {
	rt := open(t)
	id := runtime.NewID()
	spec := task.Spec{Kind: "k", UniqueKey: "only"}
	answers := rt.Enqueue(t.Context(), []task.Submission{
		{Spec: task.Spec{Kind: "Not a kind"}},
		{Spec: spec},
		{Spec: spec},
		{Spec: task.Spec{Kind: "k", ID: id}},
		{Spec: task.Spec{Kind: "k", ID: id, Priority: 1}},
		{Spec: task.Spec{Kind: "k"}, Request: task.Request{Key: "r", Hash: runtime.Hash([]byte("a"), []byte("b")), Expires: time.Now().Add(time.Hour)}},
		{Spec: task.Spec{Kind: "k"}, Request: task.Request{Key: "r", Hash: runtime.Hash([]byte("ab"), nil), Expires: time.Now().Add(time.Hour)}},
	})
	if !errors.Is(answers[0].Err, task.ErrInvalid) {
		t.Errorf("an invalid one: %v", answers[0].Err)
	}
	if !answers[1].Created || answers[2].Created || answers[1].Task.ID != answers[2].Task.ID {
		t.Errorf("unique: %+v and %+v", answers[1], answers[2])
	}
	if !answers[3].Created || !errors.Is(answers[4].Err, task.ErrExists) {
		t.Errorf("same id: %v and %v", answers[3].Err, answers[4].Err)
	}
	if !answers[5].Created || !errors.Is(answers[6].Err, task.ErrKeyReused) {
		t.Errorf("same key: %v and %v", answers[5].Err, answers[6].Err)
	}
	if got := rt.Enqueue(t.Context(), nil); len(got) != 0 {
		t.Errorf("nothing: %v", got)
	}
	if _, err := rt.Submit(t.Context(), "k", func() {}); err == nil {
		t.Error("a payload that is no JSON was taken")
	}
	if _, err := rt.Submit(t.Context(), "Not a kind", 1); !errors.Is(err, task.ErrInvalid) {
		t.Errorf("an invalid kind: %v", err)
	}
}

func TestVerbsOnTasksThatAreNotThere(t *testing.T) {
	rt := open(t)
	ctx, ns, id := t.Context(), task.DefaultNamespace, task.ID(uuid.New())
	for name, do := range map[string]func() error{
		"task":    func() error { _, err := rt.Task(ctx, ns, id); return err },
		"events":  func() error { _, err := rt.Events(ctx, ns, id, task.Cursor{}, 1); return err },
		"cancel":  func() error { _, err := rt.Cancel(ctx, ns, id, ""); return err },
		"rerun":   func() error { _, err := rt.Rerun(ctx, ns, id); return err },
		"delete":  func() error { return rt.Delete(ctx, ns, id) },
		"explain": func() error { _, err := rt.Explain(ctx, ns, id); return err },
		"wait":    func() error { _, err := rt.Wait(ctx, ns, id); return err },
		"watch": func() error {
			for _, err := range rt.Watch(ctx, ns, id, nil) {
				return err
			}
			return nil
		},
	} {
		if err := do(); !errors.Is(err, task.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBatchIsCancelledAsOne(t *testing.T) {
	rt := open(t)
	batch := runtime.NewID()
	runtime.Handle(rt, "hang", func(ctx context.Context, _ *runtime.Task[int]) (int, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	var subs []task.Submission
	for i := range 1500 {
		subs = append(subs, task.Submission{Spec: task.Spec{Kind: []string{"hang", "nobody"}[i%2], Payload: json.RawMessage("1"), BatchID: batch}})
	}
	for _, a := range rt.Enqueue(t.Context(), subs) {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	n, err := rt.CancelBatch(t.Context(), task.DefaultNamespace, batch)
	if err != nil || n != 1500 {
		t.Errorf("cancelled %d, %v", n, err)
	}
	o, err := rt.Overview(t.Context(), task.Scope{Namespace: task.DefaultNamespace, Batch: batch})
	if err != nil || len(o.Counts) != 1 || o.Counts[0].State != task.Cancelled || o.Counts[0].Tasks != 1500 {
		t.Errorf("%+v, %v", o.Counts, err)
	}
}

func TestDeletedTaskIsGone(t *testing.T) {
	rt := open(t)
	runtime.Handle(rt, "echo", func(_ context.Context, t *runtime.Task[int]) (int, error) { return t.Payload, nil })
	one, err := rt.Submit(t.Context(), "nobody", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Delete(t.Context(), one.Namespace, one.ID); !errors.Is(err, task.ErrNotTerminal) {
		t.Errorf("delete of a waiting task: %v", err)
	}
	if _, err := rt.Rerun(t.Context(), one.Namespace, one.ID); !errors.Is(err, task.ErrNotTerminal) {
		t.Errorf("rerun of a waiting task: %v", err)
	}
	if one, err = rt.Submit(t.Context(), "echo", 1); err != nil {
		t.Fatal(err)
	}
	wait(t, rt, one.ID)
	if err := rt.Delete(t.Context(), one.Namespace, one.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Task(t.Context(), one.Namespace, one.ID); !errors.Is(err, task.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}

func TestExplainSaysItInWords(t *testing.T) {
	rt := open(t, runtime.WithCapacity(task.Resources{task.SlotResource: 1000, "openai": 2000}))
	running := make(chan struct{})
	runtime.Handle(rt, "hang", func(ctx context.Context, _ *runtime.Task[int]) (int, error) {
		close(running)
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	runtime.Handle(rt, "echo", func(_ context.Context, t *runtime.Task[int]) (int, error) { return t.Payload, nil })
	submit := func(kind string, change func(*task.Spec)) task.Task {
		one, err := rt.Submit(t.Context(), kind, 1, change)
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	hangs := submit("hang", func(*task.Spec) {})
	<-running
	for _, tt := range []struct {
		one  task.Task
		want string
	}{
		{hangs, "Attempt 1 is running on here."},
		{submit("echo", func(*task.Spec) {}), `It needs 1 of "slots" and 0 is free`},
		{submit("echo", func(s *task.Spec) { s.Resources = task.Resources{"openai": 3000} }), `no node has that much`},
		{submit("echo", func(s *task.Spec) { s.Affinity.Require = task.Select(map[string][]string{"zone": {"a", "b"}}) }), "It requires a node or a worker with zone=a or b that runs its kind, and there is none."},
		{submit("nobody", func(*task.Spec) {}), `Nobody serves its kind "nobody".`},
		{submit("echo", func(s *task.Spec) { s.RunAt = time.Now().Add(time.Hour) }), "It was submitted to run at "},
	} {
		deadline := time.Now().Add(patience)
		for {
			e, err := rt.Explain(t.Context(), tt.one.Namespace, tt.one.ID)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(e.Message, tt.want) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q, want %q", e.Message, tt.want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if _, err := rt.SetQueue(t.Context(), task.QueueChange{Namespace: task.DefaultNamespace, Name: "q", Paused: new(true)}); err != nil {
		t.Fatal(err)
	}
	paused := submit("echo", func(s *task.Spec) { s.Queue = "q" })
	if e, err := rt.Explain(t.Context(), paused.Namespace, paused.ID); err != nil || e.Message != `Its queue "q" is paused.` {
		t.Errorf("%q, %v", e.Message, err)
	}
	stats, err := rt.Stats(t.Context(), task.DefaultNamespace)
	if err != nil || stats.Running != 1 || stats.Submitted != 7 || stats.Started != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
	workers, err := rt.Workers(t.Context(), task.DefaultNamespace)
	if err != nil || len(workers) != 1 || workers[0].Running != 1 || cmp.Diff(workers[0].Kinds, []string{"echo", "hang"}) != "" {
		t.Errorf("%+v, %v", workers, err)
	}
	if err := rt.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := rt.Cancel(t.Context(), hangs.Namespace, hangs.ID, "enough"); err != nil {
		t.Error(err)
	}
	if e, err := rt.Explain(t.Context(), hangs.Namespace, hangs.ID); err != nil || e.Message != "The task has ended: cancelled." {
		t.Errorf("%q, %v", e.Message, err)
	}
}

func TestEventsBehindACursorNobodyHasSeen(t *testing.T) {
	rt := open(t)
	one, err := rt.Submit(t.Context(), "nobody", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Events(t.Context(), one.Namespace, one.ID, task.Cursor{Attempt: 3, Seq: 1}, 10); !errors.Is(err, task.ErrCursorAhead) {
		t.Errorf("%v", err)
	}
	if es, err := rt.Events(t.Context(), one.Namespace, one.ID, one.Cursor, 10); err != nil || len(es) != 0 {
		t.Errorf("%v, %v", es, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		rt := open(t)
		one, err := rt.Submit(t.Context(), "nobody", 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		got, err := rt.Wait(ctx, one.Namespace, one.ID)
		if !errors.Is(err, context.DeadlineExceeded) || got.ID != one.ID || got.State != task.Queued {
			t.Errorf("%s, %v", got.State, err)
		}
	})
}

// A node on the embedded store ends and another one goes on with its tasks.
func TestEmbeddedStoreSurvivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	first, err := runtime.Open(t.Context(), runtime.WithData(dir), runtime.WithDrainTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.Open(t.Context(), runtime.WithData(dir)); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("a second node on the same directory: %v", err)
	}
	running := make(chan struct{})
	runtime.Handle(first, "work", func(ctx context.Context, _ *runtime.Task[int]) (int, error) {
		close(running)
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	one, err := first.Submit(t.Context(), "work", 1)
	if err != nil {
		t.Fatal(err)
	}
	<-running
	watched := make(chan error, 1)
	go func() {
		for _, err := range first.Watch(context.Background(), one.Namespace, one.ID, nil) {
			if err != nil {
				watched <- err
			}
		}
	}()
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-watched; !errors.Is(err, task.ErrClosed) {
		t.Errorf("the watcher of a node that closes: %v", err)
	}

	second := open(t, runtime.WithStore(nil), runtime.WithData(dir))
	runtime.Handle(second, "work", func(_ context.Context, t *runtime.Task[int]) (int, error) { return t.Attempt, nil })
	done := wait(t, second, one.ID)
	if string(done.Result) != "2" || done.Counted() != 1 || done.Crashes != 0 {
		t.Errorf("result %s, counted %d, crashes %d", done.Result, done.Counted(), done.Crashes)
	}
}
