// Package wire is the only messages that cross from node to node, and how they
// are written. Package actors sends and receives them.
//
// Every message travels as one type of the actor library's transport, a
// [anypb.Any]: the name of what is in it, and JSON. A name that a node does not
// know, because the other is newer, is counted and dropped; so is a field.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/runtime/task"
)

// Envelope is what travels: who sent what to whom. To tells a node that came
// back at the same address that it is not meant any more.
type Envelope struct {
	From task.Incarnation `json:"from"`
	To   task.Incarnation `json:"to"`
	Body json.RawMessage  `json:"body"`
}

// The messages. Sub names a subscription to whoever made it, and Token a call.
type (
	// Watch asks to be told what happens to a task behind a cursor, with Watching
	// or NotHeld and then Frames, until Unwatch.
	Watch struct {
		Sub       uint64      `json:"sub"`
		Task      task.ID     `json:"task"`
		Namespace string      `json:"namespace"`
		After     task.Cursor `json:"after"`
	}
	// Unwatch ends it.
	Unwatch struct {
		Sub uint64 `json:"sub"`
	}
	// Watching answers Watch: from here on live, or that the log must be read
	// first, or refused with Err.
	Watching struct {
		Sub    uint64  `json:"sub"`
		Live   bool    `json:"live,omitempty"`
		Err    string  `json:"err,omitempty"`
		Events []Event `json:"events,omitempty"`
	}
	// Frames is what happened, N counting from 1 for each subscription: the
	// transport may lose some.
	Frames struct {
		Sub    uint64  `json:"sub"`
		N      uint64  `json:"n"`
		Events []Event `json:"events"`
	}
	// NotHeld ends a subscription: the node does not speak for the task.
	NotHeld struct {
		Sub uint64 `json:"sub"`
	}

	// Cancel ends a task; answered with Answer once that is on disk.
	Cancel struct {
		Token     uint64  `json:"token"`
		Task      task.ID `json:"task"`
		Namespace string  `json:"namespace"`
		Reason    string  `json:"reason"`
	}
	// Explain asks why a task does not run; answered with Answer.
	Explain struct {
		Token     uint64  `json:"token"`
		Task      task.ID `json:"task"`
		Namespace string  `json:"namespace"`
	}
	// DrainWorker has a worker that is connected to the node take no more; answered
	// with Answer.
	DrainWorker struct {
		Token     uint64 `json:"token"`
		Namespace string `json:"namespace"`
		Worker    string `json:"worker"`
	}
	// Report asks what there is on a node; answered with Answer.
	Report struct {
		Token uint64 `json:"token"`
	}
	// Answer ends a call.
	Answer struct {
		Token   uint64        `json:"token"`
		Err     string        `json:"err,omitempty"`
		Waiting *task.Waiting `json:"waiting,omitempty"`
		Gauges  []task.Gauge  `json:"gauges,omitempty"`
		Workers []task.Worker `json:"workers,omitempty"`
		Stats   task.Stats    `json:"stats,omitzero"`
	}

	// Pulse is sent to every other node now and then: it lives, whether anybody
	// follows feeds on it, and which kinds of work it looks for and finds none of.
	Pulse struct {
		Follows bool           `json:"follows,omitempty"`
		Hungry  []string       `json:"hungry,omitempty"`
		Served  []task.Served  `json:"served,omitempty"`  // by its workers elsewhere, of the same
		Running int            `json:"running,omitempty"` // attempts
		Room    task.Resources `json:"room,omitempty"`    // if it is hungry: what attempts may hold in all
	}
	// Work says that there are tasks of these kinds that nobody holds.
	Work struct {
		Kinds []string `json:"kinds"`
	}
	// Settings says that something was set for the whole cluster, and is to be read.
	Settings struct{}
	// Happened is what was stored of a task, for feeds on other nodes, and as much
	// of the task as they choose by. N counts from 1 for each node it goes to.
	Happened struct {
		N      uint64  `json:"n"`
		Task   Brief   `json:"task"`
		Events []Event `json:"events"`
	}
)

// IsHungry says whether the node has room and finds no work.
func (p Pulse) IsHungry() bool { return len(p.Hungry)+len(p.Served) > 0 }

// Brief is what a filter looks at.
type Brief struct {
	ID        task.ID           `json:"id"`
	Namespace string            `json:"namespace"`
	Kind      string            `json:"kind"`
	Queue     string            `json:"queue"`
	Labels    map[string]string `json:"labels,omitempty"`
	Batch     task.ID           `json:"batch"`
	State     task.State        `json:"state"`
	Created   time.Time         `json:"created"`
}

