package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// ErrNoSignal is what waiting for a signal ends with when none came in time.
var ErrNoSignal = errors.New("no signal came in time")

// waitsInPlace is the longest sleep for which an attempt is not ended: the next one
// would hardly begin sooner.
const waitsInPlace = time.Second

// Codes of failures of a handler that asks for too much.
const (
	codeInvalidStep  = "invalid_step"
	codeTooManySteps = "too_many_steps"
)

// Suspended is the error with which a handler ends its attempt for now.
type Suspended struct{ why task.Suspension }

// Error says what it waits for.
func (s *Suspended) Error() string {
	if s.why.Signal != "" {
		return fmt.Sprintf("the task waits for the signal %q; a handler returns this error as it is", s.why.Signal)
	}
	return fmt.Sprintf("the task sleeps until %s; a handler returns this error as it is", s.why.Until.UTC().Format(time.RFC3339))
}

// recollection is what an attempt knows of what its task remembers.
type recollection struct {
	most int64 // bytes a task may remember

	mu        sync.Mutex
	read      bool
	known     map[memoKey]task.Memo
	inOrder   []task.Memo     // of earlier attempts
	used      map[memoKey]int // how often a name was used in this attempt
	count     int
	bytes     int64
	suspended *Suspended

	taking sync.Mutex // held while a signal is looked for and taken
}

type memoKey struct {
	kind task.MemoKind
	name string
}

