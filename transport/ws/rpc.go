package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

// Codes of JSON-RPC 2.0, section 5.1; a problem of the domain stands under
// codeProblem.
const (
	codeParse   = -32700
	codeRequest = -32600
	codeMethod  = -32601
	codeParams  = -32602
	codeProblem = -32000
)

// request is one call. An absent ID makes it a notification, which is carried
// out and not answered.
type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type rpcError struct {
	Code    int                `json:"code"`
	Message string             `json:"message"`
	Data    *transport.Problem `json:"data,omitempty"`
}

// response is the answer to one call: exactly one of Result and Error.
type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

// call is a request on its way to its answer.
type call struct {
	id    json.RawMessage
	batch *batchReply
	index int
	task  *task.Task // of submit with follow
}

// batchReply gathers the answers to a batch, which go out as one array in the
// place the batch had among the connection's frames.
type batchReply struct {
	answers []*response
	missing int
}

func (b *batchReply) frame() []byte {
	answers := make([]*response, 0, len(b.answers))
	for _, a := range b.answers {
		if a != nil {
			answers = append(answers, a)
		}
	}
	return textFrame(mustJSON(answers))
}

// answer sends a call's result, or its error.
func (c *conn) answer(to *call, result any, err error) {
	r := &response{Version: "2.0", ID: to.id, Result: result}
	if err != nil {
		r.Result, r.Error = nil, c.errorOf(err)
	}
	if to.id == nil {
		return
	}
	if to.batch == nil {
		c.put(item{frame: textFrame(mustJSON(r))})
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	to.batch.answers[to.index] = r
	if to.batch.missing--; to.batch.missing == 0 {
		c.wake()
	}
}

func (c *conn) errorOf(err error) *rpcError {
	if e, ok := errors.AsType[*rpcError](err); ok {
		return e
	}
	p, internal := transport.ProblemOf(err)
	if internal {
		c.handler.log.Error("request on a socket failed", "session", c.id, "error", err)
	}
	code := codeProblem
	if p.Status == http.StatusUnprocessableEntity || p.Status == http.StatusBadRequest {
		code = codeParams
	}
	return &rpcError{Code: code, Message: p.Title, Data: p}
}

func (e *rpcError) Error() string { return e.Message }

func (c *conn) notify(method string, params any) {
	c.put(item{frame: notification(method, params)})
}

func (c *conn) hello() {
	b := c.handler.bounds
	h := helloParams{
		Session: c.id, Server: c.handler.cfg.Server, Heartbeat: b.Heartbeat.String(), Limits: limits{Message: b.Message, Batch: b.Batch},
	}
	c.party.limits(&h.Limits)
	c.notify("hello", h)
}

// read handles what the peer says until the connection ends, one request after
// the other: a peer that does not read its answers is not read either.
func (c *conn) read() {
	defer func() {
		c.abandon()
		c.unwatch()
		c.party.ended(c.silent.Load())
		c.handler.remove(c)
	}()
	b := c.handler.bounds
	c.socket.SetReadLimit(b.Message)
	c.socket.SetPongHandler(func(string) error {
		c.reached.Store(c.pinged.Load())
		return c.control(nil)
	})
	c.socket.SetPingHandler(func(data string) error { return c.control([]byte(data)) })
	faults := 0
	// What a message asks for is done elsewhere: the stack it takes would stay with the
	// reader, which mostly waits.
	handled := make(chan bool)
	for {
		kind, message, err := c.socket.ReadMessage()
		if err != nil {
			return
		}
		c.heard.Store(time.Now().UnixNano())
		switch {
		case kind != websocket.TextMessage:
			c.close(websocket.CloseUnsupportedData, "text frames only")
			continue
		case !utf8.Valid(message):
			c.close(websocket.CloseInvalidFramePayloadData, "not UTF-8")
			continue
		}
		c.busy.Store(true)
		go func() { handled <- c.handle(message) }()
		if !<-handled {
			if faults++; faults >= b.Faults {
				c.close(websocket.ClosePolicyViolation, "too many malformed messages")
			}
		}
		c.awaitRoom()
		c.busy.Store(false)
	}
}

// awaitRoom keeps the reader back while its answers do not get through; in the
// end the writer's deadline decides.
func (c *conn) awaitRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closing && c.bytes > 4*c.handler.bounds.OutboxBytes {
		c.room.Wait()
	}
}

