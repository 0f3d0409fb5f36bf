package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// Why an attempt's context ended, for context.Cause in a handler.
var (
	ErrCancelled = errors.New("the task was cancelled")
	ErrTimeout   = errors.New("the attempt's timeout passed")
	ErrDeadline  = errors.New("the task's deadline passed")
	ErrDrained   = errors.New("the worker or its node is shutting down; the task goes on elsewhere or later")
	ErrLost      = errors.New("the attempt is not this worker's any more")
)

// ErrSuspended is what a handler gets of Sleep and WaitFor where its attempt is over
// for now, and returns as it is: the task goes on in another attempt.
var ErrSuspended = errors.New("the attempt ends here; a handler returns this error as it is")

// WorkerOptions says what a [Worker] is. Only the name must be given.
type WorkerOptions struct {
	Name      string
	Slots     int               // attempts at once; 1 where zero
	Labels    map[string]string // what tasks may require or prefer
	Resources task.Resources    // what attempts may hold of it at once
	// Drain is for how long attempts may go on after Run is told to stop; 30 s where
	// zero. What has not ended then is cut off, and runs again elsewhere.
	Drain time.Duration
}

// Worker runs tasks of a server. Give it its handlers, then call Run.
type Worker struct {
	client  *Client
	options WorkerOptions
	kinds   map[string]workerHandler

	mu       sync.Mutex
	session  string
	attempts map[string]*attempt // by token
	calls    []*workerCall       // not answered, in order
	last     int                 // number of a call
	ready    bool                // registered on this connection
	draining bool
	wake     chan struct{} // something is to be written, or has ended
}

type workerHandler func(ctx context.Context, a *attempt) (json.RawMessage, error)

// NewWorker makes a worker of a client's server.
func NewWorker(c *Client, o WorkerOptions) *Worker {
	o.Slots, o.Drain = cmp.Or(o.Slots, 1), cmp.Or(o.Drain, 30*time.Second)
	return &Worker{
		client: c, options: o, kinds: map[string]workerHandler{}, attempts: map[string]*attempt{}, wake: make(chan struct{}, 1),
	}
}

// HandleWorker makes fn the handler of a kind. A payload that does not decode into In
// fails the task without a retry; Out is encoded as the result. An error may be
// retried, unless it is a [task.Failure] that says otherwise. fn must return soon
// after ctx ends.
//
// It is a function, since a method has no type parameters.
func HandleWorker[In, Out any](w *Worker, kind string, fn func(context.Context, *Attempt[In]) (Out, error)) {
	w.kinds[kind] = func(ctx context.Context, a *attempt) (json.RawMessage, error) {
		typed := &Attempt[In]{ID: a.task.ID, Attempt: a.number, Labels: a.task.Labels, attempt: a}
		if err := json.Unmarshal(a.task.Payload, &typed.Payload); err != nil {
			return nil, &task.Failure{Code: task.CodeInvalidPayload, Message: err.Error()}
		}
		out, err := fn(ctx, typed)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return nil, &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("encode result: %v", err)}
		}
		return raw, nil
	}
}

// Run connects and runs tasks until ctx ends; then it takes no more, finishes what it
// has, and returns nil. A lost connection is dialled again, and attempts go on
// meanwhile. It returns an error only where coming back would be of no use.
func (w *Worker) Run(ctx context.Context) error {
	life := context.WithoutCancel(ctx)
	defer context.AfterFunc(ctx, w.drain)()
	failures := 0
	for {
		began := time.Now()
		err := w.connection(life)
		if w.finished() {
			return nil
		}
		if final(err) {
			w.cutAll(ErrLost)
			return fmt.Errorf("worker %s: %w", w.options.Name, err)
		}
		if time.Since(began) > backoffN {
			failures = 0
		}
		pause := time.NewTimer(workerPause(err, failures))
		failures++
		stop := ctx.Done()
		if ctx.Err() != nil {
			stop = nil // what it runs is wanted, so it comes back all the same
		}
		select {
		case <-pause.C:
		case <-stop:
			pause.Stop()
		}
	}
}

// workerPause is how soon to come back, by how the connection ended.
func workerPause(err error, failures int) time.Duration {
	most := min(backoffN, backoff0<<min(failures, 10))
	var closed *websocket.CloseError
	if errors.As(err, &closed) && closed.Code >= 4100 && closed.Code < 4200 && failures == 0 {
		return 0
	}
	return time.Duration(rand.Int64N(int64(most))) //nolint:gosec // spread, not a secret
}