// Step gives what fn gave in whichever attempt it first ended well. The result is
// on disk before Step returns. A name used again in one attempt gets a number.
func (j *Job) Step(ctx context.Context, name string, fn func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	if !task.ValidMemoName(name) {
		return nil, &task.Failure{Code: codeInvalidStep, Message: fmt.Sprintf("the name of a step must be 1 to 200 bytes of printable UTF-8, not %.50q", name)}
	}
	name, err := j.name(ctx, task.StepMemo, name)
	if err != nil {
		return nil, err
	}
	if m, done := j.recollect(task.StepMemo, name); done {
		return m.Data, nil
	}
	began := time.Now()
	data, err := fn(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.remember(ctx, task.Memo{Kind: task.StepMemo, Name: name, Data: data}, time.Since(began)); err != nil {
		return nil, err
	}
	return data, nil
}

// Sleep is SleepUntil, for so long from when the task first comes here.
func (j *Job) Sleep(ctx context.Context, d time.Duration) error {
	return j.SleepUntil(ctx, j.now().Add(min(d, j.limits.Delay+time.Hour))) // which is too long
}

// SleepUntil returns nil once a time has come. Unless that is near, the attempt
// ends: the error is then for the handler to return.
func (j *Job) SleepUntil(ctx context.Context, at time.Time) error {
	if far := j.now().Add(j.limits.Delay); at.After(far) {
		return &task.Failure{Code: codeInvalidStep, Message: fmt.Sprintf("a task may not sleep for more than %s", j.limits.Delay)}
	}
	name, err := j.name(ctx, task.SleepMemo, "sleep")
	if err != nil {
		return err
	}
	return j.sleep(ctx, name, at)
}

func (j *Job) sleep(ctx context.Context, name string, at time.Time) error {
	if m, known := j.recollect(task.SleepMemo, name); known {
		at = m.At
	} else if err := j.remember(ctx, task.Memo{Kind: task.SleepMemo, Name: name, At: at}, 0); err != nil {
		return err
	}
	wait := at.Sub(j.now())
	if wait > waitsInPlace {
		return j.suspend(task.Suspension{Until: at})
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Again ends the attempt without counting it: the next one begins when d has passed,
// and from the beginning. The error is for the handler to return.
func (j *Job) Again(d time.Duration) error {
	at := j.now().Add(min(d, j.limits.Delay))
	if end := j.Task.Deadline; !end.IsZero() && !at.Before(end) {
		return &task.Failure{Code: task.CodeDeadline, Message: "the task would have to wait until after its deadline"}
	}
	return j.suspend(task.Suspension{Until: at})
}

// WaitFor gives the payload of the next signal of a name, each once and in the order
// in which they came. Unless one is there the attempt ends: the error is then for
// the handler to return. With a timeout of 0 or more, [ErrNoSignal] says that none
// came in time.
func (j *Job) WaitFor(ctx context.Context, signal string, timeout time.Duration) (json.RawMessage, error) {
	if err := j.checkWait(signal, timeout); err != nil {
		return nil, err
	}
	j.memory.taking.Lock()
	defer j.memory.taking.Unlock()
	name, err := j.name(ctx, task.WaitMemo, signal)
	if err != nil {
		return nil, err
	}
	return j.waitFor(ctx, name, signal, timeout)
}

func (j *Job) checkWait(signal string, timeout time.Duration) error {
	if task.ValidName(signal) && timeout <= j.limits.Delay {
		return nil
	}
	return &task.Failure{
		Code:    codeInvalidStep,
		Message: fmt.Sprintf("a signal must be named by 1 to 100 of the characters a-z 0-9 . _ -, and be waited for no longer than %s", j.limits.Delay),
	}
}

// waitFor takes a signal under the name by which the task remembers it.
func (j *Job) waitFor(ctx context.Context, name, signal string, timeout time.Duration) (json.RawMessage, error) {
	if m, taken := j.recollect(task.SignalMemo, name); taken {
		return m.Data, nil
	}
	if _, none := j.recollect(task.NoSignalMemo, name); none {
		return nil, ErrNoSignal
	}
	var there []task.Signal
	err := j.ask(ctx, func() (err error) {
		there, err = j.store.Signals(ctx, j.Task.Namespace, j.Task.ID, signal, 1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the signal %q: %w", signal, err)
	}
	if len(there) > 0 {
		m := task.Memo{Kind: task.SignalMemo, Name: name, Data: there[0].Data, Signal: there[0].ID}
		return m.Data, j.remember(ctx, m, 0)
	}
	return nil, j.await(ctx, name, task.Suspension{Signal: signal}, timeout)
}

// await ends the attempt until a signal comes or the time is over.
func (j *Job) await(ctx context.Context, name string, why task.Suspension, timeout time.Duration) error {
	if m, known := j.recollect(task.WaitMemo, name); known {
		why.Until = m.At
	} else if timeout >= 0 {
		why.Until = j.now().Add(timeout)
		if timeout > 0 {
			if err := j.remember(ctx, task.Memo{Kind: task.WaitMemo, Name: name, At: why.Until}, 0); err != nil {
				return err
			}
		}
	}
	if !why.Until.IsZero() && !j.now().Before(why.Until) {
		if err := j.remember(ctx, task.Memo{Kind: task.NoSignalMemo, Name: name}, 0); err != nil {
			return err
		}
		return ErrNoSignal
	}
	return j.suspend(why)
}

func (j *Job) suspend(why task.Suspension) error {
	j.memory.mu.Lock()
	defer j.memory.mu.Unlock()
	j.memory.suspended = &Suspended{why: why}
	return j.memory.suspended
}

// name gives a name its number, where it is not used for the first time in this
// attempt, having read what the task remembers. An attempt that is to end does
// nothing new.
func (j *Job) name(ctx context.Context, kind task.MemoKind, name string) (string, error) {
	m := j.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.suspended != nil {
		return "", m.suspended
	}
	if err := j.readMemos(ctx); err != nil {
		return "", fmt.Errorf("read what task %s remembers: %w", j.Task.ID, err)
	}
	key := memoKey{kind, name}
	for m.used[key]++; m.used[key] > 1; {
		numbered := memoKey{kind, name + "#" + strconv.Itoa(m.used[key])}
		if m.used[numbered] == 0 {
			m.used[numbered]++
			return numbered.name, nil
		}
		m.used[key]++
	}
	return name, nil
}

// readMemos reads what earlier attempts remembered, if there is anything.
func (j *Job) readMemos(ctx context.Context) error {
	m := j.memory
	if m.read {
		return nil
	}
	var memos []task.Memo
	// The row may not know of them: see how the stores count.
	if j.Task.Memos > 0 || j.Task.Attempt > 1 {
		err := j.ask(ctx, func() (err error) {
			memos, err = j.store.Memos(ctx, j.Task.Namespace, j.Task.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	m.read, m.known, m.used = true, make(map[memoKey]task.Memo, len(memos)), map[memoKey]int{}
	m.count, m.inOrder = len(memos), memos
	for _, memo := range memos {
		m.bytes += int64(memo.Size())
		m.known[memoKey{memo.Kind, memo.Name}] = memo
	}
	return nil
}

// ask reads from the store, and goes on trying while it does not answer: that is
// no failure of the task.
func (j *Job) ask(ctx context.Context, read func() error) error {
	for {
		err := read()
		if !errors.Is(err, task.ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(commitRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-j.ctx.Done():
			return context.Cause(j.ctx) //nolint:contextcheck // the attempt's own
		}
	}
}

func (j *Job) recollect(kind task.MemoKind, name string) (task.Memo, bool) {
	j.memory.mu.Lock()
	defer j.memory.mu.Unlock()
	memo, known := j.memory.known[memoKey{kind, name}]
	return memo, known
}

// remember returns once a memo is on disk.
func (j *Job) remember(ctx context.Context, m task.Memo, took time.Duration) error {
	if err := j.admit(m); err != nil {
		return err
	}
	number := j.notes.speak(func() { j.speak(utterance{memo: &m, took: took}) })
	if err := j.notes.await(ctx, number); err != nil {
		return err
	}
	return context.Cause(j.ctx) //nolint:contextcheck // the attempt's own
}

// admit counts a memo, if there is room for it.
func (j *Job) admit(m task.Memo) error {
	switch {
	case len(m.Data) > j.value:
		return &task.Failure{Code: codeInvalidStep, Message: fmt.Sprintf("%q gave %d bytes, more than the %d allowed", m.Name, len(m.Data), j.value)}
	case m.Data != nil && !task.ValidJSON(m.Data):
		return &task.Failure{Code: codeInvalidStep, Message: fmt.Sprintf("what %q gave is not JSON, or nested too deep", m.Name)}
	}
	j.memory.mu.Lock()
	defer j.memory.mu.Unlock()
	if j.memory.count >= task.MaxMemos || j.memory.bytes+int64(m.Size()) > j.memory.most {
		return &task.Failure{Code: codeTooManySteps, Message: fmt.Sprintf("a task may remember %d steps and %d bytes", task.MaxMemos, j.memory.most)}
	}
	j.memory.count++
	j.memory.bytes += int64(m.Size())
	j.memory.known[memoKey{m.Kind, m.Name}] = m
	return nil
}