// BriefOf takes from a task what a filter looks at.
func BriefOf(t task.Task) Brief {
	return Brief{
		ID: t.ID, Namespace: t.Namespace, Kind: t.Kind, Queue: t.Queue, Labels: t.Labels, Batch: t.BatchID,
		State: t.State, Created: t.Created,
	}
}

// Task is a task of which only this much is known.
func (b Brief) Task() task.Task {
	return task.Task{
		Spec:  task.Spec{ID: b.ID, Namespace: b.Namespace, Kind: b.Kind, Queue: b.Queue, Labels: b.Labels, BatchID: b.Batch},
		State: b.State, Created: b.Created,
	}
}

// Event is an event of the task that its message is about.
type Event struct {
	Cursor task.Cursor     `json:"cursor"`
	Type   task.EventType  `json:"type"`
	At     time.Time       `json:"at"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// EventsOf writes events.
func EventsOf(events []task.Event) []Event {
	out := make([]Event, len(events))
	for i, e := range events {
		out[i] = Event{Cursor: e.Cursor, Type: e.Type, At: e.At, Data: e.Data}
	}
	return out
}

// EventsFor reads events of a task.
func EventsFor(id task.ID, events []Event) []task.Event {
	out := make([]task.Event, len(events))
	for i, e := range events {
		out[i] = task.Event{Task: id, Cursor: e.Cursor, Type: e.Type, At: e.At, Data: e.Data}
	}
	return out
}

// ErrUnknown says that a message has a name we do not know.
var ErrUnknown = errors.New("unknown message")

const prefix = "troupe/"

// Pack writes a message, one of those above.
func Pack(from, to task.Incarnation, m any) (*anypb.Any, error) {
	name := nameOf(m)
	if name == "" {
		return nil, fmt.Errorf("%w: %T", ErrUnknown, m)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	raw, err := json.Marshal(Envelope{From: from, To: to, Body: body})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return &anypb.Any{TypeUrl: prefix + name, Value: raw}, nil
}

// Unpack reads a message: one of those above, by value.
func Unpack(a *anypb.Any) (from, to task.Incarnation, m any, err error) {
	var e Envelope
	if err := json.Unmarshal(a.GetValue(), &e); err != nil {
		return 0, 0, nil, fmt.Errorf("read %q: %w", a.GetTypeUrl(), err)
	}
	read, ok := readers[a.GetTypeUrl()]
	if !ok {
		return e.From, e.To, nil, fmt.Errorf("%w: %q", ErrUnknown, a.GetTypeUrl())
	}
	m, err = read(e.Body)
	return e.From, e.To, m, err
}

func nameOf(m any) string {
	switch m.(type) {
	case Watch:
		return "watch"
	case Unwatch:
		return "unwatch"
	case Watching:
		return "watching"
	case Frames:
		return "frames"
	case NotHeld:
		return "notheld"
	case Cancel:
		return "cancel"
	case Explain:
		return "explain"
	case DrainWorker:
		return "drainworker"
	case Report:
		return "report"
	case Answer:
		return "answer"
	case Pulse:
		return "pulse"
	case Work:
		return "work"
	case Settings:
		return "settings"
	case Happened:
		return "happened"
	}
	return ""
}

var readers = map[string]func([]byte) (any, error){
	prefix + "watch":       read[Watch],
	prefix + "unwatch":     read[Unwatch],
	prefix + "watching":    read[Watching],
	prefix + "frames":      read[Frames],
	prefix + "notheld":     read[NotHeld],
	prefix + "cancel":      read[Cancel],
	prefix + "explain":     read[Explain],
	prefix + "drainworker": read[DrainWorker],
	prefix + "report":      read[Report],
	prefix + "answer":      read[Answer],
	prefix + "pulse":       read[Pulse],
	prefix + "work":        read[Work],
	prefix + "settings":    read[Settings],
	prefix + "happened":    read[Happened],
}

func read[M any](raw []byte) (any, error) {
	var m M
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("read %T: %w", m, err)
	}
	return m, nil
}

// crossing lists the errors that keep their meaning from node to node.
var crossing = []error{
	task.ErrNotFound, task.ErrStale, task.ErrTerminal, task.ErrNotTerminal, task.ErrUnavailable, task.ErrUnreachable, task.ErrUnknown,
	task.ErrClosed, task.ErrCursorAhead, task.ErrNoWorker,
}

// ErrorText writes an error; nothing internal is in it.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	for _, known := range crossing {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return task.ErrUnavailable.Error()
}

// ErrorOf reads what ErrorText wrote.
func ErrorOf(text string) error {
	if text == "" {
		return nil
	}
	for _, known := range crossing {
		if known.Error() == text {
			return known
		}
	}
	return task.ErrUnavailable
}
