package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func TestSubmitAnswersWithTheStoredTask(t *testing.T) {
	f := newFront(Config{})
	r := f.do(t, "POST", "/v1/tasks", `{
		"kind": "demo.echo", "queue": "q", "priority": -7, "payload": {"b": 1.0e+400, "a": 12345678901234567890},
		"resources": {"cpu": 2, "memory": "512Mi"}, "labels": {"who": "you"}, "timeout": "90s",
		"deadline": "2030-01-02T03:04:05.6Z", "max_attempts": 5, "retry": {"initial": "2s", "jitter": 0}, "unique_key": "u", "cache": {"ttl": "60m"}
	}`).want(t, 201)
	if want := "/v1/tasks/" + id(1).String(); r.Header.Get("Location") != want {
		t.Errorf("Location %q, want %q", r.Header.Get("Location"), want)
	}
	r.golden(t, "task.json")
}

func TestPayloadIsHandedOnAsItCame(t *testing.T) {
	f := newFront(Config{})
	payload := "{ \"n\" : 1.10, \"n\": 10000000000000000000000000001,\n\t\"s\": \"\\u00e9 \\ud800 é\" }"
	f.do(t, "POST", "/v1/tasks", `{"kind":"k","payload":`+payload+`}`).want(t, 201)
	if got := string(f.tasks.batches[0][0].Spec.Payload); got != payload {
		t.Errorf("got  %q\nwant %q", got, payload)
	}
}

func TestLateAndTogetherReachTheRuntime(t *testing.T) {
	f := newFront(Config{})
	f.do(t, "POST", "/v1/tasks", echo).want(t, 201)
	f.do(t, "POST", "/v1/tasks", `{"kind":"k","late":"allow"}`).want(t, 201)
	f.do(t, "POST", "/v1/tasks", `{"kind":"k","late":"refuse"}`).want(t, 201)
	f.do(t, "POST", "/v1/batches", `{"tasks":[{"kind":"k","late":"allow"}]}`).want(t, 201)
	f.do(t, "POST", "/v1/batches", `{"kind":"k"}`, "Content-Type", mediaNDJSON).want(t, 201)
	want := []task.Submission{{}, {Late: true}, {}, {Late: true, Together: true}, {}}
	for i, w := range want {
		if got := f.tasks.batches[i][0]; got.Late != w.Late || got.Together != w.Together {
			t.Errorf("%d: late %t, together %t", i, got.Late, got.Together)
		}
	}
	if got := f.do(t, "POST", "/v1/tasks", `{"kind":"k","late":"maybe"}`).want(t, 422).paths(t); !slices.Equal(got, []string{"late"}) {
		t.Errorf("%q", got)
	}
}

func TestKnownTaskIsAnswered200(t *testing.T) {
	f := newFront(Config{})
	body := `{"kind":"k","id":"` + id(9).String() + `"}`
	f.do(t, "POST", "/v1/tasks", body).want(t, 201)
	f.do(t, "POST", "/v1/tasks", body).want(t, 200)
}

func TestIdempotencyKey(t *testing.T) {
	f := newFront(Config{})
	first := f.do(t, "POST", "/v1/tasks", `{"kind":"k","payload":{"a":1},"delay":"1h"}`, "Idempotency-Key", "once").want(t, 201)
	again := f.do(t, "POST", "/v1/tasks", `{ "delay":"1h", "payload": {"a": 1}, "kind":"k"}`, "Idempotency-Key", "once").want(t, 200)
	if a, b := as[transport.Task](t, first), as[transport.Task](t, again); a.ID != b.ID {
		t.Errorf("two tasks %s and %s for one key", a.ID, b.ID)
	}
	other := f.do(t, "POST", "/v1/tasks", `{"kind":"k","payload":{"a":2},"delay":"1h"}`, "Idempotency-Key", "once").want(t, 422)
	if got := other.problem(t).Code; got != "idempotency_key_reused" {
		t.Errorf("code %q", got)
	}
	request := f.tasks.requests["once"].Request
	if left := time.Until(request.Expires); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("the key is kept for %s", left)
	}
}

func TestPreferWaitHoldsTheAnswer(t *testing.T) {
	f := newFront(Config{})
	f.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		done := f.tasks.insert(subs[0])
		go func() {
			f.tasks.start(done.Task.ID)
			f.tasks.succeed(done.Task.ID, `42`)
		}()
		return []task.Submitted{done}
	}
	r := f.do(t, "POST", "/v1/tasks", echo, "Prefer", "respond-async, wait=30").want(t, 201)
	if got := as[transport.Task](t, r); got.State != task.Succeeded || string(got.Result) != "42" {
		t.Errorf("%+v", got)
	}
	if got := r.Header.Get("Preference-Applied"); got != "wait=30" {
		t.Errorf("Preference-Applied %q", got)
	}
}

