package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// talk gives the row after n live events in one mutation.
func (s *suite) talk(t task.Task, n int, data string) (task.Task, []task.Event) {
	s.Helper()
	var said []task.Event
	before := t
	for i := range n {
		var e task.Event
		kind := []task.EventType{task.EventLog, task.EventOutput, task.EventProgress, "of a later version"}[i%4]
		t, e = t.Say(epoch.Add(time.Duration(i)*time.Millisecond), kind, json.RawMessage(data))
		said = append(said, e)
	}
	s.ok(task.Mutation{Op: task.Save, Task: t, Guard: before.Guard(), Events: said})
	return t, said
}

var eventRules = []rule{
	{"EventsComeBackAsTheyWere", func(s *suite) {
		born := task.New(s.spec(), epoch, 2)
		s.ok(insertion(born))
		t := s.start(born.Task, time.Second)
		want := append([]task.Event(nil), s.events(t)...)
		s.same(want[0], born.Events[0])
		for _, data := range []string{`{}`, `{"a": 1.50, "b": "<é>", "c": 123456789012345678901}`, ""} {
			var said []task.Event
			t, said = s.talk(t, 9, data)
			want = append(want, said...)
		}
		end, _ := t.Succeed(epoch.Add(time.Hour), json.RawMessage(`{"r": 1.0}`))
		s.ok(end.Mutation())
		want = append(want, end.Events...)
		s.same(s.events(t), want)
		s.reopen()
		s.same(s.events(t), want)
	}},
	{"EventsAfterEveryCursor", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 2), 0)
		t, _ = s.talk(t, 5, `{}`)
		t, _ = s.talk(t, 1, `{}`)
		t = s.step(t.Fail(epoch, task.Failure{Code: "no"}, 0))
		t = s.step(t.Rerun(epoch))
		t = s.start(s.step(t.Take(5), nil), 0)
		t, _ = s.talk(t, 3, `{}`)
		s.step(t.Cancel(epoch, ""))
		all := s.events(t)
		s.same(len(all), 15)
		for i, e := range append([]task.Event{{}}, all...) {
			for _, limit := range []int{1, 4, 100} {
				page, err := s.store.Events(s.ctx, t.Namespace, t.ID, e.Cursor, limit)
				if err != nil {
					s.Fatal(err)
				}
				s.same(page, all[i:min(i+limit, len(all))])
			}
		}
		none, err := s.store.Events(s.ctx, t.Namespace, t.ID, task.Cursor{Attempt: 99}, 5)
		if err != nil || len(none) > 0 {
			s.Errorf("behind the end: %v, %v", none, err)
		}
	}},
	{"EventsOfAMissingTaskAreNotFound", func(s *suite) {
		t := s.insert(s.spec(), 0, 2)
		for _, missing := range []task.Task{{Spec: task.Spec{Namespace: "other", ID: t.ID}}, {Spec: task.Spec{Namespace: "acme", ID: id(77)}}} {
			_, err := s.store.Events(s.ctx, missing.Namespace, missing.ID, task.Cursor{}, 5)
			if !errors.Is(err, task.ErrNotFound) {
				s.Errorf("%v, want ErrNotFound", err)
			}
		}
	}},
	{"PageOfLargeEventsIsShortButNotEmpty", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 2), 0)
		t, _ = s.talk(t, 10, `"`+strings.Repeat("x", 250_000)+`"`)
		after, pages := task.Cursor{}, 0
		seen := 0
		for {
			page, err := s.store.Events(s.ctx, t.Namespace, t.ID, after, 1000)
			if err != nil {
				s.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			if len(page) > 8 {
				s.Fatalf("a page of %d events", len(page))
			}
			seen += len(page)
			pages++
			after = page[len(page)-1].Cursor
		}
		if seen != 12 || pages < 2 {
			s.Errorf("%d events in %d pages", seen, pages)
		}
	}},
	{"TerminalEventCarriesALargeResult", func(s *suite) {
		t := s.start(s.insert(s.spec(), 0, 2), 0)
		result := json.RawMessage(fmt.Sprintf("%q", strings.Repeat("r", 1<<20)))
		end, _ := t.Succeed(epoch, result)
		s.ok(end.Mutation())
		s.stored(end.Task)
		s.same(s.events(t)[2], end.Events[0])
	}},
}
