package storetest

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// What tasks remember from one attempt to the next, and the signals they are sent.

// memos expects that a task remembers these and no others.
func (s *suite) memos(t task.Task, want ...task.Memo) {
	s.Helper()
	got, err := s.store.Memos(s.ctx, t.Namespace, t.ID)
	if err != nil {
		s.Fatal(err)
	}
	s.same(got, want)
}

// remembering is the write that keeps memos of a running task.
func remembering(t task.Task, memos ...task.Memo) task.Mutation {
	m := task.Mutation{Op: task.Save, Guard: t.Guard(), Memos: memos}
	for _, memo := range memos {
		var e task.Event
		t, e = t.Remember(epoch.Add(time.Minute), memo, time.Second)
		m.Events = append(m.Events, e)
	}
	m.Task = t
	return m
}

func (s *suite) remember(t task.Task, memos ...task.Memo) task.Task {
	s.Helper()
	m := remembering(t, memos...)
	s.ok(m)
	return m.Task
}

func done(name, data string) task.Memo {
	return task.Memo{Kind: task.StepMemo, Name: name, Data: json.RawMessage(data)}
}

// signal is the write of a signal to a task; n tells it from others.
func signal(t task.Task, n int, name, data string) task.Mutation {
	return task.Mutation{
		Op: task.PutSignal, Task: task.Task{Spec: task.Spec{ID: t.ID, Namespace: t.Namespace}},
		Signal: task.Signal{ID: id(1000 + n), Name: name, Data: json.RawMessage(data), At: epoch.Add(time.Duration(n) * time.Second)},
	}
}

// signals expects that these wait for a task, by their numbers.
func (s *suite) signals(t task.Task, name string, want ...int) {
	s.Helper()
	got, err := s.store.Signals(s.ctx, t.Namespace, t.ID, name, 100)
	if err != nil {
		s.Fatal(err)
	}
	if len(got) != len(want) {
		s.Fatalf("%d signals of %q, want %d", len(got), name, len(want))
	}
	for i, n := range want {
		if got[i].ID != id(1000+n) || got[i].Name != name || !got[i].At.Equal(epoch.Add(time.Duration(n)*time.Second)) {
			s.Errorf("signal %d is %+v, want that of number %d", i, got[i], n)
		}
	}
}

// suspend suspends a running task, and says whether it may go on already.
func (s *suite) suspend(t task.Task, until task.Suspension) (task.Task, bool) {
	s.Helper()
	step, err := t.Suspend(epoch.Add(time.Minute), until)
	if err != nil {
		s.Fatal(err)
	}
	out := s.append(step.Mutation())[0]
	if out.Err != nil {
		s.Fatal(out.Err)
	}
	return step.Task, out.Settles
}

