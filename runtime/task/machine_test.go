package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	idA   = ID{0: 1, 15: 0xA}
	idB   = ID{0: 1, 15: 0xB}
)

func specOf(change func(*Spec)) Spec {
	s := Spec{ID: idA, Kind: "demo.echo"}
	if change != nil {
		change(&s)
	}
	checked, err := Limits{}.Check(s, epoch)
	if err != nil {
		panic(err)
	}
	return checked
}

func ok(s Step, err error) Step {
	if err != nil {
		panic(err)
	}
	return s
}

// life leads one task through any decisions and keeps what must have come of
// them beside it: counted, failures and told are computed from what was asked
// and from the events alone, never from the row.
type life struct {
	row     Task
	now     time.Time
	log     []Event
	counted int // starts since the birth or the last rerun, less those handed back
	failed  []AttemptError
	told    StateData // the newest state event
}

func anyLife(t *rapid.T) *life {
	spec := specOf(func(s *Spec) {
		s.MaxAttempts = rapid.IntRange(1, 5).Draw(t, "max attempts")
		s.Priority = rapid.IntRange(minPriority, maxPriority).Draw(t, "priority")
		if rapid.Bool().Draw(t, "with deadline") {
			s.Deadline = epoch.Add(anyTime(0, 3*time.Hour).Draw(t, "deadline") + 1000)
		}
		s.RunAt = epoch.Add(anyTime(-time.Hour, time.Hour).Draw(t, "run at"))
		s.Retry.Initial = anyTime(1, time.Hour).Draw(t, "backoff")
	})
	holder := Incarnation(rapid.Int64Range(0, 3).Draw(t, "holder"))
	l := &life{now: epoch}
	birth := New(spec, epoch, holder)
	l.log, l.row = birth.Events, birth.Task
	if len(l.log) != 1 || l.log[0].Cursor != (Cursor{Attempt: 0, Seq: 1}) {
		t.Fatalf("a task is born with %v", l.log)
	}
	l.told = stateData(t, l.log[0])
	return l
}

func anyTime(from, to time.Duration) *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.Int64Range(int64(from), int64(to)), func(n int64) time.Duration { return time.Duration(n) })
}

// stateData reads a state event as a stranger would, from the contract alone.
func stateData(t rapid.TB, e Event) StateData {
	t.Helper()
	if e.Type != EventState {
		t.Fatalf("%s is no state event", e.Type)
	}
	strict := json.NewDecoder(bytes.NewReader(e.Data))
	strict.DisallowUnknownFields()
	var data struct {
		State   *string         `json:"state"`
		Attempt *int            `json:"attempt"`
		Reason  string          `json:"reason"`
		Node    string          `json:"node"`
		Worker  string          `json:"worker"`
		RunAt   *time.Time      `json:"run_at"`
		Signal  string          `json:"signal"`
		Until   *time.Time      `json:"until"`
		Result  json.RawMessage `json:"result"`
		Error   *struct {
			Code      *string         `json:"code"`
			Message   *string         `json:"message"`
			Retryable *bool           `json:"retryable"`
			Details   json.RawMessage `json:"details"`
		} `json:"error"`
	}
	if err := strict.Decode(&data); err != nil {
		t.Fatalf("state event %s: %v", e.Data, err)
	}
	if data.State == nil || data.Attempt == nil || data.Error != nil &&
		(data.Error.Code == nil || data.Error.Message == nil || data.Error.Retryable == nil) {
		t.Fatalf("state event %s lacks a field", e.Data)
	}
	state, err := ParseState(*data.State)
	if err != nil {
		t.Fatalf("state event %s: %v", e.Data, err)
	}
	if (data.RunAt != nil) != (state == Scheduled) {
		t.Fatalf("state event %s: run_at belongs to scheduled", e.Data)
	}
	d := StateData{
		State: state, Attempt: *data.Attempt, Reason: data.Reason, Node: data.Node, Worker: data.Worker,
		RunAt: (*Time)(data.RunAt), Signal: data.Signal, Until: (*Time)(data.Until), Result: data.Result,
	}
	if f := data.Error; f != nil {
		d.Error = &Failure{Code: *f.Code, Message: *f.Message, Retryable: *f.Retryable, Details: f.Details}
	}
	return d
}

