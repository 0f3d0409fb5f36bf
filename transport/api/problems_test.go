package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// TestEveryCodeIsAnswered provokes every code of the table; checked, which do
// calls, validates each as a problem.
func TestEveryCodeIsAnswered(t *testing.T) {
	one, two, missing := "/v1/tasks/"+id(1).String(), "/v1/tasks/"+id(2).String(), "/v1/tasks/"+id(99).String()
	// Tasks 1 and 2: the first waits, the second has failed.
	refusing := func(err error) func(*front) {
		return func(f *front) {
			f.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
				return []task.Submitted{{Err: err}}
			}
		}
	}
	tests := []struct {
		code               string
		method, path, body string
		headers            []string
		given              func(*front)
	}{
		{code: "bad_request", method: "GET", path: "/v1/tasks?limit=%zz"},
		{code: "malformed_json", method: "POST", path: "/v1/tasks", body: `{"kind":`},
		{code: "malformed_json", method: "POST", path: "/v1/tasks", body: "{\"kind\":\"\xff\"}"},
		{code: "malformed_json", method: "POST", path: "/v1/tasks", body: " "},
		{code: "malformed_json", method: "POST", path: "/v1/tasks", body: `{"kind":"k"} {}`},
		{code: "cross_origin", method: "POST", path: "/v1/tasks", body: echo, headers: []string{"Sec-Fetch-Site", "cross-site"}},
		{code: "cross_origin", method: "DELETE", path: one, headers: []string{"Origin", "http://evil.example"}},
		{code: "not_found", method: "GET", path: "/v2/tasks"},
		{code: "not_found", method: "POST", path: "/v1/tickets"},
		{code: "not_found", method: "GET", path: "/v1/tasks/"},
		{code: "task_not_found", method: "GET", path: missing},
		{code: "task_not_found", method: "GET", path: missing + "/events"},
		{code: "task_not_found", method: "GET", path: missing + "/events", headers: []string{"Accept", mediaEvents}},
		{code: "task_not_found", method: "GET", path: missing + "/result"},
		{code: "task_not_found", method: "GET", path: missing + "/explain"},
		{code: "task_not_found", method: "POST", path: missing + "/cancel"},
		{code: "task_not_found", method: "POST", path: missing + "/retry"},
		{code: "task_not_found", method: "DELETE", path: missing},
		{code: "batch_not_found", method: "GET", path: "/v1/batches/" + id(5).String()},
		{code: "batch_not_found", method: "POST", path: "/v1/batches/" + id(5).String() + "/cancel"},
		{code: "schedule_not_found", method: "GET", path: "/v1/schedules/s"},
		{code: "schedule_not_found", method: "GET", path: "/v1/schedules/s/next"},
		{code: "schedule_not_found", method: "PATCH", path: "/v1/schedules/s", body: `{"paused":true}`},
		{code: "schedule_not_found", method: "POST", path: "/v1/schedules/s/trigger"},
		{code: "schedule_not_found", method: "POST", path: "/v1/schedules/s/pause"},
		{code: "schedule_not_found", method: "DELETE", path: "/v1/schedules/s"},
		{code: "schedule_exists", method: "POST", path: "/v1/schedules", body: `{"name":"s","every":"1m","task":{"kind":"k"}}`, given: func(f *front) {
			f.tasks.timed = []task.Schedule{{Name: "s"}}
		}},
		{code: "invalid_request", method: "POST", path: "/v1/schedules", body: `{"name":"s","every":"1m"}`},
		{code: "invalid_request", method: "POST", path: "/v1/schedules", body: `{"name":"s","every":"soon","task":{"kind":"k"}}`},
		{code: "invalid_request", method: "POST", path: "/v1/schedules", body: `{"name":"s","every":"1m","task":{"kind":"k","delay":"1m"}}`},
		{code: "invalid_request", method: "PUT", path: "/v1/schedules/s", body: `{"name":"t","every":"1m","task":{"kind":"k"}}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/schedules/s", body: `{}`},
		{code: "invalid_request", method: "GET", path: "/v1/schedules/s/next?count=101"},
		{code: "worker_not_found", method: "POST", path: "/v1/workers/none/drain"},
		{code: "method_not_allowed", method: "PUT", path: "/v1/tasks"},
		{code: "batch_not_found", method: "POST", path: "/v1/batches/" + id(5).String() + "/callback", body: echo},
		{code: "callback_exists", method: "POST", path: "/v1/batches", body: `{"tasks":[` + echo + `],"callback":` + echo + `}`, given: refusing(task.ErrHasCallback)},
		{code: "invalid_task", method: "POST", path: "/v1/batches", body: `{"tasks":[` + echo + `],"callback":{"kind":"K"}}`},
		{code: "invalid_request", method: "POST", path: "/v1/batches/7/callback", body: echo},
		{code: "cursor_ahead", method: "GET", path: one + "/events?after=7.1"},
		{code: "cursor_ahead", method: "GET", path: one + "/events", headers: []string{"Accept", mediaEvents, "Last-Event-ID", "7.1"}},
		{code: "task_cancelled", method: "GET", path: one + "/result", given: func(f *front) { f.cancelled() }},
		{code: "task_changed", method: "POST", path: "/v1/tasks", body: echo, given: refusing(task.ErrStale)},
		{code: "task_ended", method: "POST", path: two + "/cancel"},
		{code: "task_exists", method: "POST", path: "/v1/tasks", body: `{"kind":"other","id":"` + id(1).String() + `"}`},
		{code: "task_not_ended", method: "POST", path: one + "/retry"},
		{code: "task_not_ended", method: "DELETE", path: one},
		{code: "payload_too_large", method: "POST", path: "/v1/tasks", body: `{"kind":"` + strings.Repeat("k", 3000) + `"}`},
		{code: "payload_too_large", method: "POST", path: "/v1/tasks", body: `{"kind":"k","payload":"` + strings.Repeat("k", 1500) + `"}`},
		{code: "unsupported_media_type", method: "POST", path: "/v1/tasks", body: echo, headers: []string{"Content-Type", "text/plain"}},
		{code: "unsupported_media_type", method: "POST", path: "/v1/tasks", body: echo, headers: []string{"Content-Type", "application/json; charset=latin1"}},
		{code: "unsupported_media_type", method: "POST", path: "/v1/batches", body: echo, headers: []string{"Content-Type", ""}},
		{code: "host_not_allowed", method: "GET", path: "/v1/tasks", headers: []string{"Host", "evil.example:8080"}},
		{code: "invalid_request", method: "GET", path: "/v1/tasks/7"},
		{code: "invalid_request", method: "GET", path: "/v1/batches/7"},
		{code: "invalid_request", method: "POST", path: "/v1/batches/7/cancel"},
		{code: "invalid_request", method: "GET", path: one + "?more=1"},
		{code: "invalid_request", method: "GET", path: one + "/result?wait=long"},
		{code: "invalid_request", method: "GET", path: one + "/events?after=1"},
		{code: "invalid_request", method: "GET", path: one + "/events?limit=1001"},
		{code: "invalid_request", method: "POST", path: "/v1/tasks", body: `{"kind":"k","kind":"l"}`},
		{code: "invalid_request", method: "POST", path: "/v1/tasks", body: echo, headers: []string{"Idempotency-Key", "\x7f"}},
		{code: "invalid_request", method: "POST", path: "/v1/batches", body: `{"tasks":[` + echo + `]}`, headers: []string{"Idempotency-Key", "k"}},
		{code: "invalid_request", method: "POST", path: one + "/cancel", body: `{"why":"so"}`},
		{code: "invalid_request", method: "POST", path: one + "/cancel", body: `{"reason":"` + strings.Repeat("r", 1001) + `"}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{"paused":true,"heavy":3}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{"weight":-1}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/kinds/k", body: `{}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/kinds/K", body: `{"concurrency":1}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/kinds/k", body: `{"concurrency":-1}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/kinds/k", body: `{"name":"x"}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{"policy":"lifo"}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{"placement":"scatter","burst":20000,"max_queued":-1}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/Q", body: `{"paused":true}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{"concurrency":-1}`},
		{code: "invalid_request", method: "PATCH", path: "/v1/queues/q", body: `{"rate":"fast"}`},
		{code: "invalid_request", method: "PUT", path: "/v1/resources/r", body: `{}`},
		{code: "invalid_request", method: "PUT", path: "/v1/resources/r", body: `{"capacity":"-1"}`},
		{code: "invalid_request", method: "PUT", path: "/v1/resources/R", body: `{"capacity":1}`},
		{code: "invalid_request", method: "PUT", path: "/v1/resources/slots", body: `{"capacity":1}`},
		{code: "invalid_request", method: "DELETE", path: "/v1/resources/slots"},
		{code: "invalid_task", method: "POST", path: "/v1/tasks", body: `{"kind":"K"}`},
		{code: "idempotency_key_reused", method: "POST", path: "/v1/tasks", body: echo, given: refusing(task.ErrKeyReused)},
		{code: "task_failed", method: "GET", path: two + "/result"},
		{code: "queue_full", method: "POST", path: "/v1/tasks", body: echo, given: refusing(&task.FullError{Queue: "mail", After: 7 * time.Second})},
		{code: "quota_exceeded", method: "POST", path: "/v1/tasks", body: echo, given: refusing(&task.QuotaError{Quota: task.QuotaQueued, Most: 9, After: 7 * time.Second})},
		{code: "deadline_unreachable", method: "POST", path: "/v1/tasks", body: echo, given: refusing(&task.LateError{Start: time.Unix(1700000000, 0), After: 1500 * time.Millisecond})},
		{code: "node_unreachable", method: "POST", path: "/v1/tasks", body: echo, given: refusing(task.ErrUnreachable)},
		{code: "rate_limited", method: "POST", path: "/v1/tasks", body: echo, given: refusing(&task.TooFastError{After: 2500 * time.Millisecond})},
		{code: "too_many_requests", method: "GET", path: "/v1/tasks", given: func(f *front) { f.requests.most = 0 }},
		{code: "too_many_requests", method: "POST", path: "/v1/tasks", body: echo, given: func(f *front) { f.bodies.most = 5 }},
		{code: "too_many_signals", method: "POST", path: one + "/signals/go", given: func(f *front) { f.tasks.signal = task.ErrTooManySignals }},
		{code: "too_many_streams", method: "GET", path: one + "/events", headers: []string{"Accept", mediaEvents}, given: func(f *front) { f.streams.most = 0 }},
		{code: "too_many_streams", method: "GET", path: one + "/result?wait=1s", given: func(f *front) { f.streams.most = 0 }},
		{code: "internal", method: "POST", path: "/v1/tasks", body: echo, given: refusing(errors.New("secret"))},
		{code: "internal", method: "GET", path: one, given: func(f *front) { f.tasks.read = func() error { panic("secret") } }},
		{code: "not_ready", method: "GET", path: "/readyz", given: func(f *front) { f.tasks.ready = errors.New("secret") }},
		{code: "outcome_unknown", method: "POST", path: "/v1/tasks", body: echo, given: refusing(task.ErrUnknown)},
		{code: "shutting_down", method: "POST", path: "/v1/tasks", body: echo, given: refusing(task.ErrClosed)},
		{code: "shutting_down", method: "GET", path: "/readyz", given: func(f *front) { f.stop() }},
		{code: "shutting_down", method: "GET", path: one, given: func(f *front) {
			f.stop()
			f.tasks.read = func() error { return context.Canceled }
		}},
		{code: "dependency_not_found", method: "POST", path: "/v1/tasks", body: echo, given: refusing(&task.MissingError{Field: "depends_on[0]"})},
		{code: "dependency_cycle", method: "POST", path: "/v1/batches", body: `{"tasks":[{"kind":"k","id":"0198f2c1-7a3e-7c55-9d0e-6f1f7f1b2a90","depends_on":["0198f2c1-7a3e-7c55-9d0e-6f1f7f1b2a91"]},` +
			`{"kind":"k","id":"0198f2c1-7a3e-7c55-9d0e-6f1f7f1b2a91","depends_on":["0198f2c1-7a3e-7c55-9d0e-6f1f7f1b2a90"]}]}`},
		{code: "store_unavailable", method: "POST", path: "/v1/tasks", body: echo, given: refusing(task.ErrUnavailable)},
	}
	// The first is provoked below; the second is huma's, and it gives JSON instead.
	// Those about credentials are in access_test.go.
	answered := map[string]bool{
		"request_timeout": true, "not_acceptable": true, "unauthorized": true, "forbidden": true, "key_not_found": true, "key_ended": true, "issuer_unavailable": true,
	}
	for _, tt := range tests {
		answered[tt.code] = true
		t.Run(tt.code, func(t *testing.T) {
			var log strings.Builder
			f := newFront(Config{
				Bounds: Bounds{Body: 2000}, Limits: task.Limits{Payload: 1000},
				Log: slog.New(slog.NewJSONHandler(&log, nil)),
			})
			f.tasks.add(task.Spec{Kind: "k"})
			f.tasks.add(task.Spec{Kind: "k", MaxAttempts: 1})
			f.tasks.start(id(2))
			f.tasks.fail(id(2))
			if tt.given != nil {
				tt.given(f)
			}
			r := f.do(t, tt.method, tt.path, tt.body, tt.headers...)
			if got := r.problem(t).Code; got != tt.code {
				t.Errorf("%s %s: %s", tt.method, tt.path, r.body)
			}
			if strings.Contains(string(r.body), "secret") {
				t.Errorf("an internal error got out: %s", r.body)
			}
			if logged := strings.Count(log.String(), "\n"); (tt.code == "internal") != (logged == 1) {
				t.Errorf("logged %d times: %s", logged, &log)
			}
			if tt.code == "rate_limited" && r.Header.Get("Retry-After") != "3" {
				t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
			}
			if tt.code == "queue_full" && (r.Header.Get("Retry-After") != "7" || !strings.Contains(string(r.body), "queue mail")) {
				t.Errorf("%s, Retry-After %q", r.body, r.Header.Get("Retry-After"))
			}
			if tt.code == "quota_exceeded" && (r.Header.Get("Retry-After") != "7" || !strings.Contains(string(r.body), "tasks that wait, which is 9")) {
				t.Errorf("%s, Retry-After %q", r.body, r.Header.Get("Retry-After"))
			}
			if tt.code == "deadline_unreachable" && (r.Header.Get("Retry-After") != "2" || !strings.Contains(string(r.body), `"expected_start":"2023-11-14T22:13:20.000000Z"`)) {
				t.Errorf("%s, Retry-After %q", r.body, r.Header.Get("Retry-After"))
			}
			if tt.code == "method_not_allowed" {
				if got := r.Header.Values("Allow"); strings.Join(got, ",") != "GET,POST" {
					t.Errorf("Allow %q", got)
				}
			}
		})
	}
	for _, c := range codes {
		if !answered[c.Name] {
			t.Errorf("nothing answers %s", c.Name)
		}
	}
}

