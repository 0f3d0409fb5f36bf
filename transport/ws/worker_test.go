package ws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
	"github.com/troupe-run/troupe/transport/ws"
)

// workerWorld is a server of workers' sockets over a real runtime.
type workerWorld struct {
	rt   *runtime.Runtime
	http *httptest.Server

	mu  sync.Mutex
	who *access.Principal // whom the door lets in; nil: there is none
}

func newWorkerWorld(tb testing.TB, lease time.Duration, bounds ws.Bounds) *workerWorld {
	tb.Helper()
	rt, err := runtime.Open(tb.Context(), runtime.WithStore(memory.New()), runtime.WithDrainTimeout(time.Second), runtime.WithWorkerLease(lease))
	if err != nil {
		tb.Fatal(err)
	}
	h := ws.NewWorkers(rt, ws.Config{Server: "test", Bounds: bounds, Lease: lease})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	w := &workerWorld{rt: rt}
	w.http = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		who := w.who
		w.mu.Unlock()
		if who != nil {
			r = r.WithContext(auth.With(r.Context(), *who))
		}
		h.ServeHTTP(out, r)
	}))
	tb.Cleanup(func() {
		cancel()
		running.Wait()
		w.http.Close()
		if err := rt.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// hand is a worker of the test, frame by frame.
type hand struct {
	*websocket.Conn
	t    testing.TB
	next int
	said []notice // told meanwhile
}

type notice struct {
	ID     *int
	Method string
	Params struct {
		Task struct {
			ID      string
			Payload json.RawMessage
			Worker  string
		}
		Attempt    int
		Token      string
		Lease      string
		Checkpoint json.RawMessage
		Steps      []struct {
			Name   string
			Result json.RawMessage
		}
		Reason    string
		Session   string
		Heartbeat string
		Limits    map[string]int
		Delay     string
	}
	Result json.RawMessage
	Error  *struct {
		Code int
		Data *struct{ Code string }
	}
}

// UnmarshalJSON leaves the task of a cancel out, which is a text.
func (n *notice) UnmarshalJSON(raw []byte) error {
	type plain notice
	if strings.Contains(string(raw), `"method":"cancel"`) {
		var c struct {
			Method string
			Params struct{ Token, Reason string }
		}
		err := json.Unmarshal(raw, &c)
		n.Method, n.Params.Token, n.Params.Reason = c.Method, c.Params.Token, c.Params.Reason
		return err
	}
	return json.Unmarshal(raw, (*plain)(n))
}

func (w *workerWorld) dial(tb testing.TB) *hand {
	tb.Helper()
	d := websocket.Dialer{Subprotocols: []string{ws.WorkerSubprotocol}}
	c, resp, err := d.Dial("ws"+strings.TrimPrefix(w.http.URL, "http"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = resp.Body.Close()
	tb.Cleanup(func() { _ = c.Close() })
	return &hand{Conn: c, t: tb}
}

func (h *hand) read() (notice, error) {
	_ = h.SetReadDeadline(time.Now().Add(patience))
	_, raw, err := h.ReadMessage()
	if err != nil {
		return notice{}, err
	}
	var n notice
	if err := json.Unmarshal(raw, &n); err != nil {
		return n, fmt.Errorf("decode %s: %w", raw, err)
	}
	return n, nil
}

// told gives the next notification of a method.
func (h *hand) told(method string) notice {
	h.t.Helper()
	for i, n := range h.said {
		if n.Method == method {
			h.said = append(h.said[:i:i], h.said[i+1:]...)
			return n
		}
	}
	for {
		n, err := h.read()
		if err != nil {
			h.t.Fatalf("waiting for %s: %v", method, err)
		}
		if n.Method == method {
			return n
		}
		h.said = append(h.said, n)
	}
}

// call makes a call and gives its answer, keeping what is told meanwhile.
func (h *hand) call(method, params string) notice {
	h.t.Helper()
	h.next++
	text := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, h.next, method, params)
	if err := h.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		h.t.Fatal(err)
	}
	for {
		n, err := h.read()
		if err != nil {
			h.t.Fatalf("waiting for the answer to %s: %v", method, err)
		}
		if n.ID != nil && *n.ID == h.next {
			return n
		}
		h.said = append(h.said, n)
	}
}

func (h *hand) must(method, params string) json.RawMessage {
	h.t.Helper()
	n := h.call(method, params)
	if n.Error != nil {
		h.t.Fatalf("%s %s: %+v %+v", method, params, n.Error, n.Error.Data)
	}
	return n.Result
}

type registered struct {
	Worker, Session, Lease string
	Attempts               []struct{ Task, Token string }
}

func (h *hand) register(params string) (r registered) {
	h.t.Helper()
	if err := json.Unmarshal(h.must("register", params), &r); err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (w *workerWorld) submit(tb testing.TB, payload string, change ...func(*task.Spec)) task.ID {
	tb.Helper()
	got, err := w.rt.Submit(tb.Context(), "work", json.RawMessage(payload), change...)
	if err != nil {
		tb.Fatal(err)
	}
	return got.ID
}

func (w *workerWorld) task(tb testing.TB, id task.ID) task.Task {
	tb.Helper()
	got, err := w.rt.Task(tb.Context(), task.DefaultNamespace, id)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func TestWorkerRunsTasksOverItsSocket(t *testing.T) {
	w := newWorkerWorld(t, patience, ws.Bounds{})
	h := w.dial(t)
	hello := h.told("hello")
	if hello.Params.Session == "" || hello.Params.Limits["batch"] != 100 {
		t.Errorf("%+v", hello.Params)
	}
	r := h.register(`{"name":"hand","kinds":["work"],"slots":2,"labels":{"zone":"a"}}`)
	if r.Worker == "" || r.Session == "" || r.Lease != patience.String() || r.Attempts == nil || len(r.Attempts) != 0 {
		t.Errorf("registered as %+v", r)
	}
	id := w.submit(t, `{"n":1.50}`)
	run := h.told("run")
	p := run.Params
	if p.Task.ID != id.String() || p.Attempt != 1 || string(p.Task.Payload) != `{"n":1.50}` || p.Task.Worker != r.Worker || p.Lease != patience.String() || p.Checkpoint != nil || p.Steps != nil {
		t.Errorf("run says %+v", p)
	}
	token := `{"token":"` + p.Token + `"`
	h.must("progress", token+`,"fraction":0.5,"message":"half"}`)
	h.must("log", token+`,"message":"hello","fields":{"a":1}}`)
	h.must("output", token+`,"chunk":[1]}`)
	h.must("output", token+`,"text":"x"}`)
	h.must("output", token+`,"base64":"AAE="}`)
	h.must("checkpoint", token+`,"checkpoint":{"at":3}}`)
	h.must("step", token+`,"name":"one","result":1}`)
	h.must("step", token+`,"name":"one","result":2}`)
	h.must("heartbeat", `{}`)
	h.must("fail", token+`,"error":{"message":"again"}}`)
	if n := h.call("progress", token+`,"fraction":1}`); n.Error == nil || n.Error.Data == nil || n.Error.Data.Code != "stale_attempt" {
		t.Errorf("a call after the end: %+v", n.Error)
	}
	p = h.told("run").Params
	if p.Attempt != 2 || string(p.Checkpoint) != `{"at":3}` || len(p.Steps) != 1 || p.Steps[0].Name != "one" || string(p.Steps[0].Result) != "1" {
		t.Errorf("the second attempt begins with %+v", p)
	}
	h.must("succeed", `{"token":"`+p.Token+`","result":{"ok":true}}`)
	if got := w.task(t, id); got.State != task.Succeeded || string(got.Result) != `{"ok":true}` || got.Worker != r.Worker {
		t.Errorf("%+v", got)
	}
}

func (n notice) code() string {
	switch {
	case n.Error == nil:
		return ""
	case n.Error.Data == nil:
		return strconv.Itoa(n.Error.Code)
	default:
		return n.Error.Data.Code
	}
}

func TestWhatAWorkerMayNotSay(t *testing.T) {
	w := newWorkerWorld(t, patience, ws.Bounds{})
	h := w.dial(t)
	for method, params := range map[string]string{"succeed": `{"token":"x"}`, "drain": `{}`} {
		if got := h.call(method, params).code(); got != "not_registered" {
			t.Errorf("%s before register: %q", method, got)
		}
	}
	many := `"k"` + strings.Repeat(`,"k"`, task.MaxWorkerKinds)
	for _, params := range []string{
		`{}`, `{"name":"","kinds":["k"]}`, `{"name":"w"}`, `{"name":"w","kinds":[]}`, `{"name":"w","kinds":["Not a name"]}`, `{"name":"w","kinds":[` + many + `]}`,
		`{"name":"w","kinds":["k"],"slots":0}`, `{"name":"w","kinds":["k"],"slots":-1}`, `{"name":"w","kinds":["k"],"slots":10001}`,
		`{"name":"w","kinds":["k"],"resources":{"slots":2}}`, `{"name":"w","kinds":["k"],"labels":{"a=b":"c"}}`,
	} {
		if got := h.call("register", params).code(); got != "invalid_params" {
			t.Errorf("register %.80s: %q", params, got)
		}
	}
	for _, params := range []string{`{"name":"w","kinds":["k"],"namespace":"other"}`, `{"name":"w","kinds":["k"],"resources":{"gpu":-1}}`} {
		if got := h.call("register", params).code(); got != "invalid_request" {
			t.Errorf("register %s: %q", params, got)
		}
	}
	h.register(`{"name":"w","kinds":["work"]}`)
	if got := h.call("register", `{"name":"w","kinds":["work"]}`).code(); got != "already_registered" {
		t.Errorf("twice: %q", got)
	}
	id := w.submit(t, `1`)
	token := `{"token":"` + h.told("run").Params.Token + `"`
	for _, tt := range []struct{ method, params, code string }{
		{"progress", token + `,"fraction":2}`, "invalid_params"},
		{"progress", token + `,"faction":1}`, "invalid_request"},
		{"progress", `{"token":"AAAA","fraction":1}`, "stale_attempt"},
		{"progress", `{"fraction":1}`, "stale_attempt"},
		{"log", token + `,"level":"shout","message":"x"}`, "invalid_params"},
		{"log", token + `,"message":"x","fields":[1]}`, "invalid_params"},
		{"output", token + `}`, "invalid_params"},
		{"output", token + `,"text":"x","chunk":1}`, "invalid_params"},
		{"output", token + `,"base64":"?"}`, "invalid_params"},
		{"output", token + `,"text":"` + strings.Repeat("x", 300<<10) + `"}`, "invalid_params"},
		{"checkpoint", token + `}`, "invalid_params"},
		{"step", token + `,"name":"","result":1}`, "invalid_step"},
		{"sleep", token + `,"for":"soon"}`, "invalid_params"},
		{"sleep", token + `,"for":"-1s"}`, "invalid_params"},
		{"wait", token + `,"signal":"go","timeout":"x"}`, "invalid_params"},
		{"wait", token + `,"signal":"No name"}`, "invalid_step"},
		{"succeed", token + `,"result":"` + strings.Repeat("x", 1<<20) + `"}`, "result_too_large"},
		{"fail", token + `,"error":7}`, "invalid_request"},
		{"run", token + `}`, "-32601"},
		{"subscribe", `{"tasks":{}}`, "-32601"},
		{"sleep", token + `,"name":"nap","for":"1ms"}`, ""},
		{"wait", token + `,"signal":"go","timeout":"0s"}`, ""},
		{"output", token + `,"chunk":null}`, ""},
		{"log", token + `,"level":"warn","message":"x","fields":null}`, ""},
	} {
		if got := h.call(tt.method, tt.params).code(); got != tt.code {
			t.Errorf("%s %.60s: %q, want %q", tt.method, tt.params, got, tt.code)
		}
	}
	if got := string(h.must("wait", token+`,"signal":"never","name":"long"}`)); got != `{"got":false,"suspended":true}` {
		t.Errorf("a wait gave %s", got)
	}
	if got := w.task(t, id); got.State != task.Blocked || got.Attempt != 1 {
		t.Errorf("%+v", got)
	}
	if err := w.rt.Signal(t.Context(), task.DefaultNamespace, id, "never", 7); err != nil {
		t.Fatal(err)
	}
	token = `{"token":"` + h.told("run").Params.Token + `"`
	if got := string(h.must("wait", token+`,"signal":"never","name":"long"}`)); got != `{"got":true,"signal":7}` {
		t.Errorf("a wait gave %s", got)
	}
	if _, err := w.rt.Cancel(t.Context(), task.DefaultNamespace, id, ""); err != nil {
		t.Fatal(err)
	}
	if got := h.told("cancel").Params.Reason; got != "cancelled" {
		t.Errorf("cancelled for %q", got)
	}
	if got := h.call("succeed", token+`}`).code(); got != "stale_attempt" {
		t.Errorf("then it succeeds: %q", got)
	}
	h.must("drain", `{}`)
	if got := string(h.must("heartbeat", `{}`)); !strings.Contains(got, `"at"`) {
		t.Errorf("heartbeat gave %s", got)
	}
}

func TestWorkerResumesOverAnotherSocket(t *testing.T) {
	w := newWorkerWorld(t, patience, ws.Bounds{})
	h := w.dial(t)
	r := h.register(`{"name":"w","kinds":["work"],"slots":2}`)
	id := w.submit(t, `1`)
	token := h.told("run").Params.Token
	_ = h.Close()
	next := w.dial(t)
	again := next.register(`{"name":"w","kinds":["work"],"slots":2,"resume":"` + r.Session + `","running":["` + token + `"]}`)
	if again.Worker != r.Worker || again.Session != r.Session || len(again.Attempts) != 1 || again.Attempts[0].Token != token || again.Attempts[0].Task != id.String() {
		t.Fatalf("resumed as %+v", again)
	}
	next.must("succeed", `{"token":"`+token+`","result":1}`)
	if got := w.task(t, id); got.State != task.Succeeded || got.Attempt != 1 {
		t.Errorf("%+v", got)
	}
	// The one before may not have seen that it is broken.
	other := w.dial(t)
	other.register(`{"name":"w","kinds":["work"],"resume":"` + r.Session + `","running":[]}`)
	if code := (&peer{Conn: next.Conn, t: t}).closed(); code != 4101 {
		t.Errorf("the one before is closed with %d", code)
	}
}

func TestSilentWorkerIsClosedAndLosesItsAttempts(t *testing.T) {
	t.Parallel()
	w := newWorkerWorld(t, time.Second, ws.Bounds{})
	id := w.submit(t, `1`, func(s *task.Spec) { s.MaxAttempts = 1 })
	// On a slow machine one is closed before it has the task, or has said who it is.
	for !w.task(t, id).State.Terminal() {
		h := w.dial(t)
		h.SetPingHandler(func(string) error { return nil }) // no pong
		if h.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"register","params":{"name":"w","kinds":["work"]}}`)) != nil {
			continue
		}
		if code := (&peer{Conn: h.Conn, t: t}).closed(); code != 4108 {
			t.Fatalf("closed with %d", code)
		}
		w.lost(t, id)
	}
	if got := w.task(t, id); got.State != task.Failed || got.Failure.Code != task.CodeWorkerLost {
		t.Errorf("%s, %+v", got.State, got.Failure)
	}
}

// lost waits until no worker has a task.
func (w *workerWorld) lost(t *testing.T, id task.ID) {
	t.Helper()
	for w.task(t, id).State == task.Running {
		if t.Context().Err() != nil {
			t.Fatal("it still runs")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWorkerHearsHeartbeatsAndGoodbye(t *testing.T) {
	w := newWorkerWorld(t, patience, ws.Bounds{Heartbeat: 20 * time.Millisecond})
	h := w.dial(t)
	h.register(`{"name":"w","kinds":["work"]}`)
	for range 3 {
		h.told("heartbeat")
	}
	w.rt.Drain(t.Context())
	h.told("drain")
	if got := h.told("goodbye").Params.Delay; got == "" {
		t.Error("goodbye without a delay")
	}
	if code := (&peer{Conn: h.Conn, t: t}).closed(); code != 4101 {
		t.Errorf("closed with %d", code)
	}
	h = w.dial(t)
	if got := h.call("register", `{"name":"w","kinds":["work"]}`).code(); got != "shutting_down" {
		t.Errorf("registered at one that goes: %q", got)
	}
}

func TestSocketsAskForScopes(t *testing.T) {
	w := newWorkerWorld(t, patience, ws.Bounds{})
	w.who = &access.Principal{Namespace: "a", Scopes: []access.Scope{access.TasksRead, access.TasksWrite}}
	if code := (&peer{Conn: w.dial(t).Conn, t: t}).closed(); code != 4403 {
		t.Errorf("without the scope, closed with %d", code)
	}
	w.who = &access.Principal{Namespace: "a", Scopes: []access.Scope{access.Workers}}
	h := w.dial(t)
	h.register(`{"name":"w","kinds":["work"]}`)
	w.submit(t, `"default"`)
	id := w.submit(t, `"a"`, func(s *task.Spec) { s.Namespace = "a" })
	if got := h.told("run").Params.Task; got.ID != id.String() {
		t.Errorf("a worker of a got %s", got.Payload)
	}
	seen := map[string]bool{}
	for _, m := range ws.Methods() {
		if m.Scope == "" || seen[m.Socket+m.Name] {
			t.Errorf("%+v", m)
		}
		seen[m.Socket+m.Name] = true
		if m.Socket == "worker" && m.Name != "renew" && m.Scope != access.Workers {
			t.Errorf("a worker's %s takes %s", m.Name, m.Scope)
		}
	}
	if !seen["watchersubmit"] || !seen["workersucceed"] {
		t.Errorf("%v", seen)
	}
}

func TestWatchersMethodsAskForTheirScope(t *testing.T) {
	w := newWorld(t, ws.Bounds{})
	for scope, may := range map[access.Scope]map[string]bool{
		access.TasksRead:  {"get": true, "subscribe": true},
		access.TasksWrite: {"submit": true, "cancel": true},
		access.Workers:    {},
		access.Admin:      {"get": true, "subscribe": true, "submit": true, "cancel": true, "follow": true},
	} {
		who := access.Principal{Namespace: task.DefaultNamespace, Scopes: []access.Scope{scope}}
		h := ws.New(w.rt, ws.Config{Bounds: patient(ws.Bounds{}), Principal: func(*http.Request) access.Principal { return who }})
		srv := httptest.NewServer(h)
		c, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		p := &peer{Conn: c, t: t}
		for method, params := range map[string]string{
			"get": `{"task":"01a208e5-bb1f-75d7-8575-4f872a995019"}`, "subscribe": `{"queue":"q"}`, "submit": `{"kind":"echo"}`,
			"cancel": `{"task":"01a208e5-bb1f-75d7-8575-4f872a995019"}`, "follow": `{"kind":"echo","follow":true}`, "ping": `{}`, "unsubscribe": `{"subscription":"x"}`,
		} {
			name := method
			if method == "follow" {
				name = "submit"
			}
			m := p.call(name, params)
			forbidden := m.Error != nil && m.Error.Data != nil && m.Error.Data.Code == "forbidden"
			if want := !may[method] && method != "ping" && method != "unsubscribe"; forbidden != want {
				t.Errorf("%s with %s: forbidden %t, want %t (%+v)", method, scope, forbidden, want, m.Error)
			}
		}
		_ = c.Close()
		srv.Close()
	}
}

// Whatever a worker says, the server stays up and serves others.
func FuzzWorkerSocket(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"register","params":{"name":"w","kinds":["work"],"slots":2}}`, `{"jsonrpc":"2.0","id":1,"method":"succeed","params":{"token":"x"}}`,
		`{"jsonrpc":"2.0","method":"output","params":{"token":"","chunk":{}}}`, `[{"jsonrpc":"2.0","id":1,"method":"heartbeat"},7]`, `{`, `[[`, `{"jsonrpc":"2.0","id":{},"method":"register","params":[]}`,
		`{"jsonrpc":"2.0","id":1,"method":"register","params":{"name":"w","kinds":["work"],"resume":"x","running":["y"]}}`,
	} {
		f.Add([]byte(seed), byte(websocket.TextMessage))
	}
	w := newWorkerWorld(f, patience, ws.Bounds{Message: 64 << 10})
	f.Fuzz(func(t *testing.T, message []byte, kind byte) {
		h := w.dial(t)
		defer h.Close()
		if kind != websocket.BinaryMessage {
			kind = websocket.TextMessage
		}
		_ = h.WriteMessage(int(kind), message)
		_ = h.WriteMessage(websocket.TextMessage, message)
		other := w.dial(t)
		defer other.Close()
		if n := other.call("heartbeat", `{}`); n.Error != nil {
			t.Errorf("%+v", n.Error)
		}
	})
}
