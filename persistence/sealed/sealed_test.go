package sealed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/persistence/sealed"
	"github.com/troupe-run/troupe/persistence/sqlite"
	"github.com/troupe-run/troupe/persistence/storetest"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	first  = "2025 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"
	second = "2026 YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=\n"
)

func keys(tb testing.TB, text string) sealed.Keys {
	tb.Helper()
	if text == "" {
		return nil
	}
	k, err := sealed.ParseKeys(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// TestStore proves that a store with keys, and one without, is a store.
func TestStore(t *testing.T) {
	again := func(tb testing.TB, s task.Store) task.Store { tb.Helper(); return s }
	for name, text := range map[string]string{"Sealed": first + second, "WithoutKeys": ""} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, storetest.Subject{Sealed: text != "", Reopen: again, Open: func(tb testing.TB) task.Store {
				tb.Helper()
				return sealed.New(memory.New(), keys(tb, text), sealed.Options{})
			}})
		})
	}
	t.Run("Shared", func(t *testing.T) {
		storetest.Run(t, storetest.Subject{Shared: true, Sealed: true, Reopen: again, Open: func(tb testing.TB) task.Store {
			tb.Helper()
			return sealed.New(memory.NewShared(), keys(tb, first), sealed.Options{Strict: true})
		}})
	})
}

// onDisk is a sealed store over SQLite that knows where its files are.
type onDisk struct {
	task.Store

	dir string
}

func openDisk(tb testing.TB, dir, text string, opt sealed.Options) *onDisk {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), dir, sqlite.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return &onDisk{sealed.New(s, keys(tb, text), opt), dir}
}

func TestStoreOnDisk(t *testing.T) {
	// Most of what a new store costs is its schema, so it is made once and copied.
	made := t.TempDir()
	if err := openDisk(t, made, "", sealed.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, storetest.Subject{
		Brief: true, Sealed: true,
		Open: func(tb testing.TB) task.Store {
			tb.Helper()
			dir := filepath.Join(tb.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
				tb.Fatal(err)
			}
			return openDisk(tb, dir, first, sealed.Options{Strict: true})
		},
		Reopen: func(tb testing.TB, s task.Store) task.Store {
			tb.Helper()
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			return openDisk(tb, s.(*onDisk).dir, first, sealed.Options{Strict: true})
		},
	})
}

type withAccounts struct {
	task.Store
	access.Accounts
}

func TestAccountsPassThrough(t *testing.T) {
	accounts := withAccounts{}.Accounts
	if _, ok := sealed.New(memoryAlone{memory.New()}, keys(t, first), sealed.Options{}).(access.Accounts); ok {
		t.Error("a store without accounts has some")
	}
	s := sealed.New(withAccounts{memory.New(), fakeAccounts{accounts}}, keys(t, first), sealed.Options{})
	got, ok := s.(access.Accounts)
	if !ok {
		t.Fatal("the accounts are gone")
	}
	if _, err := got.KeyByHash(t.Context(), [32]byte{}); !errors.Is(err, errFake) {
		t.Errorf("asked another: %v", err)
	}
	if _, err := s.Task(t.Context(), "acme", task.ID{1}); !errors.Is(err, task.ErrNotFound) {
		t.Errorf("the tasks: %v", err)
	}
}

type memoryAlone struct{ task.Store }

var errFake = errors.New("the fake answers")

type fakeAccounts struct{ access.Accounts }

