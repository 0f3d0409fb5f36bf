package ws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
	"github.com/troupe-run/troupe/transport/spec"
	"github.com/troupe-run/troupe/transport/ws"
)

var update = flag.Bool("update", false, "write the golden files")

// description is the document of the sockets: its messages, and their schemas.
type description struct {
	messages map[string]described

	mu      sync.Mutex
	schemas *jsonschema.Compiler
	seen    map[string]bool
}

type described struct {
	Examples []struct {
		Payload struct {
			Method string
			Params map[string]any
		}
	}
}

func newDescription(t *testing.T) *description {
	t.Helper()
	text := ws.Document("1.0.0")
	var d struct {
		Components struct{ Messages map[string]described }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("asyncapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return &description{messages: d.Components.Messages, schemas: c, seen: map[string]bool{}}
}

// check validates what went over a socket against a message of the document.
func (d *description) check(t *testing.T, name string, payload []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.messages[name]; !known {
		t.Errorf("the document does not know %s: %s", name, payload)
		return
	}
	s, err := d.schemas.Compile("asyncapi.json#/components/messages/" + name + "/payload")
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s is not as the document has %s: %v", payload, name, err)
	}
	d.seen[name] = true
}

// stage is a node with both sockets and a door, and a connection to one of them.
type stage struct {
	*description
	socket string
	rt     *runtime.Runtime
	door   *auth.Door
	other  string // a credential of the same namespace
	conn   *websocket.Conn
	told   []told
}

type told struct {
	Method string
	Params map[string]any
}

func newStage(t *testing.T, d *description, socket string) *stage {
	t.Helper()
	store := memory.New()
	rt, err := runtime.Open(t.Context(), runtime.WithStore(store), runtime.WithDrainTimeout(50*time.Millisecond), runtime.WithWorkerLease(patience))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := auth.NewSecret([]byte("sixteen bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	door, err := auth.New(auth.Config{Secret: secret, Accounts: store})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{description: d, socket: socket, rt: rt, door: door}
	h, subprotocol := ws.New(rt, ws.Config{Server: "test", Door: door, Bounds: patient(ws.Bounds{})}), ws.Subprotocol
	if socket == "worker" {
		// Heartbeats come fast, and the lease is long: nothing here hangs on the machine's speed.
		h, subprotocol = ws.NewWorkers(rt, ws.Config{Server: "test", Door: door, Bounds: patient(ws.Bounds{Heartbeat: 50 * time.Millisecond})}), ws.WorkerSubprotocol
	} else {
		runtime.Handle(rt, spec.Kind, func(_ context.Context, t *runtime.Task[json.RawMessage]) (int, error) {
			return 12, t.EmitText("page 1")
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	who, _ := s.key(t, store, access.TasksRead, access.TasksWrite, access.Workers)
	_, s.other = s.key(t, store, access.TasksRead, access.TasksWrite, access.Workers)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(auth.With(r.Context(), who)))
	}))
	t.Cleanup(func() {
		cancel()
		running.Wait()
		server.Close()
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol}}
	c, res, err := dialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	t.Cleanup(func() { _ = c.Close() })
	s.conn = c
	return s
}

// key makes one, and the principal it stands for.
func (s *stage) key(t *testing.T, store *memory.Store, scopes ...access.Scope) (access.Principal, string) {
	t.Helper()
	plain, k, err := s.door.NewKey(task.DefaultNamespace, "made by the test", scopes, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	act := access.Audit{ID: k.ID, At: time.Now(), Namespace: k.Namespace, Actor: "test", Action: "key.create", Target: k.ID.String()}
	if err := store.PutKey(t.Context(), k, act); err != nil {
		t.Fatal(err)
	}
	return access.Principal{Namespace: k.Namespace, Actor: "key:" + k.ID.String(), Key: k.ID, Scopes: scopes}, plain
}

// read takes the next message, which is as the document says, whatever it is.
func (s *stage) read(t *testing.T) (raw []byte, m told, answer bool) {
	t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	_, raw, err := s.conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	if m.Method != "" {
		s.check(t, s.socket+"."+m.Method+".told", raw)
		s.told = append(s.told, m)
	}
	return raw, m, m.Method == ""
}

// until waits for a notification, unless it has come before.
func (s *stage) until(t *testing.T, method string) told {
	t.Helper()
	for i, m := range s.told {
		if m.Method == method {
			s.told = slices.Delete(s.told, i, i+1)
			return m
		}
	}
	for {
		if _, m, _ := s.read(t); m.Method == method {
			return m
		}
	}
}

// ask sends a request and gives its answer.
func (s *stage) ask(t *testing.T, method string, params any) []byte {
	t.Helper()
	request, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		t.Fatal(err)
	}
	s.check(t, s.socket+"."+method, request)
	if err := s.conn.WriteMessage(websocket.TextMessage, request); err != nil {
		t.Fatal(err)
	}
	for {
		if raw, _, answer := s.read(t); answer {
			return raw
		}
	}
}

// submit puts a task there that examples are about.
func (s *stage) submit(t *testing.T, change ...func(*task.Spec)) {
	t.Helper()
	id, err := task.ParseID(spec.TaskID)
	if err != nil {
		t.Fatal(err)
	}
	change = append(change, func(sp *task.Spec) { sp.ID = id })
	if _, err := s.rt.Submit(t.Context(), spec.Kind, nil, change...); err != nil {
		t.Fatal(err)
	}
}

// prepare does what has to be before a request can be made, and puts into it what no
// example can know.
func (s *stage) prepare(t *testing.T, method string, params map[string]any) {
	t.Helper()
	batch, err := task.ParseID(spec.BatchID)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case s.socket == "watcher" && method != "submit":
		s.submit(t, func(sp *task.Spec) { sp.BatchID, sp.RunAt = batch, time.Now().Add(time.Hour) })
	case s.socket == "worker" && method != "register":
		s.ask(t, "register", map[string]any{"name": "w", "kinds": []string{spec.Kind}})
	}
	if method == "renew" {
		params["credential"] = s.other
	}
	if method == "unsubscribe" {
		s.ask(t, "subscribe", map[string]any{"task": spec.TaskID})
	}
	if _, ok := params["token"]; ok {
		s.submit(t)
		params["token"] = s.until(t, "run").Params["token"]
	}
}

// TestExamplesOfTheSocketsAreTrue sends each example over a real socket, and holds
// everything that comes back to the document.
func TestExamplesOfTheSocketsAreTrue(t *testing.T) {
	t.Parallel()
	d := newDescription(t)
	asked := 0
	for _, m := range ws.Methods() {
		name := m.Socket + "." + m.Name
		if len(d.messages[name].Examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, ex := range d.messages[name].Examples {
			asked++
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, d, m.Socket)
				params := maps.Clone(ex.Payload.Params)
				s.prepare(t, m.Name, params)
				d.check(t, name+".result", s.ask(t, m.Name, params))
			})
		}
	}
	if requests := len(ws.Methods()); asked < requests {
		t.Errorf("%d examples of %d methods", asked, requests)
	}
}

