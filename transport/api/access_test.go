package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

// house is a front with a door that asks everybody, and a key of the operator's.
type house struct {
	*front
	store *memory.Store
	admin string
}

func newHouse(t *testing.T, cfg Config) *house {
	t.Helper()
	store := memory.New()
	secret, err := auth.NewSecret([]byte("sixteen bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Door, err = auth.New(auth.Config{Secret: secret, Accounts: store}); err != nil {
		t.Fatal(err)
	}
	cfg.Accounts = store
	h := &house{front: newFront(cfg), store: store}
	h.admin = h.key(t, access.Operator, access.Admin).Secret
	return h
}

// key makes one in the store.
func (h *house) key(t *testing.T, namespace string, scopes ...access.Scope) transport.NewKey {
	t.Helper()
	plain, k, err := h.door.NewKey(namespace, "made by the test", scopes, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.PutKey(t.Context(), k, act(auth.With(t.Context(), access.Principal{Namespace: namespace}), "key.create", k.ID.String(), nil)); err != nil {
		t.Fatal(err)
	}
	return transport.NewKey{Key: transport.KeyOf(k), Secret: plain}
}

// as sends a request with a key.
func (h *house) as(t *testing.T, key, method, path, body string) reply {
	t.Helper()
	return h.do(t, method, path, body, "Authorization", "Bearer "+key)
}

func decode[T any](t *testing.T, r reply) (v T) {
	t.Helper()
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

func TestWhoIsAskedForACredentialIsToldHow(t *testing.T) {
	h := newHouse(t, Config{})
	r := h.do(t, "GET", "/v1/tasks", "").want(t, 401)
	if got := r.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("%q", got)
	}
	reader := h.key(t, "acme", access.TasksRead)
	if r := h.as(t, reader.Secret, "POST", "/v1/tasks", echo).want(t, 403); !strings.Contains(string(r.body), "tasks:write") {
		t.Errorf("%s", r.body)
	}
	// Whether it may comes before whether it is right.
	h.as(t, reader.Secret, "POST", "/v1/tasks?nonsense=1", "{").want(t, 403)
	h.as(t, reader.Secret, "GET", "/v1/tasks?nonsense=1", "").want(t, 422)
}

func TestRouteThatNeedsNothingIsNoRoute(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was taken")
		}
	}()
	f := newFront(Config{})
	route(f.Server, need{}, huma.Operation{OperationID: "x", Method: http.MethodGet, Path: "/v1/x"}, nil, f.me)
}

