package dashboard_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/dashboard"
)

// stage is a server for the page to talk to: the same shapes and the same
// protocol, but tasks do what the test says, and the connection breaks when the
// test wants it to.
type stage struct {
	*httptest.Server

	mu       sync.Mutex
	acts     map[string]*act
	watchers map[*watcher]struct{}
	breaks   []rupture
	shown    int // events of single tasks written, over all connections
	asked    []string
	posted   []string
	kinds    []string
	door     door
	why      string   // tasks wait, as explain has it
	refusals []string // what the next submissions are refused with
	echoes   bool     // a task that is not there is refused in its own words
}

// act is a task with its log.
type act struct {
	task   transport.Task
	events []transport.Event
}

// rupture ends the connection once that many events were shown: with a close
// code, or with 0 as a cut cable does.
type rupture struct{ after, code int }

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{
		acts: map[string]*act{}, watchers: map[*watcher]struct{}{},
		why:   `It needs 1 of "gpu" and 0 is free; 2 stand before it.`,
		kinds: []string{"demo.echo", "demo.flaky", "demo.panic", "demo.sleep", "demo.stream", "exec"},
	}
	mux := http.NewServeMux()
	mux.Handle("/", dashboard.Handler())
	mux.HandleFunc("GET /v1/ws", s.serveSocket)
	mux.HandleFunc("GET /v1/tasks", s.serveList)
	mux.HandleFunc("POST /v1/tasks", s.serveSubmit)
	mux.HandleFunc("GET /v1/tasks/{id}", s.serveTask)
	mux.HandleFunc("DELETE /v1/tasks/{id}", s.serveDelete)
	mux.HandleFunc("GET /v1/tasks/{id}/explain", s.serveExplain)
	mux.HandleFunc("POST /v1/tasks/{id}/cancel", s.serveCancel)
	mux.HandleFunc("POST /v1/tasks/{id}/retry", s.serveRetry)
	mux.HandleFunc("GET /v1/stats", s.serveStats)
	mux.HandleFunc("GET /v1/workers", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, transport.WorkerList{Workers: []transport.Worker{{ID: "w", Name: "local", Node: "node-a", Kinds: s.kinds}}})
	})
	mux.HandleFunc("GET /v1/tasks/{id}/result", s.serveResult)
	mux.HandleFunc("GET /v1/me", s.serveMe)
	mux.HandleFunc("POST /v1/tickets", s.serveTicket)
	s.Server = httptest.NewServer(s.guard(mux))
	t.Cleanup(func() {
		s.drop(0)
		s.Close()
	})
	return s
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

func refuse(w http.ResponseWriter, p *transport.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// add puts a task on the stage, and tells those who follow the list.
func (s *stage) add(t transport.Task) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.ID == "" {
		t.ID = fmt.Sprintf("0197a000-%04x-7000-8000-%012x", len(s.acts), len(s.acts)*7919+4242)
	}
	t.Namespace, t.Queue = "default", cmp.Or(t.Queue, "default")
	t.MaxAttempts = cmp.Or(t.MaxAttempts, 3)
	if time.Time(t.CreatedAt).IsZero() {
		t.CreatedAt = task.Time(time.Now())
	}
	if t.Payload == nil {
		t.Payload = json.RawMessage("null")
	}
	if t.Resources == nil {
		t.Resources = task.Resources{"slots": 1000}
	}
	t.Cursor = "0.0"
	state := cmp.Or(t.State, task.Queued)
	t.State = 0
	s.acts[t.ID] = &act{task: t}
	s.tell(t.ID, task.EventState, object{"state": cmp.Or(min(state, task.Queued), task.Queued), "attempt": 0})
	if state == task.Running {
		s.tell(t.ID, task.EventState, object{"state": "running", "attempt": 1, "node": "node-a", "worker": "local"})
	}
	return t.ID
}

// say adds an event to a task's log.
func (s *stage) say(id string, kind task.EventType, data any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(id, kind, data)
}

