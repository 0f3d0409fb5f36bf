package task

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Time is a [time.Time] that is written the way everybody outside reads it:
// RFC 3339 in UTC with microseconds.
type Time time.Time

const timeLayout = "2006-01-02T15:04:05.000000Z"

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, `"`+timeLayout+`"`), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Time) UnmarshalJSON(b []byte) error { return (*time.Time)(t).UnmarshalJSON(b) }

// EventType says what an event tells.
type EventType string

// The four types of events. State events are durable before anyone sees them;
// the others are seen first and stored a moment later.
const (
	EventState    EventType = "state"
	EventProgress EventType = "progress"
	EventLog      EventType = "log"
	EventOutput   EventType = "output"
)

// Event is one entry of a task's log.
type Event struct {
	Task   ID
	Cursor Cursor
	Type   EventType
	At     time.Time
	Data   json.RawMessage // an object: StateData, ProgressData, LogData or OutputData, by type
}

// AppendJSON appends the event as the wire has it:
// {"task","cursor","type","at","data"}.
func (e Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"task":"`...)
	b = append(b, e.Task.String()...)
	b = append(b, `","cursor":"`...)
	b = append(b, e.Cursor.String()...)
	b = append(b, `","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","at":"`...)
	b = e.At.UTC().AppendFormat(b, timeLayout)
	b = append(b, `","data":`...)
	if len(e.Data) == 0 {
		b = append(b, "{}"...)
	}
	b = append(b, e.Data...)
	return append(b, '}')
}

// StateData is the data of a state event.
type StateData struct {
	State   State           `json:"state"`
	Attempt int             `json:"attempt"`
	Reason  string          `json:"reason,omitempty"`
	Node    string          `json:"node,omitempty"`
	Worker  string          `json:"worker,omitempty"`
	RunAt   *Time           `json:"run_at,omitempty"` // of scheduled: when it will be queued
	Signal  string          `json:"signal,omitempty"` // of blocked: what it waits for; of queued: what it waited for
	Until   *Time           `json:"until,omitempty"`  // of blocked: how long it waits for a signal
	Result  json.RawMessage `json:"result,omitempty"`
	Cache   CacheStatus     `json:"cache,omitempty"` // of a result of a task with a cache
	Error   *Failure        `json:"error,omitempty"`
}

// encode gives what [json.Marshal] does. Every task has two or three of these, nearly all
// as plain as what is written here.
func (d StateData) encode() json.RawMessage {
	if d.Reason != "" || d.RunAt != nil || d.Signal != "" || d.Until != nil || d.Cache != "" || d.Error != nil ||
		!plain(d.Node, notInNames) || !plain(d.Worker, notInNames) || !plain(d.Result, notInJSON) {
		return mustJSON(d)
	}
	state := d.State.String()
	b := make([]byte, 0, 64+len(state)+len(d.Node)+len(d.Worker)+len(d.Result))
	b = append(append(append(b, `{"state":"`...), state...), `","attempt":`...)
	b = strconv.AppendInt(b, int64(d.Attempt), 10)
	if d.Node != "" {
		b = append(append(append(b, `,"node":"`...), d.Node...), '"')
	}
	if d.Worker != "" {
		b = append(append(append(b, `,"worker":"`...), d.Worker...), '"')
	}
	if len(d.Result) > 0 {
		b = append(append(b, `,"result":`...), d.Result...)
	}
	return append(b, '}')
}

// What encoding/json writes otherwise than it stands, beside what is not printable ASCII:
// in a string, and in JSON, where it leaves spaces out.
const (
	notInNames = `"\<>&`
	notInJSON  = ` <>&`
)

func plain[T string | json.RawMessage](s T, special string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(special, c) >= 0 {
			return false
		}
	}
	return true
}

// Progress is how far an attempt has come.
type Progress struct {
	Fraction *float64 // 0 to 1, or nil where nobody can tell
	Message  string
	At       time.Time
}

// ProgressData is the data of a progress event.
type ProgressData struct {
	Fraction *float64 `json:"fraction"`
	Message  string   `json:"message"`
}

// LogData is the data of a log event. Level is debug, info, warn or error.
type LogData struct {
	Level   string          `json:"level"`
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields,omitempty"`
}

// OutputData is the data of an output event: exactly one of the three.
type OutputData struct {
	Chunk  json.RawMessage `json:"chunk,omitempty"`  // any JSON
	Text   *string         `json:"text,omitempty"`   // valid UTF-8
	Base64 []byte          `json:"base64,omitempty"` // anything else
}

// Ended says whether e is the state event of a terminal state, and of which.
func (e Event) Ended() (State, bool) {
	if e.Type != EventState {
		return 0, false
	}
	var d struct {
		State State `json:"state"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil || !d.State.Terminal() {
		return 0, false
	}
	return d.State, true
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		// Everything given here is built of our own types and checked JSON.
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}
