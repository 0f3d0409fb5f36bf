package container

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestContainersRunOnANode(t *testing.T) {
	e := newEngine(t)
	e.program = func(out, errs io.Writer, _, _ <-chan struct{}) int {
		_, _ = io.WriteString(out, "one\n")
		_, _ = io.WriteString(errs, "two\n")
		return 3
	}
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	images, err := ParseImages([]string{"alpine"})
	if err != nil {
		t.Fatal(err)
	}
	kind, err := Register(node, Config{Engine: e.address, Images: images})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); kind.Run(ctx) }()
	defer func() { stop(); <-ended }()

	submit := func() task.Task {
		t.Helper()
		submitted, err := node.Submit(t.Context(), "container", map[string]any{"image": "alpine:3"}, func(s *task.Spec) { s.MaxAttempts = 1 })
		if err != nil {
			t.Fatal(err)
		}
		return submitted
	}
	run := submit()
	var events []string
	for event, err := range node.Watch(t.Context(), run.Namespace, run.ID, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == task.EventOutput || event.Type == task.EventLog {
			events = append(events, string(event.Data))
		}
	}
	said := strings.Join(events, " ")
	if len(events) != 2 || !strings.Contains(said, `{"text":"one\n"}`) || !strings.Contains(said, `{"level":"info","message":"two","fields":{"stream":"stderr"}}`) {
		t.Errorf("events: %s", said)
	}
	got, err := node.Wait(t.Context(), run.Namespace, run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Failure == nil || got.Failure.Code != "exit_status" || string(got.Failure.Details) != `{"exit_status":3}` {
		t.Errorf("ended with %+v", got.Failure)
	}
	var made struct{ Labels map[string]string }
	if err := json.Unmarshal([]byte(e.created[0]), &made); err != nil {
		t.Fatal(err)
	}
	if a, ok := attemptOf(made.Labels); !ok || a != (attempt{run.Namespace, run.ID.String(), 1}) {
		t.Errorf("its labels are %v", made.Labels)
	}

	e.mu.Lock()
	e.program = waits
	e.mu.Unlock()
	run = submit()
	for event, err := range node.Watch(t.Context(), run.Namespace, run.ID, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == task.EventOutput {
			if _, err := node.Cancel(t.Context(), run.Namespace, run.ID, "enough"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err = node.Wait(t.Context(), run.Namespace, run.ID); err != nil || got.State != task.Cancelled {
		t.Errorf("cancelled, it ended with %s, %v", got.State, err)
	}
	if err := kind.sweep(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestThereIsNoEngineUnlessNamed(t *testing.T) {
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	kind, err := Register(node, Config{})
	if err != nil {
		t.Fatal(err)
	}
	kind.Run(t.Context()) // returns, for there is nothing to do
	submitted, err := node.Submit(t.Context(), "container", map[string]any{"image": "alpine:3"})
	if err != nil {
		t.Fatal(err)
	}
	why, err := node.Explain(t.Context(), submitted.Namespace, submitted.ID)
	if err != nil || why.Waiting == nil || why.Waiting.Reason != task.WaitsForHandler {
		t.Errorf("it waits for %+v, %v", why.Waiting, err)
	}
	if _, err := Register(node, Config{Engine: "unix:///x"}); err == nil {
		t.Error("an engine without images was taken")
	}
}
