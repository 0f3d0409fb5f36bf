package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/ws"
)

// talk is a socket of the test.
type talk struct {
	*websocket.Conn
	t    *testing.T
	next int
}

// word is what a server says.
type word struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Data transport.Problem `json:"data"`
	} `json:"error"`
}

// socket opens one as a visitor. status is that of a server that refused to.
func (p *town) socket(t *testing.T, v visitor, path, subprotocol string) (s *talk, status int) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{subprotocol}}
	header := http.Header{}
	if v.key != "" {
		header.Set("Authorization", "Bearer "+v.key)
	}
	c, resp, err := d.DialContext(t.Context(), strings.Replace(p.server, "http", "ws", 1)+path, header)
	if resp != nil {
		defer resp.Body.Close()
		status = resp.StatusCode
	}
	if err != nil {
		return nil, status
	}
	t.Cleanup(func() { _ = c.Close() })
	return &talk{Conn: c, t: t}, status
}

func (s *talk) read() (w word, err error) {
	_ = s.SetReadDeadline(time.Now().Add(patience))
	_, raw, err := s.ReadMessage()
	if err == nil {
		err = json.Unmarshal(raw, &w)
	}
	return w, err
}

// call asks and waits for the answer.
func (s *talk) call(method, params string) word {
	s.t.Helper()
	s.next++
	text := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, s.next, method, params)
	if err := s.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatalf("%s: %v", method, err)
	}
	for {
		w, err := s.read()
		if err != nil {
			s.t.Fatalf("%s: %v", method, err)
		}
		if w.ID == s.next {
			return w
		}
	}
}

// closed waits for the end and gives its code.
func (s *talk) closed() int {
	for {
		if _, err := s.read(); err != nil {
			if end, ok := errors.AsType[*websocket.CloseError](err); ok {
				return end.Code
			}
			return 0
		}
	}
}

// asked is what each method is asked for in the matrix, with the id of a task that is
// acme's.
func asked(t *testing.T, method, task string) string {
	t.Helper()
	token := `{"token":"none"`
	params, known := map[string]string{
		"watcher subscribe": `{"task":"` + task + `"}`, "watcher unsubscribe": `{"subscription":"task:` + task + `"}`,
		"watcher submit": `{"kind":"nobody.serves"}`, "watcher get": `{"task":"` + task + `"}`, "watcher cancel": `{"task":"` + task + `"}`,
		"watcher ping": `{}`, "watcher renew": `{"credential":"none"}`, "worker renew": `{"credential":"none"}`,
		"worker register": `{"name":"w","kinds":["somebody.serves"]}`, "worker progress": token + `,"fraction":0.5}`, "worker log": token + `,"message":"m"}`,
		"worker output": token + `,"text":"t"}`, "worker checkpoint": token + `,"checkpoint":1}`, "worker step": token + `,"name":"s","result":1}`,
		"worker sleep": token + `,"name":"s","for":"1s"}`, "worker wait": token + `,"signal":"s"}`, "worker succeed": token + `,"result":1}`,
		"worker fail": token + `,"error":{"message":"m"}}`, "worker drain": `{}`, "worker heartbeat": `{}`,
	}[method]
	if !known {
		t.Errorf("the matrix has nothing to ask of %s: add it", method)
	}
	return params
}

// TestAuthorizationMatrixOfSockets asks for every method of the sockets as everybody.
func TestAuthorizationMatrixOfSockets(t *testing.T) {
	t.Parallel()
	p := newTown(t)
	sockets := map[string][2]string{"watcher": {"/v1/ws", ws.Subprotocol}, "worker": {"/v1/worker", ws.WorkerSubprotocol}}
	cells := 0
	var b belongings
	spoilt := true
	for _, m := range ws.Methods() {
		for _, v := range p.visitors {
			cells++
			cell := fmt.Sprintf("%s %s by %s", m.Socket, m.Name, v.name)
			if spoilt {
				b = p.belongings(t)
			}
			spoilt = false
			s, status := p.socket(t, v, sockets[m.Socket][0], sockets[m.Socket][1])
			switch {
			case v.scopes == nil:
				if s != nil || status != http.StatusUnauthorized && status != http.StatusTooManyRequests {
					t.Errorf("%s: %d", cell, status)
				}
				continue
			case m.Socket == "worker" && !v.may("workers"):
				if s != nil || status != http.StatusForbidden {
					t.Errorf("%s: %d", cell, status)
				}
				continue
			case s == nil:
				t.Errorf("%s: %d", cell, status)
				continue
			}
			got := s.call(m.Name, asked(t, m.Socket+" "+m.Name, b.task))
			_ = s.Close()
			code := ""
			if got.Error != nil {
				code = got.Error.Data.Code
			}
			allowed := m.Scope == ws.Anyone || v.may(string(m.Scope))
			spoilt = allowed
			others := strings.HasPrefix(v.namespace, "globex") && (m.Name == "subscribe" || m.Name == "get" || m.Name == "cancel")
			switch {
			case !allowed && code != "forbidden", allowed && code == "forbidden":
				t.Errorf("%s: %q", cell, code)
			case allowed && others && code != "task_not_found":
				t.Errorf("%s: %q %s", cell, code, got.Result)
			case v.namespace != "acme" && strings.Contains(string(got.Result), canary):
				t.Errorf("%s leaks: %s", cell, got.Result)
			}
			if v.namespace != "acme" || !allowed {
				p.untouched(t, cell, b)
			}
		}
	}
	t.Logf("%d cells", cells)
}

