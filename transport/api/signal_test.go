package api

import (
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestSignalIsPassedOnAsItCame(t *testing.T) {
	f := newFront(Config{Limits: task.Limits{Event: 50}})
	f.tasks.add(task.Spec{Kind: "k"})
	path := "/v1/tasks/" + id(1).String() + "/signals/go"
	for i, tt := range []struct{ body, want string }{
		{"", ""}, {" \n", ""}, {`{"n": 1.50}`, `{"n": 1.50}`}, {` "text" `, `"text"`}, {`null`, `null`},
	} {
		r := f.do(t, "POST", path, tt.body).want(t, 202)
		if got := string(r.body); !strings.Contains(got, `{"task":"`+id(1).String()+`","signal":"go"}`) {
			t.Errorf("%s", got)
		}
		if got := f.tasks.signals[i]; got.Name != "go" || string(got.Data) != tt.want || !got.ID.IsZero() {
			t.Errorf("%q came as %+v", tt.body, got)
		}
	}
}

func TestSignalsAreKnownByTheirKeys(t *testing.T) {
	f := newFront(Config{})
	f.tasks.add(task.Spec{Kind: "k"})
	f.tasks.add(task.Spec{Kind: "k"})
	seen := map[task.ID]bool{}
	for _, n := range []int{1, 2} {
		for _, key := range []string{"a", "b", "a"} {
			f.do(t, "POST", "/v1/tasks/"+id(n).String()+"/signals/go", "1", "Idempotency-Key", key).want(t, 202)
		}
	}
	for _, s := range f.tasks.signals {
		seen[s.ID] = true
	}
	if len(seen) != 4 || seen[task.ID{}] {
		t.Errorf("%d ids: %v", len(seen), seen)
	}
	f.tasks.signal = task.ErrKeyReused
	r := f.do(t, "POST", "/v1/tasks/"+id(1).String()+"/signals/go", "2", "Idempotency-Key", "a").want(t, 422)
	if p := r.problem(t); p.Code != "idempotency_key_reused" {
		t.Errorf("%s", r.body)
	}
}

func TestSignalThatCannotBeIsRefused(t *testing.T) {
	f := newFront(Config{Limits: task.Limits{Event: 50}})
	f.tasks.add(task.Spec{Kind: "k"})
	f.tasks.add(task.Spec{Kind: "k"})
	f.tasks.start(id(2))
	f.tasks.succeed(id(2), "1")
	one := "/v1/tasks/" + id(1).String()
	for _, tt := range []struct {
		path, body string
		headers    []string
		status     int
		code       string
	}{
		{path: "/v1/tasks/x/signals/go", status: 422, code: "invalid_request"},
		{path: one + "/signals/GO", status: 422, code: "invalid_request"},
		{path: one + "/signals/go", body: `"` + strings.Repeat("x", 50) + `"`, status: 413, code: "payload_too_large"},
		{path: one + "/signals/go", body: `{`, status: 400, code: "malformed_json"},
		{path: one + "/signals/go", body: `1`, headers: []string{"Content-Type", "text/plain"}, status: 415, code: "unsupported_media_type"},
		{path: one + "/signals/go", headers: []string{"Idempotency-Key", "\t\x7f"}, status: 422, code: "invalid_request"},
		{path: "/v1/tasks/" + id(9).String() + "/signals/go", status: 404, code: "task_not_found"},
		{path: "/v1/tasks/" + id(2).String() + "/signals/go", status: 409, code: "task_ended"},
	} {
		r := f.do(t, "POST", tt.path, tt.body, tt.headers...).want(t, tt.status)
		if got := r.problem(t).Code; got != tt.code {
			t.Errorf("%s %s: %s", tt.path, tt.body, r.body)
		}
	}
	if len(f.tasks.signals) != 0 {
		t.Errorf("%+v", f.tasks.signals)
	}
}
