package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

// internal stands for a sentinel that no caller of the API can do anything
// about: whoever may send outsiders such an error says it in other words.
const internal = "internal"

var codes = map[string]struct {
	err    error
	status int
	code   string
}{
	"ErrInvalid":        {task.ErrInvalid, 500, internal},
	"ErrNotFound":       {task.ErrNotFound, 404, "task_not_found"},
	"ErrExists":         {task.ErrExists, 409, "task_exists"},
	"ErrKeyReused":      {task.ErrKeyReused, 422, "idempotency_key_reused"},
	"ErrStale":          {task.ErrStale, 409, "task_changed"},
	"ErrTerminal":       {task.ErrTerminal, 409, "task_ended"},
	"ErrNotTerminal":    {task.ErrNotTerminal, 409, "task_not_ended"},
	"ErrParked":         {task.ErrParked, 500, internal},
	"ErrTooManySignals": {task.ErrTooManySignals, 429, "too_many_signals"},
	"ErrTooFast":        {task.ErrTooFast, 429, "rate_limited"},
	"ErrTooLate":        {task.ErrTooLate, 503, "deadline_unreachable"},
	"ErrQuota":          {task.ErrQuota, 429, "quota_exceeded"},
	"ErrQueueFull":      {task.ErrQueueFull, 429, "queue_full"},
	"ErrUnavailable":    {task.ErrUnavailable, 503, "store_unavailable"},
	"ErrUnreachable":    {task.ErrUnreachable, 503, "node_unreachable"},
	"ErrUnknown":        {task.ErrUnknown, 503, "outcome_unknown"},
	"ErrClosed":         {task.ErrClosed, 503, "shutting_down"},
	"ErrCursorAhead":    {task.ErrCursorAhead, 409, "cursor_ahead"},
	"ErrLogFull":        {task.ErrLogFull, 500, internal},
	"ErrHasCallback":    {task.ErrHasCallback, 409, "callback_exists"},
	"ErrNoWorker":       {task.ErrNoWorker, 404, "worker_not_found"},
	"ErrNoSchedule":     {task.ErrNoSchedule, 404, "schedule_not_found"},
	"ErrScheduled":      {task.ErrScheduled, 409, "schedule_exists"},
}

func TestEveryErrorOfTheDomainHasAStableCode(t *testing.T) {
	seen := map[string]bool{}
	for name, want := range codes {
		const secret = "SELECT body FROM tasks /var/lib"
		p, inside := ProblemOf(fmt.Errorf("%s: %w", secret, want.err))
		if p.Status != want.status || p.Code != want.code || inside != (want.code == internal) {
			t.Errorf("%s is %d %s, internal %v", name, p.Status, p.Code, inside)
		}
		if seen[p.Code] && p.Code != internal {
			t.Errorf("%s shares the code %s", name, p.Code)
		}
		seen[p.Code] = true
		text, err := json.Marshal(p)
		if err != nil || strings.Contains(string(text), "SELECT") || strings.Contains(string(text), "/var") {
			t.Errorf("%s says too much: %s, %v", name, text, err)
		}
		if p.Type != "/docs/problems#"+p.Code || p.Title != http.StatusText(p.Status) || p.Detail == "" {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestNoErrorOfTheDomainIsForgotten(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../runtime/task/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range file.Decls {
		if decl, ok := d.(*ast.GenDecl); ok && decl.Tok == token.VAR {
			for _, spec := range decl.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(codes)), names); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownErrorsLeakNothing(t *testing.T) {
	p, inside := ProblemOf(errors.New(`pq: relation "tasks" does not exist`))
	if diff := cmp.Diff(NewProblem(500, "internal", "Something went wrong on the server."), p); diff != "" || !inside {
		t.Errorf("internal %v, %s", inside, diff)
	}
}

func TestInvalidTaskNamesEveryField(t *testing.T) {
	err := fmt.Errorf("submit: %w", task.InvalidError{{Field: "resources.cpu", Message: "must not be negative"}, {Field: "kind", Message: "is bad"}})
	p, inside := ProblemOf(err)
	want := NewProblem(422, "invalid_task", "The task is not valid.")
	want.Errors = []FieldError{{"resources.cpu", "must not be negative"}, {"kind", "is bad"}}
	if diff := cmp.Diff(want, p); diff != "" || inside {
		t.Errorf("internal %v, %s", inside, diff)
	}
	if got := p.Error(); got != "Unprocessable Entity: The task is not valid.; resources.cpu must not be negative; kind is bad" {
		t.Error(got)
	}
}

func TestProblemIsGivenOnAsItIs(t *testing.T) {
	own := NewProblem(413, "payload_too_large", "")
	if p, inside := ProblemOf(fmt.Errorf("read: %w", own)); p != own || inside {
		t.Errorf("%+v, internal %v", p, inside)
	}
	if got := own.Error(); got != "Request Entity Too Large" {
		t.Error(got)
	}
}

func TestProblemHasTheFieldsOfRFC9457(t *testing.T) {
	p := NewProblem(422, "invalid_task", "Detail.")
	p.Errors, p.RequestID = []FieldError{{"kind", "is bad"}}, "r1"
	p.Failure = &task.Failure{Code: "x", Message: "y"}
	const want = `{"type":"/docs/problems#invalid_task","title":"Unprocessable Entity","status":422,"detail":"Detail.",` +
		`"code":"invalid_task","errors":[{"path":"kind","message":"is bad"}],"request_id":"r1","error":{"code":"x","message":"y","retryable":false}}`
	if got, err := json.Marshal(p); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