func (fakeAccounts) KeyByHash(context.Context, [32]byte) (access.Key, error) {
	return access.Key{}, errFake
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// story is a task with something said in every field that takes it, one write after
// the other.
func story(t require, say string) (running task.Task, ms []task.Mutation) {
	quoted, err := json.Marshal(map[string]string{"secret": say})
	if err != nil {
		t.Fatal(err)
	}
	spec := task.Spec{
		ID: task.ID{7}, Namespace: "acme", Kind: "work", Queue: "default", Payload: quoted, MaxAttempts: 5,
		Retry: task.DefaultRetry, Resources: task.Resources{"slots": 1000}, Cache: task.Cache{Key: "k", TTL: time.Hour},
	}
	born := task.New(spec, epoch, 1)
	ms = append(ms, task.Mutation{Op: task.Insert, Task: born.Task, Events: born.Events})
	step := func(s task.Step, err error) {
		if err != nil {
			t.Fatal(err)
		}
		ms, running = append(ms, s.Mutation()), s.Task
	}
	step(born.Task.Start(epoch, "node", "worker"))
	step(running.Fail(epoch, task.Failure{Code: "error", Message: say, Details: quoted, Retryable: true}, 0))
	step(running.Due(epoch.Add(time.Hour)))
	step(running.Start(epoch, "node", "worker"))
	m := task.Mutation{Op: task.Save, Guard: running.Guard(), Checkpoint: true}
	for _, kind := range []task.EventType{task.EventLog, task.EventOutput, task.EventProgress} {
		var e task.Event
		running, e = running.Say(epoch, kind, quoted)
		m.Events = append(m.Events, e)
	}
	memo := task.Memo{Kind: task.StepMemo, Name: "step", Data: quoted}
	var e task.Event
	running, e = running.Remember(epoch, memo, time.Second)
	m.Events, m.Memos = append(m.Events, e), []task.Memo{memo}
	running.Checkpoint, running.Progress = quoted, &task.Progress{Message: say, At: epoch}
	m.Task = running
	ms = append(ms, m, signal(running, 1, quoted))
	return running, ms
}

type require interface{ Fatal(args ...any) }

func signal(t task.Task, n byte, data json.RawMessage) task.Mutation {
	return task.Mutation{
		Op: task.PutSignal, Task: task.Task{Spec: task.Spec{ID: t.ID, Namespace: t.Namespace}},
		Signal: task.Signal{ID: task.ID{9, n}, Name: "go", Data: data, At: epoch},
	}
}

// ends gives how the story may end.
func ends(t require, running task.Task, say string) map[string]task.Mutation {
	quoted, err := json.Marshal(say)
	if err != nil {
		t.Fatal(err)
	}
	well, err := running.Succeed(epoch.Add(2*time.Hour), quoted)
	if err != nil {
		t.Fatal(err)
	}
	badly, err := running.Fail(epoch.Add(2*time.Hour), task.Failure{Code: "error", Message: say, Details: quoted}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]task.Mutation{"well": well.Mutation(), "badly": badly.Mutation()}
}

func scheduled(payload json.RawMessage) task.Schedule {
	return task.Schedule{
		Namespace: "acme", Name: "daily", Every: time.Hour, Created: epoch, Next: epoch.Add(time.Hour),
		Task: task.Spec{Namespace: "acme", Kind: "work", Queue: "default", Payload: payload, MaxAttempts: 1},
	}
}

func hold(t require, s task.Store, ms ...task.Mutation) {
	outcomes, err := s.Append(context.Background(), ms)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Err != nil {
			t.Fatal(fmt.Sprintf("mutation %d: %v", i, o.Err))
		}
	}
}

func TestNothingSaidIsOnDisk(t *testing.T) {
	const canary = "CANARY-5f1e"
	for _, end := range []string{"", "well", "badly"} {
		t.Run("ends "+end, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir, first, sealed.Options{})
			running, ms := story(t, canary)
			hold(t, s, ms...)
			if end != "" {
				hold(t, s, ends(t, running, canary)[end])
			}
			said := json.RawMessage(`"` + canary + `"`)
			hold(t, s, task.Mutation{Op: task.SetSchedule, Schedule: new(scheduled(said))})
			// So that what is in the log of writes comes to the file, too.
			inFiles(t, dir, canary)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			inFiles(t, dir, canary)
			// And the look finds what is there.
			if !found(t, dir, "trp1:2025:") || !found(t, dir, "daily") {
				t.Error("the files are not those the store writes")
			}
		})
	}
}

func inFiles(t *testing.T, dir, canary string) {
	t.Helper()
	for _, form := range []string{canary, canary[3:], "Q0FOQVJZ", "NBTkFSW", "DQU5BUl"} { // and in base64
		if found(t, dir, form) {
			t.Errorf("%q is on disk", form)
		}
	}
}

func found(t *testing.T, dir, text string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	return slices.ContainsFunc(files, func(name string) bool {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(content, []byte(text))
	})
}