func TestKeysComeAndGo(t *testing.T) {
	h := newHouse(t, Config{})
	made := decode[transport.NewKey](t, h.as(t, h.admin, "POST", "/v1/keys",
		`{"name":"ci","scopes":["tasks:write","tasks:read","tasks:read"],"expires_in":"720h","namespace":"acme"}`).want(t, 201))
	if !auth.WellFormed(made.Secret) || made.Namespace != "acme" || !slices.Equal(made.Scopes, []access.Scope{access.TasksRead, access.TasksWrite}) ||
		made.ExpiresAt == nil || !strings.HasPrefix(made.Secret, made.Hint) {
		t.Errorf("%+v", made)
	}
	me := decode[transport.Me](t, h.as(t, made.Secret, "GET", "/v1/me", "").want(t, 200))
	if me.Namespace != "acme" || me.Open || me.Actor != "key:"+made.ID || me.ExpiresAt == nil {
		t.Errorf("%+v", me)
	}
	chief := h.key(t, "acme", access.Admin)
	at := "/v1/keys/" + made.ID
	if got := h.as(t, h.admin, "GET", at, "").want(t, 404).problem(t).Code; got != "key_not_found" { // it is acme's
		t.Error(got)
	}
	if r := h.as(t, chief.Secret, "GET", at, "").want(t, 200); strings.Contains(string(r.body), made.Secret) {
		t.Errorf("the key is shown again: %s", r.body)
	}
	h.as(t, chief.Secret, "POST", "/v1/keys", `{"name":"n","namespace":"globex"}`).want(t, 403)
	if k := decode[transport.Key](t, h.as(t, chief.Secret, "PATCH", at, `{"name":"renamed"}`).want(t, 200)); k.Name != "renamed" {
		t.Errorf("%+v", k)
	}
	for _, body := range []string{`{}`, `{"name":""}`, `{"expires_at":"2000-01-01T00:00:00Z"}`, `{"expires_at":"2999-01-01T00:00:00Z"}`, `{"scopes":["admin"]}`} {
		h.as(t, chief.Secret, "PATCH", at, body).want(t, 422)
	}
	next := decode[transport.NewKey](t, h.as(t, chief.Secret, "POST", at+"/rotate", `{"overlap":"1h"}`).want(t, 201))
	old := decode[transport.Key](t, h.as(t, chief.Secret, "GET", at, "").want(t, 200))
	if next.Name != "renamed" || !slices.Equal(next.Scopes, made.Scopes) || next.ExpiresAt == nil || old.ExpiresAt == nil ||
		time.Until(time.Time(*old.ExpiresAt)) > time.Hour || time.Until(time.Time(*next.ExpiresAt)) < 719*time.Hour {
		t.Errorf("%+v in place of %+v", next, old)
	}
	h.as(t, next.Secret, "GET", "/v1/tasks", "").want(t, 200)
	h.as(t, made.Secret, "GET", "/v1/tasks", "").want(t, 200)
	h.as(t, chief.Secret, "POST", at+"/rotate", `{"overlap":"-1s"}`).want(t, 422)
	h.as(t, chief.Secret, "DELETE", at, "").want(t, 204)
	h.as(t, made.Secret, "GET", "/v1/tasks", "").want(t, 401)
	if got := h.as(t, chief.Secret, "POST", at+"/rotate", "").want(t, 409).problem(t).Code; got != "key_ended" {
		t.Error(got)
	}
	first := decode[transport.KeyList](t, h.as(t, chief.Secret, "GET", "/v1/keys?limit=2", "").want(t, 200))
	rest := decode[transport.KeyList](t, h.as(t, chief.Secret, "GET", "/v1/keys?limit=2&cursor="+first.NextCursor, "").want(t, 200))
	if len(first.Keys) != 2 || len(rest.Keys) != 1 || rest.NextCursor != "" || first.Keys[0].ID != next.ID {
		t.Errorf("%+v\n%+v", first, rest)
	}
	h.as(t, chief.Secret, "GET", "/v1/keys?cursor=none", "").want(t, 422)
}

func TestKeysThatCannotBe(t *testing.T) {
	h := newHouse(t, Config{})
	for _, body := range []string{
		`{}`, `{"name":""}`, `{"name":"n","scopes":["root"]}`, `{"name":"n","expires_in":"-1s"}`, `{"name":"n","expires_in":"soon"}`,
		`{"name":"n","expires_at":"2000-01-01T00:00:00Z"}`, `{"name":"n","expires_in":"1h","expires_at":"2999-01-01T00:00:00Z"}`,
		`{"name":"n","namespace":"No Name"}`, `{"name":"n","key":"mine"}`, `{"name":"` + strings.Repeat("n", 101) + `"}`,
	} {
		h.as(t, h.admin, "POST", "/v1/keys", body).want(t, 422)
	}
	for _, path := range []string{"/v1/keys/none", "/v1/keys/00000000-0000-0000-0000-000000000000"} {
		h.as(t, h.admin, "GET", path, "").want(t, 422)
		h.as(t, h.admin, "DELETE", path, "").want(t, 422)
		h.as(t, h.admin, "PATCH", path, `{"name":"n"}`).want(t, 422)
	}
}