// took checks one step against the row before it and goes on with it.
func (l *life) took(t *rapid.T, s Step) {
	t.Helper()
	before := l.row
	if s.Guard != before.Guard() {
		t.Fatalf("the guard is %+v, the row was %+v", s.Guard, before.Guard())
	}
	m := s.Mutation()
	if err := m.Check(); err != nil {
		t.Fatalf("no store would take the step: %v", err)
	}
	if m.Op != Save || m.Guard != s.Guard || len(m.Events) != len(s.Events) || m.Checkpoint != s.Task.State.Terminal() {
		t.Fatalf("the step's mutation is another: %+v", m)
	}
	for _, e := range s.Events {
		if e.Cursor.Attempt != s.Events[0].Cursor.Attempt {
			t.Fatalf("events of two attempts in one step: %v and %v", s.Events[0].Cursor, e.Cursor)
		}
		if !e.At.Equal(l.now) {
			t.Fatalf("event of %v at %v", l.now, e.At)
		}
		l.said(t, e)
		l.told = stateData(t, e)
	}
	if before.State.Terminal() && len(s.Events) == 0 {
		t.Fatal("an ended task was changed in silence")
	}
	l.row = s.Task
}

// said takes one event into the log.
func (l *life) said(t *rapid.T, e Event) {
	t.Helper()
	last := l.log[len(l.log)-1].Cursor
	switch {
	case !last.Before(e.Cursor):
		t.Fatalf("event %v behind %v", e.Cursor, last)
	case e.Cursor.Attempt == last.Attempt && e.Cursor.Seq != last.Seq+1,
		e.Cursor.Attempt > last.Attempt && e.Cursor.Seq != 1:
		t.Fatalf("a hole between %v and %v", last, e.Cursor)
	case e.Task != l.row.ID:
		t.Fatalf("event of task %v", e.Task)
	}
	l.log = append(l.log, e)
}

// decided is for what the machine allows or refuses: legal says which, from
// the contract's list of moves.
func (l *life) decided(t *rapid.T, s Step, err error, legal bool, refusal error) bool {
	t.Helper()
	if legal != (err == nil) || !legal && !errors.Is(err, refusal) {
		t.Fatalf("in state %v, attempt %d: legal is %v, the answer %v", l.row.State, l.row.Attempt, legal, err)
	}
	if legal {
		l.took(t, s)
	}
	return legal
}

func (l *life) Due(t *rapid.T) {
	due := l.row.RunAt
	s, err := l.row.Due(l.now)
	waits := l.row.State == Scheduled || l.row.State == Blocked && !due.IsZero()
	if l.decided(t, s, err, waits && !due.After(l.now), ErrStale) && !l.row.Ready.Equal(due) {
		t.Fatalf("its age counts from %v, it was due at %v", l.row.Ready, due)
	}
}

func (l *life) Start(t *rapid.T) {
	if l.row.Holder == 0 {
		t.Skip("only a holder starts a task")
	}
	attempt := l.row.Attempt
	s, err := l.row.Start(l.now, "node", "worker")
	if !l.decided(t, s, err, l.row.State == Queued, ErrStale) {
		return
	}
	l.counted++
	if l.counted > l.row.MaxAttempts || l.row.Counted() > l.row.MaxAttempts {
		t.Fatalf("attempt %d is one too many: %d counted by hand, %d by the row", l.row.Attempt, l.counted, l.row.Counted())
	}
	if l.row.Attempt != attempt+1 || l.told.Node != "node" || l.told.Worker != "worker" || l.row.Progress != nil {
		t.Fatalf("started as %+v", l.row)
	}
}

func (l *life) Say(t *rapid.T) {
	if l.row.State != Running {
		t.Skip("it does not run")
	}
	row, e := l.row.Say(l.now, EventOutput, json.RawMessage(`{"text":"x"}`))
	l.said(t, e)
	if e.Cursor.Attempt != l.row.Attempt {
		t.Fatalf("attempt %d speaks under %v", l.row.Attempt, e.Cursor)
	}
	row.Progress = &Progress{At: l.now}
	l.row = row
}

