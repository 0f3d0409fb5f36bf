package actors

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestEventsAndDetailsAreRedactedAndResultsAreNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New(), func(c *Config) {
			c.Redact = func(raw json.RawMessage) json.RawMessage {
				return bytes.ReplaceAll(raw, []byte("secret"), []byte("***"))
			}
		})
		said := json.RawMessage(`{"a":"secret"}`)
		original := &task.Failure{Code: "odd", Message: "no", Details: said}
		n.Handle("leak", func(_ context.Context, j *Job) (json.RawMessage, error) {
			if err := j.Log("info", "said", said); err != nil {
				return nil, err
			}
			if err := j.Emit(said); err != nil {
				return nil, err
			}
			if string(j.Task.Payload) == `"secret"` {
				return j.Task.Payload, nil
			}
			return nil, original
		})
		well := submitOne(t, n, "leak", `"secret"`)
		for _, e := range followTask(t, n, well.ID, nil) {
			if _, over := e.Ended(); strings.Contains(string(e.Data), "secret") != over {
				t.Errorf("event %s", e.Data)
			}
		}
		if row := awaitState(t, n, well.ID, task.Succeeded); string(row.Payload) != `"secret"` || string(row.Result) != `"secret"` {
			t.Errorf("payload %s, result %s", row.Payload, row.Result)
		}
		badly := submitOne(t, n, "leak", `0`)
		for _, e := range followTask(t, n, badly.ID, nil) {
			if strings.Contains(string(e.Data), "secret") {
				t.Errorf("event %s", e.Data)
			}
		}
		if row := awaitState(t, n, badly.ID, task.Failed); string(row.Failure.Details) != `{"a":"***"}` || string(original.Details) != string(said) {
			t.Errorf("details %s, and of the handler's own %s", row.Failure.Details, original.Details)
		}
	})
}
