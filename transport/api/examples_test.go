package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
	"github.com/troupe-run/troupe/transport/spec"
	"github.com/troupe-run/troupe/transport/ws"
)

// everything is a server with all its routes over a real runtime.
type everything struct {
	*Server
	rt    *runtime.Runtime
	store *memory.Store
	http  *httptest.Server
	chief string // a key that may do all
}

func newEverything(t *testing.T) *everything {
	t.Helper()
	e := &everything{store: memory.New()}
	rt, err := runtime.Open(t.Context(), runtime.WithStore(e.store), runtime.WithDrainTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	e.rt = rt
	runtime.Handle(rt, spec.Kind, func(context.Context, *runtime.Task[json.RawMessage]) (map[string]int, error) {
		return map[string]int{"pages": 12}, nil
	})
	secret, err := auth.NewSecret([]byte("sixteen bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	door, err := auth.New(auth.Config{Secret: secret, Accounts: e.store})
	if err != nil {
		t.Fatal(err)
	}
	watchers, workers := ws.New(rt, ws.Config{}), ws.NewWorkers(rt, ws.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var sockets sync.WaitGroup
	sockets.Go(func() { watchers.Run(ctx) })
	sockets.Go(func() { workers.Run(ctx) })
	e.Server = New(rt, Config{
		Door: door, Accounts: e.store, WS: watchers, Workers: workers, Metrics: prometheus.NewRegistry(), Version: "1.0.0",
	})
	e.http = httptest.NewServer(e)
	e.chief = e.key(t, access.Operator, task.ID{}, access.Admin)
	t.Cleanup(func() {
		cancel()
		sockets.Wait()
		e.http.Close()
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// key makes one; with an id of its own where it is given one.
func (e *everything) key(t *testing.T, namespace string, id task.ID, scopes ...access.Scope) string {
	t.Helper()
	plain, k, err := e.door.NewKey(namespace, "made by the test", scopes, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if !id.IsZero() {
		k.ID = id
	}
	by := auth.With(t.Context(), access.Principal{Namespace: namespace})
	if err := e.store.PutKey(t.Context(), k, act(by, "key.create", k.ID.String(), nil)); err != nil {
		t.Fatal(err)
	}
	return plain
}

// do sends a request and reads its answer.
func (e *everything) do(t *testing.T, r *http.Request, key string) reply {
	t.Helper()
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := e.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return reply{Response: res}
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res, body}
}

// given does what has to be there before an example can be true.
func (e *everything) given(t *testing.T, method, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, e.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", mediaJSON)
	if got := e.do(t, r, e.chief); got.StatusCode >= 300 {
		t.Fatalf("%s %s: %d: %s", method, path, got.StatusCode, got.body)
	}
}

// given, by the operation whose examples it is for. It gives the path's parameters
// that the examples cannot know.
var given = map[string]func(*testing.T, *everything) map[string]string{
	"get-task": ended, "get-events": ended, "get-result": ended, "delete-task": ended,
	"cancel-task": later, "signal-task": later, "explain-task": later,
	"retry-task": cancelled,
	"get-batch":  batch, "cancel-batch": batch, "set-batch-callback": batch,
	"get-schedule": schedule, "change-schedule": schedule, "delete-schedule": schedule, "pause-schedule": schedule,
	"resume-schedule": schedule, "trigger-schedule": schedule, "next-ticks": schedule,
	"get-key": aKey, "change-key": aKey, "revoke-key": aKey, "rotate-key": aKey, "list-keys": aKey, "list-audit": aKey,
	"drain-worker": worker,
}

func ended(t *testing.T, e *everything) map[string]string {
	t.Helper()
	e.given(t, "POST", "/v1/tasks", fmt.Sprintf(`{"id":%q,"kind":%q}`, spec.TaskID, spec.Kind))
	e.given(t, "GET", "/v1/tasks/"+spec.TaskID+"/result?wait=1m", "")
	return nil
}

func later(t *testing.T, e *everything) map[string]string {
	t.Helper()
	e.given(t, "POST", "/v1/tasks", fmt.Sprintf(`{"id":%q,"kind":%q,"delay":"1h"}`, spec.TaskID, spec.Kind))
	return nil
}

func cancelled(t *testing.T, e *everything) map[string]string {
	t.Helper()
	later(t, e)
	e.given(t, "POST", "/v1/tasks/"+spec.TaskID+"/cancel", `{}`)
	return nil
}

func batch(t *testing.T, e *everything) map[string]string {
	t.Helper()
	e.given(t, "POST", "/v1/batches?batch_id="+spec.BatchID, fmt.Sprintf(`{"tasks":[{"kind":%q},{"kind":%q,"delay":"1h"}]}`, spec.Kind, spec.Kind))
	return nil
}

func schedule(t *testing.T, e *everything) map[string]string {
	t.Helper()
	e.given(t, "PUT", "/v1/schedules/weekday-report", fmt.Sprintf(`{"every":"1h","task":{"kind":%q}}`, spec.Kind))
	return nil
}

func aKey(t *testing.T, e *everything) map[string]string {
	t.Helper()
	id, err := task.ParseID(spec.KeyID)
	if err != nil {
		t.Fatal(err)
	}
	e.key(t, access.Operator, id, access.TasksRead)
	return nil
}

func worker(t *testing.T, e *everything) map[string]string {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{ws.WorkerSubprotocol}}
	c, res, err := dialer.Dial("ws"+strings.TrimPrefix(e.http.URL, "http")+"/v1/worker", http.Header{"Authorization": {"Bearer " + e.chief}})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	t.Cleanup(func() { _ = c.Close() })
	register := map[string]any{"jsonrpc": "2.0", "id": 1, "method": "register", "params": map[string]any{"name": "w", "kinds": []string{"far"}}}
	if err := c.WriteJSON(register); err != nil {
		t.Fatal(err)
	}
	var answer struct{ Result struct{ Worker string } }
	for answer.Result.Worker == "" {
		if err := c.ReadJSON(&answer); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]string{"id": answer.Result.Worker}
}

// operation is a call as the served document has it.
type operation struct {
	method, path, id string

	OperationID string
	Parameters  []struct {
		Name, In string
		Required bool
		Example  any
	}
	RequestBody *struct {
		Required bool
		Content  map[string]struct {
			Examples map[string]struct{ Value json.RawMessage }
		}
	}
	Responses map[string]struct {
		Content map[string]struct{ Example json.RawMessage }
		Headers map[string]any
	}
	Security []map[string][]access.Scope
	Operator bool `json:"x-operator"`
}

// contract is the served document: its calls, and its schemas by where they stand.
type contract struct {
	operations []operation

	mu      sync.Mutex
	schemas *jsonschema.Compiler
}

func (e *everything) contract(t *testing.T) *contract {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.http.URL+"/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	body := e.do(t, r, "").body
	var d struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{schemas: jsonschema.NewCompiler()}
	c.schemas.AssertFormat()
	if err := c.schemas.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			op := d.Paths[path][method]
			op.method, op.path, op.id = strings.ToUpper(method), path, op.OperationID
			c.operations = append(c.operations, op)
		}
	}
	return c
}

// check validates JSON against the schema that stands at a place in the document.
func (c *contract) check(t *testing.T, body []byte, place ...string) {
	t.Helper()
	var pointer strings.Builder
	for _, step := range place {
		pointer.WriteString("/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(step)))
	}
	c.mu.Lock()
	s, err := c.schemas.Compile("openapi.json#" + pointer.String())
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s is not as the document says: %v", body, err)
	}
}

// example is a request the document shows.
type example struct {
	name, media string
	all         bool // parameters, not only those that must be there
	body        []byte
}

func (op operation) examples() []example {
	if op.RequestBody == nil {
		return []example{{name: "least"}, {name: "all", all: true}}
	}
	var found []example
	if !op.RequestBody.Required {
		found = append(found, example{name: "least"})
	}
	for media, m := range op.RequestBody.Content {
		for name, v := range m.Examples {
			found = append(found, example{name: name, media: media, all: true, body: v.Value})
		}
	}
	return found
}

// request makes one of an example. known are the parameters that an example cannot know.
func (op operation) request(t *testing.T, base string, ex example, known map[string]string) *http.Request {
	t.Helper()
	path, query, header := op.path, url.Values{}, http.Header{}
	for _, p := range op.Parameters {
		if p.Required && p.Example == nil {
			t.Errorf("the parameter %s has no example", p.Name)
		}
		if p.Example == nil || !p.Required && !ex.all {
			continue
		}
		values, many := p.Example.([]any)
		if !many {
			values = []any{p.Example}
		}
		for _, v := range values {
			text := fmt.Sprint(v)
			switch p.In {
			case "path":
				if other, ok := known[p.Name]; ok {
					text = other
				}
				path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(text))
			case "query":
				query.Add(p.Name, text)
			default:
				header.Add(p.Name, text)
			}
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), op.method, base+path+"?"+query.Encode(), bytes.NewReader(ex.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	if ex.media != "" {
		r.Header.Set("Content-Type", ex.media)
	}
	if _, socket := op.Responses["101"]; socket {
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			r.Header.Set(name, value)
		}
	}
	return r
}

// scopes are those that the call needs, each alone.
func (op operation) scopes() []access.Scope {
	if len(op.Security) == 0 {
		return nil
	}
	return op.Security[0][bearer]
}

// TestExamplesOfTheDocumentAreTrue sends each example to a real server, with no more
// of a credential than the document asks for, and looks whether the answer is one that
// it promises.
func TestExamplesOfTheDocumentAreTrue(t *testing.T) {
	t.Parallel()
	c := newEverything(t).contract(t)
	for _, op := range c.operations {
		all := op.examples()
		if len(all) == 0 {
			t.Errorf("%s has no example", op.id)
		}
		for _, ex := range all {
			t.Run(op.id+"/"+ex.name, func(t *testing.T) {
				t.Parallel()
				e := newEverything(t)
				var known map[string]string
				if prepare := given[op.id]; prepare != nil {
					known = prepare(t, e)
				}
				key := ""
				if len(op.Security) > 0 {
					key = e.key(t, access.Operator, task.ID{}, append(op.scopes(), access.Workers)...)
				}
				c.answered(t, op, e.do(t, op.request(t, e.http.URL, ex, known), key))
			})
		}
	}
}

// answered checks an answer against what the document says of the call.
func (c *contract) answered(t *testing.T, op operation, res reply) {
	t.Helper()
	status := strconv.Itoa(res.StatusCode)
	promised, ok := op.Responses[status]
	if !ok || res.StatusCode >= 300 {
		t.Fatalf("%s: %s", status, res.body)
	}
	for name := range promised.Headers {
		if name != "Preference-Applied" && res.Header.Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if len(promised.Content) == 0 {
		if len(res.body) > 0 {
			t.Errorf("an answer without a body has %s", res.body)
		}
		return
	}
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if _, ok := promised.Content[media]; err != nil || !ok {
		t.Fatalf("an answer of type %q", res.Header.Get("Content-Type"))
	}
	place := []string{"paths", op.path, strings.ToLower(op.method), "responses", status, "content", media, "schema"}
	switch media {
	case mediaJSON:
		c.check(t, res.body, place...)
	case mediaNDJSON:
		lines := bufio.NewScanner(bytes.NewReader(res.body))
		for lines.Scan() {
			c.check(t, lines.Bytes(), place...)
		}
	}
}

func TestExamplesOfAnswersAreOfTheirShape(t *testing.T) {
	t.Parallel()
	c := newEverything(t).contract(t)
	for _, op := range c.operations {
		shown := 0
		for status, r := range op.Responses {
			for media, m := range r.Content {
				if m.Example != nil {
					shown++
					c.check(t, m.Example, "paths", op.path, strings.ToLower(op.method), "responses", status, "content", media, "schema")
				}
			}
		}
		_, json := op.Responses["200"].Content[mediaJSON]
		_, made := op.Responses["201"].Content[mediaJSON]
		if (json || made) && shown == 0 {
			t.Errorf("%s shows no answer", op.id)
		}
	}
	for _, one := range codes {
		body, err := json.Marshal(one.example())
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, body, "components", "schemas", "Problem")
	}
}

// TestScopesOfTheDocumentAreTheServers: nobody gets through without a credential, nor
// with one that has every scope but those the document names.
func TestScopesOfTheDocumentAreTheServers(t *testing.T) {
	t.Parallel()
	e := newEverything(t)
	for _, op := range e.contract(t).operations {
		send := func(key string) int {
			return e.do(t, op.request(t, e.http.URL, example{}, nil), key).StatusCode
		}
		if op.Security == nil {
			t.Errorf("%s does not say whether it needs a credential", op.id)
		}
		if len(op.Security) == 0 {
			if got := send(""); got >= 400 {
				t.Errorf("%s is open, and answers %d", op.id, got)
			}
			continue
		}
		if got := send(""); got != http.StatusUnauthorized {
			t.Errorf("%s answers %d to nobody", op.id, got)
		}
		needed := op.scopes()
		if len(needed) == 0 {
			continue
		}
		var others []access.Scope
		for _, s := range access.Scopes() {
			if !slices.Contains(needed, s) && s != access.Admin {
				others = append(others, s)
			}
		}
		if got := send(e.key(t, access.Operator, task.ID{}, others...)); got != http.StatusForbidden {
			t.Errorf("%s answers %d to who lacks %v", op.id, got, needed)
		}
		got := send(e.key(t, "acme", task.ID{}, needed...))
		if forbidden := got == http.StatusForbidden; forbidden != op.Operator {
			t.Errorf("%s answers %d to who has %v in a namespace that is not the operator's", op.id, got, needed)
		}
	}
}

func TestDocumentIsGolden(t *testing.T) {
	t.Parallel()
	e := newEverything(t)
	r := httptest.NewRequest(http.MethodGet, "/openapi.json", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	reply{w.Result(), w.Body.Bytes()}.golden(t, "openapi.json")
}
