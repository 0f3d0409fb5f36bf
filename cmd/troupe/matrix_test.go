package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// The authorization matrix: every operation of the document, by everybody.

// canary stands in whatever one tenant has; another one must never see it.
const canary = "canary-of-acme"

// visitor is somebody with a credential, or without.
type visitor struct {
	name, key string
	namespace string
	scopes    []access.Scope // nil: the credential opens nothing
}

func (v visitor) may(scope string) bool {
	return access.Allows(v.scopes, access.Scope(scope))
}

// operation is as much of the document as says who may.
type operation struct {
	id, method, path string
	scopes           []string
	operator         bool
	body             bool
}

// town is a server with two tenants and all kinds of visitors.
type town struct {
	server   string
	visitors []visitor
	operator *client.Client
	owner    *client.Client // may everything in acme, as does
	master   visitor
}

func newTown(t *testing.T) *town {
	t.Helper()
	dir := t.TempDir()
	first := troupe(t, "", false, "", "keys", "create", "--local", "--data", dir, "--name", "first", "--scope", "admin")
	wantStatus(t, first, 0)
	p := &town{server: serveIn(t, "--data", dir)}
	p.operator = p.as(t, strings.TrimSpace(first.out))
	make1 := func(namespace, name string, scopes ...access.Scope) transport.NewKey {
		k, err := p.operator.CreateKey(t.Context(), transport.KeyBody{Name: name, Namespace: namespace, Scopes: scopes})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	p.visitors = []visitor{{name: "nobody"}}
	for _, of := range []string{"acme", "globex"} {
		for name, scopes := range map[string][]access.Scope{
			"reader": {access.TasksRead}, "writer": {access.TasksWrite}, "worker": {access.Workers}, "admin": {access.Admin},
			"user": {access.TasksRead, access.TasksWrite},
		} {
			k := make1(of, name, scopes...)
			p.visitors = append(p.visitors, visitor{of + " " + name, k.Secret, of, scopes})
			if of == "acme" && name == "admin" {
				p.owner, p.master = p.as(t, k.Secret), p.visitors[len(p.visitors)-1]
			}
		}
	}
	revoked := make1("acme", "revoked", access.Admin)
	expired := make1("acme", "expired", access.Admin)
	if err := p.owner.RevokeKey(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	soon := p.expire(t, expired.ID)
	p.visitors = append(p.visitors, visitor{name: "revoked", key: revoked.Secret}, visitor{name: "expired", key: expired.Secret},
		visitor{name: "a made-up key", key: "trp_" + strings.Repeat("0", 33)}, visitor{name: "no key at all", key: "nonsense"})
	await(t.Context(), t, "the key expires", func() bool { return time.Now().After(soon) })
	return p
}

// jsonTime is a time as a body has it.
func jsonTime(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// expire has a key expire, and says when.
func (p *town) expire(t *testing.T, id string) (at time.Time) {
	t.Helper()
	status, body := 0, ""
	for soon := 50 * time.Millisecond; soon < patience; soon *= 2 {
		at = time.Now().Add(soon)
		if status, body = p.request(t, p.master, http.MethodPatch, "/v1/keys/"+id, `{"expires_at":"`+jsonTime(at)+`"}`); status == http.StatusOK {
			return at
		}
		if time.Now().Before(at) {
			break // else it was over by the time the server heard of it
		}
	}
	t.Fatalf("%d %s", status, body)
	return at
}

func (p *town) as(t *testing.T, key string) *client.Client {
	t.Helper()
	c, err := client.New(p.server, client.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request makes one as a visitor.
func (p *town) request(t *testing.T, v visitor, method, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.server+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if v.key != "" {
		r.Header.Set("Authorization", "Bearer "+v.key)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// operations reads the document.
func (p *town) operations(t *testing.T) []operation {
	t.Helper()
	_, raw := p.request(t, visitor{}, http.MethodGet, "/openapi.json", "")
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string                `json:"operationId"`
			Security    []map[string][]string `json:"security"`
			Operator    bool                  `json:"x-operator"`
			RequestBody *struct{}             `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(raw), &document); err != nil {
		t.Fatal(err)
	}
	var all []operation
	for path, methods := range document.Paths {
		for method, op := range methods {
			switch {
			case path == "/v1/ws" || path == "/v1/worker": // their methods have a matrix of their own
			case !strings.HasPrefix(path, "/v1/"):
				if len(op.Security) > 0 && path != "/metrics" {
					t.Errorf("%s asks for a credential", path)
				}
			case len(op.Security) != 1:
				t.Errorf("%s %s does not say who may", method, path)
			default:
				all = append(all, operation{op.OperationID, strings.ToUpper(method), path, op.Security[0]["bearer"], op.Operator, op.RequestBody != nil})
			}
		}
	}
	if len(all) < 40 {
		t.Fatalf("the document has %d operations", len(all))
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return all
}

// belongings are what acme has, made anew behind each cell that may destroy them.
type belongings struct{ task, ended, batch, key, schedule, callback string }

func (p *town) belongings(t *testing.T) belongings {
	t.Helper()
	one := func(kind string, after ...string) string {
		v, _, err := p.owner.Submit(t.Context(), transport.Submission{
			Kind: kind, Payload: json.RawMessage(`"` + canary + `"`), Labels: map[string]string{"of": canary}, DependsOn: after,
		})
		if err != nil {
			t.Fatal(err)
		}
		return v.ID
	}
	b := belongings{task: one("nobody.serves"), schedule: "s" + strings.ReplaceAll(uuid.NewString(), "-", "")}
	b.ended = one("demo.echo")
	if _, err := p.owner.Result(t.Context(), b.ended, patience); err != nil {
		t.Fatal(err)
	}
	status, answer := p.request(t, p.master, http.MethodPost, "/v1/batches", `{"tasks":[{"kind":"nobody.serves","payload":"`+canary+`"}]}`)
	var batch struct {
		ID string `json:"batch_id"`
	}
	if err := json.Unmarshal([]byte(answer), &batch); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	b.batch = batch.ID
	k, err := p.owner.CreateKey(t.Context(), transport.KeyBody{Name: canary})
	if err != nil {
		t.Fatal(err)
	}
	b.key = k.ID
	if _, err := p.owner.SetSchedule(t.Context(), transport.ScheduleBody{
		Name: b.schedule, Every: "24h", Task: transport.Submission{Kind: "nobody.serves", Payload: json.RawMessage(`"` + canary + `"`)},
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// target is an operation's path with the ids of somebody's belongings, and a body
// that would do.
func (b belongings) target(t *testing.T, op operation) (path, body string) {
	t.Helper()
	id := b.task
	switch {
	case slices.Contains([]string{"delete-task", "get-result", "get-events", "retry-task"}, op.id):
		id = b.ended
	case strings.HasPrefix(op.path, "/v1/batches"):
		id = b.batch
	case strings.HasPrefix(op.path, "/v1/keys"):
		id = b.key
	case strings.HasPrefix(op.path, "/v1/workers"):
		id = "local"
	}
	name := "of-acme"
	if strings.HasPrefix(op.path, "/v1/schedules") {
		name = b.schedule
	}
	path = strings.NewReplacer("{id}", id, "{name}", name).Replace(op.path)
	bodies := map[string]string{
		"submit-task":        `{"kind":"nobody.serves"}`,
		"submit-batch":       `{"tasks":[{"kind":"nobody.serves"}]}`,
		"set-batch-callback": `{"kind":"nobody.serves"}`,
		"cancel-task":        `{}`,
		"signal-task":        `1`,
		"change-queue":       `{"weight":2}`,
		"change-kind":        `{"concurrency":7}`,
		"set-resource":       `{"capacity":3}`,
		"create-schedule":    `{"name":"` + "n" + strings.ReplaceAll(uuid.NewString(), "-", "") + `","every":"24h","task":{"kind":"nobody.serves"}}`,
		"set-schedule":       `{"every":"24h","task":{"kind":"nobody.serves"}}`,
		"change-schedule":    `{"paused":true}`,
		"create-key":         `{"name":"made by a cell"}`,
		"change-key":         `{"name":"changed by a cell"}`,
		"rotate-key":         `{}`,
		"change-namespace":   `{"weight":2}`,
	}
	body, there := bodies[op.id]
	if op.body && !there {
		t.Errorf("%s wants a body, and the matrix has none for it: add one", op.id)
	}
	return path, body
}

// everybodys are operations on what is named the same in every namespace, or is
// everybody's: they are not about what somebody else has.
var everybodys = []string{
	"change-queue", "change-kind", "set-schedule", "get-me", "create-ticket", "submit-task", "submit-batch", "create-schedule", "create-key",
	"drain-worker",
}

func TestAuthorizationMatrix(t *testing.T) {
	t.Parallel()
	p := newTown(t)
	cells := 0
	var b belongings
	spoilt := true
	for _, op := range p.operations(t) {
		for _, v := range p.visitors {
			if spoilt {
				b = p.belongings(t)
			}
			path, body := b.target(t, op)
			cell := fmt.Sprintf("%s %s by %s", op.method, op.path, v.name)
			status, answer := p.request(t, v, op.method, path, body)
			cells++
			allowed := v.scopes != nil && (len(op.scopes) == 0 || v.may(op.scopes[0])) && !op.operator
			spoilt = allowed && op.method != http.MethodGet // who may not has left them untouched, as is seen below
			switch {
			case v.scopes == nil:
				wantProblem(t, cell, status, answer, http.StatusUnauthorized, "unauthorized", "rate_limited")
			case !allowed:
				wantProblem(t, cell, status, answer, http.StatusForbidden, "forbidden")
			case status == http.StatusUnauthorized || status == http.StatusForbidden || status >= http.StatusInternalServerError:
				t.Errorf("%s: %d %s", cell, status, answer)
			case v.namespace == "acme" && status >= http.StatusBadRequest && op.id != "drain-worker" && op.id != "retry-task":
				t.Errorf("%s, which may: %d %s", cell, status, answer)
			case v.namespace == "globex" && strings.Contains(op.path, "{") && !slices.Contains(everybodys, op.id):
				nothing := belongings{uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString(), "none", ""}
				path, body := nothing.target(t, op)
				otherStatus, other := p.request(t, v, op.method, path, body)
				if status != http.StatusNotFound || status != otherStatus || withoutID(answer) != withoutID(other) {
					t.Errorf("%s: %d %s\nand of what is not there: %d %s", cell, status, answer, otherStatus, other)
				}
			}
			if v.namespace != "acme" && strings.Contains(answer, canary) {
				t.Errorf("%s leaks: %s", cell, answer)
			}
			if v.namespace != "acme" || !allowed {
				p.untouched(t, cell, b)
			}
		}
	}
	t.Logf("%d cells", cells)
}

// wantProblem wants a status and one of the codes. Whoever guesses is slowed down
// in the end, so that the second code comes with its own status.
func wantProblem(t *testing.T, cell string, status int, answer string, want int, codes ...string) {
	t.Helper()
	var got transport.Problem
	if err := json.Unmarshal([]byte(answer), &got); err != nil || !slices.Contains(codes, got.Code) || status != got.Status ||
		got.Code == codes[0] && status != want {
		t.Errorf("%s: %d %s", cell, status, answer)
	}
}

// withoutID takes out what differs from one answer to the next.
func withoutID(answer string) string {
	var p transport.Problem
	if json.Unmarshal([]byte(answer), &p) == nil {
		p.RequestID = ""
		raw, _ := json.Marshal(p)
		return string(raw)
	}
	return answer
}

// untouched looks whether all that acme has is as it was.
func (p *town) untouched(t *testing.T, cell string, b belongings) {
	t.Helper()
	for _, at := range []string{"/v1/tasks/" + b.task, "/v1/tasks/" + b.ended, "/v1/batches/" + b.batch, "/v1/keys/" + b.key, "/v1/schedules/" + b.schedule} {
		status, answer := p.request(t, p.master, http.MethodGet, at, "")
		changed := strings.Contains(answer, `"cancelled"`) && at == "/v1/tasks/"+b.task || strings.Contains(answer, "revoked_at") || strings.Contains(answer, `"paused":true`)
		if status != http.StatusOK || changed {
			t.Errorf("%s touched %s: %d %s", cell, at, status, answer)
		}
	}
}

// What another tenant has is nowhere to be found by naming it in a query, a cursor, a
// body, a batch or a dependency.
func TestAnothersIDsLeadNowhere(t *testing.T) {
	t.Parallel()
	p := newTown(t)
	b := p.belongings(t)
	i := slices.IndexFunc(p.visitors, func(v visitor) bool { return v.name == "globex admin" })
	other := p.visitors[i]
	submit := func(body string) (int, string) { return p.request(t, other, http.MethodPost, "/v1/tasks", body) }
	id := uuid.NewString()

	for name, query := range map[string]string{
		"batch": "batch_id=" + b.batch, "label": "label=of=" + canary, "kind": "kind=nobody.serves", "all": "limit=1000",
	} {
		status, answer := p.request(t, other, http.MethodGet, "/v1/tasks?"+query, "")
		if status != http.StatusOK || strings.Contains(answer, canary) || strings.Contains(answer, b.task) {
			t.Errorf("by %s: %d %s", name, status, answer)
		}
	}
	_, page := p.request(t, p.master, http.MethodGet, "/v1/tasks?limit=1", "")
	var list transport.TaskList
	if err := json.Unmarshal([]byte(page), &list); err != nil || list.NextCursor == "" {
		t.Fatalf("%v: %s", err, page)
	}
	if status, answer := p.request(t, other, http.MethodGet, "/v1/tasks?cursor="+list.NextCursor, ""); status != http.StatusOK || strings.Contains(answer, canary) {
		t.Errorf("by cursor: %d %s", status, answer)
	}
	for field, body := range map[string]string{
		"depends_on": `{"kind":"demo.echo","depends_on":["%s"]}`,
	} {
		status1, answer1 := submit(fmt.Sprintf(body, b.task))
		status2, answer2 := submit(fmt.Sprintf(body, id))
		if status1 != status2 || withoutID(strings.ReplaceAll(answer1, b.task, id)) != withoutID(answer2) {
			t.Errorf("%s: %d %s\nof none: %d %s", field, status1, answer1, status2, answer2)
		}
	}
	if status, answer := p.request(t, other, http.MethodPost, "/v1/batches?batch_id="+b.batch, `{"tasks":[{"kind":"demo.echo"}]}`); status != http.StatusCreated {
		t.Errorf("%d %s", status, answer)
	}
	if _, answer := p.request(t, p.master, http.MethodGet, "/v1/batches/"+b.batch, ""); !strings.Contains(answer, `"total":1`) {
		t.Errorf("another's task is in the batch: %s", answer)
	}
	for _, key := range []string{"unique_key", "cache"} {
		value := `"` + canary + `"`
		if key == "cache" {
			value = `{"key":"` + canary + `","ttl":"1h"}`
		}
		body := `{"kind":"demo.echo","payload":"%s","` + key + `":` + value + `}`
		_, mine := p.request(t, p.master, http.MethodPost, "/v1/tasks?", fmt.Sprintf(body, canary))
		status, answer := submit(fmt.Sprintf(body, "theirs"))
		if status != http.StatusCreated || strings.Contains(answer, canary+`","payload`) || idOf(t, mine) == idOf(t, answer) {
			t.Errorf("by %s: %d %s", key, status, answer)
		}
		if result, err := p.as(t, other.key).Result(t.Context(), idOf(t, answer), patience); err != nil || !bytes.Equal(result, []byte(`"theirs"`)) {
			t.Errorf("by %s: %s, %v", key, result, err)
		}
	}
}

func idOf(t *testing.T, answer string) string {
	t.Helper()
	var v transport.Task
	if err := json.Unmarshal([]byte(answer), &v); err != nil || v.ID == "" {
		t.Fatalf("%v: %s", err, answer)
	}
	return v.ID
}