// control counts a ping or pong, and answers a ping.
func (c *conn) control(ping []byte) error {
	c.heard.Store(time.Now().UnixNano())
	if c.controls.Add(1) > int64(c.handler.bounds.Pings) {
		c.close(websocket.ClosePolicyViolation, "too many control frames")
		return nil
	}
	if ping != nil {
		c.put(item{frame: rawFrame(websocket.PongMessage, ping)})
	}
	return nil
}

// handle carries one message out: a request, or a batch of them. It is false
// where the message is neither.
func (c *conn) handle(message []byte) bool {
	trimmed := bytes.TrimLeft(message, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '[' {
		return c.handleOne(message, &call{})
	}
	var all []json.RawMessage
	fault := &rpcError{Code: codeRequest, Message: "a batch holds 1 to 100 requests"}
	if err := json.Unmarshal(message, &all); err != nil {
		fault = &rpcError{Code: codeParse, Message: "not JSON"}
		all = nil
	}
	if len(all) == 0 || len(all) > c.handler.bounds.Batch {
		c.answer(&call{id: json.RawMessage("null")}, nil, fault)
		return false
	}
	batch := &batchReply{answers: make([]*response, len(all)), missing: len(all)}
	for _, one := range all {
		var r request
		if json.Unmarshal(one, &r) == nil && r.ID == nil && r.Method != "" {
			batch.missing-- // a notification has no answer
		}
	}
	if batch.missing > 0 {
		c.put(item{batch: batch})
	}
	ok := true
	for i, one := range all {
		ok = c.handleOne(one, &call{batch: batch, index: i}) && ok
	}
	return ok
}

func (c *conn) handleOne(message []byte, to *call) bool {
	var r request
	to.id = json.RawMessage("null") // for faults before the id is known
	if err := json.Unmarshal(message, &r); err != nil {
		fault := &rpcError{Code: codeRequest, Message: "not a request"}
		if !json.Valid(message) {
			fault = &rpcError{Code: codeParse, Message: "not JSON"}
		}
		c.answer(to, nil, fault)
		return false
	}
	if r.Version != "2.0" || r.Method == "" || !validID(r.ID) {
		if r.ID != nil && validID(r.ID) {
			to.id = r.ID
		}
		c.answer(to, nil, &rpcError{Code: codeRequest, Message: "not a JSON-RPC 2.0 request"})
		return false
	}
	to.id = r.ID
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c.dispatch(ctx, r, to)
	return true
}

// dispatch carries out one request, if who asks may.
func (c *conn) dispatch(ctx context.Context, r request, to *call) {
	m, known := c.handler.methods[r.Method]
	if !known {
		c.answer(to, nil, &rpcError{Code: codeMethod, Message: "no such method"})
		return
	}
	if err := c.may(m.Scope); err != nil {
		c.answer(to, nil, err)
		return
	}
	result, err := m.call(ctx, c.party, r.Params, to)
	if !errors.Is(err, errLater) {
		c.answer(to, result, err)
	}
}

// errLater says that a call is answered later.
var errLater = errors.New("answered later")

// may refuses who asks where their credential does not allow it.
func (c *conn) may(s access.Scope) error {
	if s == Anyone || c.who.May(s) {
		return nil
	}
	return auth.Forbidden("This needs the scope " + string(s) + ".")
}

// validID: a string, a number or null (JSON-RPC 2.0, section 4); absent is fine.
func validID(id json.RawMessage) bool {
	return len(id) == 0 || id[0] != '{' && id[0] != '[' && id[0] != 't' && id[0] != 'f' && len(id) <= 256
}