func TestPreferWaitEndsInTime(t *testing.T) {
	f := newFront(Config{Bounds: Bounds{Wait: time.Millisecond}})
	r := f.do(t, "POST", "/v1/tasks", echo, "Prefer", "wait=10").want(t, 201)
	if got := as[transport.Task](t, r); got.State != task.Queued {
		t.Errorf("state %s", got.State)
	}
}

func TestPreferWaitWithoutRoomIsPassedOver(t *testing.T) {
	f := newFront(Config{})
	f.streams.most = 0
	r := f.do(t, "POST", "/v1/tasks", echo, "Prefer", "wait=10").want(t, 201)
	if got := r.Header.Get("Preference-Applied"); got != "" {
		t.Errorf("Preference-Applied %q", got)
	}
}

func TestPreferredWait(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"wait=30": 30 * time.Second, ` Wait = "5" ; x=y`: 5 * time.Second, "return=minimal, wait=1": time.Second,
		"": -1, "wait": -1, "wait=-1": -1, "wait=1.5": -1, "wait=99999999999": -1, "waiting=3": -1,
	} {
		got, ok := preferredWait(header)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %s, %t", header, got, ok)
		}
	}
}

func TestEveryFaultOfASubmissionIsNamed(t *testing.T) {
	f := newFront(Config{})
	for _, tt := range []struct {
		body, code string
		paths      []string
	}{
		{
			`{"kind":7,"who":1,"kind":"k","Queue":"q","retry":{"factor":"x"},"resources":{"cpu":"many"},"labels":[],"run_at":"soon"}`, "invalid_request",
			[]string{"kind", "who", "kind", "Queue", "retry.factor", "resources.cpu", "labels", "run_at"},
		},
		{`[]`, "invalid_request", []string{""}},
		{`{}`, "invalid_task", []string{"kind"}},
		{`{"kind":"K!","priority":101,"max_attempts":-1}`, "invalid_task", []string{"kind", "priority", "max_attempts"}},
		{`{"kind":"k","timeout":"soon","id":"7","delay":"-1s"}`, "invalid_task", []string{"id", "timeout", "delay"}},
		{`{"kind":"k","deadline":"2001-01-01T00:00:00Z"}`, "invalid_task", []string{"deadline"}},
	} {
		r := f.do(t, "POST", "/v1/tasks", tt.body).want(t, 422)
		paths := r.paths(t)
		slices.Sort(paths)
		slices.Sort(tt.paths)
		if r.problem(t).Code != tt.code || !slices.Equal(paths, tt.paths) {
			t.Errorf("%s\n%s", tt.body, r.body)
		}
	}
}

func TestResult(t *testing.T) {
	f := newFront(Config{})
	path := func(n int) string { return "/v1/tasks/" + id(n).String() + "/result" }
	for range 3 {
		f.tasks.add(task.Spec{Kind: "k", MaxAttempts: 1})
	}
	r := f.do(t, "GET", path(1)+"?wait=1ms", "").want(t, 202)
	if got := as[transport.Task](t, r); got.State != task.Queued {
		t.Errorf("state %s", got.State)
	}
	f.do(t, "GET", path(1), "").want(t, 202)

	f.tasks.start(id(1))
	held := make(chan reply)
	go func() { held <- f.do(t, "GET", path(1)+"?wait=30s", "") }()
	f.tasks.succeed(id(1), `{"n":1.10}`)
	if r = (<-held).want(t, 200); strings.TrimSpace(string(r.body)) != `{"n":1.10}` {
		t.Errorf("bare result: %s", r.body)
	}

	f.tasks.start(id(2))
	f.tasks.fail(id(2))
	failed := f.do(t, "GET", path(2), "").want(t, http.StatusFailedDependency).problem(t)
	if failed.Failure == nil || failed.Failure.Code != "boom" {
		t.Errorf("%+v", failed)
	}
	f.do(t, "POST", "/v1/tasks/"+id(3).String()+"/cancel", "").want(t, 200)
	if got := f.do(t, "GET", path(3), "").want(t, 409).problem(t); got.Code != "task_cancelled" {
		t.Errorf("%+v", got)
	}
}

func TestStopEndsWaits(t *testing.T) {
	f := newFront(Config{})
	f.tasks.add(task.Spec{Kind: "k"})
	path := "/v1/tasks/" + id(1).String() + "/result?wait=10m"
	f.tasks.read = func() error {
		if f.streams.used.Load() == 1 { // the wait has begun
			f.stop()
		}
		return nil
	}
	f.do(t, "GET", path, "").want(t, 202)
	f.do(t, "GET", path, "").want(t, 503) // and no other begins
	f.do(t, "POST", "/v1/tasks", echo, "Prefer", "wait=600").want(t, 201)
}
