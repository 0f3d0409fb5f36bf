package llm

import (
	"net/http"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// The whole of it on a node: a provider that is busy twice costs no attempt, and
// its key is nowhere.
func TestRegister(t *testing.T) {
	asked := 0
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked <= 2 {
			w.Header().Set("Retry-After", "0")
			w.Header().Set("X-Key", canary)
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"error":{"message":"not with ` + canary + `"}}`))
			return
		}
		answering("Be", "cause ", canary)(w, r)
	})
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	open(t, Config{}).Register(node) // nobody to ask: no kind
	p.models(t, Config{}).Register(node)
	submitted, err := node.Submit(t.Context(), "llm", asking("anthropic"), func(s *task.Spec) { s.MaxAttempts = 1 })
	if err != nil {
		t.Fatal(err)
	}
	ended, err := node.Wait(t.Context(), task.DefaultNamespace, submitted.ID)
	if err != nil || ended.State != task.Succeeded || ended.Attempt != 3 || len(ended.Failures) != 0 {
		t.Fatalf("%+v, %v", ended, err)
	}
	if !strings.Contains(string(ended.Result), `"text":"Because ***"`) || strings.Contains(string(ended.Result), canary) {
		t.Errorf("%s", ended.Result)
	}
	events, err := node.Events(t.Context(), task.DefaultNamespace, submitted.ID, task.Cursor{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	waited := 0
	for _, e := range events {
		if strings.Contains(string(e.Data), canary) {
			t.Errorf("%s", e.Data)
		}
		if strings.Contains(string(e.Data), "the provider is busy") {
			waited++
		}
	}
	if waited != 2 {
		t.Errorf("%d waits in the log", waited)
	}
}