func (s *stage) tell(id string, kind task.EventType, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	a := s.acts[id]
	var d struct {
		State   task.State      `json:"state"`
		Attempt int             `json:"attempt"`
		Node    string          `json:"node"`
		Worker  string          `json:"worker"`
		Result  json.RawMessage `json:"result"`
		Error   *task.Failure   `json:"error"`

		Fraction *float64 `json:"fraction"`
		Message  string   `json:"message"`
	}
	if kind == task.EventState || kind == task.EventProgress {
		if err := json.Unmarshal(raw, &d); err != nil {
			panic(err)
		}
	}
	attempt, seq, _ := strings.Cut(a.task.Cursor, ".")
	n, _ := strconv.Atoi(seq)
	if kind == task.EventState && d.State == task.Running {
		attempt, n = strconv.Itoa(d.Attempt), 0
	}
	e := transport.Event{Task: id, Cursor: attempt + "." + strconv.Itoa(n+1), Type: kind, At: task.Time(time.Now()), Data: raw}
	a.events = append(a.events, e)
	a.task.Cursor = e.Cursor
	at := e.At
	switch kind {
	case task.EventState:
		a.task.State, a.task.Attempt = d.State, d.Attempt
		if d.State == task.Running {
			a.task.StartedAt, a.task.Progress, a.task.Node, a.task.Worker = &at, nil, d.Node, d.Worker
		}
		a.task.Result, a.task.Error, a.task.FinishedAt = nil, nil, nil
		if d.State.Terminal() {
			a.task.FinishedAt, a.task.Result, a.task.Error = &at, d.Result, d.Error
		}
		if d.Error != nil {
			a.task.Errors = append(a.task.Errors, task.AttemptError{
				Attempt: d.Attempt, Code: d.Error.Code, Message: d.Error.Message, At: at, Node: a.task.Node,
			})
		}
	case task.EventProgress:
		a.task.Progress = &transport.Progress{Fraction: d.Fraction, Message: d.Message, At: at}
	default:
	}
	for w := range s.watchers {
		w.show(a, e)
	}
}

// drop breaks all connections.
func (s *stage) drop(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		w.end(code)
	}
}

func (s *stage) state(id string) task.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.acts[id]; a != nil {
		return a.task.State
	}
	return 0
}

func (s *stage) newest(state, kind string, most int) []transport.Task {
	found := []transport.Task{}
	for _, a := range s.acts {
		if (state == "" || a.task.State.String() == state) && (kind == "" || a.task.Kind == kind) {
			found = append(found, a.task)
		}
	}
	slices.SortFunc(found, func(a, b transport.Task) int {
		return cmp.Or(time.Time(b.CreatedAt).Compare(time.Time(a.CreatedAt)), cmp.Compare(b.ID, a.ID))
	})
	return found[:min(len(found), most)]
}

// ---- over HTTP

func (s *stage) serveList(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	answer(w, http.StatusOK, transport.TaskList{Tasks: s.newest(r.FormValue("state"), r.FormValue("kind"), limit)})
}

func (s *stage) known(w http.ResponseWriter, r *http.Request) *act {
	a := s.acts[r.PathValue("id")]
	if a == nil {
		refuse(w, transport.NewProblem(http.StatusNotFound, "task_not_found", "There is no such task."))
	}
	return a
}

func (s *stage) serveTask(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.known(w, r); a != nil {
		answer(w, http.StatusOK, a.task)
	}
}

func (s *stage) serveResult(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.known(w, r); a != nil {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(a.task.Result)
	}
}