// TestWhatSocketsTellIsDescribed brings about every notification, and finds each of
// them in the document.
func TestWhatSocketsTellIsDescribed(t *testing.T) {
	t.Parallel()
	d := newDescription(t)
	watcher := newStage(t, d, "watcher")
	watcher.until(t, "hello")
	watcher.ask(t, "submit", map[string]any{"kind": spec.Kind, "follow": true})
	watcher.until(t, "event")
	watcher.until(t, "end")
	for _, kind := range []task.FrameKind{task.Gap, task.Reset} { // these take a log that is cut and a watcher that sleeps
		f := &task.Frame{Kind: kind, Topic: "queue:q", Tasks: []task.Task{{Spec: task.Spec{Resources: task.Resources{"slots": 1000}}, State: task.Queued}}}
		name := map[task.FrameKind]string{task.Gap: "gap", task.Reset: "reset"}[kind]
		d.check(t, "watcher."+name+".told", ws.Payload(f))
	}
	leave := func(s *stage) {
		if err := s.rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	leave(watcher)
	watcher.until(t, "goodbye")

	worker := newStage(t, d, "worker")
	worker.until(t, "hello")
	var registered struct{ Result struct{ Worker string } }
	if err := json.Unmarshal(worker.ask(t, "register", map[string]any{"name": "w", "kinds": []string{spec.Kind}}), &registered); err != nil {
		t.Fatal(err)
	}
	worker.until(t, "heartbeat")
	worker.submit(t)
	run := worker.until(t, "run")
	id, err := task.ParseID(spec.TaskID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := worker.rt.Cancel(t.Context(), task.DefaultNamespace, id, ""); err != nil {
		t.Fatal(err)
	}
	worker.until(t, "cancel")
	worker.ask(t, "fail", map[string]any{"token": run.Params["token"], "error": map[string]any{"message": "cancelled"}})
	if err := worker.rt.DrainWorker(t.Context(), task.DefaultNamespace, registered.Result.Worker); err != nil {
		t.Fatal(err)
	}
	worker.until(t, "drain")
	leave(worker)
	worker.until(t, "goodbye")

	for name := range d.messages {
		if strings.HasSuffix(name, ".told") && !d.seen[name] {
			t.Errorf("%s was never told", name)
		}
	}
}

func TestDocumentOfTheSocketsIsGolden(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := json.Indent(&text, ws.Document("1.0.0"), "", "  "); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/asyncapi.json"
	if *update {
		if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}
