package sql

import (
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestRegister(t *testing.T) {
	s := open(t, Config{})
	node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	opened(t, Config{}).Register(node)
	if stats, err := node.Workers(t.Context(), task.DefaultNamespace); err != nil || len(stats) > 0 && strings.Contains(strings.Join(stats[0].Kinds, " "), "sql") {
		t.Errorf("the kind is there without a source: %+v, %v", stats, err)
	}
	s.Register(node)
	for source, want := range map[string]task.State{"pg": task.Succeeded, "lite": task.Succeeded, "none": task.Failed} {
		submitted, err := node.Submit(t.Context(), "sql", map[string]any{"source": source, "query": "select id, name from people order by id"})
		if err != nil {
			t.Fatal(err)
		}
		ended, err := node.Wait(t.Context(), task.DefaultNamespace, submitted.ID)
		if err != nil || ended.State != want {
			t.Fatalf("%s: %+v, %v", source, ended, err)
		}
		if want == task.Succeeded && !strings.Contains(string(ended.Result), `"rows":3`) {
			t.Errorf("%s: %s", source, ended.Result)
		}
	}
}