func (s *stage) serveDelete(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.known(w, r); a != nil {
		delete(s.acts, a.task.ID)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *stage) serveExplain(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.known(w, r); a != nil {
		answer(w, http.StatusOK, transport.Explanation{Task: a.task, Message: s.why})
	}
}

func (s *stage) serveCancel(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.known(w, r); a != nil {
		s.tell(a.task.ID, task.EventState, object{"state": "cancelled", "attempt": a.task.Attempt})
		answer(w, http.StatusOK, a.task)
	}
}

func (s *stage) serveRetry(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.known(w, r); a != nil {
		s.tell(a.task.ID, task.EventState, object{"state": "queued", "attempt": a.task.Attempt, "reason": "retried"})
		answer(w, http.StatusOK, a.task)
	}
}

func (s *stage) serveSubmit(w http.ResponseWriter, r *http.Request) {
	var raw json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil {
		refuse(w, transport.NewProblem(http.StatusBadRequest, "malformed_json", err.Error()))
		return
	}
	var in transport.Submission
	if err := transport.Decode(raw, &in); err != nil {
		p, _ := transport.ProblemOf(err)
		refuse(w, p)
		return
	}
	if p := s.refusal(); p != nil {
		refuse(w, p)
		return
	}
	if in.Queue == "refused" {
		p := transport.NewProblem(http.StatusUnprocessableEntity, "invalid_task", "The task is not valid.")
		p.Errors = []transport.FieldError{{Path: "queue", Message: "is not one of ours"}}
		refuse(w, p)
		return
	}
	id := s.add(transport.Task{Kind: in.Kind, Queue: in.Queue, Priority: in.Priority, Payload: in.Payload, MaxAttempts: in.MaxAttempts})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posted = append(s.posted, string(raw))
	// The answer is of the moment of the submission. Watchers may know more.
	accepted := s.acts[id].task
	s.tell(id, task.EventState, object{"state": "running", "attempt": 1, "node": "node-a"})
	answer(w, http.StatusCreated, accepted)
}

// refusal is a problem in the words the test has for the next one.
func (s *stage) refusal() *transport.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refusals) == 0 {
		return nil
	}
	x := s.refusals[0]
	s.refusals = s.refusals[1:]
	p := wordedAs(x, http.StatusUnprocessableEntity)
	if len(s.refusals)%2 == 0 {
		p.Detail = "" // then the title is shown
	}
	return p
}

func wordedAs(x string, status int) *transport.Problem {
	return &transport.Problem{
		Type: x, Title: x, Status: status, Detail: x, Code: x, RequestID: x, Errors: []transport.FieldError{{Path: x, Message: x}},
	}
}

func (s *stage) serveStats(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]int64{}
	for _, a := range s.acts {
		counts[a.task.State.String()]++
	}
	answer(w, http.StatusOK, transport.Stats{Counts: counts})
}

// ---- over the WebSocket

// watcher is one connection and what it follows.
type watcher struct {
	stage *stage
	conn  *websocket.Conn
	key   string
	topic map[string]struct{ state, kind string }

	ready *sync.Cond // on the stage's lock
	queue []frame
	code  int
	over  bool
}

type frame struct {
	text    []byte
	counted bool
}

func (s *stage) serveSocket(w http.ResponseWriter, r *http.Request) {
	key, ok := s.admit(w, r)
	if !ok {
		return
	}
	up := websocket.Upgrader{Subprotocols: []string{"troupe.v1.json"}}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	watch := &watcher{stage: s, conn: conn, key: key, topic: map[string]struct{ state, kind string }{}, ready: sync.NewCond(&s.mu)}
	s.mu.Lock()
	s.watchers[watch] = struct{}{}
	watch.notify("hello", object{"session": "s", "server": "stage", "heartbeat": "25s", "limits": object{}})
	s.mu.Unlock()
	written := make(chan struct{})
	go func() {
		defer close(written)
		watch.write()
	}()
	watch.read()
	s.mu.Lock()
	delete(s.watchers, watch)
	watch.end(0)
	s.mu.Unlock()
	<-written
	_ = conn.Close()
}

func (w *watcher) end(code int) {
	if !w.over {
		w.over, w.code = true, code
		w.ready.Signal()
	}
}

func (w *watcher) put(v any, counted bool) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.queue = append(w.queue, frame{text, counted})
	w.ready.Signal()
}

func (w *watcher) notify(method string, params any) {
	w.put(object{"jsonrpc": "2.0", "method": method, "params": params}, false)
}

// show puts an event before a watcher that follows the task or the list.
func (w *watcher) show(a *act, e transport.Event) {
	name := "task:" + e.Task
	if _, ok := w.topic[name]; ok {
		w.event(name, e)
		if a.task.State.Terminal() && e.Type == task.EventState {
			w.notify("end", object{"subscription": name})
			delete(w.topic, name)
		}
	}
	if e.Type != task.EventState && e.Type != task.EventProgress {
		return
	}
	for name, filter := range w.topic {
		if strings.HasPrefix(name, "tasks:") && (filter.kind == "" || filter.kind == a.task.Kind) {
			w.put(object{"jsonrpc": "2.0", "method": "event", "params": object{"subscription": name, "event": e}}, false)
		}
	}
}

