package wire_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/actors/wire"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	id := task.ID{1, 2, 3}
	events := wire.EventsOf([]task.Event{
		{Task: id, Cursor: task.Cursor{Attempt: 2, Seq: 7}, Type: task.EventOutput, At: at, Data: json.RawMessage(`{"text":"x"}`)},
	})
	brief := wire.BriefOf(task.Task{
		Spec:  task.Spec{ID: id, Namespace: "n", Kind: "k", Queue: "q", Labels: map[string]string{"a": "b"}, BatchID: task.ID{9}},
		State: task.Running, Created: at,
	})
	for _, m := range []any{
		wire.Watch{Sub: 1, Task: id, Namespace: "n", After: task.Cursor{Attempt: 1, Seq: 2}},
		wire.Unwatch{Sub: 2},
		wire.Watching{Sub: 3, Live: true, Err: "e", Events: events},
		wire.Frames{Sub: 4, N: 5, Events: events},
		wire.NotHeld{Sub: 6},
		wire.Cancel{Token: 7, Task: id, Namespace: "n", Reason: "r"},
		wire.Explain{Token: 8, Task: id, Namespace: "n"},
		wire.Answer{Token: 9, Waiting: &task.Waiting{Reason: "resources", Resource: "gpu", Needed: 1500, Free: 2, Position: 3, Until: at, ExpectedStart: at}},
		wire.Pulse{Follows: true, Hungry: []string{"k"}, Running: 3, Room: task.Resources{"cpu": 1500}},
		wire.Work{Kinds: []string{"k"}},
		wire.Settings{},
		wire.Report{Token: 3},
		wire.Happened{N: 1, Task: brief, Events: events},
	} {
		packed, err := wire.Pack(11, 22, m)
		if err != nil {
			t.Fatal(err)
		}
		from, to, got, err := wire.Unpack(packed)
		if err != nil || from != 11 || to != 22 || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v arrives as %+v from %d to %d: %v", m, got, from, to, err)
		}
	}
	if back := wire.BriefOf(brief.Task()); !reflect.DeepEqual(back, brief) {
		t.Errorf("%+v is %+v", brief, back)
	}
	if back := wire.EventsFor(id, events)[0]; back.Task != id || !back.At.Equal(at) {
		t.Errorf("the event is %+v", back)
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	if _, err := wire.Pack(1, 2, "text"); !errors.Is(err, wire.ErrUnknown) {
		t.Errorf("packed: %v", err)
	}
	good, err := wire.Pack(1, 2, wire.Pulse{})
	if err != nil {
		t.Fatal(err)
	}
	newer := &anypb.Any{TypeUrl: "troupe/newer", Value: good.GetValue()}
	if from, to, _, err := wire.Unpack(newer); !errors.Is(err, wire.ErrUnknown) || from != 1 || to != 2 {
		t.Errorf("a newer message: %v", err)
	}
	for _, bad := range []string{"", "{", `{"from":1,"to":2,"body":[]}`} {
		if _, _, _, err := wire.Unpack(&anypb.Any{TypeUrl: good.GetTypeUrl(), Value: []byte(bad)}); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	for err, want := range map[error]error{
		nil:                  nil,
		task.ErrNotFound:     task.ErrNotFound,
		task.ErrTerminal:     task.ErrTerminal,
		task.ErrStale:        task.ErrStale,
		errors.New("secret"): task.ErrUnavailable,
	} {
		if got := wire.ErrorOf(wire.ErrorText(err)); !errors.Is(got, want) {
			t.Errorf("%v arrives as %v", err, got)
		}
	}
	if err := wire.ErrorOf("of a newer version"); !errors.Is(err, task.ErrUnavailable) {
		t.Error(err)
	}
}
