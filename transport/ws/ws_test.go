package ws_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/transport/ws"
)

// patience is for how long a test waits for what must come. It only passes where that
// does not: a machine may be slow, or stand still for seconds.
const patience = 2 * time.Minute

// patient has nobody closed for being slow where a test is not about that.
func patient(b ws.Bounds) ws.Bounds {
	b.Heartbeat, b.Pong, b.Write = cmp.Or(b.Heartbeat, patience), cmp.Or(b.Pong, patience), cmp.Or(b.Write, patience)
	return b
}

// world is a server of watchers' sockets over a real runtime.
type world struct {
	rt   *runtime.Runtime
	http *httptest.Server
}

func newWorld(tb testing.TB, bounds ws.Bounds) *world {
	tb.Helper()
	rt, err := runtime.Open(tb.Context(), runtime.WithStore(memory.New()), runtime.WithDrainTimeout(time.Second))
	if err != nil {
		tb.Fatal(err)
	}
	runtime.Handle(rt, "echo", func(_ context.Context, t *runtime.Task[json.RawMessage]) (json.RawMessage, error) {
		return t.Payload, nil
	})
	runtime.Handle(rt, "stream", func(_ context.Context, t *runtime.Task[int]) (int, error) {
		for i := range t.Payload {
			if err := t.Emit(map[string]any{"i": i, "pad": strings.Repeat("x", 100)}); err != nil {
				return 0, err
			}
		}
		return t.Payload, nil
	})
	runtime.Handle(rt, "hang", func(ctx context.Context, t *runtime.Task[json.RawMessage]) (int, error) {
		_ = t.EmitText("hanging")
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	h := ws.New(rt, ws.Config{Server: "test", Origins: []string{"https://friend.example"}, Bounds: patient(bounds)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	srv := httptest.NewServer(h)
	tb.Cleanup(func() {
		cancel()
		running.Wait()
		srv.Close()
		if err := rt.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return &world{rt: rt, http: srv}
}

// peer is a client of the test.
type peer struct {
	*websocket.Conn
	t testing.TB
}

func (w *world) dial(tb testing.TB) *peer {
	tb.Helper()
	d := websocket.Dialer{Subprotocols: []string{ws.Subprotocol}}
	c, resp, err := d.Dial("ws"+strings.TrimPrefix(w.http.URL, "http"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = resp.Body.Close()
	tb.Cleanup(func() { _ = c.Close() })
	p := &peer{Conn: c, t: tb}
	if m := p.next(); m.Method != "hello" {
		tb.Fatalf("first came %+v", m)
	}
	return p
}

// message is anything the server sends.
type message struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Subscription string
		Event        struct{ Task, Cursor, Type string }
		First        string
		Delay        string
	}
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    *struct {
			Code   string
			Status int
		}
	}
}

func (p *peer) read() (message, error) {
	_ = p.SetReadDeadline(time.Now().Add(patience))
	_, raw, err := p.ReadMessage()
	if err != nil {
		return message{}, err
	}
	var m message
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("decode %s: %w", raw, err)
	}
	return m, nil
}

func (p *peer) next() message {
	p.t.Helper()
	m, err := p.read()
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

func (p *peer) say(text string) {
	p.t.Helper()
	if err := p.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) call(method, params string) message {
	p.t.Helper()
	p.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":"x","method":%q,"params":%s}`, method, params))
	for {
		if m := p.next(); string(m.ID) == `"x"` {
			return m
		}
	}
}

// closed reads to the end and returns the close code.
func (p *peer) closed() int {
	p.t.Helper()
	for {
		if _, err := p.read(); err != nil {
			var c *websocket.CloseError
			if !errors.As(err, &c) {
				p.t.Fatalf("ended by %v", err)
			}
			return c.Code
		}
	}
}

func (p *peer) submit(kind, payload string) string {
	p.t.Helper()
	m := p.call("submit", fmt.Sprintf(`{"kind":%q,"payload":%s}`, kind, payload))
	var r struct{ Task struct{ ID string } }
	if m.Error != nil || json.Unmarshal(m.Result, &r) != nil {
		p.t.Fatalf("submit: %+v", m)
	}
	return r.Task.ID
}

func TestSubmitAndFollowShowsEverythingInOrder(t *testing.T) {
	p := newWorld(t, ws.Bounds{}).dial(t)
	p.say(`{"jsonrpc":"2.0","id":1,"method":"submit","params":{"kind":"stream","payload":3000,"follow":true}}`)
	first := p.next()
	var r struct {
		Subscription string
		Task         struct{ ID string }
	}
	if string(first.ID) != "1" || json.Unmarshal(first.Result, &r) != nil || r.Subscription != "task:"+r.Task.ID {
		t.Fatalf("before the first event came %+v", first)
	}
	seq, attempt := 0, -1
	for {
		m := p.next()
		if m.Method == "end" {
			break
		}
		var a, s int
		if _, err := fmt.Sscanf(m.Params.Event.Cursor, "%d.%d", &a, &s); err != nil {
			t.Fatalf("%+v", m)
		}
		if a == attempt && s != seq+1 || a != attempt && s != 1 {
			t.Fatalf("%s follows %d.%d", m.Params.Event.Cursor, attempt, seq)
		}
		attempt, seq = a, s
	}
	if attempt != 1 || seq != 3002 {
		t.Errorf("the last cursor is %d.%d", attempt, seq)
	}
}

func TestWatcherWhoDoesNotReadLosesNothing(t *testing.T) {
	t.Parallel()
	const outputs = 5000 // far more than what the kernel keeps for one who does not read
	w := newWorld(t, ws.Bounds{OutboxFrames: 16, OutboxBytes: 4 << 10})
	p := w.dial(t)
	if err := p.NetConn().(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	id := p.submit("stream", strconv.Itoa(outputs))
	p.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"task":%q}}`, id))
	// Others are served meanwhile.
	q := w.dial(t)
	other := q.submit("echo", "1")
	q.call("subscribe", fmt.Sprintf(`{"task":%q}`, other))
	for q.next().Method != "end" {
	}
	next := 0
	for {
		m := p.next()
		if m.Method == "end" {
			break
		}
		if m.Params.Event.Type == "output" {
			next++
		}
	}
	if next != outputs {
		t.Errorf("%d outputs of %d", next, outputs)
	}
}

func TestAnswersAndErrors(t *testing.T) {
	p := newWorld(t, ws.Bounds{Subscriptions: 3}).dial(t)
	id := p.submit("hang", "1")
	for _, tt := range []struct{ method, params, code string }{
		{"ping", `{}`, ""},
		{"get", `{"task":"` + id + `"}`, ""},
		{"get", `{"task":"01a208e5-bb1f-75d7-8575-4f872a995019"}`, "task_not_found"},
		{"get", `{"task":"nonsense"}`, "invalid_params"},
		{"get", `{"task":"` + id + `","more":1}`, "invalid_request"},
		{"subscribe", `{}`, "invalid_params"},
		{"subscribe", `{"task":"` + id + `","queue":"q"}`, "invalid_params"},
		{"subscribe", `{"task":"` + id + `","after":"x"}`, "invalid_params"},
		{"subscribe", `{"queue":"q","after":"0.1"}`, "invalid_params"},
		{"subscribe", `{"task":"` + id + `","after":"9.9"}`, "cursor_ahead"},
		{"subscribe", `{"task":"01a208e5-bb1f-75d7-8575-4f872a995019"}`, "task_not_found"},
		{"subscribe", `{"queue":"Not a name"}`, "invalid_params"},
		{"subscribe", `{"batch":"x"}`, "invalid_params"},
		{"subscribe", `{"tasks":{"state":["odd"]}}`, "invalid_request"},
		{"subscribe", `{"task":"` + id + `"}`, ""},
		{"subscribe", `{"tasks":{"kind":"hang","state":["running"],"label":{"a":"b"},"created_after":"2026-01-01T00:00:00Z"}}`, ""},
		{"subscribe", `{"queue":"default"}`, ""},
		{"subscribe", `{"batch":"01a208e5-bb1f-75d7-8575-4f872a995019"}`, "too_many_subscriptions"},
		{"unsubscribe", `{"subscription":"queue:default"}`, ""},
		{"unsubscribe", `{"subscription":"queue:default"}`, "subscription_not_found"},
		{"subscribe", `{"batch":"01a208e5-bb1f-75d7-8575-4f872a995019"}`, ""},
		{"submit", `{"kind":"No such form"}`, "invalid_task"},
		{"submit", `{"kind":"echo","surprise":1}`, "invalid_request"},
		{"cancel", `{"task":"` + id + `","reason":"done"}`, ""},
		{"cancel", `{"task":"` + id + `"}`, "task_ended"},
	} {
		m := p.call(tt.method, tt.params)
		got := ""
		if m.Error != nil && m.Error.Data != nil {
			got = m.Error.Data.Code
		}
		if got != tt.code || (m.Error == nil) != (tt.code == "") {
			t.Errorf("%s %s: %q %+v, want %q", tt.method, tt.params, got, m.Error, tt.code)
		}
	}
	if m := p.call("fly", "{}"); m.Error == nil || m.Error.Code != -32601 {
		t.Errorf("unknown method: %+v", m)
	}
}

func TestBatchIsAnsweredByOneArrayBeforeItsEvents(t *testing.T) {
	p := newWorld(t, ws.Bounds{}).dial(t)
	id := p.submit("hang", "1")
	p.say(`[{"jsonrpc":"2.0","id":1,"method":"ping"},
		{"jsonrpc":"2.0","method":"ping"},
		{"jsonrpc":"2.0","id":2,"method":"subscribe","params":{"task":"` + id + `"}},
		{"jsonrpc":"2.0","id":3,"method":"nothing"}, 7]`)
	_, raw, err := p.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var answers []message
	if err := json.Unmarshal(raw, &answers); err != nil || len(answers) != 4 {
		t.Fatalf("%d answers, %v: %s", len(answers), err, raw)
	}
	if m := p.next(); m.Method != "event" || m.Params.Event.Cursor != "0.1" {
		t.Errorf("then came %+v", m)
	}
	for _, bad := range []string{"[]", "[" + strings.Repeat(`{},`, 100) + "{}]", "[1", "{", `"x"`, `{"jsonrpc":"1.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","id":[1],"method":"ping"}`} {
		p.say(bad)
		for {
			m := p.next()
			if m.Method != "" {
				continue
			}
			if m.Error == nil || m.Error.Code > -32600 {
				t.Errorf("%s: %+v", bad, m)
			}
			break
		}
	}
}

func TestMisbehaviourHasItsCloseCode(t *testing.T) {
	w := newWorld(t, ws.Bounds{Message: 4096, Faults: 3, Pings: 5})
	for name, tt := range map[string]struct {
		do   func(*peer)
		code int
	}{
		"binary":    {func(p *peer) { _ = p.WriteMessage(websocket.BinaryMessage, []byte("{}")) }, 1003},
		"not UTF-8": {func(p *peer) { _ = p.WriteMessage(websocket.TextMessage, []byte("{\"\xff\":1}")) }, 1007},
		"too large": {func(p *peer) { p.say(strings.Repeat(" ", 5000)) }, 1009},
		"nonsense":  {func(p *peer) { p.say("a"); p.say("b"); p.say("c") }, 1008},
		"ping flood": {func(p *peer) {
			for range 10 {
				_ = p.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience))
			}
		}, 1008},
		"reserved bits": {func(p *peer) { _, _ = p.NetConn().Write([]byte{0xf1, 0x80, 0, 0, 0, 0}) }, 1002},
		"not masked":    {func(p *peer) { _, _ = p.NetConn().Write([]byte{0x81, 0x02, '{', '}'}) }, 1002},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.dial(t)
			p.t = t
			tt.do(p)
			if code := p.closed(); code != tt.code {
				t.Errorf("closed with %d, want %d", code, tt.code)
			}
		})
	}
	// A character cut in two between fragments is one all the same.
	p := w.dial(t)
	fragments, err := p.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`{"jsonrpc":"2.0","id":"x","method":"p`, "ing\",\"params\":{}} \xe2\x82"[:len(`ing","params":{}}`)]} {
		if _, err := fragments.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fragments.Close(); err != nil {
		t.Fatal(err)
	}
	if m := p.next(); m.Error != nil {
		t.Errorf("%+v", m.Error)
	}
}

func TestSilentPeerIsClosed(t *testing.T) {
	p := newWorld(t, ws.Bounds{Heartbeat: 50 * time.Millisecond, Pong: 50 * time.Millisecond}).dial(t)
	p.SetPingHandler(func(string) error { return nil }) // no pong
	if code := p.closed(); code != 4108 {
		t.Errorf("closed with %d", code)
	}
}

// For as long as the node itself stands still, it hears nobody.
func TestNodeThatStoodStillClosesNobody(t *testing.T) {
	w := newWorld(t, ws.Bounds{})
	h := ws.New(w.rt, ws.Config{Bounds: patient(ws.Bounds{Heartbeat: time.Second, Pong: 10 * time.Second})})
	w.http.Config.Handler = h // which nothing but the test makes beat
	p := w.dial(t)
	p.SetPingHandler(func(string) error { return nil }) // no pong
	pinged := time.Now().Add(time.Minute)
	h.Beat(pinged, 0)
	h.Beat(pinged.Add(15*time.Second), 14*time.Second)
	if m := p.call("ping", `{}`); m.Error != nil {
		t.Errorf("%+v", m.Error)
	}
	h.Beat(pinged.Add(25*time.Second), 0)
	if code := p.closed(); code != 4108 {
		t.Errorf("closed with %d", code)
	}
}

func TestHeartbeatKeepsAQuietPeer(t *testing.T) {
	p := newWorld(t, ws.Bounds{Heartbeat: 20 * time.Millisecond}).dial(t)
	pings := 0
	p.SetPingHandler(func(data string) error {
		if pings++; pings == 5 {
			p.say(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		}
		return p.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(patience))
	})
	if m := p.next(); m.Result == nil {
		t.Errorf("%+v", m)
	}
}

func TestDrainSaysGoodbye(t *testing.T) {
	w := newWorld(t, ws.Bounds{})
	p := w.dial(t)
	w.rt.Drain(t.Context())
	if m := p.next(); m.Method != "goodbye" || m.Params.Delay == "" {
		t.Fatalf("%+v", m)
	}
	if code := p.closed(); code != 4101 {
		t.Errorf("closed with %d", code)
	}
}

func TestHandshake(t *testing.T) {
	w := newWorld(t, ws.Bounds{Connections: 1})
	try := func(header http.Header, protocols ...string) (*websocket.Conn, int, string) {
		d := websocket.Dialer{Subprotocols: protocols}
		c, resp, err := d.Dial("ws"+strings.TrimPrefix(w.http.URL, "http"), header)
		if err != nil && resp == nil {
			t.Fatal(err)
		}
		var p struct{ Code string }
		if err != nil {
			_ = json.NewDecoder(resp.Body).Decode(&p)
		}
		_ = resp.Body.Close()
		return c, resp.StatusCode, p.Code
	}
	for _, tt := range []struct {
		header   http.Header
		protocol string
		status   int
		code     string
	}{
		{http.Header{"Origin": {"https://enemy.example"}}, ws.Subprotocol, 403, "origin_refused"},
		{http.Header{"Origin": {"null"}}, ws.Subprotocol, 403, "origin_refused"},
		{nil, "other.v1", 400, "subprotocol_unknown"},
		{http.Header{"Origin": {"https://friend.example"}}, ws.Subprotocol, 101, ""},
	} {
		c, status, code := try(tt.header, tt.protocol)
		if status != tt.status || code != tt.code {
			t.Errorf("%v %s: %d %s, want %d %s", tt.header, tt.protocol, status, code, tt.status, tt.code)
		}
		if c != nil {
			defer c.Close()
			if m := (&peer{Conn: c, t: t}).next(); m.Method != "hello" { // it is in, before the next one comes
				t.Errorf("first came %+v", m)
			}
		}
	}
	c, status, _ := try(http.Header{"Origin": {w.http.URL}}, ws.Subprotocol)
	if status != 101 {
		t.Fatalf("same origin: %d", status)
	}
	defer c.Close()
	if code := (&peer{Conn: c, t: t}).closed(); code != 4229 {
		t.Errorf("the second of one connection is closed with %d", code)
	}
	resp, err := http.Get(w.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("without an upgrade: %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
}

// Whatever comes in, the server stays up, serves others, and no goroutine is
// left behind.
var malformedFrames = flag.Int("malformed", 10_240, "how many frames TestMalformedFramesHarmNobody sends")

func TestMalformedFramesHarmNobody(t *testing.T) {
	before, held := goleak.IgnoreCurrent(), heap()
	t.Run("frames", func(t *testing.T) {
		w := newWorld(t, ws.Bounds{Message: 64 << 10})
		address := strings.TrimPrefix(w.http.URL, "http://")
		handshake := "GET / HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(worker), 1))
				for range max(1, *malformedFrames/64) {
					c, err := net.Dial("tcp", address)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = c.Write([]byte(handshake))
					for range 8 { // frames a connection, where it lives so long
						_, _ = c.Write(malformed(random))
					}
					_ = c.Close()
				}
			})
		}
		group.Wait()
		p := w.dial(t)
		if m := p.call("ping", "{}"); m.Error != nil {
			t.Errorf("%+v", m.Error)
		}
	})
	http.DefaultClient.CloseIdleConnections()
	if grown := heap() - held; grown > 32<<20 {
		t.Errorf("%d bytes are not given back", grown)
	}
	// The actor library lets its dead-letter ticker live for a second.
	counting := goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1")
	left := goleak.Find(before, counting)
	for began := time.Now(); left != nil && time.Since(began) < patience; { // Find waits a little, by itself
		left = goleak.Find(before, counting)
	}
	if left != nil {
		t.Error(left)
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func malformed(r *rand.Rand) []byte {
	requests := []string{
		`{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"tasks":{}}}`, `[[[[[[`, `{"jsonrpc":"2.0","method":null}`,
		`{"jsonrpc":"2.0","id":{},"method":"get","params":[]}`, `[` + strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"ping"},`, 50) + `1]`,
	}
	payload := []byte(requests[r.IntN(len(requests))])
	for range r.IntN(4) {
		payload[r.IntN(len(payload))] = byte(r.Uint32())
	}
	frame := []byte{0x80 | byte(r.IntN(16)), 0x80 | byte(min(len(payload), 125)), 0, 0, 0, 0}
	if r.IntN(2) == 0 {
		frame[0] = 0x81
	}
	if r.IntN(4) == 0 {
		frame[r.IntN(2)] = byte(r.Uint32())
	}
	return append(frame, payload[:min(len(payload), 125)]...)
}