func (p *town) visitor(t *testing.T, name string) visitor {
	t.Helper()
	for _, v := range p.visitors {
		if v.name == name {
			return v
		}
	}
	t.Fatalf("there is no %s", name)
	return visitor{}
}

// another makes one more key, as the owner of acme.
func (p *town) another(t *testing.T, scopes ...access.Scope) (visitor, string) {
	t.Helper()
	k, err := p.owner.CreateKey(t.Context(), transport.KeyBody{Name: "another", Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return visitor{"another", k.Secret, "acme", scopes}, k.ID
}

// What is open ends soon after the credential that opened it, whatever it is; and a
// session goes on whose credential was renewed in time.
func TestWhatIsOpenEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	p := newTown(t)
	b := p.belongings(t)
	v, id := p.another(t, access.TasksRead, access.TasksWrite, access.Workers)
	watcher, _ := p.socket(t, v, "/v1/ws", ws.Subprotocol)
	renewed, _ := p.socket(t, v, "/v1/ws", ws.Subprotocol)
	worker, _ := p.socket(t, v, "/v1/worker", ws.WorkerSubprotocol)
	worker.call("register", `{"name":"w","kinds":["somebody.serves"]}`)
	watcher.call("subscribe", `{"task":"`+b.task+`"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server+"/v1/tasks/"+b.task+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+v.key)
	r.Header.Set("Accept", "text/event-stream")
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()

	next, _ := p.another(t, access.TasksRead)
	if got := renewed.call("renew", `{"credential":"`+next.key+`"}`); got.Error != nil {
		t.Errorf("%+v", got.Error)
	}
	for credential, code := range map[string]string{
		p.visitor(t, "globex admin").key: "forbidden", p.visitor(t, "acme writer").key: "forbidden", p.visitor(t, "revoked").key: "unauthorized",
	} {
		if got := renewed.call("renew", `{"credential":"`+credential+`"}`); got.Error == nil || got.Error.Data.Code != code {
			t.Errorf("%s: %+v", code, got)
		}
	}
	if got := renewed.call("submit", `{"kind":"nobody.serves"}`); got.Error == nil || got.Error.Data.Code != "forbidden" {
		t.Errorf("the new credential does not allow it: %+v", got)
	}

	began := time.Now()
	if err := p.owner.RevokeKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if code := watcher.closed(); code != 4401 {
		t.Errorf("the watcher's socket ended with %d", code)
	}
	if code := worker.closed(); code != 4401 {
		t.Errorf("the worker's socket ended with %d", code)
	}
	for lines := bufio.NewScanner(stream.Body); lines.Scan(); { // to its end
		continue
	}
	t.Logf("all of it ended %v after the key", time.Since(began))
	if got := renewed.call("get", `{"task":"`+b.task+`"}`); got.Error != nil {
		t.Errorf("the renewed session ended too: %+v", got.Error)
	}

	v, id = p.another(t, access.TasksRead)
	expiring, _ := p.socket(t, v, "/v1/ws", ws.Subprotocol)
	p.expire(t, id)
	if code := expiring.closed(); code != 4401 {
		t.Errorf("a socket whose key expired ended with %d", code)
	}
}

// A ticket opens one socket, once.
func TestATicketOpensOneSocket(t *testing.T) {
	t.Parallel()
	p := newTown(t)
	ticket, err := p.as(t, p.visitor(t, "acme reader").key).Ticket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := "/v1/ws?ticket=" + ticket.Ticket
	s, status := p.socket(t, visitor{}, at, ws.Subprotocol)
	if s == nil {
		t.Fatalf("%d", status)
	}
	b := p.belongings(t)
	if got := s.call("get", `{"task":"`+b.task+`"}`); got.Error != nil {
		t.Errorf("%+v", got.Error)
	}
	if got := s.call("cancel", `{"task":"`+b.task+`"}`); got.Error == nil {
		t.Error("a reader's ticket cancels")
	}
	if s, status := p.socket(t, visitor{}, at, ws.Subprotocol); s != nil || status != http.StatusUnauthorized {
		t.Errorf("it opened another: %d", status)
	}
	if status, answer := p.request(t, visitor{}, http.MethodGet, "/v1/tasks?ticket="+ticket.Ticket+uuid.NewString(), ""); status != http.StatusUnauthorized {
		t.Errorf("it is good for more than a socket: %d %s", status, answer)
	}
}
