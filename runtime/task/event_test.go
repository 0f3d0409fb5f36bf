package task

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyEvent(t *rapid.T) Event {
	said := map[string]any{"text": rapid.String().Draw(t, "text"), "n": rapid.Float64().Draw(t, "n"), "list": rapid.SliceOf(rapid.Int()).Draw(t, "list")}
	data, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	return Event{
		Task:   ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "task")),
		Cursor: anyCursor().Draw(t, "cursor"),
		Type:   rapid.SampledFrom([]EventType{EventState, EventProgress, EventLog, EventOutput}).Draw(t, "type"),
		At:     epoch.Add(anyTime(-1e6*time.Hour, 1e6*time.Hour).Draw(t, "at")).In(time.FixedZone("", 3600)),
		Data:   data,
	}
}

func TestEventIsAppendedAsTheWireHasIt(t *testing.T) {
	type wire struct { // its twin is transport.Event
		Task   string          `json:"task"`
		Cursor string          `json:"cursor"`
		Type   EventType       `json:"type"`
		At     Time            `json:"at"`
		Data   json.RawMessage `json:"data"`
	}
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		want, err := json.Marshal(wire{e.Task.String(), e.Cursor.String(), e.Type, Time(e.At), e.Data})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.AppendJSON([]byte("in front ")); string(got) != "in front "+string(want) || !json.Valid(got[9:]) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
	if got := string(Event{Task: idA, Cursor: Cursor{1, 2}, Type: EventLog, At: epoch}.AppendJSON(nil)); got !=
		`{"task":"01000000-0000-0000-0000-00000000000a","cursor":"1.2","type":"log","at":"2026-03-01T12:00:00.000000Z","data":{}}` {
		t.Error(got)
	}
}

func TestOnlyATerminalStateEventEndsATask(t *testing.T) {
	for _, tt := range []struct {
		kind EventType
		data string
		want State
	}{
		{EventState, `{"state":"succeeded","attempt":1,"result":{"state":"running"}}`, Succeeded},
		{EventState, `{"state":"failed"}`, Failed},
		{EventState, `{"state":"cancelled"}`, Cancelled},
		{EventState, `{"state":"running"}`, 0},
		{EventState, `{"state":"queued","reason":"retry","error":{}}`, 0},
		{EventState, `{"state":"done"}`, 0},
		{EventState, `{}`, 0},
		{EventState, ``, 0},
		{EventOutput, `{"state":"succeeded"}`, 0},
	} {
		if state, over := (Event{Type: tt.kind, Data: json.RawMessage(tt.data)}).Ended(); state != tt.want || over != (tt.want != 0) {
			t.Errorf("%s %s: %v %v", tt.kind, tt.data, state, over)
		}
	}
}

func TestTimesAreWrittenInUTCWithMicroseconds(t *testing.T) {
	at := time.Date(2026, 3, 1, 1, 2, 3, 4999, time.FixedZone("", -3600))
	text, err := json.Marshal(Time(at))
	if err != nil || string(text) != `"2026-03-01T02:02:03.000004Z"` {
		t.Errorf("%s, %v", text, err)
	}
	var got Time
	if err := json.Unmarshal(text, &got); err != nil || !time.Time(got).Equal(at.Truncate(time.Microsecond)) {
		t.Errorf("%v, %v", time.Time(got), err)
	}
	if err := json.Unmarshal([]byte(`"yesterday"`), &got); err == nil {
		t.Error("yesterday is a time")
	}
}

func TestDataOfLiveEventsHasTheFieldsOfTheContract(t *testing.T) {
	half, text := 0.5, "é"
	for _, tt := range []struct {
		data any
		want string
	}{
		{ProgressData{Fraction: &half, Message: "m"}, `{"fraction":0.5,"message":"m"}`},
		{ProgressData{}, `{"fraction":null,"message":""}`},
		{LogData{Level: "info", Message: "m", Fields: json.RawMessage(`{"a":1}`)}, `{"level":"info","message":"m","fields":{"a":1}}`},
		{LogData{}, `{"level":"","message":""}`},
		{OutputData{Chunk: json.RawMessage("null")}, `{"chunk":null}`},
		{OutputData{Text: &text}, `{"text":"é"}`},
		{OutputData{Base64: []byte{0xFF}}, `{"base64":"/w=="}`},
	} {
		if got, err := json.Marshal(tt.data); err != nil || string(got) != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func TestWhatCannotBeEncodedIsADefectSaidAloud(t *testing.T) {
	defer func() {
		if said, _ := recover().(string); !strings.Contains(said, "task.StateData") {
			t.Errorf("it said %q", said)
		}
	}()
	mustJSON(StateData{Result: json.RawMessage("{")})
}

// What is written by hand is what encoding/json writes.
func TestStateDataIsEncodedAsByJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"", "node-1", `a"b`, `a\b`, "a<b", "é", "a\x7f", "\xff", "a b"})
		d := StateData{
			State: State(rapid.IntRange(int(Scheduled), int(Cancelled)).Draw(t, "state")), Attempt: rapid.IntRange(-1, 99).Draw(t, "attempt"),
			Reason: rapid.SampledFrom([]string{"", "due"}).Draw(t, "reason"), Node: name.Draw(t, "node"), Worker: name.Draw(t, "worker"),
			Result: rapid.SampledFrom([]json.RawMessage{
				nil,
				{},
				json.RawMessage(`null`), json.RawMessage(`{"a":[1,2.5e3,"x\"\\\u003c"]}`), json.RawMessage("{\"a\" :\t1}"), json.RawMessage(`"a b"`),
				json.RawMessage(`"<&>"`), json.RawMessage("\"\u2028\""), json.RawMessage(`"é"`), json.RawMessage("\"\x7f\""),
			}).Draw(t, "result"),
			Cache: rapid.SampledFrom([]CacheStatus{"", CacheHit}).Draw(t, "cache"),
		}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.encode(); string(got) != string(want) {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}