// everything is all that can be read of the task of the story.
type everything struct {
	Task      task.Task
	List      []task.Task
	Events    []task.Event
	Memos     []task.Memo
	Signals   []task.Signal
	Kept      task.Kept
	Schedules []task.Schedule
}

func readAll(ctx context.Context, s task.Store) (all everything, err error) {
	var errs [7]error
	all.Task, errs[0] = s.Task(ctx, "acme", task.ID{7})
	all.List, _, errs[1] = s.Tasks(ctx, task.Filter{Namespace: "acme", Limit: 10})
	all.Events, errs[2] = s.Events(ctx, "acme", task.ID{7}, task.Cursor{}, 1000)
	all.Memos, errs[3] = s.Memos(ctx, "acme", task.ID{7})
	all.Signals, errs[4] = s.Signals(ctx, "acme", task.ID{7}, "go", 10)
	all.Kept, _, errs[5] = s.Result(ctx, "acme", "work", "k", epoch)
	all.Schedules, errs[6] = s.Schedules(ctx, task.ScheduleFilter{Namespace: "acme", Limit: 10})
	return all, errors.Join(errs[:]...)
}

func same(a, b everything) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b task.Time) bool { return time.Time(a).Equal(time.Time(b)) }))
}

func TestAnyStoryReadsAsWithoutKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		say := rapid.String().Draw(t, "say")
		running, ms := story(t, say)
		if end := rapid.SampledFrom([]string{"", "well", "badly"}).Draw(t, "end"); end != "" {
			ms = append(ms, ends(t, running, say)[end])
		}
		ms = append(ms, task.Mutation{Op: task.SetSchedule, Schedule: new(scheduled(ms[0].Task.Payload))})
		before := fmt.Sprintf("%+v", ms)
		text := rapid.SampledFrom([]string{first, second + first}).Draw(t, "keys")
		k, err := sealed.ParseKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		inner, plain := memory.New(), memory.New()
		s := sealed.New(inner, k, sealed.Options{Strict: true})
		hold(t, s, ms...)
		if after := fmt.Sprintf("%+v", ms); after != before {
			t.Fatalf("sealing changed what it was given:\n%s\n%s", before, after)
		}
		hold(t, plain, ms...)
		got, err := readAll(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		want, err := readAll(ctx, plain)
		if err != nil {
			t.Fatal(err)
		}
		if d := same(got, want); d != "" {
			t.Fatal(d)
		}
		kept, err := readAll(ctx, inner)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := json.Marshal(kept)
		if err != nil {
			t.Fatal(err)
		}
		quoted, err := json.Marshal(say)
		if err != nil {
			t.Fatal(err)
		}
		if len(say) > 8 && bytes.Contains(shown, quoted[1:len(quoted)-1]) {
			t.Fatalf("%q is in the store", say)
		}
	})
}

func TestKeysRotate(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	running, ms := story(t, "said")
	ms[0] = requested(ms[0])
	old := sealed.New(inner, keys(t, first), sealed.Options{})
	hold(t, old, ms...)
	want, err := readAll(ctx, old)
	if err != nil {
		t.Fatal(err)
	}

	both := sealed.New(inner, keys(t, second+first), sealed.Options{Strict: true})
	got, err := readAll(ctx, both)
	if err != nil {
		t.Fatal(err)
	}
	if d := same(got, want); d != "" {
		t.Error(d)
	}
	sameAgain(t, both, ms)
	if kept, err := inner.Task(ctx, "acme", task.ID{7}); err != nil || !strings.Contains(string(kept.Payload), "trp1:2025:") {
		t.Errorf("%s, %v", kept.Payload, err)
	}
	hold(t, both, ends(t, running, "said")["badly"])
	if kept, err := inner.Task(ctx, "acme", task.ID{7}); err != nil || !strings.Contains(kept.Failure.Message, "trp1:2026:") {
		t.Errorf("%+v, %v", kept.Failure, err)
	}

	_, err = readAll(ctx, sealed.New(inner, keys(t, second), sealed.Options{}))
	if !errors.Is(err, sealed.ErrUnknownKey) || !strings.Contains(err.Error(), "2025") {
		t.Errorf("without the old key: %v", err)
	}
	_, err = readAll(ctx, sealed.New(inner, nil, sealed.Options{}))
	if !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("without any: %v", err)
	}
}