func (l *life) Succeed(t *rapid.T) {
	s, err := l.row.Succeed(l.now, rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage("1e400")}).Draw(t, "result"))
	l.decided(t, s, err, l.row.State == Running, ErrStale)
}

func (l *life) Fail(t *rapid.T) {
	f := Failure{
		Code: rapid.SampledFrom([]string{"", "own_code"}).Draw(t, "code"), Message: "no\xff",
		Retryable: rapid.Bool().Draw(t, "retryable"), Details: json.RawMessage(`{"a":1}`),
	}
	s, err := l.row.Fail(l.now, f, rapid.Float64Range(0, 0.999).Draw(t, "chance"))
	before := l.row
	if l.decided(t, s, err, l.row.State == Running, ErrStale) {
		l.attemptFailed(t, before, f.Retryable)
	}
}

// attemptFailed checks what became of a task whose attempt failed.
func (l *life) attemptFailed(t *rapid.T, before Task, retryable bool) {
	t.Helper()
	if l.told.Error == nil || l.told.Error.Code == "" {
		t.Fatal("the event does not say what went wrong")
	}
	l.failed = append(l.failed, AttemptError{
		Attempt: before.Attempt, Code: l.told.Error.Code, Message: l.told.Error.Message, At: Time(l.now), Node: before.Node,
	})
	again := l.row.State == Queued || l.row.State == Scheduled
	switch {
	case again && (!retryable || l.counted >= l.row.MaxAttempts):
		t.Fatalf("it goes on after %d of %d attempts, retryable %v", l.counted, l.row.MaxAttempts, retryable)
	case again && !l.row.Deadline.IsZero() && !l.row.RunAt.Before(l.row.Deadline):
		t.Fatal("it waits for an attempt that its deadline forbids")
	case !again && retryable && l.counted < l.row.MaxAttempts && l.row.Deadline.IsZero() && !before.Suspect:
		t.Fatalf("it gave up after %d of %d attempts", l.counted, l.row.MaxAttempts)
	}
	if l.row.State == Scheduled && !l.row.RunAt.After(l.now) {
		t.Fatal("it waits for a time that has passed")
	}
}

func (l *life) Cancel(t *rapid.T) {
	s, err := l.row.Cancel(l.now, "because")
	if l.decided(t, s, err, !l.row.State.Terminal(), ErrTerminal) && l.told.Reason != "because" {
		t.Fatal("the reason is lost")
	}
}

func (l *life) Expire(t *rapid.T) {
	s, err := l.row.Expire(l.now)
	before := l.row
	late := !l.row.Deadline.IsZero() && !l.now.Before(l.row.Deadline)
	if l.decided(t, s, err, !l.row.State.Terminal() && late, ErrStale) {
		if l.row.Failure.Code != CodeDeadline {
			t.Fatalf("failed with %q", l.row.Failure.Code)
		}
		if before.State == Running {
			l.attemptFailed(t, before, false)
		}
	}
}

func (l *life) HandBack(t *rapid.T) {
	before := l.row
	s, err := l.row.HandBack(l.now)
	if l.decided(t, s, err, l.row.State == Running, ErrStale) {
		l.counted--
		if l.row.Holder != 0 || !l.row.Ready.Equal(before.Ready) {
			t.Fatalf("handed back as %+v", l.row)
		}
	}
}

func (l *life) Suspend(t *rapid.T) {
	var why Suspension
	if rapid.Bool().Draw(t, "for a signal") {
		why.Signal = "go"
	}
	if why.Signal == "" || rapid.Bool().Draw(t, "not for ever") {
		why.Until = l.now.Add(anyTime(-time.Hour, time.Hour).Draw(t, "until"))
	}
	s, err := l.row.Suspend(l.now, why)
	if !l.decided(t, s, err, l.row.State == Running, ErrStale) {
		return
	}
	l.counted--
	want := Queued
	switch {
	case why.Signal != "":
		want = Blocked
	case why.Until.After(l.now):
		want = Scheduled
	}
	if l.row.State != want || l.row.Holder != 0 || l.row.Awaits != why.Signal || l.told.Signal != why.Signal ||
		l.row.Asleep != (want == Scheduled) || want != Queued && !l.row.RunAt.Equal(why.Until) ||
		(l.told.Until != nil) != (want == Blocked && !why.Until.IsZero()) {
		t.Fatalf("suspended for %+v as %+v, which says %+v", why, l.row, l.told)
	}
}

