package demo

import (
	"encoding/json"
	"testing"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestTheKindsRunOnANode(t *testing.T) {
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	Register(node)
	tests := []struct{ kind, payload, result, code string }{
		{"demo.echo", `{"n":12345678901234567890.10}`, `{"n":12345678901234567890.10}`, ""},
		{"demo.sleep", `{"duration":"10ms","steps":2}`, `{"slept":"10ms"}`, ""},
		{"demo.stream", `{"chunks":3,"interval":"0s"}`, `{"chunks":3}`, ""},
		{"demo.flaky", `{"failures":2}`, `{"attempts":3}`, ""},
		{"demo.panic", `null`, ``, task.CodePanic},
		{"demo.steps", `{}`, `{"ran_in":[1,1,1]}`, ""},
		{"demo.steps", `{"steps":2,"duration":"1ms","sleep":"1ms","wait_for":"go","timeout":"10ms"}`, ``, "no_signal"},
		{"demo.steps", `{"wait_for":"Go"}`, ``, task.CodeInvalidPayload},
		{"demo.steps", `{"sleep":"ever"}`, ``, task.CodeInvalidPayload},
		{"demo.steps", `{"wait_for":"go","timeout":"-1s"}`, ``, task.CodeInvalidPayload},
		{"demo.sleep", `{"minutes":1}`, ``, task.CodeInvalidPayload},
	}
	for _, tt := range tests {
		submitted, err := node.Submit(t.Context(), tt.kind, json.RawMessage(tt.payload), func(s *task.Spec) { s.Retry.Initial = 1 })
		if err != nil {
			t.Fatal(err)
		}
		got, err := node.Wait(t.Context(), submitted.Namespace, submitted.ID)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case tt.code == "" && string(got.Result) != tt.result:
			t.Errorf("%s %s: %s, %v", tt.kind, tt.payload, got.Result, got.Failure)
		case tt.code != "" && (got.Failure == nil || got.Failure.Code != tt.code):
			t.Errorf("%s %s: %s, %v", tt.kind, tt.payload, got.Result, got.Failure)
		}
	}
}
