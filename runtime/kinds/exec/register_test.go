//go:build unix

package exec

import (
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestCommandsRunOnANode(t *testing.T) {
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	Register(node, Config{Allow: true})
	submit := func(argv ...string) task.Task {
		t.Helper()
		submitted, err := node.Submit(t.Context(), "exec", map[string]any{"command": argv}, func(s *task.Spec) { s.MaxAttempts = 1 })
		if err != nil {
			t.Fatal(err)
		}
		return submitted
	}

	run := submit("sh", "-c", `printf 'one\ntwo\377\n'; echo three >&2; exit 3`)
	var output, logs []string
	for event, err := range node.Watch(t.Context(), run.Namespace, run.ID, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == task.EventOutput {
			output = append(output, string(event.Data))
		}
		if event.Type == task.EventLog {
			logs = append(logs, string(event.Data))
		}
	}
	if got := strings.Join(output, " "); got != `{"text":"one\n"} {"base64":"dHdv/wo="}` {
		t.Errorf("output: %s", got)
	}
	if got := strings.Join(logs, " "); got != `{"level":"info","message":"three","fields":{"stream":"stderr"}}` {
		t.Errorf("log: %s", got)
	}
	ended, err := node.Wait(t.Context(), run.Namespace, run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ended.Failure == nil || ended.Failure.Code != "exit_status" || string(ended.Failure.Details) != `{"exit_status":3}` {
		t.Errorf("ended with %+v", ended.Failure)
	}

	pipe := fifo(t)
	run = submit("sh", "-c", "exec 3>"+pipe+"; echo open; sleep 1000")
	dead := make(chan struct{})
	go func() { defer close(dead); awaitDeath(t, pipe) }()
	for event, err := range node.Watch(t.Context(), run.Namespace, run.ID, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == task.EventOutput { // before that there is nobody to wait for at the pipe
			if _, err := node.Cancel(t.Context(), run.Namespace, run.ID, "enough"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ended, err = node.Wait(t.Context(), run.Namespace, run.ID); err != nil || ended.State != task.Cancelled {
		t.Errorf("cancelled, it ended with %s, %v", ended.State, err)
	}
	<-dead
}

func TestCommandsAreOffUnlessAllowed(t *testing.T) {
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	Register(node, Config{})
	submitted, err := node.Submit(t.Context(), "exec", map[string]any{"command": []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	why, err := node.Explain(t.Context(), submitted.Namespace, submitted.ID)
	if err != nil || why.Waiting == nil || why.Waiting.Reason != task.WaitsForHandler {
		t.Errorf("it waits for %+v, %v", why.Waiting, err)
	}
}
