package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// script is a server whose every connection is played by the next of plays; the
// last one plays all that come after.
type script struct {
	t      *testing.T
	plays  []func(*stage)
	mu     sync.Mutex
	next   int
	afters []string // what each subscribe asked for
}

// stage is one connection of a script.
type stage struct {
	*websocket.Conn
	s *script
}

func (s *script) serve(w http.ResponseWriter, r *http.Request) {
	u := websocket.Upgrader{Subprotocols: []string{"troupe.v1.json"}}
	c, err := u.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	s.mu.Lock()
	play := s.plays[min(s.next, len(s.plays)-1)]
	s.next++
	s.mu.Unlock()
	play(&stage{Conn: c, s: s})
}

func (s *script) watch(t *testing.T, topics ...client.Topic) (items []client.Item, err error) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for item, err := range newClient(t, srv.URL).Watch(ctx, topics...) {
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (g *stage) say(text string) { _ = g.WriteMessage(websocket.TextMessage, []byte(text)) }

// greet says hello and answers so many subscribes.
func (g *stage) greet(n int) {
	g.say(`{"jsonrpc":"2.0","method":"hello","params":{}}`)
	for range n {
		var r struct {
			ID     int
			Params client.Topic
		}
		if g.ReadJSON(&r) != nil {
			return
		}
		g.s.mu.Lock()
		g.s.afters = append(g.s.afters, r.Params.After)
		g.s.mu.Unlock()
		name := "task:" + r.Params.Task
		if r.Params.Queue != "" {
			name = "queue:" + r.Params.Queue
		}
		g.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"subscription":%q,"task":{"id":%q}}}`, r.ID, name, r.Params.Task))
	}
}

func (g *stage) event(id, cursor string) {
	g.say(fmt.Sprintf(`{"jsonrpc":"2.0","method":"event","params":{"subscription":"task:%s","event":{"task":%q,"cursor":%q,"type":"output","at":"2026-01-01T00:00:00Z","data":{}}}}`, id, id, cursor))
}

func (g *stage) end(id string) {
	g.say(fmt.Sprintf(`{"jsonrpc":"2.0","method":"end","params":{"subscription":"task:%s"}}`, id))
	_, _, _ = g.ReadMessage()
}

func (g *stage) close(code int) {
	_ = g.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(patience))
	_, _, _ = g.ReadMessage()
}

func cursors(items []client.Item, id string) (out []string) {
	for _, i := range items {
		if i.Kind == client.Happened && i.Event.Task == id {
			out = append(out, i.Event.Cursor)
		}
	}
	return out
}

func kinds(items []client.Item) (out []client.ItemKind) {
	for _, i := range items {
		out = append(out, i.Kind)
	}
	return out
}

func TestWatchGoesOnBehindItsLastEvent(t *testing.T) {
	s := &script{t: t, plays: []func(*stage){
		func(g *stage) { g.greet(1); g.event("a", "0.1"); g.event("a", "1.1"); g.event("a", "1.2") }, // then the line is cut
		func(g *stage) {},             // down at once
		func(g *stage) { g.greet(1) }, // cut before the first event: the cursor stays
		func(g *stage) { g.greet(1); g.event("a", "1.2"); g.event("a", "1.3"); g.close(4101) }, // says one again
		func(g *stage) { g.greet(1); g.event("a", "2.1"); g.end("a") },
	}}
	items, err := s.watch(t, client.Topic{Task: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if got := cursors(items, "a"); !slices.Equal(got, []string{"0.1", "1.1", "1.2", "1.3", "2.1"}) {
		t.Errorf("%v", got)
	}
	if !slices.Equal(s.afters, []string{"", "1.2", "1.2", "1.3"}) {
		t.Errorf("asked for what is behind %q", s.afters)
	}
	if last := items[len(items)-1]; last.Kind != client.Ended || last.Topic != "task:a" {
		t.Errorf("the last item is %+v", last)
	}
	if !slices.Contains(kinds(items), client.Reconnecting) || !slices.Contains(kinds(items), client.Connected) {
		t.Errorf("%v", kinds(items))
	}
}

func TestServerThatDiesBeforeItGreetsIsDialledAgain(t *testing.T) {
	s := &script{t: t, plays: []func(*stage){
		func(*stage) {},
		func(g *stage) { g.greet(1); g.event("a", "0.1"); g.end("a") },
	}}
	items, err := s.watch(t, client.Topic{Task: "a"})
	if err != nil || !slices.Equal(cursors(items, "a"), []string{"0.1"}) {
		t.Errorf("%v, %v", cursors(items, "a"), err)
	}
}

func TestWatchOfSeveralTasksEndsWithTheLast(t *testing.T) {
	s := &script{t: t, plays: []func(*stage){
		func(g *stage) {
			g.greet(3)
			g.event("b", "1.1")
			g.say(`{"method":"end","params":{"subscription":"task:a"}}`)
			g.event("c", "1.1")
		},
		func(g *stage) {
			g.greet(2)
			g.event("c", "1.2")
			g.say(`{"method":"end","params":{"subscription":"task:c"}}`)
			g.event("b", "1.2")
			g.end("b")
		},
	}}
	items, err := s.watch(t, client.Topic{Task: "a"}, client.Topic{Task: "b"}, client.Topic{Task: "c", After: "0.9"})
	if err != nil {
		t.Fatal(err)
	}
	if got := cursors(items, "b"); !slices.Equal(got, []string{"1.1", "1.2"}) {
		t.Errorf("b: %v", got)
	}
	if got := cursors(items, "c"); !slices.Equal(got, []string{"1.1", "1.2"}) {
		t.Errorf("c: %v", got)
	}
	if !slices.Equal(s.afters, []string{"", "", "0.9", "1.1", "1.1"}) {
		t.Errorf("%q", s.afters)
	}
}

func TestWatchPassesOnWhatIsMissing(t *testing.T) {
	s := &script{t: t, plays: []func(*stage){func(g *stage) {
		g.greet(2)
		g.say(`{"method":"gap","params":{"subscription":"task:a","first":"1.7"}}`)
		g.say(`{"method":"reset","params":{"subscription":"queue:q","tasks":[{"id":"x"}]}}`)
		g.say(`{"method":"goodbye","params":{"delay":"1ms"}}`)
		g.close(4403)
	}}}
	items, err := s.watch(t, client.Topic{Task: "a"}, client.Topic{Queue: "q"})
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 4403 {
		t.Errorf("ended with %v", err)
	}
	if len(items) != 4 || items[2].First != "1.7" || len(items[3].Tasks) != 1 || items[3].Topic != "queue:q" {
		t.Errorf("%+v", items)
	}
}

func TestWatchEndsWhereComingBackIsOfNoUse(t *testing.T) {
	s := &script{t: t, plays: []func(*stage){func(g *stage) {
		g.say(`{"jsonrpc":"2.0","method":"hello","params":{}}`)
		_, _, _ = g.ReadMessage()
		g.say(`{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"Not Found","data":{"code":"task_not_found","status":404}}}`)
		_, _, _ = g.ReadMessage()
	}}}
	if _, err := s.watch(t, client.Topic{Task: "a"}); code(err) != "task_not_found" {
		t.Errorf("%v", err)
	}
	s = &script{t: t, plays: []func(*stage){func(g *stage) {
		g.say(`{"jsonrpc":"2.0","method":"hello","params":{}}`)
		_, _, _ = g.ReadMessage()
		g.say(`{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"no such method"}}`)
		_, _, _ = g.ReadMessage()
	}}}
	if _, err := s.watch(t, client.Topic{Task: "a"}); code(err) != "refused" {
		t.Errorf("%v", err)
	}
}

func TestWatchThatNobodyReadsOnLeavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := &script{t: t, plays: []func(*stage){func(g *stage) {
		g.greet(1)
		for n := 1; ; n++ {
			if g.WriteMessage(websocket.TextMessage, []byte(fmt.Sprintf(`{"method":"event","params":{"subscription":"task:a","event":{"task":"a","cursor":"1.%d","type":"output","data":{}}}}`, n))) != nil {
				return
			}
		}
	}}}
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	c := newClient(t, srv.URL)
	n := 0
	for _, err := range c.Watch(t.Context(), client.Topic{Task: "a"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var last error
	n = 0
	for _, err := range c.Watch(ctx, client.Topic{Task: "a"}) {
		if n++; n == 10 {
			cancel()
		}
		last = err
	}
	cancel()
	if !errors.Is(last, context.Canceled) {
		t.Errorf("a cancelled watch ends with %v", last)
	}
	srv.CloseClientConnections()
	srv.Close()
	// A server of another test may still be counting its undelivered messages.
	counting := goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1")
	left := goleak.Find(before, counting)
	for began := time.Now(); left != nil && time.Since(began) < patience; { // Find waits a little, by itself
		left = goleak.Find(before, counting)
	}
	if left != nil {
		t.Error(left)
	}
}

func TestWatchOfARealServer(t *testing.T) {
	c := realServer(t)
	one, _, err := c.Submit(t.Context(), transport.Submission{Kind: "echo", Payload: json.RawMessage("1")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	// An id in capitals is the same task.
	for item, err := range c.Watch(t.Context(), client.Topic{Task: strings.ToUpper(one.ID)}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Kind == client.Happened {
			got = append(got, item.Event.Cursor)
		}
	}
	if !slices.Equal(got, []string{"0.1", "1.1", "1.2"}) {
		t.Errorf("%v", got)
	}
	for item, err := range c.Watch(t.Context(), client.Topic{Filter: &client.Filter{Kind: "echo", State: []string{"succeeded"}}}) {
		if err != nil || item.Kind != client.Snapshot || len(item.Tasks) != 1 {
			t.Errorf("%+v, %v", item, err)
		}
		break
	}
}