// drain has the worker take no more, and cuts off what does not end in time.
func (w *Worker) drain() {
	w.mu.Lock()
	w.draining = true
	w.mu.Unlock()
	w.enqueue(&workerCall{Method: "drain", Params: struct{}{}, done: make(chan workerAnswer, 1)})
	time.AfterFunc(w.options.Drain, func() { w.cutAll(ErrDrained) })
}

func (w *Worker) cutAll(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		a.cancel(why)
	}
}

// finished says whether it was told to stop and has nothing more to do.
func (w *Worker) finished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draining && len(w.attempts) == 0
}

// workerCall is a request that waits for its answer, over however many connections.
type workerCall struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`

	token string // of the attempt it is about
	sent  bool   // on this connection
	done  chan workerAnswer
}

type workerAnswer struct {
	result json.RawMessage
	err    error
}

// enqueue has a call written, now or on the next connection.
func (w *Worker) enqueue(c *workerCall) {
	w.mu.Lock()
	w.last++
	c.Version, c.ID = "2.0", w.last
	w.calls = append(w.calls, c)
	w.mu.Unlock()
	w.poke()
}

func (w *Worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// workerMessage is anything the server says.
type workerMessage struct {
	ID     *int            `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string             `json:"message"`
		Data    *transport.Problem `json:"data"`
	} `json:"error"`
}

// connection serves one connection until it ends.
func (w *Worker) connection(ctx context.Context) error {
	socket, err := w.client.dial(ctx, "/v1/worker", "troupe.worker.v1.json")
	if err != nil {
		return err
	}
	over := make(chan struct{})
	var writing sync.WaitGroup
	defer func() {
		_ = socket.Close()
		close(over)
		writing.Wait()
		w.mu.Lock()
		w.ready = false
		w.mu.Unlock()
	}()
	alive := func() { _ = socket.SetReadDeadline(time.Now().Add(silence)) }
	socket.SetPingHandler(func(data string) error {
		alive()
		return socket.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(10*time.Second))
	})
	alive()
	register, err := w.register(socket)
	if err != nil {
		return err
	}
	for {
		_, raw, err := socket.ReadMessage()
		if err != nil {
			return err
		}
		alive()
		var m workerMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("read a message of the server: %w", err)
		}
		if m.ID != nil && *m.ID == register {
			lease, err := w.registered(m)
			if err != nil {
				return err
			}
			alive = func() { _ = socket.SetReadDeadline(time.Now().Add(lease)) }
			writing.Go(func() { w.write(socket, over) })
			continue
		}
		w.take(ctx, m)
	}
}

// register says who this is, and gives the number of that call.
func (w *Worker) register(socket *websocket.Conn) (int, error) {
	w.mu.Lock()
	w.last++
	id := w.last
	params := map[string]any{"name": w.options.Name, "kinds": w.kindNames(), "slots": w.options.Slots}
	if w.options.Labels != nil {
		params["labels"] = w.options.Labels
	}
	if w.options.Resources != nil {
		params["resources"] = w.options.Resources
	}
	if w.session != "" {
		running := make([]string, 0, len(w.attempts))
		for token := range w.attempts {
			running = append(running, token)
		}
		params["resume"], params["running"] = w.session, running
	}
	w.mu.Unlock()
	err := socket.WriteJSON(&workerCall{Version: "2.0", ID: id, Method: "register", Params: params})
	return id, err
}

