package container

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/runtime/task"
)

// The library counts what a node could not deliver, for a second, in a goroutine.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// program is what runs in a container: it writes and returns its status. term is
// closed when it is asked to end, kill when it has no choice.
type program func(out, errs io.Writer, term, kill <-chan struct{}) (status int)

// fakeContainer is one of the fake engine's.
type fakeContainer struct {
	Config struct {
		Labels map[string]string
	}
	program    program
	term, kill chan struct{}
	askOnce    sync.Once
	killOnce   sync.Once

	mu     sync.Mutex
	log    []byte
	grown  chan struct{} // closed and replaced when the log grows or the program ends
	state  string
	status int
	oom    bool
}

func (c *fakeContainer) tell() {
	close(c.grown)
	c.grown = make(chan struct{})
}

type stream struct {
	c    *fakeContainer
	kind byte
}

func (s stream) Write(b []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.log = append(s.c.log, frame(s.kind, b)...)
	s.c.tell()
	return len(b), nil
}

func frame(kind byte, b []byte) []byte {
	head := []byte{kind, 0, 0, 0}
	return append(binary.BigEndian.AppendUint32(head, uint32(len(b))), b...)
}

// fakeEngine speaks as much of the Docker API as this kind uses.
type fakeEngine struct {
	*httptest.Server

	address string
	program program // of the containers that are made from now on

	mu         sync.Mutex
	images     map[string]bool
	pullable   map[string][]string // messages of a pull
	containers map[string]*fakeContainer
	asked      []string // requests in order, without the API's version
	created    []string // the bodies of requests to make one
	fault      func(w http.ResponseWriter, r *http.Request, path string) bool
	running    sync.WaitGroup
}

func newEngine(t *testing.T) *fakeEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEngine{
		address: "unix://" + socket, images: map[string]bool{"docker.io/library/alpine:3": true},
		pullable: map[string][]string{}, containers: map[string]*fakeContainer{}, program: says("hello\n", "", 0),
	}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(e.serve))
	_ = e.Listener.Close()
	e.Listener = l
	e.Start()
	t.Cleanup(func() {
		for _, c := range e.all() {
			c.killOnce.Do(func() { close(c.kill) })
		}
		e.running.Wait()
		e.CloseClientConnections()
		e.Close()
	})
	return e
}

// says is a program that writes and ends.
func says(out, errs string, status int) program {
	return func(o, e io.Writer, _, _ <-chan struct{}) int {
		if out != "" {
			_, _ = io.WriteString(o, out)
		}
		if errs != "" {
			_, _ = io.WriteString(e, errs)
		}
		return status
	}
}

// waits is a program that says that it is up, and goodbye when it is asked to end.
func waits(out, _ io.Writer, term, kill <-chan struct{}) int {
	_, _ = io.WriteString(out, "up\n")
	select {
	case <-term:
		_, _ = io.WriteString(out, "bye\n")
		return 143
	case <-kill:
		return 137
	}
}

func (e *fakeEngine) all() (all []*fakeContainer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		all = append(all, c)
	}
	return all
}

