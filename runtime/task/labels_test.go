package task_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestLabelsOfNodesAreChecked(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 65 {
		many[strings.Repeat("k", i+1)] = "v"
	}
	for name, labels := range map[string]map[string]string{
		"too many": many, "no key": {"": "v"}, "a comma": {"a,b": "v"}, "no value": {"zone": ""}, "a long one": {"zone": strings.Repeat("v", 257)},
	} {
		if err := task.CheckNodeLabels(labels); !errors.Is(err, task.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := task.CheckNodeLabels(map[string]string{"zone": "a", "os": "linux"}); err != nil {
		t.Error(err)
	}
}
