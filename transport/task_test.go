package transport

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/task"
)

var (
	epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	idA   = task.ID{0: 1, 15: 0xA}
	idB   = task.ID{0: 1, 15: 0xB}
)

func indented(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTaskLooksAsTheContractSays(t *testing.T) {
	half := 0.5
	full := task.Task{
		Spec: task.Spec{
			ID: idA, Namespace: "acme", Kind: "demo.echo", Queue: "mail", Priority: -5, Payload: json.RawMessage(`{"n":1.10}`),
			Resources: task.Resources{"cpu": 1500, "memory": 512 << 20 * 1000, "slots": 0}, Labels: map[string]string{"a": "b"},
			RunAt: epoch.Add(time.Microsecond), Timeout: 90 * time.Second, Deadline: epoch.Add(time.Hour).In(time.FixedZone("", 3600)),
			MaxAttempts: 3, Retry: task.DefaultRetry, UniqueKey: "u", BatchID: idB,
			Cache: task.Cache{Key: "c", TTL: time.Hour},
		},
		Cached: task.CacheShared,
		State:  task.Failed, Attempt: 2, Forgiven: 1, Crashes: 1, Suspect: true, Holder: 77, Node: "n1", Worker: "w1",
		Cursor: task.Cursor{Attempt: 2, Seq: 9}, LogStart: task.Cursor{Attempt: 1, Seq: 3},
		Progress:   &task.Progress{Fraction: &half, Message: "half", At: epoch},
		Checkpoint: json.RawMessage(`"secret"`), Result: json.RawMessage(`[1.0]`),
		Failure:  &task.Failure{Code: "x", Message: "y", Retryable: true, Details: json.RawMessage(`{"a":1}`)},
		Failures: []task.AttemptError{{Attempt: 1, Code: "c", Message: "m", At: task.Time(epoch), Node: "n0"}},
		Created:  epoch, Ready: epoch, Started: epoch.Add(time.Second), Finished: epoch.Add(2 * time.Second),
	}
	const want = `{
  "id": "01000000-0000-0000-0000-00000000000a",
  "namespace": "acme",
  "kind": "demo.echo",
  "queue": "mail",
  "priority": -5,
  "payload": {
    "n": 1.10
  },
  "resources": {
    "cpu": "1500m",
    "memory": "512Mi",
    "slots": 0
  },
  "labels": {
    "a": "b"
  },
  "run_at": "2026-03-01T12:00:00.000001Z",
  "timeout": "1m30s",
  "deadline": "2026-03-01T13:00:00.000000Z",
  "max_attempts": 3,
  "retry": {
    "initial": "1s",
    "factor": 2,
    "max": "1h0m0s",
    "jitter": 0.2
  },
  "unique_key": "u",
  "batch_id": "01000000-0000-0000-0000-00000000000b",
  "cache": {
    "key": "c",
    "ttl": "1h0m0s",
    "status": "shared"
  },
  "state": "failed",
  "attempt": 2,
  "progress": {
    "fraction": 0.5,
    "message": "half",
    "at": "2026-03-01T12:00:00.000000Z"
  },
  "result": [
    1.0
  ],
  "error": {
    "code": "x",
    "message": "y",
    "retryable": true,
    "details": {
      "a": 1
    }
  },
  "errors": [
    {
      "attempt": 1,
      "code": "c",
      "message": "m",
      "at": "2026-03-01T12:00:00.000000Z",
      "node": "n0"
    }
  ],
  "node": "n1",
  "worker": "w1",
  "cursor": "2.9",
  "created_at": "2026-03-01T12:00:00.000000Z",
  "started_at": "2026-03-01T12:00:01.000000Z",
  "finished_at": "2026-03-01T12:00:02.000000Z"
}`
	if diff := cmp.Diff(want, indented(t, View(full))); diff != "" {
		t.Error(diff)
	}
}

func TestTaskHasNoFieldsItHasNoValueFor(t *testing.T) {
	spec, err := task.Limits{}.Check(task.Spec{ID: idA, Kind: "a"}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "id": "01000000-0000-0000-0000-00000000000a",
  "namespace": "default",
  "kind": "a",
  "queue": "default",
  "priority": 0,
  "payload": null,
  "resources": {
    "slots": 1
  },
  "max_attempts": 3,
  "retry": {
    "initial": "1s",
    "factor": 2,
    "max": "1h0m0s",
    "jitter": 0.2
  },
  "state": "queued",
  "attempt": 0,
  "cursor": "0.1",
  "created_at": "2026-03-01T12:00:00.000000Z"
}`
	if diff := cmp.Diff(want, indented(t, View(task.New(spec, epoch, 1).Task))); diff != "" {
		t.Error(diff)
	}
}

func TestWaitingLooksAsTheContractSays(t *testing.T) {
	for _, tt := range []struct {
		waiting *task.Waiting
		want    string
	}{
		{nil, `null`},
		{
			&task.Waiting{Reason: task.WaitsForResource, Resource: "gpu", Needed: 1000, Position: 3},
			`{"reason":"resources","resource":"gpu","needed":1,"free":0,"position":3}`,
		},
		{&task.Waiting{Reason: task.WaitsForTime, Until: epoch}, `{"reason":"time","until":"2026-03-01T12:00:00.000000Z"}`},
		{&task.Waiting{Reason: task.WaitsForSticky, Node: "n1"}, `{"reason":"sticky","node":"n1"}`},
		{&task.Waiting{Reason: task.WaitsForPlacement, Require: `{"zone":["a"]}`}, `{"reason":"placement","require":{"zone":"a"}}`},
		{&task.Waiting{Reason: task.WaitsForReserved, ExpectedStart: epoch}, `{"reason":"reservation","expected_start":"2026-03-01T12:00:00.000000Z"}`},
		{&task.Waiting{Reason: task.WaitsPaused}, `{"reason":"paused"}`},
	} {
		if got, err := json.Marshal(ViewWaiting(tt.waiting)); err != nil || string(got) != tt.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
		}
	}
}

func TestEventsLookTheSameOverEveryWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(map[string]string{"text": rapid.String().Draw(t, "text")})
		if err != nil {
			t.Fatal(err)
		}
		e := task.Event{
			Task:   task.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "task")),
			Cursor: task.Cursor{Attempt: rapid.IntRange(0, 9).Draw(t, "attempt"), Seq: rapid.IntRange(1, 99).Draw(t, "seq")},
			Type:   rapid.SampledFrom([]task.EventType{task.EventState, task.EventOutput}).Draw(t, "type"),
			At:     epoch.Add(time.Duration(rapid.Int64().Draw(t, "at"))),
			Data:   data,
		}
		view, err := json.Marshal(ViewEvent(e))
		if err != nil {
			t.Fatal(err)
		}
		if frame := e.AppendJSON(nil); !bytes.Equal(frame, view) {
			t.Fatalf("a frame has  %s\nan answer has %s", frame, view)
		}
	})
}