// sameAgain expects that what was stored before, by another key or none, is known.
func sameAgain(t *testing.T, s task.Store, ms []task.Mutation) {
	t.Helper()
	ctx := t.Context()
	byID, byKey := ms[0], ms[0]
	byID.Request = task.Request{}
	byKey.Task.ID, byKey.Events = task.ID{8}, nil
	put := ms[len(ms)-1]
	out, err := s.Append(ctx, []task.Mutation{byID, byKey, ms[0], put})
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Err != nil {
			t.Errorf("again, %d: %v", i, o.Err)
		} else if i < 3 && (o.Existing == nil || o.Existing.ID != task.ID{7} || string(o.Existing.Payload) != string(ms[0].Task.Payload)) {
			t.Errorf("again, %d: %+v", i, o.Existing)
		}
	}
	other, reused, otherSignal := byID, byKey, put
	other.Task.Payload = json.RawMessage(`"another"`)
	reused.Request.Hash = [32]byte{2}
	otherSignal.Signal.Data = json.RawMessage(`"another"`)
	if out, err = s.Append(ctx, []task.Mutation{other, reused, otherSignal}); err != nil {
		t.Fatal(err)
	}
	for i, why := range []error{task.ErrExists, task.ErrKeyReused, task.ErrKeyReused} {
		if !errors.Is(out[i].Err, why) {
			t.Errorf("another, %d: %+v, want %v", i, out[i], why)
		}
	}
}

func TestASignalThatWasTakenIsKnown(t *testing.T) {
	inner := memory.New()
	running, ms := story(t, "said")
	ms[0] = requested(ms[0])
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), ms...)
	memo := task.Memo{Kind: task.SignalMemo, Name: "go", Data: ms[0].Task.Payload, Signal: task.ID{9, 1}}
	taken, e := running.Remember(epoch, memo, 0)
	both := sealed.New(inner, keys(t, second+first), sealed.Options{})
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), task.Mutation{
		Op: task.Save, Task: taken, Guard: running.Guard(), Events: []task.Event{e}, Memos: []task.Memo{memo},
	})
	sameAgain(t, both, ms)
}

// requested is an insert under an idempotency key.
func requested(m task.Mutation) task.Mutation {
	m.Request = task.Request{Key: "idem", Hash: [32]byte{1}, Expires: epoch.Add(time.Hour)}
	return m
}