func (l *life) Signalled(t *rapid.T) {
	before := l.row
	s, err := l.row.Signalled(l.now)
	if l.decided(t, s, err, before.State == Blocked, ErrStale) &&
		(l.row.State != Queued || l.row.Awaits != "" || l.told.Signal != before.Awaits || !l.row.Ready.Equal(l.now)) {
		t.Fatalf("goes on as %+v", l.row)
	}
}

// Remember has the attempt note something for those after it.
func (l *life) Remember(t *rapid.T) {
	if l.row.State != Running {
		t.Skip("it does not run")
	}
	m := Memo{Kind: MemoKind(rapid.IntRange(1, 5).Draw(t, "kind")), Name: "n", Data: json.RawMessage("1"), At: l.now}
	before := l.row
	row, e := before.Remember(l.now, m, time.Second)
	l.said(t, e)
	l.row = row
	if row.Memos != before.Memos+1 || row.MemoBytes != before.MemoBytes+int64(m.Size()) {
		t.Fatalf("%d memos of %d bytes, %d of %d before", row.Memos, row.MemoBytes, before.Memos, before.MemoBytes)
	}
	save := Mutation{Op: Save, Task: row, Guard: before.Guard(), Events: []Event{e}, Memos: []Memo{m}}
	if err := save.Check(); err != nil {
		t.Fatal(err)
	}
}

// mostCrashes is more than a task of these tests has.
const mostCrashes = 1 << 20

func (l *life) Lost(t *rapid.T) {
	if l.row.Holder == 0 {
		t.Skip("nobody holds it")
	}
	before, events := l.row, len(l.log)
	l.took(t, l.row.Lost(l.now, CodeNodeLost, rapid.Float64Range(0, 0.999).Draw(t, "chance"), mostCrashes))
	if l.row.Holder != 0 {
		t.Fatal("a dead node still holds it")
	}
	if before.State != Running {
		if l.row.State != before.State || len(l.log) != events || l.row.Counted() != before.Counted() {
			t.Fatalf("a task that waited became %+v", l.row)
		}
		return
	}
	if l.row.Cursor != (Cursor{Attempt: before.Attempt + 1, Seq: 1}) {
		t.Fatalf("the death of attempt %d is told under %v", before.Attempt, l.row.Cursor)
	}
	if l.row.Crashes != before.Crashes+1 && !l.row.State.Terminal() {
		t.Fatalf("%d crashes became %d", before.Crashes, l.row.Crashes)
	}
	l.attemptFailed(t, before, true)
}

func (l *life) Take(t *rapid.T) {
	if l.row.Holder != 0 || l.row.State.Terminal() {
		t.Skip("not for taking")
	}
	l.held(t, l.row.Take(7), 7)
}

func (l *life) Release(t *rapid.T) {
	if l.row.Holder == 0 || l.row.State == Running {
		t.Skip("nothing to let go")
	}
	l.held(t, l.row.Release(), 0)
}

func (l *life) held(t *rapid.T, s Step, holder Incarnation) {
	t.Helper()
	want := l.row
	want.Holder = holder
	if diff := cmp.Diff(want, s.Task, exactTimes); diff != "" || len(s.Events) != 0 {
		t.Fatalf("more than the holder changed: %v %s", s.Events, diff)
	}
	l.took(t, s)
}

func (l *life) Rerun(t *rapid.T) {
	before := l.row
	s, err := l.row.Rerun(l.now)
	if l.decided(t, s, err, l.row.State == Failed || l.row.State == Cancelled, ErrNotTerminal) {
		l.counted = 0
		if l.row.State != Queued || l.row.Attempt != before.Attempt || l.row.Suspect || l.row.Crashes != 0 || !l.row.Finished.IsZero() {
			t.Fatalf("started anew as %+v", l.row)
		}
		if !l.row.Deadline.IsZero() && !l.now.Before(l.row.Deadline) {
			t.Fatal("it starts anew only to expire")
		}
	}
}

