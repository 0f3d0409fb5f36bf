package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestHostMustBeLoopbackOrNamed(t *testing.T) {
	f := newFront(Config{Hosts: []string{"troupe.example", "other.example:8443"}})
	for host, want := range map[string]int{
		"localhost": 200, "LocalHost:1": 200, "127.0.0.1:8080": 200, "127.9.9.9": 200, "[::1]:8080": 200, "[::1]": 200,
		"[::ffff:127.0.0.1]": 200, "": 200, "troupe.example": 200, "Troupe.Example:80": 200, "other.example:8443": 200,
		"other.example": 421, "evil.example": 421, "localhost.evil.example": 421, "10.0.0.1": 421, "0.0.0.0": 421, "127.0.0.1.evil.example": 421,
	} {
		f.do(t, "GET", "/v1/tasks", "", "Host", host).want(t, want)
	}
}

func TestHostIsFreeBehindAnotherAddress(t *testing.T) {
	f := newFront(Config{})
	addr := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 80}
	ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(addr))
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "http://any.example/livez", nil))
	checked(t, w.Result()).want(t, 200)
}

func TestUnsafeMethodsNeedTheirOwnOrigin(t *testing.T) {
	f := newFront(Config{})
	f.do(t, "POST", "/v1/tasks", echo, "Origin", "http://localhost:8080").want(t, 201)
	f.do(t, "POST", "/v1/tasks", echo, "Sec-Fetch-Site", "same-origin").want(t, 201)
	f.do(t, "GET", "/v1/tasks", "", "Sec-Fetch-Site", "cross-site").want(t, 200)
	for _, site := range []string{"cross-site", "same-site"} {
		f.do(t, "POST", "/v1/tasks", echo, "Sec-Fetch-Site", site).want(t, 403)
	}
}

func TestRequestIDIsTheClientsIfSane(t *testing.T) {
	f := newFront(Config{})
	if got := f.do(t, "GET", "/livez", "", "X-Request-Id", "a-B.3_").Header.Get("X-Request-Id"); got != "a-B.3_" {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"a b", "a\nb", "ä", strings.Repeat("a", 101), `"`, "\x1b[31m"} {
		got := f.do(t, "GET", "/livez", "", "X-Request-Id", bad).Header.Get("X-Request-Id")
		if got == bad || len(got) < 20 {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestEveryAnswerHasSecureHeaders(t *testing.T) {
	f := newFront(Config{})
	for _, path := range []string{"/v1/tasks", "/docs", "/nope", "/v1/nope", "/livez"} {
		h := f.do(t, "GET", path, "").Header
		policy := h.Get("Content-Security-Policy")
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" ||
			!strings.Contains(policy, "default-src 'self'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: %v", path, h)
		}
	}
	if got := f.do(t, "GET", "/v1/tasks", "").Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

func TestDashboardHasThePathsNothingElseHas(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" && r.URL.Path != "/app.js" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("page"))
	})
	f := newFront(Config{Dashboard: page})
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200},
		{"HEAD", "/app.js", 200},
		{"GET", "/nope", 404},
		{"POST", "/", 404},
		{"GET", "/v1", 404},
		{"GET", "/v1/nope", 404},
		{"GET", "/docs", 200},
		{"POST", "/docs", 405},
	} {
		f.do(t, tt.method, tt.path, "").want(t, tt.want)
	}
	newFront(Config{}).do(t, "GET", "/", "").want(t, 404)
}

func TestWebSocketHandlerGetsTheConnection(t *testing.T) {
	ws := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
		_ = conn.Close()
	})
	f := newFront(Config{WS: ws})
	server := httptest.NewServer(f)
	defer server.Close()
	res, err := server.Client().Get(server.URL + "/v1/ws")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("%d", res.StatusCode)
	}
	w := httptest.NewRecorder() // which cannot be taken over
	if _, _, err := (&writer{ResponseWriter: w}).Hijack(); err == nil {
		t.Error("took over a recorder")
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFront(Config{Metrics: reg, Registerer: reg})
	f.do(t, "POST", "/v1/tasks", echo)
	f.do(t, "GET", "/v1/tasks/"+id(1).String(), "")
	f.do(t, "GET", "/v1/tasks/"+id(2).String(), "")
	f.do(t, "BREW", "/pot/7", "")
	want := `
# HELP troupe_http_requests_total Requests by route, method and class of status.
# TYPE troupe_http_requests_total counter
troupe_http_requests_total{code="2xx",method="GET",route="/v1/tasks/{id}"} 1
troupe_http_requests_total{code="2xx",method="POST",route="/v1/tasks"} 1
troupe_http_requests_total{code="4xx",method="GET",route="/v1/tasks/{id}"} 1
troupe_http_requests_total{code="4xx",method="other",route="none"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "troupe_http_requests_total"); err != nil {
		t.Error(err)
	}
	r := f.do(t, "GET", "/metrics", "").want(t, 200)
	for _, name := range []string{"troupe_http_request_duration_seconds_bucket", "troupe_http_requests_in_flight 0", "troupe_http_streams_in_flight 0", "troupe_http_body_bytes 0"} {
		if !strings.Contains(string(r.body), name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
	newFront(Config{}).do(t, "GET", "/metrics", "").want(t, 404)
}

func TestRequestsAreLoggedWithoutTheirQuery(t *testing.T) {
	var log strings.Builder
	f := newFront(Config{Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	f.do(t, "GET", "/v1/tasks?label=who%3Dsecret", "", "X-Request-Id", "r1").want(t, 200)
	for _, part := range []string{`"msg":"request"`, `"request_id":"r1"`, `"route":"/v1/tasks"`, `"status":200`} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("no %s in %s", part, &log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the query is in the log: %s", &log)
	}
}

func TestPanicAfterTheFirstByteBreaksTheAnswerOff(t *testing.T) {
	f := newFront(Config{Dashboard: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		panic("oh")
	})})
	defer func() {
		err, _ := recover().(error)
		if !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
	}()
	f.do(t, "GET", "/", "")
}

func TestLongRequestsLeaveRoomForShortOnes(t *testing.T) {
	f := newFront(Config{Bounds: Bounds{Requests: 1}})
	f.tasks.add(task.Spec{Kind: "k"})
	held := make(chan reply)
	waiting := make(chan struct{})
	f.tasks.read = func() error {
		if f.streams.used.Load() == 1 {
			select {
			case <-waiting:
			default:
				close(waiting)
			}
		}
		return nil
	}
	path := "/v1/tasks/" + id(1).String()
	go func() { held <- f.do(t, "GET", path+"/result?wait=1m", "") }()
	<-waiting
	f.do(t, "GET", path, "").want(t, 200)
	f.tasks.start(id(1))
	f.tasks.succeed(id(1), "1")
	(<-held).want(t, 200)
	if n := f.streams.used.Load() + f.requests.used.Load() + f.bodies.used.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}