func TestNamespacesAreTheOperators(t *testing.T) {
	h := newHouse(t, Config{})
	n := decode[transport.Namespace](t, h.as(t, h.admin, "PATCH", "/v1/namespaces/acme", `{"max_queued":10,"max_bytes":5}`).want(t, 200))
	if n.MaxQueued != 10 || n.MaxBytes != 5 || n.Weight != 1 {
		t.Errorf("%+v", n)
	}
	h.as(t, h.admin, "PATCH", "/v1/namespaces/acme", `{"weight":3,"max_running":4,"max_connections":5,"max_events":6}`).want(t, 200)
	all := decode[transport.NamespaceList](t, h.as(t, h.admin, "GET", "/v1/namespaces", "").want(t, 200))
	want := transport.Namespace{
		Name: "acme", Weight: 3, Quota: transport.Quota{MaxQueued: 10, MaxRunning: 4, MaxBytes: 5, Connections: 5, MaxEvents: 6},
	}
	if len(all.Namespaces) != 1 || all.Namespaces[0] != want {
		t.Errorf("%+v", all)
	}
	for _, body := range []string{`{}`, `{"weight":-1}`, `{"max_queued":-1}`, `{"max_bytes":-1}`, `{"name":"x"}`} {
		h.as(t, h.admin, "PATCH", "/v1/namespaces/acme", body).want(t, 422)
	}
	h.as(t, h.admin, "PATCH", "/v1/namespaces/No%20Name", `{"weight":1}`).want(t, 422)
	chief := h.key(t, "acme", access.Admin)
	h.as(t, chief.Secret, "PATCH", "/v1/namespaces/acme", `{"max_queued":1000}`).want(t, 403)
	h.as(t, chief.Secret, "PUT", "/v1/resources/gpu", `{"capacity":1000}`).want(t, 403)
}

func TestAuditHoldsWhatAdministratorsDid(t *testing.T) {
	h := newHouse(t, Config{})
	chief := h.key(t, "acme", access.Admin)
	do := func(method, path, body string) { h.as(t, chief.Secret, method, path, body) }
	do("POST", "/v1/keys", `{"name":"k"}`)
	do("PATCH", "/v1/queues/mail", `{"paused":true}`)
	do("PATCH", "/v1/kinds/k", `{"concurrency":2}`)
	h.as(t, h.admin, "PUT", "/v1/resources/gpu", `{"capacity":2}`).want(t, 200)
	h.as(t, h.admin, "DELETE", "/v1/resources/gpu", "").want(t, 204)
	acts := func(key string) (all []string) {
		for _, a := range decode[transport.AuditList](t, h.as(t, key, "GET", "/v1/audit", "").want(t, 200)).Acts {
			all = append(all, a.Action+" "+a.Target)
		}
		return all
	}
	got := acts(chief.Secret)
	if len(got) != 4 || got[0] != "kind.change k" || got[1] != "queue.change mail" || !strings.HasPrefix(got[2], "key.create ") {
		t.Errorf("acme's: %q", got)
	}
	if got := acts(h.admin); len(got) != 3 || got[0] != "resource.remove gpu" {
		t.Errorf("the operator's: %q", got)
	}
	page := decode[transport.AuditList](t, h.as(t, chief.Secret, "GET", "/v1/audit?limit=2", "").want(t, 200))
	last := decode[transport.AuditList](t, h.as(t, chief.Secret, "GET", "/v1/audit?limit=2&cursor="+page.NextCursor, "").want(t, 200))
	if len(page.Acts) != 2 || len(last.Acts) != 2 || string(page.Acts[0].Detail) != `{"concurrency":2}` || page.Acts[0].Actor != "key:"+chief.ID {
		t.Errorf("%+v\n%+v", page, last)
	}
}