// Wait moves the clock, now and then backwards.
func (l *life) Wait(t *rapid.T) {
	l.now = l.now.Add(anyTime(-time.Minute, time.Hour).Draw(t, "wait"))
}

// WaitForIt moves the clock to where somebody must look at the task.
func (l *life) WaitForIt(t *rapid.T) {
	if l.row.WakeAt().IsZero() {
		t.Skip("nobody needs to look")
	}
	l.now = l.row.WakeAt()
}

// Check is what must always be true.
func (l *life) Check(t *rapid.T) {
	r := l.row
	if r.Counted() != l.counted {
		t.Fatalf("%d attempts count, the row says %d", l.counted, r.Counted())
	}
	if want := max(0, len(l.failed)-maxRememberedErrors); !slices.Equal(r.Failures, l.failed[want:]) {
		t.Fatalf("failed attempts were %v, the row remembers %v", l.failed, r.Failures)
	}
	if r.Cursor != l.log[len(l.log)-1].Cursor {
		t.Fatalf("the row stands at %v, its log at %v", r.Cursor, l.log[len(l.log)-1].Cursor)
	}
	e, told := r.Birth()
	if told && (len(l.log) > 1 || !reflect.DeepEqual(e, l.log[0])) {
		t.Fatalf("the row tells of its birth as %+v, its log is %+v", e, l.log)
	}
	if !told && len(l.log) == 1 && r.State == Queued {
		t.Fatal("the row of a task that only waits does not tell of its birth")
	}
	l.checkTold(t)
	if r.State.Terminal() && (r.Holder != 0 || r.Finished.IsZero() || r.Suspect || r.Checkpoint != nil) {
		t.Fatalf("ended as %+v", r)
	}
	if !r.State.Terminal() && !r.Finished.IsZero() {
		t.Fatalf("not ended, but finished at %v", r.Finished)
	}
	if r.Awaits != "" && r.State != Blocked || r.Asleep && r.State != Scheduled || r.State.Terminal() && r.Memos+int(r.MemoBytes) != 0 {
		t.Fatalf("%v waits for %q, asleep %v, with %d memos", r.State, r.Awaits, r.Asleep, r.Memos)
	}
	results := map[State][2]bool{Succeeded: {true, false}, Failed: {false, true}}
	if want := results[r.State]; (r.Result != nil) != want[0] || (r.Failure != nil) != want[1] {
		t.Fatalf("%v with result %s and error %v", r.State, r.Result, r.Failure)
	}
	if r.State == Scheduled && !r.Ready.Equal(r.RunAt) {
		t.Fatalf("due at %v, ready at %v", r.RunAt, r.Ready)
	}
	if want := wakeAt(r); !r.WakeAt().Equal(want) {
		t.Fatalf("somebody must look at %v, not at %v", want, r.WakeAt())
	}
}

// checkTold checks that the newest state event says what the row says.
func (l *life) checkTold(t *rapid.T) {
	r, d := l.row, l.told
	if d.State != r.State || d.Attempt != r.Attempt {
		t.Fatalf("the events say %v in attempt %d, the row %v in %d", d.State, d.Attempt, r.State, r.Attempt)
	}
	if state, ended := lastState(l.log).Ended(); ended != r.State.Terminal() || ended && state != r.State {
		t.Fatalf("the event ends the task: %v %v; the row is %v", ended, state, r.State)
	}
	if r.State == Scheduled && time.Time(*d.RunAt) != r.RunAt.UTC().Truncate(time.Microsecond) {
		t.Fatalf("the event says due at %v, the row %v", time.Time(*d.RunAt), r.RunAt)
	}
	if r.State.Terminal() && (!bytes.Equal(d.Result, r.Result) || !cmp.Equal(d.Error, r.Failure)) {
		t.Fatalf("the event ends with %s %v, the row with %s %v", d.Result, d.Error, r.Result, r.Failure)
	}
	if d.Result != nil && r.State != Succeeded {
		t.Fatalf("%v with result %s", r.State, d.Result)
	}
}

func lastState(log []Event) Event {
	for _, e := range slices.Backward(log) {
		if e.Type == EventState {
			return e
		}
	}
	panic("a log without a state event")
}