func TestPlainRowsAreRead(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	_, ms := story(t, "said")
	ms[0] = requested(ms[0])
	ms = slices.Insert(ms, 1, task.Mutation{Op: task.SetSchedule, Schedule: new(scheduled(json.RawMessage(`"said"`)))})
	hold(t, inner, ms...)
	s := sealed.New(inner, keys(t, first), sealed.Options{})
	got, err := readAll(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	want, err := readAll(ctx, inner)
	if err != nil {
		t.Fatal(err)
	}
	if d := same(got, want); d != "" {
		t.Error(d)
	}
	sameAgain(t, s, ms)
	if _, err := readAll(ctx, sealed.New(inner, keys(t, first), sealed.Options{Strict: true})); !errors.Is(err, sealed.ErrPlain) {
		t.Errorf("strict: %v", err)
	}
}

// thief is a store in which somebody puts texts where they do not belong.
type thief struct {
	task.Store

	change func(*task.Task)
}

func (s thief) Task(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	t, err := s.Store.Task(ctx, namespace, id)
	s.change(&t)
	return t, err
}

func TestMovedTextsAreErrors(t *testing.T) {
	inner := memory.New()
	running, ms := story(t, "said")
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), ms...)
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), ends(t, running, "said")["badly"])
	for name, change := range map[string]func(*task.Task){
		"payload as result":      func(t *task.Task) { t.Result = t.Payload },
		"details as payload":     func(t *task.Task) { t.Payload = t.Failure.Details },
		"of another attempt":     func(t *task.Task) { t.Failures[0].Message = t.Failures[1].Message },
		"as another task's":      func(t *task.Task) { t.ID[5]++ },
		"as another namespace's": func(t *task.Task) { t.Namespace = "other" },
		"message as progress":    func(t *task.Task) { t.Progress = &task.Progress{Message: t.Failure.Message} },
		"one bit of a message": func(t *task.Task) {
			t.Failure = &task.Failure{Message: t.Failure.Message[:20] + "!" + t.Failure.Message[21:]}
		},
		"one bit of details": func(t *task.Task) { t.Failure.Details[0]++ },
	} {
		stolen := thief{inner, change}
		if got, err := sealed.New(stolen, keys(t, first), sealed.Options{}).Task(t.Context(), "acme", task.ID{7}); !errors.Is(err, sealed.ErrDamaged) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTasksThatCannotBeOpenedAreNotRun(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	var log bytes.Buffer
	insert := func(s task.Store, id byte, at time.Time, change ...func(*task.Spec)) {
		spec := task.Spec{
			ID: task.ID{id}, Namespace: "acme", Kind: "work", Queue: "default", Payload: json.RawMessage(`"said"`), MaxAttempts: 3,
			Retry: task.DefaultRetry, Resources: task.Resources{"slots": 1000}, RunAt: at,
		}
		for _, c := range change {
			c(&spec)
		}
		born := task.New(spec, epoch, 0)
		hold(t, s, task.Mutation{Op: task.Insert, Task: born.Task, Events: born.Events})
	}
	ours := sealed.New(inner, keys(t, second), sealed.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	theirs := sealed.New(inner, keys(t, first), sealed.Options{})
	after := func(id byte) func(*task.Spec) {
		return func(s *task.Spec) { s.DependsOn, s.OnDependencyFailure = []task.ID{{id}}, task.CancelOnFailure }
	}
	insert(theirs, 1, time.Time{})
	insert(ours, 2, time.Time{})
	insert(theirs, 3, epoch.Add(time.Minute))
	insert(ours, 4, epoch.Add(time.Minute))
	insert(theirs, 5, time.Time{}, after(2))
	insert(ours, 6, time.Time{}, after(2))
	hold(t, theirs, task.Mutation{Op: task.SetSchedule, Schedule: new(scheduled(json.RawMessage(`"said"`)))})

	claim := func(s task.Store, holder task.Incarnation) (ids []byte) {
		claimed, err := s.Claim(ctx, task.Claim{Holder: holder, Kinds: []string{"work"}, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range claimed {
			ids = append(ids, one.ID[0])
		}
		return ids
	}
	if got := claim(ours, 1); !bytes.Equal(got, []byte{2}) {
		t.Errorf("claimed %v", got)
	}
	if got, err := inner.Task(ctx, "acme", task.ID{1}); err != nil || got.Holder != 0 || got.State != task.Queued {
		t.Errorf("the other was not given back: %+v, %v", got, err)
	}
	_ = claim(ours, 1)
	if n := strings.Count(log.String(), task.ID{1}.String()); n != 1 || !strings.Contains(log.String(), "2025") {
		t.Errorf("named %d times in the log:\n%s", n, log.String())
	}
	if got := claim(theirs, 2); !bytes.Equal(got, []byte{1}) {
		t.Errorf("who has the key claimed %v", got)
	}
	due, _, err := ours.Due(ctx, epoch.Add(time.Hour), 10)
	if err != nil || len(due) != 1 || due[0].ID != (task.ID{4}) {
		t.Errorf("due: %+v, %v", due, err)
	}
	orphans, err := ours.Orphans(ctx, 10)
	if err != nil || len(orphans) != 1 || orphans[0].ID != (task.ID{2}) {
		t.Errorf("orphans: %+v, %v", orphans, err)
	}
	parent, err := ours.Task(ctx, "acme", task.ID{2})
	if err != nil {
		t.Fatal(err)
	}
	end, err := parent.Cancel(epoch, "")
	if err != nil {
		t.Fatal(err)
	}
	hold(t, ours, end.Mutation())
	free, err := ours.Unblocked(ctx, 10)
	if err != nil || len(free) != 1 || free[0].Task.ID != (task.ID{6}) {
		t.Errorf("unblocked: %+v, %v", free, err)
	}
	coming, err := ours.Schedules(ctx, task.ScheduleFilter{Coming: true, Limit: 10})
	if err != nil || len(coming) != 0 {
		t.Errorf("schedules: %+v, %v", coming, err)
	}
	if _, err := ours.Schedules(ctx, task.ScheduleFilter{Namespace: "acme", Limit: 10}); !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("a list of them: %v", err)
	}
	if _, _, err := ours.Tasks(ctx, task.Filter{Namespace: "acme", Limit: 10}); !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("a list of tasks: %v", err)
	}
}

func TestWhatLooksSealedIsRefusedWithoutKeys(t *testing.T) {
	inner := memory.New()
	_, ms := story(t, "said")
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), ms...)
	raw, err := inner.Task(t.Context(), "acme", task.ID{7})
	if err != nil {
		t.Fatal(err)
	}
	bad := ms[0]
	bad.Task.Payload, bad.Task.ID = raw.Payload, task.ID{8}
	good := ms[0]
	s := sealed.New(memory.New(), nil, sealed.Options{})
	out, err := s.Append(t.Context(), []task.Mutation{bad, good, signal(good.Task, 1, raw.Payload), {Op: task.SetSchedule, Schedule: new(scheduled(raw.Payload))}})
	if err != nil {
		t.Fatal(err)
	}
	for i, refused := range []bool{true, false, true, true} {
		if errors.Is(out[i].Err, task.ErrInvalid) != refused {
			t.Errorf("mutation %d: %+v", i, out[i])
		}
	}
}

