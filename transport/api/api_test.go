package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/transport"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	// The actor library lets its dead-letter ticker live for a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// front is a server under test with the fake behind it.
type front struct {
	*Server
	tasks *fake
}

func newFront(cfg Config) *front {
	tasks := newFake()
	return &front{Server: New(tasks, cfg), tasks: tasks}
}

// reply is an answer, read to its end.
type reply struct {
	*http.Response
	body []byte
}

// do sends a request without a network in between. Headers are names and
// values in turn. Whatever comes back must be sound.
func (f *front) do(tb testing.TB, method, path, body string, headers ...string) reply {
	tb.Helper()
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.Host = "localhost:8080"
	path, r.URL.RawQuery, _ = strings.Cut(path, "?")
	r.URL.Path = path
	if body != "" {
		r.Header.Set("Content-Type", mediaJSON)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	res := w.Result()
	defer res.Body.Close()
	re := checked(tb, res)
	f.foretold(tb, method, path, re)
	return re
}

// foretold fails the test unless the document has the status and, of a problem, the
// code that a call was answered with.
func (f *front) foretold(tb testing.TB, method, path string, r reply) {
	tb.Helper()
	route := f.mux.Find(chi.NewRouteContext(), method, path)
	op := f.operation(method, route)
	if op == nil {
		return
	}
	described := op.Responses[strconv.Itoa(r.StatusCode)]
	if described == nil {
		tb.Errorf("%s %s was answered with %d, of which the document does not know: %s", method, route, r.StatusCode, r.body)
		return
	}
	if r.StatusCode < 400 {
		return
	}
	shared := f.huma.OpenAPI().Components.Responses[strings.TrimPrefix(described.Ref, "#/components/responses/")]
	if code := r.problem(tb).Code; shared.Content[mediaProblem].Examples[code] == nil {
		tb.Errorf("%s %s was answered with %s, of which the document does not know", method, route, code)
	}
}

// checked reads an answer, and validates every error as a problem.
func checked(tb testing.TB, res *http.Response) reply {
	tb.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatalf("read the answer: %v", err)
	}
	re := reply{res, body}
	if res.Header.Get("X-Request-Id") == "" {
		tb.Errorf("%d without an X-Request-Id", res.StatusCode)
	}
	if res.StatusCode < 400 {
		return re
	}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		tb.Errorf("%d of type %q: %s", res.StatusCode, got, body)
	}
	p := re.problem(tb)
	known := slices.ContainsFunc(codes, func(c code) bool { return c.Name == p.Code && c.Status == p.Status })
	switch {
	case !known:
		tb.Errorf("code %q with status %d is not in the table", p.Code, p.Status)
	case p.Status != res.StatusCode, p.Title != http.StatusText(p.Status), p.Type != "/docs/problems#"+p.Code, p.Detail == "":
		tb.Errorf("%d with problem %+v", res.StatusCode, p)
	case p.RequestID != res.Header.Get("X-Request-Id"):
		tb.Errorf("problem of request %q in answer to %q", p.RequestID, res.Header.Get("X-Request-Id"))
	case (p.Status == 429 || p.Status == 503) != (res.Header.Get("Retry-After") != ""):
		tb.Errorf("%d with Retry-After %q", p.Status, res.Header.Get("Retry-After"))
	}
	return re
}

func (r reply) problem(tb testing.TB) transport.Problem {
	tb.Helper()
	return as[transport.Problem](tb, r)
}

// want fails the test unless the answer has the status.
func (r reply) want(tb testing.TB, status int) reply {
	tb.Helper()
	if r.StatusCode != status {
		tb.Fatalf("got %d, want %d: %s", r.StatusCode, status, r.body)
	}
	return r
}

// as decodes an answer strictly: it has no field that its shape has not.
func as[T any](tb testing.TB, r reply) T {
	tb.Helper()
	var v T
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		tb.Fatalf("decode %s: %v", r.body, err)
	}
	return v
}

// golden compares an answer with testdata/name; -update writes it.
func (r reply) golden(t *testing.T, name string) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, r.body, "", "  "); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// paths are the fields a problem names.
func (r reply) paths(tb testing.TB) []string {
	tb.Helper()
	var paths []string
	for _, e := range r.problem(tb).Errors {
		paths = append(paths, e.Path)
	}
	return paths
}

const echo = `{"kind":"demo.echo"}`
