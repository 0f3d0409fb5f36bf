package task

import (
	"encoding/json"
	"time"
)

// MaxMemos is how many memos a task may have.
const MaxMemos = 10_000

// maxMemoName bounds what a handler calls its steps, in bytes.
const maxMemoName = 200

// MemoKind says what a memo is of. The numbers are stored: never change them.
type MemoKind uint8

// The kinds.
const (
	StepMemo     MemoKind = iota + 1 // a step is done: Data is its result
	SleepMemo                        // the task sleeps until At
	WaitMemo                         // it waits for a signal, until At and no longer
	SignalMemo                       // it has taken a signal: Data is the payload
	NoSignalMemo                     // none came in time
)

// Memo is one thing an attempt has done and that the attempts after it are not to
// do again. A task's memos are in the order in which they were made, and are
// forgotten when the task ends.
type Memo struct {
	Kind   MemoKind
	Name   string // of the step or the signal, with a number where it is not the first
	Data   json.RawMessage
	At     time.Time
	Signal ID // of SignalMemo: the signal taken, which is not there any more
}

// Size is what counts of a memo against [Limits.Memos], in bytes.
func (m Memo) Size() int { return len(m.Name) + len(m.Data) + 64 }

// ValidMemoName says whether a handler may call a step so.
func ValidMemoName(s string) bool { return s != "" && len(s) <= maxMemoName && ValidText(s) }

// Remember gives the row of a running attempt that knows of one more memo, and the
// event that says so. There always is one: so a write that brings a memo moves
// the cursor, by which it is known whether it was kept.
func (t Task) Remember(now time.Time, m Memo, took time.Duration) (Task, Event) {
	t.Memos, t.MemoBytes = t.Memos+1, t.MemoBytes+int64(m.Size())
	line := LogData{Level: "info"}
	fields := map[string]any{"name": m.Name}
	switch m.Kind {
	case StepMemo:
		line.Message, fields["ms"] = "step finished", took.Milliseconds()
	case SleepMemo:
		line.Message = "going to sleep"
		fields = map[string]any{"until": Time(m.At)}
	case WaitMemo:
		line.Message, fields["until"] = "waiting for a signal", Time(m.At)
	case SignalMemo:
		line.Message = "signal taken"
	case NoSignalMemo:
		line.Message = "no signal in time"
	}
	line.Fields = mustJSON(fields)
	return t.Say(now, EventLog, mustJSON(line))
}

// Suspension is why and until when an attempt does not go on: for a time or, with
// Signal, until there is a signal of that name, and no longer than Until if that is
// set.
type Suspension struct {
	Until  time.Time
	Signal string
}

// Suspend ends a running attempt that waits for something. The task goes on, in an
// attempt of its own, when that has come; until then nobody holds it. The attempt
// does not count.
func (t Task) Suspend(now time.Time, s Suspension) (Step, error) {
	if t.State != Running {
		return Step{}, ErrStale
	}
	to := t
	to.Holder = 0
	to.Forgiven++
	data := StateData{Attempt: t.Attempt, Reason: "sleep"}
	switch {
	case s.Signal != "":
		to.State, to.RunAt, to.Awaits = Blocked, s.Until, s.Signal
		data.Reason, data.Signal = "signal", s.Signal
		if !s.Until.IsZero() {
			data.Until = (*Time)(&to.RunAt)
		}
	case s.Until.After(now):
		to.State, to.RunAt, to.Ready, to.Asleep = Scheduled, s.Until, s.Until, true
		data.RunAt = (*Time)(&to.RunAt)
	default:
		to.State, to.RunAt, to.Ready = Queued, now, now
	}
	data.State = to.State
	return t.step(to, now, data), nil
}

// Signalled moves on a task that waits for a signal, as one has come.
func (t Task) Signalled(now time.Time) (Step, error) {
	if t.State != Blocked || t.Awaits == "" {
		return Step{}, ErrStale
	}
	to := t
	to.State, to.Ready, to.RunAt, to.Awaits = Queued, now, now, ""
	return t.step(to, now, StateData{State: Queued, Attempt: t.Attempt, Reason: "signal", Signal: t.Awaits}), nil
}

// unanswered moves on a task that has waited for a signal as long as it wanted to.
func (t Task) unanswered(now time.Time) (Step, error) {
	if t.RunAt.IsZero() || t.RunAt.After(now) {
		return Step{}, ErrStale
	}
	to := t
	to.State, to.Ready, to.Awaits = Queued, t.RunAt, ""
	return t.step(to, now, StateData{State: Queued, Attempt: t.Attempt, Reason: "no_signal", Signal: t.Awaits}), nil
}

// remembers says whether there may be memos of the task, or signals, that go when
// it ends.
func (t Task) remembers() bool { return t.Memos > 0 || t.Awaits != "" }
