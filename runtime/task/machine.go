package task

import (
	"encoding/json"
	"slices"
	"time"
)

// Guard is what must be true of a row for a write to have an effect.
type Guard struct {
	Holder  Incarnation
	Attempt int
	State   State
}

// Guard is the guard that holds of the row t as it is.
func (t Task) Guard() Guard {
	return Guard{Holder: t.Holder, Attempt: t.Attempt, State: t.State}
}

// Step is one decision about a task, to be stored whole or not at all.
type Step struct {
	Task   Task    // the row as it shall be
	Guard  Guard   // what must hold of the row as it is
	Events []Event // to append to its log: in order, all of one attempt
	Take   []Token // of limits of the whole cluster, without all of which it may not be
	Give   []Token // back to them
	Called bool    // with Take: the task was parked, and may try again
	Forget bool    // its memos and signals
	PutOff bool    // the next attempt waits longer, for a place among retries
}

// New is the birth of a task from a checked spec, held by holder or, with 0,
// by nobody. The row is inserted, so the step's guard is not looked at.
func New(s Spec, now time.Time, holder Incarnation) Step {
	t := Task{Spec: s, State: Queued, Holder: holder, Created: now, Ready: now}
	data := StateData{State: Queued}
	switch {
	case s.depends():
		t.State, t.Holder = Blocked, 0
		data = StateData{State: Blocked}
	case s.RunAt.After(now):
		t.State, t.Ready = Scheduled, s.RunAt
		data = StateData{State: Scheduled, RunAt: (*Time)(&s.RunAt)}
	}
	return t.step(t, now, data)
}

// Birth is the first event of t's log, if no other has come and it was queued at once: it
// can be told from the row then.
func (t Task) Birth() (Event, bool) {
	if t.State != Queued || t.Cursor != (Cursor{}).In(0) || !t.Ready.Equal(t.Created) {
		return Event{}, false
	}
	return Event{Task: t.ID, Cursor: t.Cursor, Type: EventState, At: t.Created, Data: StateData{State: Queued}.encode()}, true
}

// step is the Step from the row t to the row to, with one state event. What t's
// attempt held of limits goes back when it is over; one that was parked makes way
// for who is parked behind it.
func (t Task) step(to Task, now time.Time, data StateData) Step {
	to.Cursor = to.Cursor.In(to.Attempt)
	to.Bound, to.BoundUntil = 0, time.Time{}
	s := Step{Task: to, Guard: t.Guard(), Events: []Event{{
		Task: t.ID, Cursor: to.Cursor, Type: EventState, At: now, Data: data.encode(),
	}}}
	s.Forget = to.State.Terminal() && t.remembers()
	if t.State == Running {
		s.Task.Tokens, s.Give = nil, t.Tokens
	}
	if t.Parked != nil {
		s.Task.Parked, s.Give = nil, []Token{{Limit: t.Parked.Limit}}
	}
	return s
}

// Due moves a scheduled task to its queue, and one that waited long enough for a
// signal. Its age counts from the time it was
// due, not from when somebody noticed.
func (t Task) Due(now time.Time) (Step, error) {
	if t.State == Blocked && t.Awaits != "" {
		return t.unanswered(now)
	}
	if t.State != Scheduled || t.RunAt.After(now) {
		return Step{}, ErrStale
	}
	to := t
	to.State, to.Ready, to.Asleep = Queued, t.RunAt, false
	return t.step(to, now, StateData{State: Queued, Attempt: t.Attempt, Reason: "due"}), nil
}

// Start begins the next attempt. Without the tokens it needs, the task is parked
// instead of started.
func (t Task) Start(now time.Time, node, worker string, take ...Token) (Step, error) {
	if t.State != Queued {
		return Step{}, ErrStale
	}
	to := t
	to.State, to.Attempt = Running, t.Attempt+1
	to.Node, to.Worker, to.Started = node, worker, now
	to.Progress, to.Called = nil, false
	to.Tokens = held(take)
	s := t.step(to, now, StateData{State: Running, Attempt: to.Attempt, Node: node, Worker: worker})
	s.Take, s.Called = take, t.Called
	return s, nil
}

