package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// Topic is what to watch: exactly one of its fields but After, which goes with
// Task: the cursor of the last event seen.
type Topic struct {
	Task   string  `json:"task,omitempty"`
	After  string  `json:"after,omitempty"`
	Batch  string  `json:"batch,omitempty"`
	Queue  string  `json:"queue,omitempty"`
	Filter *Filter `json:"tasks,omitempty"`
}

// Filter selects tasks; empty fields select all.
type Filter struct {
	State   []string          `json:"state,omitempty"`
	Kind    string            `json:"kind,omitempty"`
	Queue   string            `json:"queue,omitempty"`
	Label   map[string]string `json:"label,omitempty"`
	BatchID string            `json:"batch_id,omitempty"`
}

// ItemKind says what an [Item] is.
type ItemKind int

// The kinds of items.
const (
	Snapshot     ItemKind = iota // Task, or Tasks of what is not one task
	Happened                     // Event
	Ended                        // the task's terminal event has been yielded, or all tasks of the batch have ended
	Gap                          // events are gone; First is the first still there
	Reset                        // too much was missed: Tasks is the newest view
	Reconnecting                 // the connection was lost, Err says how
	Connected                    // it is back
)

// Item is one thing a watcher is told.
type Item struct {
	Kind  ItemKind
	Topic string // "task:ID", "batch:ID", "queue:NAME" or "tasks:…"
	Task  *transport.Task
	Tasks []transport.Task
	Event transport.Event
	First string
	Err   error

	Counts map[string]int64 // of Ended: how many of a batch's tasks ended in which state
}

// How long a connection may be silent, given the server's heartbeat of 25 s; and
// how soon a lost one is tried again, at first and at most.
const (
	silence  = 75 * time.Second
	backoff0 = 50 * time.Millisecond
	backoffN = 2 * time.Second
)

// Watch follows topics over one WebSocket. It ends after every task and every batch
// among them has ended, and never if there is anything else. A lost connection is
// dialled again for as long as ctx lives, and goes on behind the last event: each
// is yielded once, in order. Only if the first dial fails it ends with
// [ErrUnreachable].
func (c *Client) Watch(ctx context.Context, topics ...Topic) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		w := &watch{client: c, yield: yield, topics: slices.Clone(topics), open: map[string]int{}}
		w.run(ctx)
	}
}

// watch is one Watch under way.
type watch struct {
	client  *Client
	yield   func(Item, error) bool
	topics  []Topic        // tasks that have ended are taken out
	open    map[string]int // subscription → request number, in this connection
	stopped bool           // the consumer has had enough
	joined  bool           // has subscribed in this connection
}

var errDone = errors.New("all that was watched has ended")

func (w *watch) run(ctx context.Context) {
	failures := 0
	for first := true; ; first = false {
		heard, err := w.connection(ctx, first)
		switch {
		case w.stopped || errors.Is(err, errDone):
			return
		case ctx.Err() != nil:
			w.yield(Item{}, ctx.Err())
			return
		case first && !heard && unanswered(err), final(err):
			w.yield(Item{}, err)
			return
		}
		if w.joined {
			failures, w.joined = 0, false
		}
		if heard {
			if !w.yield(Item{Kind: Reconnecting, Err: err}, nil) {
				return
			}
		}
		wait := time.Duration(rand.Int64N(int64(min(backoffN, backoff0<<min(failures, 10))))) //nolint:gosec // spread, not a secret
		failures++
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			w.yield(Item{}, ctx.Err())
			return
		}
	}
}

// unanswered says whether a dial came to nothing: nobody listens, or there is no
// socket to be had. A connection that broke is another matter.
func unanswered(err error) bool {
	var p *transport.Problem
	return errors.Is(err, ErrUnreachable) || errors.As(err, &p)
}

// final says whether coming back unchanged would be of no use.
func final(err error) bool {
	if p, ok := errors.AsType[*transport.Problem](err); ok {
		return p.Status < 500
	}
	var closed *websocket.CloseError
	return errors.As(err, &closed) && closed.Code >= 4400 && closed.Code < 4500
}