func (w *watcher) event(name string, e transport.Event) {
	w.put(object{"jsonrpc": "2.0", "method": "event", "params": object{"subscription": name, "event": e}}, true)
}

func (w *watcher) write() {
	s := w.stage
	for {
		s.mu.Lock()
		for len(w.queue) == 0 && !w.over {
			w.ready.Wait()
		}
		if w.over {
			code := w.code
			s.mu.Unlock()
			if code != 0 {
				_ = w.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "as the test wants"), time.Now().Add(patience))
			}
			_ = w.conn.NetConn().Close()
			return
		}
		next := w.queue[0]
		w.queue = w.queue[1:]
		if next.counted {
			s.shown++
			if len(s.breaks) > 0 && s.shown >= s.breaks[0].after {
				code := s.breaks[0].code
				s.breaks = s.breaks[1:]
				if code == 4101 {
					w.queue = slices.Insert(w.queue, 0, frame{text: []byte(`{"jsonrpc":"2.0","method":"goodbye","params":{"delay":"10ms"}}`)})
				}
				w.end(code)
			}
		}
		s.mu.Unlock()
		if w.conn.WriteMessage(websocket.TextMessage, next.text) != nil {
			_ = w.conn.NetConn().Close()
			return
		}
	}
}

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Task         string `json:"task"`
		After        string `json:"after"`
		Subscription string `json:"subscription"`
		Tasks        *struct {
			State []string `json:"state"`
			Kind  string   `json:"kind"`
		} `json:"tasks"`
	} `json:"params"`
}

func (w *watcher) read() {
	for {
		_, text, err := w.conn.ReadMessage()
		if err != nil {
			return
		}
		var batch []request
		if text[0] != '[' {
			text = slices.Concat([]byte("["), text, []byte("]"))
		}
		if err := json.Unmarshal(text, &batch); err != nil {
			return
		}
		w.stage.mu.Lock()
		for _, r := range batch {
			w.answer(r)
		}
		w.stage.mu.Unlock()
	}
}

func (w *watcher) answer(r request) {
	result := func(v any) { w.put(object{"jsonrpc": "2.0", "id": r.ID, "result": v}, false) }
	switch {
	case r.Method == "ping":
		result(object{"at": task.Time(time.Now())})
	case r.Method == "unsubscribe":
		delete(w.topic, r.Params.Subscription)
		result(object{})
	case r.Method == "subscribe" && r.Params.Tasks != nil:
		state, kind := strings.Join(r.Params.Tasks.State, ","), r.Params.Tasks.Kind
		name := "tasks:" + kind + state
		w.topic[name] = struct{ state, kind string }{state, kind}
		result(object{"subscription": name, "tasks": w.stage.newest(state, kind, 100)})
	case r.Method == "subscribe":
		w.subscribe(r, result)
	}
}

func (w *watcher) subscribe(r request, result func(any)) {
	w.stage.asked = append(w.stage.asked, r.Params.After)
	a := w.stage.acts[r.Params.Task]
	if a == nil {
		p := transport.NewProblem(http.StatusNotFound, "task_not_found", "There is no such task.")
		if w.stage.echoes {
			p = wordedAs(r.Params.Task, http.StatusNotFound)
		}
		w.put(object{"jsonrpc": "2.0", "id": r.ID, "error": object{"code": -32001, "message": p.Detail, "data": p}}, false)
		return
	}
	name := "task:" + a.task.ID
	result(object{"subscription": name, "task": a.task})
	from := 0
	if r.Params.After != "" {
		from = 1 + slices.IndexFunc(a.events, func(e transport.Event) bool { return e.Cursor == r.Params.After })
	}
	for _, e := range a.events[from:] {
		w.event(name, e)
	}
	if a.task.State.Terminal() {
		w.notify("end", object{"subscription": name})
		return
	}
	w.topic[name] = struct{ state, kind string }{}
}
