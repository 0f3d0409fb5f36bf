package storetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

var listRules = []rule{
	{"ListIsNewestFirstInPages", func(s *suite) {
		var all []task.Task
		for i := range 10 {
			// Two at a time are made at the same moment: then the id decides.
			all = append(all, s.insert(s.spec(), time.Duration(i/2)*time.Second, 0))
		}
		s.insert(s.spec(func(p *task.Spec) { p.Namespace = "other" }), 0, 0)
		for _, limit := range []int{1, 3, 10, 1000} {
			s.same(s.list(task.Filter{Limit: limit}), reversed(all))
		}
		page, next, err := s.store.Tasks(s.ctx, task.Filter{Namespace: "acme", Limit: 10})
		if err != nil || len(page) != 10 || !next.IsZero() {
			s.Errorf("%d tasks, next %v, %v; want all ten and no next page", len(page), next, err)
		}
	}},
	{"FiltersSelect", func(s *suite) {
		var all []task.Task
		for i := range 24 {
			t := s.insert(s.spec(func(p *task.Spec) {
				p.Kind, p.Queue = fmt.Sprintf("k%d", i%2), fmt.Sprintf("q%d", i%3)
				p.Labels = map[string]string{"two": strconv.Itoa(i % 2), "three": strconv.Itoa(i % 3)}
				if i%4 == 0 {
					p.BatchID = id(900)
				}
				if i%5 == 0 {
					p.RunAt = epoch.Add(time.Hour)
				}
			}), time.Duration(i)*time.Second, 7)
			if i%5 != 0 && i%2 == 0 {
				t = s.start(t, time.Hour)
			}
			if t.State == task.Running && i%3 == 0 {
				t = s.succeed(t, time.Hour)
			} else if i%7 == 0 {
				t = s.step(t.Cancel(epoch.Add(time.Hour), ""))
			} else if i == 8 {
				t = s.step(t.Fail(epoch.Add(time.Hour), task.Failure{Code: "no"}, 0))
			}
			all = append(all, t)
		}
		for _, f := range []task.Filter{
			{},
			{Kind: "k1"},
			{Queue: "q2"},
			{Kind: "k1", Queue: "q2"},
			{Kind: "none"},
			{BatchID: id(900)},
			{BatchID: id(900), Kind: "k0", States: []task.State{task.Running}},
			{BatchID: id(901)},
			{Labels: map[string]string{"two": "1"}},
			{Labels: map[string]string{"two": "1", "three": "2"}},
			{Labels: map[string]string{"two": "3"}},
			{Labels: map[string]string{"two": "1"}, Queue: "q0"},
			{Labels: map[string]string{"two": "0"}, States: []task.State{task.Running, task.Succeeded}},
			{States: []task.State{task.Queued}},
			{States: []task.State{task.Running}},
			{States: []task.State{task.Failed}},
			{States: []task.State{task.Failed, task.Cancelled}},
			{States: []task.State{task.Scheduled, task.Succeeded}},
			{States: []task.State{task.Blocked}},
			{States: []task.State{task.Running}, Kind: "k0"},
			{CreatedAfter: epoch.Add(5 * time.Second)},
			{CreatedBefore: epoch.Add(5 * time.Second)},
			{CreatedAfter: epoch.Add(5*time.Second + 1)},
			{CreatedBefore: epoch.Add(5*time.Second + 1)},
			{CreatedAfter: epoch.Add(5 * time.Second), CreatedBefore: epoch.Add(9 * time.Second), States: []task.State{task.Running}},
			{CreatedAfter: epoch.Add(5*time.Second - 1), Labels: map[string]string{"two": "1"}},
			{Namespace: "other"},
		} {
			if f.Namespace == "" {
				f.Namespace = "acme"
			}
			var want []task.Task
			for _, t := range reversed(all) {
				if f.Match(t) {
					want = append(want, t)
				}
			}
			s.Run(fmt.Sprintf("%+v", f), func(*testing.T) { s.same(s.list(f), want) })
		}
	}},
	{"PageOfLargeBodiesIsShort", func(s *suite) {
		for range 12 {
			s.insert(s.spec(func(p *task.Spec) { p.Payload = json.RawMessage(`"` + strings.Repeat("x", 300_000) + `"`) }), 0, 0)
		}
		page, next, err := s.store.Tasks(s.ctx, task.Filter{Namespace: "acme", Limit: 100})
		if err != nil || len(page) == 0 || len(page) > 6 || next.IsZero() {
			s.Errorf("%d tasks, next %v, %v; want a few and a next page", len(page), next, err)
		}
		s.same(len(s.list(task.Filter{Limit: 100})), 12)
	}},
	{"OverviewCountsWhatThereIs", func(s *suite) {
		batch := func(p *task.Spec) { p.BatchID = id(500) }
		other := func(p *task.Spec) { p.Namespace, p.Queue = "other", "q" }
		s.insert(s.spec(batch), 0, 0)
		s.start(s.insert(s.spec(batch), 0, 1), 0)
		s.succeed(s.start(s.insert(s.spec(), 0, 1), 0), 0)
		s.insert(s.spec(other, batch), 0, 0)
		paused := task.Queue{Namespace: "acme", Name: "a", Paused: true}
		s.ok(task.Mutation{Op: task.SetQueue, Queue: task.QueueChange{Namespace: "acme", Name: "a", Paused: new(true)}})
		acme := []task.Count{
			{Namespace: "acme", Queue: "default", State: task.Queued, Tasks: 1},
			{Namespace: "acme", Queue: "default", State: task.Running, Tasks: 1},
			{Namespace: "acme", Queue: "default", State: task.Succeeded, Tasks: 1},
		}
		there := []task.Queue{paused, {Namespace: "acme", Name: "default"}}
		counted := func(scope task.Scope) task.Overview {
			o := s.overview(scope)
			o.Volumes = nil // they have a rule of their own
			return o
		}
		s.same(counted(task.Scope{Namespace: "acme"}), task.Overview{Counts: acme, Queues: there})
		s.same(counted(task.Scope{}), task.Overview{
			Counts: append(acme, task.Count{Namespace: "other", Queue: "q", State: task.Queued, Tasks: 1}),
			Queues: append(there, task.Queue{Namespace: "other", Name: "q"}),
		})
		mine := []task.Count{{Namespace: "acme", State: task.Queued, Tasks: 1}, {Namespace: "acme", State: task.Running, Tasks: 1}}
		s.same(s.overview(task.Scope{Namespace: "acme", Batch: id(500)}), task.Overview{Counts: mine})
		s.same(s.overview(task.Scope{Batch: id(500)}), task.Overview{
			Counts: append(mine, task.Count{Namespace: "other", State: task.Queued, Tasks: 1}),
		})
	}},
	{"DueListsWhatHasComeAndSaysWhatComesNext", func(s *suite) {
		at := func(after time.Duration) func(*task.Spec) {
			return func(p *task.Spec) { p.RunAt = epoch.Add(after) }
		}
		due := func(after time.Duration, limit int, want []task.Task, next time.Duration) {
			s.Helper()
			got, when, err := s.store.Due(s.ctx, epoch.Add(after), limit)
			if err != nil {
				s.Fatal(err)
			}
			s.same(got, want)
			switch {
			case next == 0 && !when.IsZero(), next != 0 && !when.Equal(epoch.Add(next)):
				s.Errorf("next at %v, want epoch + %v", when, next)
			}
		}
		due(time.Hour, 10, nil, 0)
		second := s.insert(s.spec(at(2*time.Second)), 0, 0)
		first := s.insert(s.spec(at(time.Second)), 0, 0)
		deadline := s.insert(s.spec(func(p *task.Spec) { p.Deadline = epoch.Add(3 * time.Second) }), 0, 0)
		s.insert(s.spec(at(time.Second)), 0, 8) // held
		done := s.insert(s.spec(at(time.Second)), 0, 0)
		s.step(done.Cancel(epoch, ""))
		due(0, 10, nil, time.Second)
		due(time.Second, 10, []task.Task{first}, 2*time.Second)
		due(time.Hour, 2, []task.Task{first, second}, 3*time.Second)
		due(time.Hour, 10, []task.Task{first, second, deadline}, 0)
		due(time.Hour, 0, nil, time.Second)
		s.claim(task.Claim{Holder: 3})
		due(time.Hour, 10, []task.Task{first, second}, 0)
	}},
}