// MustStoreStart says that the next attempt may run only once its start is on
// disk. Other starts are stored with the next batch, while the handler already
// runs. If such a handler kills its node before that, the row on disk still
// waits, and nobody can tell it from a task that merely waited. This can happen
// to a task once: [Task.Lost] leaves it under suspicion, and from then on its
// starts are stored first, as they are after a crash that was seen and for the
// last attempt it has. Lost also counts the one death a task is suspected of,
// so that a task kills at most MaxAttempts nodes.
func (t Task) MustStoreStart() bool {
	return t.Suspect || t.Crashes > 0 || t.Counted()+1 >= t.MaxAttempts
}

// Say gives the next live event of the running attempt its cursor, and the row
// that knows of it.
func (t Task) Say(now time.Time, kind EventType, data json.RawMessage) (Task, Event) {
	t.Cursor = t.Cursor.In(t.Attempt)
	return t, Event{Task: t.ID, Cursor: t.Cursor, Type: kind, At: now, Data: data}
}

// Succeed ends the running attempt, and the task, with its result: JSON that
// [ValidJSON] accepts, or nothing for null.
func (t Task) Succeed(now time.Time, result json.RawMessage) (Step, error) {
	if t.Cache.TTL > 0 {
		return t.succeed(now, result, CacheMiss)
	}
	return t.succeed(now, result, "")
}

// Reuse ends the running attempt, whose handler has not begun, and the task, with
// the result of an earlier success. waited says that the task was parked before.
func (t Task) Reuse(now time.Time, result json.RawMessage, waited bool) (Step, error) {
	if waited {
		return t.succeed(now, result, CacheShared)
	}
	return t.succeed(now, result, CacheHit)
}

func (t Task) succeed(now time.Time, result json.RawMessage, cached CacheStatus) (Step, error) {
	if t.State != Running {
		return Step{}, ErrStale
	}
	if len(result) == 0 {
		result = json.RawMessage("null")
	}
	to := t.ended(Succeeded, now)
	to.Result, to.Cached = result, cached
	return t.step(to, now, StateData{State: Succeeded, Attempt: t.Attempt, Result: result, Cache: cached}), nil
}

// Fail ends the running attempt. The task waits for its next one where the
// failure may be retried, attempts are left and the deadline allows; else it
// has failed. chance is uniform in [0,1).
func (t Task) Fail(now time.Time, f Failure, chance float64) (Step, error) {
	return t.FailPaced(now, f, chance, 0)
}

// Retries says whether a failure lets the running attempt be followed by another.
func (t Task) Retries(f Failure) bool { return f.Retryable && t.Counted() < t.MaxAttempts }

// FailPaced is Fail where the next attempt has to wait for a place among retries. It
// waits no longer than the longest wait between attempts, nor past the deadline.
func (t Task) FailPaced(now time.Time, f Failure, chance float64, place time.Duration) (Step, error) {
	if t.State != Running {
		return Step{}, ErrStale
	}
	f = bounded(f)
	to := t
	to.Failures = t.remembering(f, now)
	return t.settle(to, now, f, chance, place), nil
}

// settle decides between another attempt and the end, for an attempt of t that
// has failed. to is the row as it has become so far.
func (t Task) settle(to Task, now time.Time, f Failure, chance float64, place time.Duration) Step {
	due, reason := now.Add(to.Retry.Backoff(to.Counted(), chance)), "retry"
	if later := now.Add(min(place, to.Retry.Max)); later.After(due) && (to.Deadline.IsZero() || later.Before(to.Deadline)) {
		due, reason = later, "retry_budget"
	}
	again := to.Retries(f) && (to.Deadline.IsZero() || due.Before(to.Deadline))
	if !again {
		to = to.ended(Failed, now)
		to.Failure = &f
		return t.step(to, now, StateData{State: Failed, Attempt: t.Attempt, Error: &f})
	}
	data := StateData{State: Queued, Attempt: t.Attempt, Reason: reason, Error: &f}
	to.State, to.Ready, to.RunAt = Queued, now, now
	if due.After(now) {
		to.State, to.Ready, to.RunAt = Scheduled, due, due
		data.State, data.RunAt = Scheduled, (*Time)(&due)
	}
	s := t.step(to, now, data)
	s.PutOff = reason != "retry"
	return s
}

// remembering is t's list of failed attempts with the current one added, in an
// array of its own.
func (t Task) remembering(f Failure, now time.Time) []AttemptError {
	failures := append(slices.Clone(t.Failures), AttemptError{
		Attempt: t.Attempt, Code: f.Code, Message: f.Message, At: Time(now), Node: t.Node,
	})
	return failures[max(0, len(failures)-maxRememberedErrors):]
}

