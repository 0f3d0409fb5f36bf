package sealed

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/troupe-run/troupe/runtime/task"
)

// Where sealed texts stand. The names are authenticated: never change one.
const (
	placePayload    = "payload"
	placeCheckpoint = "checkpoint"
	placeResult     = "result"
	placeProgress   = "progress"
	placeMessage    = "message"
	placeDetails    = "details"
)

func attemptPlace(e task.AttemptError) string { return "error " + strconv.Itoa(e.Attempt) }

func eventPlace(e task.Event) string { return "event " + e.Cursor.String() + " " + string(e.Type) }

func signalPlace(id task.ID) string { return "signal " + id.String() }

// memoPlace is the signal's own where a memo holds what a signal brought: a store
// compares the two.
func memoPlace(m task.Memo) string {
	if !m.Signal.IsZero() {
		return signalPlace(m.Signal)
	}
	return "memo " + strconv.Itoa(int(m.Kind)) + " " + m.Name
}

// task seals a row. A payload that is not stored, and a checkpoint, are left out.
func (b *box) task(t task.Task, payload, checkpoint bool) task.Task {
	if !payload {
		t.Payload = nil
	}
	if !checkpoint {
		t.Checkpoint = nil
	}
	t.Payload = b.json(placePayload, t.Payload)
	t.Checkpoint = b.json(placeCheckpoint, t.Checkpoint)
	t.Result = b.json(placeResult, t.Result)
	if t.Progress != nil {
		p := *t.Progress
		p.Message = b.text(placeProgress, p.Message)
		t.Progress = &p
	}
	if t.Failure != nil {
		f := *t.Failure
		f.Message, f.Details = b.text(placeMessage, f.Message), b.json(placeDetails, f.Details)
		t.Failure = &f
	}
	t.Failures = slices.Clone(t.Failures)
	for i, e := range t.Failures {
		t.Failures[i].Message = b.text(attemptPlace(e), e.Message)
	}
	return t
}

func (b *box) events(events []task.Event) []task.Event {
	events = slices.Clone(events)
	for i, e := range events {
		events[i].Data = b.json(eventPlace(e), e.Data)
	}
	return events
}

func (b *box) memos(memos []task.Memo) []task.Memo {
	memos = slices.Clone(memos)
	for i, m := range memos {
		memos[i].Data = b.json(memoPlace(m), m.Data)
	}
	return memos
}

// open opens a row.
func (s *Store) open(t task.Task) (task.Task, error) {
	opened, err := s.of(t.Namespace, t.ID).openTask(t)
	if err != nil {
		return task.Task{}, fmt.Errorf("task %s: %w", t.ID, err)
	}
	return opened, nil
}

func (b *box) openTask(t task.Task) (task.Task, error) {
	o := opening{box: b}
	o.json(placePayload, &t.Payload)
	o.json(placeCheckpoint, &t.Checkpoint)
	o.json(placeResult, &t.Result)
	if t.Progress != nil {
		p := *t.Progress
		o.text(placeProgress, &p.Message)
		t.Progress = &p
	}
	if t.Failure != nil {
		f := *t.Failure
		o.text(placeMessage, &f.Message)
		o.json(placeDetails, &f.Details)
		t.Failure = &f
	}
	t.Failures = slices.Clone(t.Failures)
	for i, e := range t.Failures {
		o.text(attemptPlace(e), &t.Failures[i].Message)
	}
	return t, o.err
}

// opening opens fields where they stand, until the first that cannot be.
type opening struct {
	*box

	err error
}

func (o *opening) json(place string, field *json.RawMessage) {
	if o.err == nil {
		*field, o.err = o.openJSON(place, *field)
	}
}

func (o *opening) text(place string, field *string) {
	if o.err == nil {
		*field, o.err = o.openText(place, *field)
	}
}