func (w *Worker) kindNames() []string {
	names := make([]string, 0, len(w.kinds))
	for k := range w.kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// registered goes on with the attempts that are still its own, and ends the others.
func (w *Worker) registered(m workerMessage) (lease time.Duration, err error) {
	if m.Error != nil {
		return 0, m.problem()
	}
	var r struct {
		Session  string `json:"session"`
		Lease    string `json:"lease"`
		Attempts []struct {
			Token string `json:"token"`
		} `json:"attempts"`
	}
	if err := json.Unmarshal(m.Result, &r); err != nil {
		return 0, fmt.Errorf("read the answer to register: %w", err)
	}
	if lease, err = time.ParseDuration(r.Lease); err != nil {
		return 0, fmt.Errorf("read the answer to register: %w", err)
	}
	own := map[string]bool{}
	for _, a := range r.Attempts {
		own[a.Token] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session, w.ready = r.Session, true
	for token, a := range w.attempts {
		if !own[token] {
			a.cancel(ErrLost)
			delete(w.attempts, token)
		}
	}
	w.calls = slices.DeleteFunc(w.calls, func(c *workerCall) bool {
		lost := c.token != "" && !own[c.token]
		if lost {
			c.done <- workerAnswer{err: ErrLost}
		}
		c.sent = false
		return lost
	})
	w.poke()
	return lease, nil
}

// write writes calls, in order, until the connection is over or nothing is left to do.
func (w *Worker) write(socket *websocket.Conn, over <-chan struct{}) {
	for {
		w.mu.Lock()
		var next []*workerCall
		for _, c := range w.calls {
			if !c.sent {
				c.sent = true
				next = append(next, c)
			}
		}
		done := w.draining && len(w.attempts) == 0 && len(w.calls) == 0
		w.mu.Unlock()
		if done {
			_ = socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
			_ = socket.Close()
			return
		}
		for _, c := range next {
			_ = socket.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if err := socket.WriteJSON(c); err != nil {
				_ = socket.Close() // which the reader sees
				return
			}
		}
		if len(next) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-over:
			return
		}
	}
}

// take handles one message.
func (w *Worker) take(ctx context.Context, m workerMessage) {
	switch {
	case m.ID != nil:
		w.answered(*m.ID, m)
	case m.Method == "run":
		w.start(ctx, m.Params)
	case m.Method == "cancel":
		var p struct{ Token, Reason string }
		if json.Unmarshal(m.Params, &p) == nil {
			w.mu.Lock()
			if a := w.attempts[p.Token]; a != nil {
				a.cancel(causeOf(p.Reason))
			}
			w.mu.Unlock()
		}
	}
	// drain, heartbeat and goodbye ask for nothing: no more comes, and the close follows.
}

func causeOf(reason string) error {
	switch reason {
	case "cancelled":
		return ErrCancelled
	case "timeout":
		return ErrTimeout
	case "deadline":
		return ErrDeadline
	case "drained":
		return ErrDrained
	default:
		return ErrLost
	}
}

func (m workerMessage) problem() error {
	if m.Error.Data != nil {
		return m.Error.Data
	}
	return transport.NewProblem(http.StatusBadRequest, "refused", m.Error.Message)
}

func (w *Worker) answered(id int, m workerMessage) {
	a := workerAnswer{result: m.Result}
	if m.Error != nil {
		a.err = m.problem()
		if p, ok := errors.AsType[*transport.Problem](a.err); ok && p.Code == "stale_attempt" {
			a.err = ErrLost
		}
	}
	w.mu.Lock()
	at := slices.IndexFunc(w.calls, func(c *workerCall) bool { return c.ID == id })
	var c *workerCall
	if at >= 0 {
		c = w.calls[at]
		w.calls = slices.Delete(w.calls, at, at+1)
	}
	w.mu.Unlock()
	if c != nil {
		c.done <- a
	}
	w.poke()
}

// start runs an attempt in a goroutine of its own.
func (w *Worker) start(ctx context.Context, raw json.RawMessage) {
	var run struct {
		Task       transport.Task  `json:"task"`
		Attempt    int             `json:"attempt"`
		Token      string          `json:"token"`
		Checkpoint json.RawMessage `json:"checkpoint"`
		Steps      []struct {
			Name   string          `json:"name"`
			Result json.RawMessage `json:"result"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(raw, &run); err != nil || run.Token == "" {
		return
	}
	a := &attempt{
		worker: w, token: run.Token, task: run.Task, number: run.Attempt, checkpoint: run.Checkpoint,
		steps: map[string]json.RawMessage{}, used: map[string]int{}, window: make(chan struct{}, callsAhead),
	}
	for _, s := range run.Steps {
		a.steps[s.Name] = s.Result
	}
	attemptCtx, cancel := context.WithCancelCause(ctx)
	a.ctx, a.cancel = attemptCtx, cancel
	w.mu.Lock()
	known := w.attempts[a.token] != nil
	if !known {
		w.attempts[a.token] = a
	}
	w.mu.Unlock()
	if known {
		cancel(nil)
		return
	}
	go func() {
		defer cancel(nil)
		a.run(attemptCtx)
		w.mu.Lock()
		if w.attempts[a.token] == a {
			delete(w.attempts, a.token)
		}
		w.mu.Unlock()
		w.poke()
	}()
}

// dial opens a WebSocket of the server.
func (c *Client) dial(ctx context.Context, path, subprotocol string) (*websocket.Conn, error) {
	header := http.Header{}
	if c.key != "" {
		header.Set("Authorization", "Bearer "+c.key)
	}
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol}, HandshakeTimeout: 30 * time.Second, Proxy: http.ProxyFromEnvironment}
	socket, resp, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(c.base, "http")+path, header)
	if err != nil {
		if resp != nil {
			defer resp.Body.Close()
			return nil, problemOf(resp)
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	_ = resp.Body.Close()
	return socket, nil
}
