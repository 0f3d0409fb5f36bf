package storetest

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

func is(err, want error) bool { return errors.Is(err, want) }

var saveRules = []rule{
	{"EveryStepOfALifeIsKept", func(s *suite) {
		fraction := 0.25
		t := s.insert(s.spec(func(p *task.Spec) { p.RunAt = epoch.Add(time.Second) }), 0, 0)
		s.stored(t)
		t = s.step(t.Due(epoch.Add(time.Second)))
		s.stored(t)
		t = s.step(t.Take(9), nil)
		s.stored(t)
		t = s.start(t, 2*time.Second)
		s.stored(t)
		t, e := t.Say(epoch.Add(3*time.Second), task.EventProgress, json.RawMessage(`{"fraction":0.25}`))
		t.Progress = &task.Progress{Fraction: &fraction, Message: "a quarter", At: epoch.Add(3 * time.Second)}
		s.ok(task.Mutation{Op: task.Save, Task: t, Guard: t.Guard(), Events: []task.Event{e}})
		s.stored(t)
		t = s.step(t.Fail(epoch.Add(4*time.Second), task.Failure{
			Code: "c", Message: "m", Retryable: true, Details: json.RawMessage(`{"a": 1}`),
		}, 0))
		s.stored(t)
		t = s.step(t.Due(t.RunAt))
		t = s.step(t.Start(epoch.Add(time.Minute), "node", "worker"))
		t = s.step(t.HandBack(epoch.Add(time.Hour)))
		s.stored(t)
		t = s.step(t.Take(11), nil)
		t = s.step(t.Start(epoch.Add(2*time.Hour), "other", "w"))
		t = s.step(t.Lost(epoch.Add(3*time.Hour), task.CodeNodeLost, 0.5, mostCrashes), nil)
		s.stored(t)
		t = s.step(t.Cancel(epoch.Add(4*time.Hour), "enough"))
		s.stored(t)
		t = s.step(t.Rerun(epoch.Add(5 * time.Hour)))
		s.stored(t)
		t = s.step(t.Take(12), nil)
		t = s.step(t.Start(epoch.Add(6*time.Hour), "node", "w"))
		t = s.step(t.Fail(epoch.Add(7*time.Hour), task.Failure{Code: "no"}, 0))
		s.stored(t)
		s.reopen()
		s.stored(t)
		for i, e := range s.events(t)[1:] {
			if before := s.events(t)[i]; !e.Cursor.Follows(before.Cursor) {
				s.Errorf("%s comes after %s", e.Cursor, before.Cursor)
			}
		}
	}},
	{"SaveUnderAWrongGuardChangesNothing", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 3), 0)
		end, _ := t.Succeed(epoch.Add(time.Second), json.RawMessage("1"))
		for _, spoil := range []func(*task.Mutation){
			func(m *task.Mutation) { m.Guard.Holder = 4 },
			func(m *task.Mutation) { m.Guard.Attempt = 2 },
			func(m *task.Mutation) { m.Guard.State = task.Queued },
		} {
			for _, to := range []task.Step{end, {Task: t, Guard: t.Guard()}, t.Take(8)} {
				m := to.Mutation()
				spoil(&m)
				s.refused(m, task.ErrStale)
			}
		}
		s.stored(t)
		s.same(len(s.events(t)), 2)
	}},
	{"NobodyWritesIntoAnotherNamespace", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 3), 0)
		end, _ := t.Succeed(epoch.Add(time.Second), json.RawMessage("1"))
		m := end.Mutation()
		m.Task.Namespace = "other"
		s.refused(m, task.ErrNotFound)
		done := s.succeed(t, time.Second)
		done.Namespace = "other"
		s.refused(task.Mutation{Op: task.Delete, Task: done, Guard: done.Guard()}, task.ErrNotFound)
	}},
	{"SecondEndIsStale", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 3), 0)
		end, _ := t.Succeed(epoch.Add(time.Second), json.RawMessage("1"))
		fail, _ := t.Fail(epoch.Add(time.Second), task.Failure{Code: "x"}, 0)
		s.ok(end.Mutation())
		s.refused(fail.Mutation(), task.ErrStale)
		s.refused(end.Mutation(), task.ErrStale)
		s.stored(end.Task)
	}},
	{"EventsTheLogHasMakeASaveStale", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 3), 0)
		t, e := t.Say(epoch, task.EventLog, json.RawMessage(`{"message":"once"}`))
		m := task.Mutation{Op: task.Save, Task: t, Guard: t.Guard(), Events: []task.Event{e}}
		s.ok(m)
		s.refused(m, task.ErrStale)
		s.same(len(s.events(t)), 3)
	}},
	{"CheckpointStaysUnlessItIsNew", func(s *suite) {
		for _, size := range []int{10, 300_000} {
			t := s.start(s.insert(s.spec(), 0, 3), 0)
			t.Checkpoint = json.RawMessage(`"` + strings.Repeat("c", size) + `"`)
			s.ok(task.Mutation{Op: task.Save, Task: t, Guard: t.Guard(), Checkpoint: true})
			s.stored(t)
			without := t
			without.Checkpoint = nil
			s.ok(task.Mutation{Op: task.Save, Task: without, Guard: t.Guard()})
			s.stored(t)
			retried := s.step(without.Fail(epoch, task.Failure{Retryable: true}, 0))
			retried.Checkpoint = t.Checkpoint
			s.stored(retried)
			small := s.start(s.step(retried.Due(retried.RunAt)), time.Hour)
			small.Checkpoint = json.RawMessage(`1`)
			s.ok(task.Mutation{Op: task.Save, Task: small, Guard: small.Guard(), Checkpoint: true})
			s.stored(small)
			small.Checkpoint = t.Checkpoint
			s.ok(task.Mutation{Op: task.Save, Task: small, Guard: small.Guard(), Checkpoint: true})
			s.stored(s.succeed(small, 2*time.Hour))
		}
	}},
	{"RevivedTaskMayNotTakeAUniqueKeyTwice", func(s *suite) {
		unique := func(p *task.Spec) { p.UniqueKey = "u" }
		first := s.step(s.insert(s.spec(unique), 0, 0).Cancel(epoch, ""))
		second := s.insert(s.spec(unique), 0, 0)
		again, _ := first.Rerun(epoch.Add(time.Second))
		s.refused(again.Mutation(), task.ErrExists)
		s.stored(first)
		s.step(second.Cancel(epoch, ""))
		s.ok(again.Mutation())
		s.stored(again.Task)
	}},
	{"DeleteTakesAllThatBelongsToATask", func(s *suite) {
		t := s.insert(s.spec(func(p *task.Spec) {
			p.Labels, p.BatchID, p.UniqueKey = map[string]string{"a": "b"}, id(50), "u"
			p.Payload = json.RawMessage(`"` + strings.Repeat("x", 50_000) + `"`)
		}), 0, 3)
		s.refused(task.Mutation{Op: task.Delete, Task: t, Guard: t.Guard()}, task.ErrNotTerminal)
		t = s.start(t, 0)
		t, e := t.Say(epoch, task.EventLog, json.RawMessage(`{}`))
		s.ok(task.Mutation{Op: task.Save, Task: t, Guard: t.Guard(), Events: []task.Event{e}})
		done := s.succeed(t, 0)
		wrong := done.Guard()
		wrong.Attempt++
		s.refused(task.Mutation{Op: task.Delete, Task: done, Guard: wrong}, task.ErrStale)
		s.ok(task.Mutation{Op: task.Delete, Task: done, Guard: done.Guard()})
		s.gone(t)
		s.refused(task.Mutation{Op: task.Delete, Task: done, Guard: done.Guard()}, task.ErrNotFound)
		if _, err := s.store.Events(s.ctx, t.Namespace, t.ID, task.Cursor{}, 10); !errors.Is(err, task.ErrNotFound) {
			s.Errorf("events of a deleted task: %v", err)
		}
		s.same(s.overview(task.Scope{}).Counts, []task.Count(nil))
		s.same(s.overview(task.Scope{Batch: id(50)}).Counts, []task.Count(nil))
		s.same(s.list(task.Filter{Labels: map[string]string{"a": "b"}}), []task.Task(nil))
		// The same id can be anew, and has nothing of the old one.
		born := s.insert(t.Spec, 0, 3)
		s.stored(born)
		s.same(len(s.events(born)), 1)
	}},
}