func TestErrorsOfTheStorePassThrough(t *testing.T) {
	inner := memory.New()
	s := sealed.New(inner, keys(t, first), sealed.Options{})
	inner.Hook(memory.Hooks{Before: func(string, []task.Mutation) error { return task.ErrUnavailable }})
	ctx := t.Context()
	_, readErr := readAll(ctx, s)
	_, appendErr := s.Append(ctx, nil)
	_, claimErr := s.Claim(ctx, task.Claim{})
	_, _, dueErr := s.Due(ctx, epoch, 1)
	_, orphansErr := s.Orphans(ctx, 1)
	_, freeErr := s.Unblocked(ctx, 1)
	for i, err := range []error{readErr, appendErr, claimErr, dueErr, orphansErr, freeErr} {
		if !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestAFailureWhileComparingIsTheOutcome plays a store that answers once.
func TestAFailureWhileComparingIsTheOutcome(t *testing.T) {
	inner := memory.New()
	_, ms := story(t, "said")
	ms[0] = requested(ms[0])
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), ms...)
	both := sealed.New(inner, keys(t, second+first), sealed.Options{})
	byID := ms[0]
	byID.Request = task.Request{}
	for _, m := range []task.Mutation{ms[0], byID, ms[len(ms)-1]} {
		for answers := range 3 {
			left := 1 + answers
			inner.Hook(memory.Hooks{Before: func(string, []task.Mutation) error {
				if left--; left < 0 {
					return task.ErrUnavailable
				}
				return nil
			}})
			out, err := both.Append(t.Context(), []task.Mutation{m})
			if err != nil {
				t.Fatal(err)
			}
			if out[0].Err != nil && !errors.Is(out[0].Err, task.ErrUnavailable) {
				t.Errorf("op %d after %d answers: %v", m.Op, answers, out[0].Err)
			}
			if answers == 0 && out[0].Err == nil {
				t.Errorf("op %d: no error", m.Op)
			}
		}
	}
}

func TestWhatCannotBeGivenBackStays(t *testing.T) {
	inner := memory.New()
	_, ms := story(t, "said")
	ms[0].Task.Holder = 0
	hold(t, sealed.New(inner, keys(t, first), sealed.Options{}), ms[0])
	var log bytes.Buffer
	s := sealed.New(inner, keys(t, second), sealed.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	inner.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
		if call == "Append" {
			return task.ErrUnavailable
		}
		return nil
	}})
	if got, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"work"}, Limit: 10}); err != nil || len(got) != 0 {
		t.Errorf("claimed %+v, %v", got, err)
	}
	if !strings.Contains(log.String(), "cannot give back") {
		t.Errorf("the log says nothing of it:\n%s", log.String())
	}
}
