package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
)

// shoot sends whatever there is in the arguments. Nothing a client sends may be
// answered with 5xx, or with an error that is no problem.
func shoot(t *testing.T, f *front, method, target, media, header, value string, body []byte) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil || strings.ContainsAny(method, " \r\n\x00") || method == "" {
		return // net/http refuses these before us
	}
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", bytes.NewReader(body))
	r.Method, r.URL, r.RequestURI = method, u, target
	r.Header.Set("Content-Type", media)
	if header != "" {
		r.Header.Set(header, value)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Fatalf("%d for %s %q, %s: %q, %s\n%q\n%s", w.Code, method, target, header, value, media, body, w.Body)
	}
	checked(t, w.Result())
}

// shooting is a front whose door knows no key, and lets in who shows none.
func shooting() *front {
	secret, err := auth.NewSecret(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	store := memory.New()
	door, err := auth.New(auth.Config{Secret: secret, Accounts: store, Open: true})
	if err != nil {
		panic(err)
	}
	f := newFront(Config{Bounds: Bounds{Wait: time.Nanosecond, Body: 1 << 16, Batch: 1 << 16, Line: 1 << 12}, Door: door, Accounts: store})
	f.tasks.add(task.Spec{Kind: "k", MaxAttempts: 1})
	f.tasks.start(id(1))
	f.tasks.fail(id(1))
	return f
}

var (
	someMethods = []string{"GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "BREW"}
	somePaths   = []string{
		"/v1/tasks", "/v1/batches", "/v1/batches/" + id(1).String(), "/v1/tasks/" + id(1).String(),
		"/v1/tasks/" + id(1).String() + "/result", "/v1/tasks/" + id(1).String() + "/events", "/v1/tasks/" + id(1).String() + "/cancel",
		"/v1/tasks/" + id(1).String() + "/retry", "/v1/tasks/" + id(1).String() + "/explain", "/v1/queues", "/v1/queues/q",
		"/v1/workers", "/v1/nodes", "/v1/resources", "/v1/stats", "/v1/keys", "/v1/keys/" + id(3).String() + "/rotate", "/v1/namespaces/n", "/v1/audit", "/v1/me", "/v1/tickets", "/v1/kinds/k", "/v1/schedules/s", "/docs", "/openapi.json", "/livez", "/", "/v1/tasks/%00", "/v1/queues/%2f..", "//v1//tasks",
	}
	someQueries = []string{
		"", "?limit=2", "?limit=-9223372036854775809", "?cursor=AAAA", "?after=1.1", "?after=0.0", "?after=99999999999.1", "?wait=1h", "?wait=-1s", "?state=queued,,",
		"?label==", "?created_after=9999-99-99", "?batch_id=%ff", "?%zz", "?a;b", "?limit=2&limit=3", "?batch_id=" + id(7).String(),
	}
	someMedia   = []string{mediaJSON, mediaNDJSON, "application/json; charset=utf-8", "", "text/plain", "application/json; charset=x", ";;;", "multipart/form-data"}
	someHeaders = []string{"", "Prefer", "Idempotency-Key", "Last-Event-ID", "Accept", "X-Request-Id", "Content-Encoding", "Expect", "Origin", "Sec-Fetch-Site", "Range", "Authorization", "X-Forwarded-For"}
	someValues  = []string{"", "wait=1", "wait=1e9", "1.1", "9.9", "text/event-stream", "*/*;q=x", "\xff\xfe", "none", "bytes=5-1", "Bearer trp_000000000000000000000000000000000", "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic e30=", strings.Repeat("k", 600)}
	someBodies  = []string{
		"", echo, `{"tasks":[` + echo + `]}`, `{"paused":true}`, echo + "\n" + echo + "\n", `{"kind":"k","payload":{"a":[1,2.50,"\ud800",{"b":null}]},"resources":{"memory":"5Mi"},"retry":{"jitter":0.1},"labels":{"a":"b"},"run_at":"2027-01-01T00:00:00Z"}`,
		"[", `{"kind":"k","kind":"k"}`, "null", `"`, "{\"kind\":\"\xc3\x28\"}", strings.Repeat("[", 20_000), `{"a":` + strings.Repeat(" ", 70_000) + `1}`, `{"reason":"r"}`, "\x00", "\ufeff{}", `{"priority":1e999}`, `{"retry":{"factor":1e999}}`,
	}
)

var malformedRequests = flag.Int("malformed", 4_000, "how many requests TestMalformedRequests makes")

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMalformedRequests mixes good parts into bad requests, and breaks some.
func TestMalformedRequests(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	f := shooting()
	before := heap()
	for range *malformedRequests {
		body := []byte(pick(someBodies))
		for range random.IntN(4) {
			if len(body) > 0 {
				body[random.IntN(len(body))] = byte(random.Uint32())
			}
		}
		if random.IntN(5) == 0 && len(body) > 0 {
			body = body[:random.IntN(len(body))]
		}
		shoot(t, f, pick(someMethods), pick(somePaths)+pick(someQueries), pick(someMedia), pick(someHeaders), pick(someValues), body)
		if len(f.tasks.tasks) > 2000 {
			f = shooting()
		}
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("%d bytes are not given back", grown)
	}
	if n := f.requests.used.Load() + f.streams.used.Load() + f.bodies.used.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

func FuzzRequest(fz *testing.F) {
	for i, body := range someBodies {
		fz.Add(someMethods[i%4], somePaths[i%len(somePaths)]+someQueries[i%len(someQueries)], someMedia[i%2],
			someHeaders[i%len(someHeaders)], someValues[i%len(someValues)], []byte(body))
	}
	fz.Fuzz(func(t *testing.T, method, target, media, header, value string, body []byte) {
		shoot(t, shooting(), method, target, media, header, value, body)
	})
}

func BenchmarkSubmit(b *testing.B) {
	f := newFront(Config{})
	f.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		spec, err := task.Limits{}.Check(subs[0].Spec, epoch)
		spec.ID = id(1)
		return []task.Submitted{{Task: task.New(spec, epoch, 1).Task, Created: true, Err: err}}
	}
	body, err := json.Marshal(map[string]any{
		"kind": "demo.echo", "payload": map[string]any{"customer": 17, "text": strings.Repeat("words ", 30)}, "labels": map[string]string{"run": "1"},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "http://localhost/v1/tasks", bytes.NewReader(body))
			r.Header.Set("Content-Type", mediaJSON)
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			if w.Code != 201 {
				b.Fatalf("%d: %s", w.Code, w.Body)
			}
		}
	})
}