func TestStatsOfANamespaceAreItsOwn(t *testing.T) {
	h := newHouse(t, Config{})
	mine := decode[transport.Stats](t, h.as(t, h.key(t, "acme", access.TasksRead).Secret, "GET", "/v1/stats", "").want(t, 200))
	if mine.Submitted != 0 || mine.Watchers != 0 || len(mine.Ended) != 0 || mine.Waiting != 7 || mine.Running != 2 ||
		mine.Usage.Queued != 7 || mine.Quota.MaxQueued != 100 {
		t.Errorf("%+v", mine)
	}
	if all := decode[transport.Stats](t, h.as(t, h.admin, "GET", "/v1/stats", "").want(t, 200)); all.Submitted != 5 || all.Watchers != 7 {
		t.Errorf("the operator's: %+v", all)
	}
}

func TestMetricsMayBeForOperatorsOnly(t *testing.T) {
	h := newHouse(t, Config{ClosedMetrics: true, Metrics: prometheus.NewRegistry()})
	h.do(t, "GET", "/metrics", "").want(t, 401)
	h.as(t, h.key(t, "acme", access.Admin).Secret, "GET", "/metrics", "").want(t, 403)
	h.as(t, h.admin, "GET", "/metrics", "").want(t, 200)
	newHouse(t, Config{Metrics: prometheus.NewRegistry()}).do(t, "GET", "/metrics", "").want(t, 200)
}

func TestSocketsAreForWhoMayUseThem(t *testing.T) {
	reached := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Namespace", namespace(r.Context()))
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	h := newHouse(t, Config{WS: reached, Workers: reached})
	h.do(t, "GET", "/v1/ws", "").want(t, 401)
	reader, worker := h.key(t, "acme", access.TasksRead).Secret, h.key(t, "acme", access.Workers).Secret
	if r := h.as(t, reader, "GET", "/v1/ws", "").want(t, 101); r.Header.Get("Namespace") != "acme" {
		t.Errorf("%v", r.Header)
	}
	h.as(t, reader, "GET", "/v1/worker", "").want(t, 403)
	h.as(t, worker, "GET", "/v1/worker", "").want(t, 101)
}

func TestAddressesComeFromKnownProxiesOnly(t *testing.T) {
	from := func(proxies []string, remote, header string) (addr netip.Addr) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", header)
		r.Header.Set("X-Real-IP", "9.9.9.9")
		clientAddress(proxies)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			addr = middleware.GetClientIPAddr(r.Context())
		})).ServeHTTP(httptest.NewRecorder(), r)
		return addr
	}
	for _, tt := range []struct {
		proxies              []string
		remote, header, want string
	}{
		{nil, "1.2.3.4:5", "6.6.6.6", "1.2.3.4"},
		{[]string{"10.0.0.0/8"}, "1.2.3.4:5", "6.6.6.6", "1.2.3.4"},
		{[]string{"10.0.0.0/8"}, "10.0.0.1:5", "6.6.6.6", "6.6.6.6"},
		{[]string{"10.0.0.0/8"}, "10.0.0.1:5", "7.7.7.7, 6.6.6.6, 10.0.0.2", "6.6.6.6"},
		{[]string{"10.0.0.0/8"}, "10.0.0.1:5", "6.6.6.6, garbage", "invalid IP"},
	} {
		if got := from(tt.proxies, tt.remote, tt.header).String(); got != tt.want {
			t.Errorf("%v, %s, %s: %s, want %s", tt.proxies, tt.remote, tt.header, got, tt.want)
		}
	}
}

func TestOtherOriginsAreLetInByName(t *testing.T) {
	f := newFront(Config{Origins: []string{"https://app.example"}})
	ask := func(origin string) reply {
		return f.do(t, "OPTIONS", "/v1/tasks", "", "Origin", origin, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
	}
	r := ask("https://app.example").want(t, 200)
	if r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" || r.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", r.Header)
	}
	if h := ask("https://evil.example").Header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", h)
	}
	f.do(t, "POST", "/v1/tasks", echo, "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site").want(t, 201)
	f.do(t, "POST", "/v1/tasks", echo, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").want(t, 403)
}