// wakeAt says the rule of WakeAt in another way: the earliest of all times
// that concern a task as it is.
func wakeAt(t Task) time.Time {
	var times []time.Time
	if t.State == Scheduled {
		times = append(times, t.RunAt)
	}
	if t.State == Blocked && t.Awaits != "" && !t.RunAt.IsZero() {
		times = append(times, t.RunAt)
	}
	if !t.State.Terminal() && !t.Deadline.IsZero() {
		times = append(times, t.Deadline)
	}
	if len(times) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(times, time.Time.Compare)
}

var exactTimes = cmp.Options{
	cmp.Comparer(time.Time.Equal),
	cmp.Comparer(func(a, b Time) bool { return time.Time(a).Equal(time.Time(b)) }),
}

func TestAnyLifeKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t.Repeat(rapid.StateMachineActions(anyLife(t)))
	})
}

func TestDecisionsLeaveTheRowBeforeAlone(t *testing.T) {
	row := ok(New(specOf(nil), epoch, 1).Task.Start(epoch, "n", "w")).Task
	row.Failures = append(make([]AttemptError, 0, 100), AttemptError{Attempt: 1, Code: "first"})
	shared := row.Failures[:2]
	before, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	ok(row.Fail(epoch, Failure{Retryable: true}, 0))
	row.Lost(epoch, CodeNodeLost, 0, mostCrashes)
	row.Say(epoch, EventLog, nil)
	after, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) || shared[1].Code != "" {
		t.Errorf("the row was written to: %s\nbecame %s, %v", before, after, shared)
	}
}

func TestSubmittedTaskWaitsForItsTime(t *testing.T) {
	for _, tt := range []struct {
		runAt time.Time
		state State
		ready time.Time
	}{
		{time.Time{}, Queued, epoch},
		{epoch.Add(-time.Hour), Queued, epoch},
		{epoch, Queued, epoch},
		{epoch.Add(time.Microsecond), Scheduled, epoch.Add(time.Microsecond)},
	} {
		got := New(specOf(func(s *Spec) { s.RunAt = tt.runAt }), epoch, 3).Task
		if got.State != tt.state || !got.Ready.Equal(tt.ready) || got.Holder != 3 || !got.Created.Equal(epoch) {
			t.Errorf("run_at %v: %v, ready %v, holder %d", tt.runAt, got.State, got.Ready, got.Holder)
		}
	}
}

func TestAgeCountsFromWhenATaskWasDue(t *testing.T) {
	due := epoch.Add(time.Minute)
	row := New(specOf(func(s *Spec) { s.RunAt = due }), epoch, 0).Task
	if _, err := row.Due(due.Add(-1)); !errors.Is(err, ErrStale) {
		t.Errorf("due before its time: %v", err)
	}
	for _, noticed := range []time.Time{due, due.Add(time.Hour)} {
		if got := ok(row.Due(noticed)).Task; got.State != Queued || !got.Ready.Equal(due) {
			t.Errorf("noticed at %v: %v, ready at %v", noticed, got.State, got.Ready)
		}
	}
}

func TestProgressIsTheNewestAttempts(t *testing.T) {
	row := ok(New(specOf(nil), epoch, 1).Task.Start(epoch, "n", "w")).Task
	row.Progress = &Progress{Message: "half"}
	done := ok(row.Succeed(epoch, nil)).Task
	again := ok(ok(row.Cancel(epoch, "")).Task.Rerun(epoch)).Task
	back := ok(row.HandBack(epoch)).Task
	next := ok(back.Start(epoch, "n", "w")).Task
	if done.Progress == nil || back.Progress == nil || next.Progress != nil || again.Progress != nil {
		t.Errorf("at the end %v, handed back %v, in the next attempt %v, run again %v", done.Progress, back.Progress, next.Progress, again.Progress)
	}
}