// connection follows the topics over one connection until it ends. heard says
// that the server greeted.
func (w *watch) connection(ctx context.Context, first bool) (heard bool, err error) {
	socket, err := w.client.dial(ctx, "/v1/ws", "troupe.v1.json")
	if err != nil {
		return false, err
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	alive := func() { _ = socket.SetReadDeadline(time.Now().Add(silence)) }
	socket.SetPingHandler(func(data string) error {
		alive()
		return socket.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(10*time.Second))
	})
	alive()
	clear(w.open)
	for {
		_, raw, err := socket.ReadMessage()
		if err != nil {
			return heard, err
		}
		alive()
		var m message
		if err := json.Unmarshal(raw, &m); err != nil {
			return heard, fmt.Errorf("read a message of the server: %w", err)
		}
		if m.Method == "hello" {
			heard = true
			if !first && !w.yield(Item{Kind: Connected}, nil) {
				w.stopped = true
				return heard, nil
			}
			if err := w.subscribe(socket); err != nil {
				return heard, err
			}
			continue
		}
		if err := w.take(m); err != nil || w.stopped {
			return heard, err
		}
	}
}

func (w *watch) subscribe(socket *websocket.Conn) error {
	w.topics = slices.DeleteFunc(w.topics, func(t Topic) bool { return t == Topic{} }) // those that ended before
	if len(w.topics) == 0 {
		return errDone
	}
	for i, t := range w.topics {
		request := map[string]any{"jsonrpc": "2.0", "id": i, "method": "subscribe", "params": t}
		if err := socket.WriteJSON(request); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	return nil
}

// message is anything the server says.
type message struct {
	ID     *int   `json:"id"`
	Method string `json:"method"`
	Params struct {
		Subscription string           `json:"subscription"`
		Event        transport.Event  `json:"event"`
		First        string           `json:"first"`
		Tasks        []transport.Task `json:"tasks"`
		Counts       map[string]int64 `json:"counts"`
	} `json:"params"`
	Result struct {
		Subscription string           `json:"subscription"`
		Task         *transport.Task  `json:"task"`
		Tasks        []transport.Task `json:"tasks"`
	} `json:"result"`
	Error *struct {
		Message string             `json:"message"`
		Data    *transport.Problem `json:"data"`
	} `json:"error"`
}

// take handles one message. Its error ends the connection.
func (w *watch) take(m message) error {
	p := m.Params
	switch {
	case m.Error != nil && m.Error.Data != nil:
		return m.Error.Data
	case m.Error != nil:
		return transport.NewProblem(http.StatusBadRequest, "refused", m.Error.Message)
	case m.ID != nil && *m.ID >= 0 && *m.ID < len(w.topics):
		w.joined = true
		w.open[m.Result.Subscription] = *m.ID
		w.give(Item{Kind: Snapshot, Topic: m.Result.Subscription, Task: m.Result.Task, Tasks: m.Result.Tasks})
	case m.Method == "event":
		if w.fresh(p.Subscription, p.Event.Cursor) {
			w.give(Item{Kind: Happened, Topic: p.Subscription, Event: p.Event})
		}
	case m.Method == "gap":
		w.give(Item{Kind: Gap, Topic: p.Subscription, First: p.First})
	case m.Method == "reset":
		w.give(Item{Kind: Reset, Topic: p.Subscription, Tasks: p.Tasks})
	case m.Method == "end":
		w.give(Item{Kind: Ended, Topic: p.Subscription, Counts: p.Counts})
		return w.ended(p.Subscription)
	}
	return nil // goodbye, too: the close follows after its delay, and then is the time to come back
}

func (w *watch) give(i Item) {
	w.stopped = w.stopped || !w.yield(i, nil)
}

// fresh notes an event's cursor, and says whether it was not seen before.
func (w *watch) fresh(subscription, cursor string) bool {
	n, ok := w.open[subscription]
	if !ok || w.topics[n].Task == "" {
		return true
	}
	now, err := task.ParseCursor(cursor)
	last, _ := task.ParseCursor(w.topics[n].After)
	if err != nil || !last.Before(now) {
		return false
	}
	w.topics[n].After = cursor
	return true
}

// ended takes a task or a batch off the list, which stays in the order of the request
// numbers of this connection.
func (w *watch) ended(subscription string) error {
	if n, ok := w.open[subscription]; ok {
		w.topics[n] = Topic{}
		delete(w.open, subscription)
	}
	if slices.ContainsFunc(w.topics, func(t Topic) bool { return t != Topic{} }) {
		return nil
	}
	return errDone
}