// ended is t in a terminal state, held by nobody.
func (t Task) ended(s State, now time.Time) Task {
	t.State, t.Finished = s, now
	t.Holder, t.Suspect = 0, false
	t.Called, t.Awaits, t.Asleep = false, "", false
	t.Checkpoint, t.Memos, t.MemoBytes = nil, 0, 0
	return t
}

// Cancel ends a task that has not ended.
func (t Task) Cancel(now time.Time, reason string) (Step, error) {
	if t.State.Terminal() {
		return Step{}, ErrTerminal
	}
	to := t.ended(Cancelled, now)
	return t.step(to, now, StateData{State: Cancelled, Attempt: t.Attempt, Reason: reason}), nil
}

// Expire fails a task whose deadline has passed, whatever it was doing.
func (t Task) Expire(now time.Time) (Step, error) {
	if t.State.Terminal() || t.Deadline.IsZero() || now.Before(t.Deadline) {
		return Step{}, ErrStale
	}
	f := Failure{Code: CodeDeadline, Message: "the task's deadline passed before it was done"}
	to := t
	if t.State == Running {
		to.Failures = t.remembering(f, now)
	}
	to = to.ended(Failed, now)
	to.Failure = &f
	return t.step(to, now, StateData{State: Failed, Attempt: t.Attempt, Error: &f}), nil
}

// HandBack ends a running attempt that its node could not let finish: the task
// goes back to its queue, unheld, and the attempt does not count.
func (t Task) HandBack(now time.Time) (Step, error) {
	if t.State != Running {
		return Step{}, ErrStale
	}
	to := t
	to.State, to.Holder = Queued, 0
	to.Forgiven++
	return t.step(to, now, StateData{State: Queued, Attempt: t.Attempt, Reason: "handed_back"}), nil
}

// Lost is what becomes of a task whose holder died: the node, or the actor that
// spoke for it. A running attempt is over and counted, and the event that says
// so stands under the next attempt's number, behind everything the dead one may
// have shown. A task that waited, as far as the row tells, goes on waiting,
// unheld; it is under suspicion if the holder could have run it without storing
// the start. code is [CodeNodeLost] or [CodeWorkerCrashed]; chance is uniform
// in [0,1). A task that has crashed most times is given up, whatever attempts it
// has left: it may be what kills.
func (t Task) Lost(now time.Time, code string, chance float64, most int) Step {
	to := t
	to.Holder = 0
	if t.State != Running {
		to.Suspect = t.Suspect || !t.MustStoreStart()
		return Step{Task: to, Guard: t.Guard()}
	}
	to.Crashes++
	f := Failure{Code: code, Message: "the attempt died before it could say how it ended", Retryable: true}
	if to.Crashes >= most || t.Suspect && to.Crashes+1 >= t.MaxAttempts {
		f.Retryable = false // the death it is suspected of counts too
	}
	to.Failures = t.remembering(f, now)
	to.Cursor = Cursor{Attempt: t.Attempt + 1}
	return t.settle(to, now, f, chance, 0)
}

// Take is the row as it is once holder holds it.
func (t Task) Take(holder Incarnation) Step {
	to := t
	to.Holder, to.Parked = holder, nil
	to.Bound, to.BoundUntil = 0, time.Time{}
	return Step{Task: to, Guard: t.Guard()}
}

// Release is the row of a waiting task that nobody holds any more.
func (t Task) Release() Step { return t.Take(0) }

// Park is Release for a task that would not get what it needs of limits now: it
// is parked if that is still so.
func (t Task) Park(needs []Token) Step {
	s := t.Release()
	s.Take, s.Called = needs, t.Called
	return s
}

// Rerun starts a failed or cancelled task anew: attempts go on counting up, and
// none of those so far counts against MaxAttempts.
func (t Task) Rerun(now time.Time) (Step, error) {
	if t.State != Failed && t.State != Cancelled {
		return Step{}, ErrNotTerminal
	}
	to := t
	to.State, to.Ready, to.RunAt = Queued, now, now
	to.Forgiven, to.Crashes = t.Attempt, 0
	to.Failure, to.Result, to.Progress = nil, nil, nil
	to.Finished = time.Time{}
	if !to.Deadline.IsZero() && !now.Before(to.Deadline) {
		to.Deadline = time.Time{} // somebody wants it in spite of the old deadline
	}
	s := t.step(to, now, StateData{State: Queued, Attempt: t.Attempt, Reason: "retried"})
	s.Forget = true // signals that came too late for it
	return s, nil
}
