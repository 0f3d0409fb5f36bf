package storetest

import (
	"errors"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Callbacks: tasks that wait until all of a batch have ended.

// inBatch is a task of a batch that runs, held by node 5.
func (s *suite) inBatch(batch task.ID, change ...func(*task.Spec)) task.Task {
	s.Helper()
	spec := s.spec(append([]func(*task.Spec){func(p *task.Spec) { p.BatchID = batch }}, change...)...)
	return s.start(s.insert(spec, 0, 5), time.Second)
}

func (s *suite) callback(batch task.ID, change ...func(*task.Spec)) task.Step {
	return task.New(s.spec(append([]func(*task.Spec){func(p *task.Spec) { p.AfterBatch = batch }}, change...)...), epoch, 0)
}

// hasCallback expects what the overview says of a batch.
func (s *suite) hasCallback(batch, want task.ID) {
	s.Helper()
	o, err := s.store.Overview(s.ctx, task.Scope{Namespace: "acme", Batch: batch})
	if err != nil || o.Callback != want {
		s.Fatalf("callback %s, %v; want %s", o.Callback, err, want)
	}
}

var callbackRules = []rule{
	{"CallbackWaitsForAllOfItsBatch", func(s *suite) {
		batch, other := id(900), id(901)
		a, b, far := s.inBatch(batch), s.inBatch(batch), s.inBatch(other)
		elsewhere := s.inBatch(batch, func(p *task.Spec) { p.Namespace = "other" })
		call := s.callback(batch)
		if out := s.append(insertion(call))[0]; out.Err != nil || !out.Settles {
			s.Fatalf("%+v", out)
		}
		s.hasCallback(batch, call.Task.ID)
		s.hasCallback(other, task.ID{})
		s.unblocked()
		if !s.ends(a, task.Failed) {
			s.Error("the end of one of two is not told")
		}
		s.ends(far, task.Succeeded)
		s.ends(elsewhere, task.Succeeded)
		s.unblocked()
		s.reopen()
		if !s.ends(b, task.Cancelled) {
			s.Error("the end of the last is not told")
		}
		u := task.Unblocked{Task: call.Task}
		s.unblocked(u)
		s.unblocked(u)
		s.reopen()
		queued := s.step(u.Step(epoch.Add(time.Hour)))
		if queued.State != task.Queued {
			s.Errorf("it is %s", queued.State)
		}
		s.unblocked()
		s.hasCallback(batch, call.Task.ID)
	}},
	{"CallbackOfABatchThatHasEndedGoesOn", func(s *suite) {
		batch := id(900)
		s.ends(s.inBatch(batch), task.Succeeded)
		call := s.callback(batch)
		s.ok(insertion(call))
		s.unblocked(task.Unblocked{Task: call.Task})
		done := s.step(call.Task.Cancel(epoch, "no"))
		s.unblocked()
		s.hasCallback(batch, done.ID)
		s.ok(task.Mutation{Op: task.Delete, Task: done, Guard: done.Guard()})
		s.hasCallback(batch, task.ID{})
		s.ok(insertion(s.callback(batch)))
	}},
	{"BatchHasOneCallback", func(s *suite) {
		batch := id(900)
		s.inBatch(batch)
		first := s.callback(batch)
		s.ok(insertion(first))
		s.refused(insertion(s.callback(batch)), task.ErrHasCallback)
		out := s.append(insertion(first))[0]
		if out.Err != nil || out.Existing == nil || out.Existing.ID != first.Task.ID {
			s.Errorf("the same again: %+v", out)
		}
		s.ok(insertion(s.callback(batch, func(p *task.Spec) { p.Namespace = "other" })))
		taken := s.callback(id(901), func(p *task.Spec) { p.ID = id(1) })
		if out := s.append(insertion(taken))[0]; !errors.Is(out.Err, task.ErrExists) {
			s.Errorf("with the id of another: %+v", out)
		}
		s.hasCallback(id(901), task.ID{})
		s.hasCallback(batch, first.Task.ID)
	}},
}
