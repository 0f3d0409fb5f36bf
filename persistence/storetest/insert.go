package storetest

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

var insertRules = []rule{
	{"TaskComesBackAsItWasInserted", func(s *suite) {
		full := s.spec(func(p *task.Spec) {
			p.Payload = json.RawMessage(`{"z":  1.50, "a": "<&>é", "big": 12345678901234567890.10}`)
			p.Priority = -7
			p.Resources = task.Resources{"slots": 0, "cpu": 1500, "memory": 1 << 40}
			p.Labels = map[string]string{"team": "blue", "empty": ""}
			p.RunAt = epoch.Add(time.Hour)
			p.Timeout = 90 * time.Second
			p.Deadline = epoch.Add(2 * time.Hour)
			p.Retry = task.Retry{Initial: 1, Factor: 1.1, Max: time.Hour, Jitter: 0.3}
			p.UniqueKey = "once"
			p.BatchID = id(1 << 40)
		})
		s.stored(s.insert(full, 0, 0))
		s.stored(s.insert(s.spec(func(p *task.Spec) { *p = task.Spec{ID: p.ID, Namespace: "acme", Kind: "k", Queue: "q"} }), 0, 5))
		s.stored(s.insert(s.spec(func(p *task.Spec) {
			p.Payload = json.RawMessage(`"` + strings.Repeat("x", 900_000) + `"`)
		}), 0, 5))
		s.reopen()
		s.stored(task.New(full, epoch, 0).Task)
	}},
	{"TimesAreKeptToTheMicrosecondInUTC", func(s *suite) {
		zone := time.FixedZone("far", 3600)
		at := epoch.Add(999).In(zone)
		step := task.New(s.spec(), at, 0)
		s.ok(insertion(step))
		got := s.read(step.Task)
		if !got.Created.Equal(epoch) || got.Created.Location() != time.UTC {
			s.Fatalf("created %v, want %v", got.Created, epoch)
		}
		if e := s.events(step.Task)[0]; !e.At.Equal(epoch) || e.At.Location() != time.UTC {
			s.Fatalf("event at %v, want %v", e.At, epoch)
		}
	}},
	{"SameInsertTwiceIsOne", func(s *suite) {
		first := s.insert(s.spec(), 0, 1)
		now := s.start(first, time.Second)
		again := task.New(first.Spec, epoch.Add(time.Minute), 2)
		s.same(s.append(insertion(again))[0], task.Outcome{Existing: &now})
		s.stored(now)
		s.same(len(s.events(first)), 2)
	}},
	{"AnInsertThatIsOnlyToFindATaskMakesNone", func(s *suite) {
		known := func(spec task.Spec, r task.Request) task.Mutation {
			m := insertion(task.New(spec, epoch.Add(time.Minute), 0))
			m.Known, m.Request = true, r
			return m
		}
		unique := func(p *task.Spec) { p.UniqueKey = "u" }
		request := task.Request{Key: "r", Hash: [32]byte{1}, Expires: epoch.Add(time.Hour)}
		s.refused(known(s.spec(unique), request), task.ErrNotFound)
		s.refused(known(s.spec(func(p *task.Spec) { p.DependsOn = []task.ID{id(1 << 40)} }), task.Request{}), task.ErrNotFound)
		step := task.New(s.spec(unique), epoch, 0)
		m := insertion(step)
		m.Request = request // which the first did not take
		s.ok(m)
		there := task.Outcome{Existing: &step.Task}
		other := s.spec()
		other.ID = step.Task.ID
		again := task.Request{Key: "again", Hash: [32]byte{2}, Expires: epoch.Add(time.Hour)}
		out := s.append(
			known(s.spec(), task.Request{}), known(step.Task.Spec, task.Request{}), known(s.spec(unique), again), known(s.spec(), request),
			insertion(task.New(s.spec(), epoch, 0)),
		)
		s.same(out[1:4], []task.Outcome{there, there, there})
		if !errors.Is(out[0].Err, task.ErrNotFound) || out[4].Err != nil {
			s.Fatalf("%+v, %+v", out[0], out[4])
		}
		s.refused(known(other, task.Request{}), task.ErrExists)
		request.Hash = [32]byte{3}
		s.refused(known(s.spec(), request), task.ErrKeyReused)
		s.same(s.append(known(s.spec(), again))[0], there) // it led there, and does again
		overview, err := s.store.Overview(s.ctx, task.Scope{})
		if err != nil || len(overview.Counts) != 1 || overview.Counts[0].Tasks != 2 {
			s.Fatalf("%+v, %v", overview.Counts, err)
		}
	}},
	{"SameInsertIsKnownAgainAfterABackoff", func(s *suite) {
		first := s.insert(s.spec(), 0, 1)
		now := s.step(s.start(first, time.Second).Fail(epoch.Add(time.Second), task.Failure{Retryable: true}, 0))
		s.same(s.append(insertion(task.New(first.Spec, epoch, 0)))[0], task.Outcome{Existing: &now})
	}},
	{"SameIDWithOtherContentIsRefused", func(s *suite) {
		first := s.insert(s.spec(func(p *task.Spec) { p.Labels = map[string]string{"a": "b"} }), 0, 0)
		changes := []func(*task.Spec){
			func(p *task.Spec) { p.Payload = json.RawMessage(`{"n": 1.5}`) },
			func(p *task.Spec) { p.Namespace = "other" },
			func(p *task.Spec) { p.Kind = "other" },
			func(p *task.Spec) { p.Queue = "other" },
			func(p *task.Spec) { p.Priority = 1 },
			func(p *task.Spec) { p.Resources = task.Resources{"slots": 2000} },
			func(p *task.Spec) { p.Labels = nil },
			func(p *task.Spec) { p.RunAt = epoch.Add(time.Second) },
			func(p *task.Spec) { p.Deadline = epoch.Add(time.Second) },
			func(p *task.Spec) { p.Timeout = 1 },
			func(p *task.Spec) { p.MaxAttempts = 1 },
			func(p *task.Spec) { p.Retry.Jitter = 0.5 },
			func(p *task.Spec) { p.UniqueKey = "u" },
			func(p *task.Spec) { p.BatchID = id(99) },
		}
		for _, change := range changes {
			other := first.Spec
			change(&other)
			s.refused(insertion(task.New(other, epoch, 0)), task.ErrExists)
		}
		s.stored(first)
		s.same(s.overview(task.Scope{}).Counts, []task.Count{{Namespace: "acme", Queue: "default", State: task.Queued, Tasks: 1}})
	}},
	{"UniqueKeyOfALiveTaskGivesThatTask", func(s *suite) {
		unique := func(p *task.Spec) { p.UniqueKey = "u" }
		first := s.insert(s.spec(unique), 0, 1)
		second := task.New(s.spec(unique), epoch, 0)
		s.same(s.append(insertion(second))[0], task.Outcome{Existing: &first})
		s.gone(second.Task)
		s.insert(s.spec(unique, func(p *task.Spec) { p.Kind = "other" }), 0, 0)
		s.insert(s.spec(unique, func(p *task.Spec) { p.Namespace = "other" }), 0, 0)
		s.succeed(s.start(first, time.Second), time.Second)
		s.insert(second.Task.Spec, 0, 0)
	}},
	{"UniqueKeyHoldsWithinOneBatch", func(s *suite) {
		unique := func(p *task.Spec) { p.UniqueKey = "u" }
		a, b := task.New(s.spec(unique), epoch, 0), task.New(s.spec(unique), epoch, 0)
		s.same(s.append(insertion(a), insertion(b)), []task.Outcome{{}, {Existing: &a.Task}})
	}},
	{"IdempotencyKeyGivesTheFirstTask", func(s *suite) {
		request := task.Request{Key: "k", Hash: [32]byte{1}, Expires: epoch.Add(time.Hour)}
		with := func(step task.Step, r task.Request) task.Mutation {
			m := insertion(step)
			m.Request = r
			return m
		}
		first := task.New(s.spec(), epoch, 0)
		s.ok(with(first, request))
		second := task.New(s.spec(), epoch.Add(time.Minute), 0)
		s.same(s.append(with(second, request))[0], task.Outcome{Existing: &first.Task})
		s.gone(second.Task)

		other := request
		other.Hash = [32]byte{2}
		s.refused(with(second, other), task.ErrKeyReused)

		elsewhere := task.New(s.spec(func(p *task.Spec) { p.Namespace = "other" }), epoch, 0)
		s.ok(with(elsewhere, other))

		late := task.New(s.spec(), epoch.Add(time.Hour), 0)
		s.ok(with(late, other))
	}},
	{"IdempotencyKeyOfADeletedTaskIsUnknown", func(s *suite) {
		first := insertion(task.New(s.spec(), epoch, 1))
		first.Request = task.Request{Key: "k", Hash: [32]byte{1}, Expires: epoch.Add(time.Hour)}
		s.ok(first)
		done := s.succeed(s.start(first.Task, 0), 0)
		s.ok(task.Mutation{Op: task.Delete, Task: done, Guard: done.Guard()})
		second := insertion(task.New(s.spec(), epoch, 1))
		second.Request = task.Request{Key: "k", Hash: [32]byte{2}, Expires: epoch.Add(time.Hour)}
		s.ok(second)
	}},
	{"IdempotencyKeyRemembersATaskItFoundByUniqueKey", func(s *suite) {
		unique := func(p *task.Spec) { p.UniqueKey = "u" }
		first := s.insert(s.spec(unique), 0, 1)
		second := insertion(task.New(s.spec(unique), epoch, 0))
		second.Request = task.Request{Key: "k", Hash: [32]byte{1}, Expires: epoch.Add(time.Hour)}
		s.same(s.append(second)[0], task.Outcome{Existing: &first})
		done := s.succeed(s.start(first, 0), 0)
		second.Task.ID = id(1000)
		second.Events = task.New(second.Task.Spec, epoch, 0).Events
		s.same(s.append(second)[0], task.Outcome{Existing: &done})
	}},
	{"OneThatDoesNotHoldLeavesTheOthersAlone", func(s *suite) {
		first := s.insert(s.spec(), 0, 0)
		other := first.Spec
		other.Kind = "other"
		a, b := task.New(s.spec(), epoch, 0), task.New(s.spec(), epoch, 0)
		missing := task.New(s.spec(), epoch, 0).Task
		out := s.append(insertion(a), insertion(task.New(other, epoch, 0)),
			task.Mutation{Op: 77, Task: missing}, missing.Take(3).Mutation(), insertion(b))
		for i, want := range []error{nil, task.ErrExists, task.ErrInvalid, task.ErrNotFound, nil} {
			if !is(out[i].Err, want) {
				s.Errorf("outcome %d is %v, want %v", i, out[i].Err, want)
			}
		}
		s.stored(a.Task)
		s.stored(b.Task)
	}},
	{"LaterMutationsSeeEarlierOnes", func(s *suite) {
		born := task.New(s.spec(), epoch, 4)
		started, _ := born.Task.Start(epoch.Add(1e6), "n", "w")
		ended, _ := started.Task.Succeed(epoch.Add(2e6), nil)
		s.ok(insertion(born), started.Mutation(), ended.Mutation())
		s.stored(ended.Task)
		s.same(len(s.events(ended.Task)), 3)
	}},
	{"WrongMutationsAreRefused", func(s *suite) {
		born := task.New(s.spec(), epoch, 4)
		for _, spoil := range []func(*task.Mutation){
			func(m *task.Mutation) { m.Op = 0 },
			func(m *task.Mutation) { m.Task.ID = task.ID{} },
			func(m *task.Mutation) { m.Task.Namespace = "" },
			func(m *task.Mutation) { m.Task.State = 0 },
			func(m *task.Mutation) { m.Task.State = 8 },
			func(m *task.Mutation) { m.Task.State, m.Task.Holder = task.Running, 0 },
			func(m *task.Mutation) { m.Task.State = task.Failed },
			func(m *task.Mutation) { m.Events[0].Task = id(77) },
			func(m *task.Mutation) { m.Events[0].Cursor.Seq = 0 },
			func(m *task.Mutation) { m.Events = append(m.Events, m.Events[0]) },
			func(m *task.Mutation) {
				e := m.Events[0]
				e.Cursor = task.Cursor{Attempt: 1, Seq: 1}
				m.Events = append(m.Events, e)
			},
			func(m *task.Mutation) { m.Op = task.SetQueue },
		} {
			m := insertion(born)
			m.Events = append([]task.Event(nil), m.Events...)
			spoil(&m)
			s.refused(m, task.ErrInvalid)
		}
		s.gone(born.Task)
	}},
}