func (f *front) cancelled() {
	_, _ = f.tasks.Cancel(context.Background(), task.DefaultNamespace, id(1), "")
}

func TestProblemIsGolden(t *testing.T) {
	f := newFront(Config{})
	f.do(t, "POST", "/v1/tasks", `{"kind":"K","priority":500}`, "X-Request-Id", "req-1").want(t, 422).golden(t, "problem.json")
	f.tasks.add(task.Spec{Kind: "k", MaxAttempts: 1})
	f.tasks.start(id(1))
	f.tasks.fail(id(1))
	f.do(t, "GET", "/v1/tasks/"+id(1).String()+"/result", "", "X-Request-Id", "req-2").want(t, 424).golden(t, "task_failed.json")
}

func codeOf(err error) string {
	p, _ := transport.ProblemOf(err)
	return p.Code
}

func TestWhatHumaRefusesIsAProblem(t *testing.T) {
	for status, want := range map[int]string{406: "not_acceptable", 422: "invalid_request"} {
		err := humaProblem(status, "so", []error{&huma.ErrorDetail{Location: "query.limit", Message: "too much"}, errors.New("plain")})
		if got := codeOf(err); got != want {
			t.Errorf("%d: %s", status, got)
		}
	}
	if got := codeOf(humaProblem(500, "so", nil)); got != "internal" {
		t.Errorf("500: %s", got)
	}
	if b, err := json.Marshal(huma.NewError(500, "x")); err != nil || !strings.Contains(string(b), `"code":"internal"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// brokenBody fails in the middle.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }

type timeout struct{}

func (timeout) Error() string   { return "timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestBodyThatBreaksOffIsTheClientsFault(t *testing.T) {
	f := newFront(Config{})
	for _, media := range []string{mediaJSON, mediaNDJSON} {
		for _, tt := range []struct {
			err  error
			want int
		}{{io.ErrUnexpectedEOF, 400}, {timeout{}, 408}} {
			path := "/v1/tasks"
			if media == mediaNDJSON {
				path = "/v1/batches"
			}
			r := httptest.NewRequest(http.MethodPost, path, brokenBody{tt.err})
			r.Host = "localhost"
			r.Header.Set("Content-Type", media)
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			checked(t, w.Result()).want(t, tt.want)
		}
	}
}

func TestRequestThatWasGivenUp(t *testing.T) {
	var log strings.Builder
	f := newFront(Config{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	f.tasks.read = func() error {
		cancel()
		return fmt.Errorf("read: %w", ctx.Err())
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/tasks/"+id(1).String(), nil)
	r.Host = "[::1]:80"
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	checked(t, w.Result()).want(t, 408)
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	f := newFront(Config{})
	for _, open := range []string{"[", `{"a":`} {
		f.do(t, "POST", "/v1/tasks", `{"kind":"k","payload":`+strings.Repeat(open, 100_000)).want(t, 400)
	}
}