var memoRules = []rule{
	{"WhatATaskRemembersOutlivesItsAttempt", func(s *suite) {
		t := s.running()
		s.memos(t)
		t = s.remember(t, done("a", `{"n": 1.50}`), done("b", `null`))
		t = s.remember(t, task.Memo{Kind: task.SleepMemo, Name: "sleep", At: epoch.Add(time.Hour)})
		s.stored(t)
		t = s.step(t.HandBack(epoch.Add(time.Hour)))
		s.reopen()
		s.stored(t)
		s.memos(t, done("a", `{"n": 1.50}`), done("b", `null`), task.Memo{Kind: task.SleepMemo, Name: "sleep", At: epoch.Add(time.Hour)})
		t = s.start(s.step(t.Take(5), nil), 2*time.Hour)
		t = s.remember(t, done("c", `"x"`))
		s.same(t.Memos, 4)
		other := s.running()
		s.memos(other)
		if _, err := s.store.Memos(s.ctx, "other", t.ID); !is(err, task.ErrNotFound) {
			s.Errorf("memos of another namespace: %v", err)
		}
	}},
	// As a node of a version that knows nothing of memos does.
	{"WhoCountsNoMemosLosesNone", func(s *suite) {
		t := s.remember(s.running(), done("a", "1"), done("b", "2"))
		t, e := t.Say(epoch.Add(time.Minute), task.EventOutput, json.RawMessage("{}"))
		t.Memos, t.MemoBytes = 0, 0
		s.ok(task.Mutation{Op: task.Save, Task: t, Guard: t.Guard(), Events: []task.Event{e}})
		s.remember(t, done("c", "3"), done("d", "4"))
		s.memos(t, done("a", "1"), done("b", "2"), done("c", "3"), done("d", "4"))
	}},
	{"NothingIsRememberedUnderAWrongGuard", func(s *suite) {
		t := s.running()
		for _, spoil := range []func(*task.Mutation){
			func(m *task.Mutation) { m.Guard.Holder++ },
			func(m *task.Mutation) { m.Guard.Attempt++ },
			func(m *task.Mutation) { m.Guard.State = task.Queued },
		} {
			m := remembering(t, done("a", "1"))
			spoil(&m)
			s.refused(m, task.ErrStale)
		}
		m := remembering(t, done("a", "1"))
		s.ok(m)
		s.refused(m, task.ErrStale) // the same again
		s.memos(t, done("a", "1"))
		end, _ := m.Task.Succeed(epoch.Add(time.Hour), nil)
		late := end.Mutation()
		late.Memos = []task.Memo{done("b", "2")}
		s.refused(late, task.ErrInvalid)
	}},
	{"TheEndForgetsWhatATaskRemembered", func(s *suite) {
		for _, how := range []task.State{task.Succeeded, task.Failed, task.Cancelled} {
			t := s.remember(s.running(), done("a", "1"))
			s.ok(signal(t, 1, "go", "1"))
			s.ends(t, how)
			s.memos(t)
			s.signals(t, "go")
			s.refused(signal(t, 2, "go", "1"), task.ErrTerminal)
			if how == task.Failed {
				t = s.step(s.read(t).Rerun(epoch.Add(time.Hour)))
				s.memos(t)
			}
		}
	}},
	{"RerunBeginsWithoutOldSignals", func(s *suite) {
		t := s.running() // which remembers nothing, and so its end does not look for any
		s.ok(signal(t, 1, "go", "1"))
		s.ends(t, task.Failed)
		t = s.step(s.read(t).Rerun(epoch.Add(time.Hour)))
		s.signals(t, "go")
	}},
	{"SignalsWaitInTheOrderInWhichTheyCame", func(s *suite) {
		t := s.running()
		s.ok(signal(t, 3, "go", "1"), signal(t, 1, "go", "2"), signal(t, 2, "stop", "3"))
		s.ok(signal(t, 0, "go", `{"a": 1.0}`))
		s.signals(t, "go", 3, 1, 0)
		s.signals(t, "stop", 2)
		t = s.remember(t, task.Memo{Kind: task.SignalMemo, Name: "go", Data: json.RawMessage("1"), Signal: id(1003)})
		s.reopen()
		s.signals(t, "go", 1, 0)
		s.memos(t, task.Memo{Kind: task.SignalMemo, Name: "go", Data: json.RawMessage("1"), Signal: id(1003)})
		got, err := s.store.Signals(s.ctx, t.Namespace, t.ID, "go", 1)
		if err != nil || len(got) != 1 || string(got[0].Data) != "2" {
			s.Errorf("%+v %v", got, err)
		}
		if _, err := s.store.Signals(s.ctx, "other", t.ID, "go", 1); !is(err, task.ErrNotFound) {
			s.Errorf("signals of another namespace: %v", err)
		}
	}},
	{"SignalIsKeptOnce", func(s *suite) {
		t := s.running()
		one := signal(t, 1, "go", "1")
		s.ok(one, one)
		s.ok(one)
		s.signals(t, "go", 1)
		s.refused(signal(t, 1, "go", "2"), task.ErrKeyReused)
		s.refused(signal(t, 1, "stop", "1"), task.ErrKeyReused)
		t = s.remember(t, task.Memo{Kind: task.SignalMemo, Name: "go", Data: json.RawMessage("1"), Signal: id(1001)})
		s.ok(one)
		s.signals(t, "go")
		s.refused(signal(t, 1, "go", "2"), task.ErrKeyReused)
	}},
	{"SignalNeedsATaskThatHasNotEnded", func(s *suite) {
		t := s.running()
		m := signal(t, 1, "go", "1")
		m.Task.Namespace = "other"
		s.refused(m, task.ErrNotFound)
		s.refused(signal(task.Task{Spec: s.spec()}, 1, "go", "1"), task.ErrNotFound)
		m = signal(t, 1, "", "1")
		s.refused(m, task.ErrInvalid)
		if s.subject.Brief {
			return
		}
		var all []task.Mutation
		for i := range task.MaxSignals {
			all = append(all, signal(t, i, "go", "1"))
		}
		for some := range slices.Chunk(all, task.MaxSignals/10) {
			s.ok(some...)
		}
		s.refused(signal(t, task.MaxSignals, "go", "1"), task.ErrTooManySignals)
		s.ok(signal(t, 1, "go", "1"))
	}},
	{"SignalMovesOnWhoWaitsForIt", func(s *suite) {
		t := s.running()
		t, there := s.suspend(t, task.Suspension{Signal: "go"})
		s.stored(t)
		s.same(there, false)
		s.same(s.append(signal(t, 1, "stop", "1"))[0].Settles, false)
		s.unblocked()
		s.same(s.append(signal(t, 2, "go", "1"))[0].Settles, true)
		s.reopen()
		s.unblocked(task.Unblocked{Task: t})
		t = s.step(task.Unblocked{Task: t}.Step(epoch.Add(time.Hour)))
		s.unblocked()
		s.stored(t)
		// One that has gone on is not moved by what it has not taken yet.
		s.same(s.append(signal(t, 3, "go", "1"))[0].Settles, false)
		s.unblocked()
		s.signals(t, "go", 2, 3)
	}},
	{"WaitForASignalThatIsThereIsOver", func(s *suite) {
		t := s.running()
		s.ok(signal(t, 1, "go", "1"))
		t, there := s.suspend(t, task.Suspension{Signal: "go"})
		s.same(there, true)
		s.unblocked(task.Unblocked{Task: t})
		s.ends(t, task.Cancelled)
		s.unblocked()
		s.signals(t, "go")
	}},
	{"WaitForASignalEndsInTime", func(s *suite) {
		t, _ := s.suspend(s.running(), task.Suspension{Signal: "go", Until: epoch.Add(time.Hour)})
		due, next, err := s.store.Due(s.ctx, epoch.Add(time.Hour-1000), 10)
		if err != nil || len(due) != 0 || !next.Equal(epoch.Add(time.Hour)) {
			s.Fatalf("%d due, the next at %s, %v", len(due), next, err)
		}
		due, _, err = s.store.Due(s.ctx, epoch.Add(time.Hour), 10)
		if err != nil || len(due) != 1 {
			s.Fatalf("%d due, %v", len(due), err)
		}
		s.same(due[0], t)
		s.stored(s.step(due[0].Due(epoch.Add(time.Hour))))
	}},
	{"DeletedTaskLeavesNothingBehind", func(s *suite) {
		t := s.running()
		s.ok(signal(t, 1, "go", "1"))
		s.ends(t, task.Succeeded)
		t = s.read(t)
		s.ok(task.Mutation{Op: task.Delete, Task: t, Guard: t.Guard()})
		again := s.insert(t.Spec, 0, 5)
		s.signals(again, "go")
		s.memos(again)
	}},
	{"SweepForgetsSignalsThatCameTooLate", func(s *suite) {
		ended, lives := s.running(), s.running()
		s.ok(signal(ended, 1, "go", "1"), signal(lives, 2, "go", "1"))
		s.ends(ended, task.Succeeded)
		if _, err := s.store.Sweep(s.ctx, task.Retention{Now: epoch.Add(time.Hour)}, 100); err != nil {
			s.Fatal(err)
		}
		s.signals(ended, "go")
		s.signals(lives, "go", 2)
	}},
	{"SignalsThatComeTogetherAreKeptInOrder", func(s *suite) {
		a, b := s.running(), s.running()
		end, err := b.Succeed(epoch.Add(time.Hour), nil)
		if err != nil {
			s.Fatal(err)
		}
		wait, err := a.Suspend(epoch.Add(time.Minute), task.Suspension{Signal: "go"})
		if err != nil {
			s.Fatal(err)
		}
		out := s.append(signal(a, 3, "go", "1"), signal(b, 3, "go", "1"), signal(a, 1, "go", "2"), wait.Mutation(), signal(a, 2, "go", "3"),
			signal(a, 2, "go", "3"), signal(a, 3, "go", "2"), end.Mutation(), signal(b, 4, "go", "1"))
		for i, want := range []error{6: task.ErrKeyReused, 8: task.ErrTerminal} {
			if !is(out[i].Err, want) {
				s.Errorf("outcome %d: %v, want %v", i, out[i].Err, want)
			}
		}
		s.signals(a, "go", 3, 1, 2)
		s.unblocked(task.Unblocked{Task: wait.Task})
	}},
	{"SignalAndEndMayMeet", func(s *suite) {
		const rounds = 30
		for range rounds {
			t := s.running()
			step, err := t.Succeed(epoch.Add(time.Hour), nil)
			if err != nil {
				s.Fatal(err)
			}
			var both sync.WaitGroup
			for _, m := range []task.Mutation{step.Mutation(), signal(t, 1, "go", "1")} {
				both.Go(func() {
					out, err := s.store.Append(s.ctx, []task.Mutation{m})
					if err != nil || out[0].Err != nil && !is(out[0].Err, task.ErrTerminal) {
						s.Errorf("%+v %v", out, err)
					}
				})
			}
			both.Wait()
			s.same(s.read(t).State, task.Succeeded)
		}
	}},
	// Whoever comes first, a task that waits for a signal that is there is listed.
	{"NoSignalIsMissed", func(s *suite) {
		const rounds = 30
		for range rounds {
			t := s.running()
			step, err := t.Suspend(epoch.Add(time.Minute), task.Suspension{Signal: "go"})
			if err != nil {
				s.Fatal(err)
			}
			var outs [2]task.Outcome
			var both sync.WaitGroup
			for i, m := range []task.Mutation{step.Mutation(), signal(t, 1, "go", "1")} {
				both.Go(func() {
					out, err := s.store.Append(s.ctx, []task.Mutation{m})
					if err != nil {
						s.Error(err)
						return
					}
					outs[i] = out[0]
				})
			}
			both.Wait()
			if outs[0].Err != nil || outs[1].Err != nil || !outs[0].Settles && !outs[1].Settles {
				s.Fatalf("%+v", outs)
			}
			s.unblocked(task.Unblocked{Task: step.Task})
			s.step(step.Task.Signalled(epoch.Add(time.Hour)))
		}
	}},
}