// left are the names of containers that are there.
func (e *fakeEngine) left() (names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.containers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (e *fakeEngine) requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

func (e *fakeEngine) add(a attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := newFakeContainer(nil)
	c.Config.Labels = a.labels()
	e.containers[a.name()] = c
}

func newFakeContainer(p program) *fakeContainer {
	return &fakeContainer{program: p, term: make(chan struct{}), kill: make(chan struct{}), grown: make(chan struct{}), state: "created"}
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (e *fakeEngine) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if version, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/"); ok && version == "v1.47" {
		path = "/" + rest
	} else if path != "/_ping" {
		refuse(w, http.StatusBadRequest, "the version was not negotiated: "+path)
		return
	}
	query, _ := url.QueryUnescape(r.URL.RawQuery)
	e.mu.Lock()
	line := r.Method + " " + path
	if query != "" {
		line += "?" + query
	}
	e.asked = append(e.asked, line)
	fault := e.fault
	e.mu.Unlock()
	if fault != nil && fault(w, r, path) {
		return
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/_ping":
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Ostype", "linux")
	case r.Method == http.MethodGet && parts[0] == "images":
		e.inspectImage(w, strings.TrimSuffix(strings.TrimPrefix(path, "/images/"), "/json"))
	case path == "/images/create":
		e.pull(w, r)
	case path == "/containers/json":
		e.list(w, r)
	case path == "/containers/create":
		e.create(w, r)
	case parts[0] == "containers":
		e.container(w, r, parts)
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

func (e *fakeEngine) inspectImage(w http.ResponseWriter, name string) {
	e.mu.Lock()
	known := e.images[name]
	e.mu.Unlock()
	if !known {
		refuse(w, http.StatusNotFound, "No such image: "+name)
		return
	}
	answer(w, map[string]string{"Id": "sha256:1"})
}

func (e *fakeEngine) pull(w http.ResponseWriter, r *http.Request) {
	name, tag := r.URL.Query().Get("fromImage"), r.URL.Query().Get("tag")
	if strings.HasPrefix(tag, "sha256:") {
		name += "@" + tag
	} else {
		name += ":" + tag
	}
	e.mu.Lock()
	messages, known := e.pullable[name]
	e.mu.Unlock()
	if !known {
		refuse(w, http.StatusNotFound, "pull access denied for "+name)
		return
	}
	for _, m := range messages {
		_, _ = io.WriteString(w, m+"\n")
		if strings.Contains(m, "error") {
			return
		}
	}
	e.mu.Lock()
	e.images[name] = true
	e.mu.Unlock()
}

func (e *fakeEngine) list(w http.ResponseWriter, r *http.Request) {
	var filters struct{ Label map[string]bool }
	_ = json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters)
	type summary struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	found := []summary{}
	e.mu.Lock()
	for name, c := range e.containers {
		for label := range filters.Label {
			key, value, exact := strings.Cut(label, "=")
			if got, ok := c.Config.Labels[key]; ok && (!exact || got == value) {
				found = append(found, summary{name, c.Config.Labels})
			}
		}
	}
	e.mu.Unlock()
	answer(w, found)
}

func (e *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	name := r.URL.Query().Get("name")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created = append(e.created, strings.TrimSpace(string(body)))
	if _, taken := e.containers[name]; taken {
		refuse(w, http.StatusConflict, `Conflict. The container name "/`+name+`" is already in use`)
		return
	}
	c := newFakeContainer(e.program)
	if err := json.Unmarshal(body, &c.Config); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	e.containers[name] = c
	w.WriteHeader(http.StatusCreated)
	answer(w, map[string]any{"Id": name, "Warnings": []string{}})
}

func (e *fakeEngine) container(w http.ResponseWriter, r *http.Request, parts []string) {
	e.mu.Lock()
	c := e.containers[parts[1]]
	e.mu.Unlock()
	if c == nil {
		refuse(w, http.StatusNotFound, "No such container: "+parts[1])
		return
	}
	verb := r.Method
	if len(parts) > 2 {
		verb = parts[2]
	}
	switch verb {
	case "start":
		e.start(c)
		w.WriteHeader(http.StatusNoContent)
	case "json":
		c.mu.Lock()
		defer c.mu.Unlock()
		answer(w, map[string]any{"Id": parts[1], "State": map[string]any{
			"Status": c.state, "Running": c.state == "running", "ExitCode": c.status, "OOMKilled": c.oom,
		}})
	case "wait":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		if c.await(r.Context()) {
			c.mu.Lock()
			defer c.mu.Unlock()
			_ = json.NewEncoder(w).Encode(map[string]int{"StatusCode": c.status})
		}
	case "logs":
		c.logs(w, r)
	case "stop":
		c.askOnce.Do(func() { close(c.term) })
		c.await(r.Context())
		w.WriteHeader(http.StatusNoContent)
	case "kill":
		c.killOnce.Do(func() { close(c.kill) })
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		if r.URL.RawQuery != "force=1&v=1" {
			refuse(w, http.StatusConflict, "cannot remove container: container is running")
			return
		}
		c.killOnce.Do(func() { close(c.kill) })
		e.mu.Lock()
		delete(e.containers, parts[1])
		e.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

func (e *fakeEngine) start(c *fakeContainer) {
	c.mu.Lock()
	c.state = "running"
	c.mu.Unlock()
	e.running.Go(func() {
		status := c.program(stream{c, 1}, stream{c, 2}, c.term, c.kill)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state, c.status = "exited", status
		c.tell()
	})
}

// await returns when the container is not running, false if ctx ended first.
func (c *fakeContainer) await(ctx context.Context) bool {
	for {
		c.mu.Lock()
		state, grown := c.state, c.grown
		c.mu.Unlock()
		if state != "running" {
			return true
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

func (c *fakeContainer) logs(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	for at := 0; ; {
		c.mu.Lock()
		rest, state, grown := c.log[at:], c.state, c.grown
		at = len(c.log)
		c.mu.Unlock()
		_, _ = w.Write(rest)
		_ = http.NewResponseController(w).Flush()
		if state != "running" || r.URL.Query().Get("follow") != "1" {
			return
		}
		select {
		case <-grown:
		case <-r.Context().Done():
			return
		}
	}
}

// recorder keeps what a handler said. heard gets each piece of output when it comes.
type recorder struct {
	mu       sync.Mutex
	out      strings.Builder
	logged   []string
	progress []string
	heard    chan string
	refuse   error // of output
}

func newRecorder() *recorder { return &recorder{heard: make(chan string, 10_000)} }

func (r *recorder) EmitBytes(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return r.refuse
	}
	r.out.Write(b)
	r.heard <- string(b)
	return nil
}

func (r *recorder) Log(_ slog.Level, message string, _ ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logged = append(r.logged, message)
	return nil
}

func (r *recorder) Progress(fraction float64, message string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, strconv.FormatFloat(fraction, 'g', -1, 64)+" "+message)
	return nil
}

func (r *recorder) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// book is who knows the tasks.
type book map[string]task.Task

func (b book) Task(_ context.Context, namespace string, id task.ID) (task.Task, error) {
	t, ok := b[namespace+"/"+id.String()]
	if !ok {
		return task.Task{}, task.ErrNotFound
	}
	return t, nil
}

const taskID = "01890a5d-ac96-774b-bcce-b302099a8057"

var own = attempt{namespace: "acme", task: taskID, number: 2}

// kindOf is a kind on a fake engine, changed by change.
func kindOf(t *testing.T, e *fakeEngine, change ...func(*Config)) *Kind {
	t.Helper()
	images, err := ParseImages([]string{"alpine", "ghcr.io/acme/**"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Engine: e.address, Images: images}
	for _, c := range change {
		c(&cfg)
	}
	k, err := newKind(book{}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.engine.Close() })
	return k
}

func run(t *testing.T, k *Kind, payload string) (*recorder, result, error) {
	t.Helper()
	r := newRecorder()
	got, err := k.run(t.Context(), r, own, json.RawMessage(payload))
	return r, got, err
}

func wantFailure(t *testing.T, err error, code string, retryable bool, says string) {
	t.Helper()
	f, ok := errors.AsType[*task.Failure](err)
	if !ok || f.Code != code || f.Retryable != retryable || !strings.Contains(f.Message, says) {
		t.Errorf("got %v (%+v), want %s: %s", err, f, code, says)
	}
}