func TestDeadlineForbidsARetryBehindIt(t *testing.T) {
	spec := specOf(func(s *Spec) { s.Deadline, s.Retry = epoch.Add(time.Second), Retry{Initial: time.Second, Jitter: 0} })
	spec.Retry.Jitter = 0
	row := ok(New(spec, epoch, 1).Task.Start(epoch, "n", "w")).Task
	if got := ok(row.Fail(epoch.Add(-time.Microsecond), Failure{Retryable: true}, 0)).Task.State; got != Scheduled {
		t.Errorf("a retry in front of the deadline: %v", got)
	}
	if got := ok(row.Fail(epoch, Failure{Retryable: true}, 0)).Task; got.State != Failed || !got.Failure.Retryable {
		t.Errorf("a retry at the deadline: %v %v", got.State, got.Failure)
	}
}

func TestFailureIsCutToWhatARowKeeps(t *testing.T) {
	row := ok(New(specOf(nil), epoch, 1).Task.Start(epoch, "n", "w")).Task
	long := bytes.Repeat([]byte("é"), maxFailureMessage)
	for _, tt := range []struct{ give, want Failure }{
		{Failure{}, Failure{Code: CodeError}},
		{Failure{Code: string(long), Message: string(long)}, Failure{Code: string(long[:maxFailureCode]), Message: string(long[:maxFailureMessage])}},
		{Failure{Code: "a", Message: "x" + string(long)}, Failure{Code: "a", Message: "x" + string(long[:maxFailureMessage-2])}},
		{Failure{Code: "a", Message: "\xff!"}, Failure{Code: "a", Message: "\uFFFD!"}},
		{Failure{Code: "a", Details: json.RawMessage(`{"n":1e999}`)}, Failure{Code: "a", Details: json.RawMessage(`{"n":1e999}`)}},
		{Failure{Code: "a", Details: json.RawMessage(`{`)}, Failure{Code: "a"}},
		{Failure{Code: "a", Details: json.RawMessage("\"\xff\"")}, Failure{Code: "a"}},
		{Failure{Code: "a", Details: json.RawMessage(`"` + string(long) + `"`)}, Failure{Code: "a"}},
	} {
		if diff := cmp.Diff(&tt.want, ok(row.Fail(epoch, tt.give, 0)).Task.Failure); diff != "" {
			t.Error(diff)
		}
	}
	if got := (&Failure{Code: "a", Message: "b"}).Error(); got != "a: b" {
		t.Error(got)
	}
}

func TestNewestFailuresAreRemembered(t *testing.T) {
	row := New(specOf(func(s *Spec) { s.MaxAttempts = 100 }), epoch, 1).Task
	for range maxRememberedErrors + 5 {
		row = ok(row.Start(epoch, "n", "w")).Task
		row = ok(row.Fail(epoch, Failure{Retryable: true}, 0)).Task
		row = ok(row.Due(row.RunAt)).Task
	}
	if n, last := len(row.Failures), row.Failures[len(row.Failures)-1].Attempt; n != maxRememberedErrors || last != row.Attempt {
		t.Errorf("%d failures, the newest of attempt %d", n, last)
	}
}

func TestRerunGivesTheWholeBudgetAgain(t *testing.T) {
	row := New(specOf(func(s *Spec) { s.MaxAttempts = 2 }), epoch, 1).Task
	row = ok(ok(row.Start(epoch, "n", "w")).Task.Fail(epoch, Failure{}, 0)).Task
	for life := range 3 {
		row = ok(row.Rerun(epoch)).Task
		for range 2 {
			row = ok(row.Start(epoch, "n", "w")).Task
			row = ok(row.Fail(epoch, Failure{Retryable: true}, 0)).Task
			if row.State == Scheduled {
				row = ok(row.Due(row.RunAt)).Task
			}
		}
		if row.State != Failed || row.Attempt != 3+2*life {
			t.Fatalf("life %d: %v after attempt %d", life, row.State, row.Attempt)
		}
	}
}

func TestWaitingTasksNeverChangePlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := func(name string) Task {
			return New(specOf(func(s *Spec) { s.Priority = rapid.IntRange(minPriority, maxPriority).Draw(t, "priority of "+name) }),
				epoch.Add(anyTime(-time.Hour, time.Hour).Draw(t, "arrival of "+name).Truncate(time.Microsecond)), 0).Task
		}
		a, b := row("a"), row("b")
		if a.Priority == b.Priority && a.Ready.Before(b.Ready) && a.Rank() >= b.Rank() {
			t.Fatal("of equal priority, the one that waits longer stands first")
		}
		if a.Priority > b.Priority && !b.Ready.Before(a.Ready) && a.Rank() >= b.Rank() {
			t.Fatal("of equal age, the higher priority stands first")
		}
		// b may pass a only if it came less than the difference of priorities later.
		lead := time.Duration(b.Priority-a.Priority) * Ageing
		if passes := b.Rank() < a.Rank(); passes != (b.Ready.Sub(a.Ready) < lead) {
			t.Fatalf("came %v later with a lead of %v: passes is %v", b.Ready.Sub(a.Ready), lead, passes)
		}
		// Waiting changes neither: a start that is handed back keeps the place.
		back := ok(ok(a.Start(epoch.Add(time.Hour), "n", "w")).Task.HandBack(epoch.Add(2 * time.Hour))).Task
		if back.Rank() != a.Rank() {
			t.Fatalf("handed back from %d to %d", a.Rank(), back.Rank())
		}
	})
}

func TestStateEventsSayWhatTheContractSays(t *testing.T) {
	at := epoch.Add(1500 * time.Microsecond)
	born := New(specOf(func(s *Spec) { s.Retry = Retry{Initial: time.Second, Jitter: 1}; s.Deadline = epoch.Add(time.Hour) }), epoch, 1)
	running := ok(born.Task.Start(at, "n1", "w1"))
	failing := ok(running.Task.Fail(at, Failure{Code: "x", Message: "y", Retryable: true, Details: json.RawMessage(`[1]`)}, 0.5))
	for _, tt := range []struct {
		step Step
		want string
	}{
		{born, `0.1 {"state":"queued","attempt":0}`},
		{New(specOf(func(s *Spec) { s.RunAt = at }), epoch, 0), `0.1 {"state":"scheduled","attempt":0,"run_at":"2026-03-01T12:00:00.001500Z"}`},
		{running, `1.1 {"state":"running","attempt":1,"node":"n1","worker":"w1"}`},
		{ok(running.Task.Succeed(at, json.RawMessage(`{"n":1.10}`))), `1.2 {"state":"succeeded","attempt":1,"result":{"n":1.10}}`},
		{ok(running.Task.Succeed(at, nil)), `1.2 {"state":"succeeded","attempt":1,"result":null}`},
		{failing, `1.2 {"state":"scheduled","attempt":1,"reason":"retry","run_at":"2026-03-01T12:00:00.501500Z","error":{"code":"x","message":"y","retryable":true,"details":[1]}}`},
		{ok(running.Task.Fail(at, Failure{Code: "x", Retryable: true}, 0)), `1.2 {"state":"queued","attempt":1,"reason":"retry","error":{"code":"x","message":"","retryable":true}}`},
		{ok(failing.Task.Due(at.Add(time.Second))), `1.3 {"state":"queued","attempt":1,"reason":"due"}`},
		{ok(running.Task.Fail(at, Failure{Code: "x"}, 0)), `1.2 {"state":"failed","attempt":1,"error":{"code":"x","message":"","retryable":false}}`},
		{ok(running.Task.HandBack(at)), `1.2 {"state":"queued","attempt":1,"reason":"handed_back"}`},
		{ok(running.Task.Cancel(at, "no")), `1.2 {"state":"cancelled","attempt":1,"reason":"no"}`},
		{ok(running.Task.Expire(epoch.Add(time.Hour))), `1.2 {"state":"failed","attempt":1,"error":{"code":"deadline_exceeded","message":"the task's deadline passed before it was done","retryable":false}}`},
		{running.Task.Lost(at, CodeNodeLost, 0, mostCrashes), `2.1 {"state":"queued","attempt":1,"reason":"retry","error":{"code":"node_lost","message":"the attempt died before it could say how it ended","retryable":true}}`},
		{ok(ok(running.Task.Cancel(at, "")).Task.Rerun(at)), `1.3 {"state":"queued","attempt":1,"reason":"retried"}`},
	} {
		if got := fmt.Sprintf("%s %s", tt.step.Events[0].Cursor, tt.step.Events[0].Data); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
