package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/transport"
)

// message is any message of the watcher's protocol.
type message struct {
	ID     *int            `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	Params struct {
		Subscription string          `json:"subscription"`
		Event        transport.Event `json:"event"`
	} `json:"params"`
}

// session is one WebSocket of a watcher.
type session struct{ conn *websocket.Conn }

func dial(ctx context.Context, url string) (session, error) {
	d := websocket.Dialer{Subprotocols: []string{"troupe.v1.json"}, ReadBufferSize: 1024, WriteBufferSize: 1024}
	c, resp, err := d.DialContext(ctx, "ws"+strings.TrimPrefix(url, "http")+"/v1/ws", nil)
	if err != nil {
		return session{}, fmt.Errorf("open a session: %w", err)
	}
	_ = resp.Body.Close()
	return session{c}, nil
}

// crowd is many sessions.
type crowd []session

// dialMany opens so many sessions, some at a time.
func dialMany(ctx context.Context, url string, n int) (crowd, error) {
	all := make(crowd, n)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range all {
		group.Go(func() (err error) {
			all[i], err = dial(groupCtx, url)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		all.close()
		return nil, err
	}
	return all, nil
}

func (all crowd) close() {
	for _, s := range all {
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}
}

// each has something done with every session at once, and ends all when one fails.
func (all crowd) each(ctx context.Context, do func(ctx context.Context, i int, s session) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(groupCtx, all.close)
	for i, s := range all {
		group.Go(func() error {
			if err := do(groupCtx, i, s); err != nil {
				return fmt.Errorf("session %d: %w", i, err)
			}
			return nil
		})
	}
	err := group.Wait()
	if stop() || err != nil {
		return err
	}
	return ctx.Err()
}

// subscribe has every session follow a task, some at a time.
func (all crowd) subscribe(ctx context.Context, task func(i int) string) error {
	_, err := inTurns(ctx, 32, len(all), func(_ context.Context, i int) error { return all[i].subscribe(task(i)) })
	return err
}

// request is what a session asks for.
func (s session) request(id int, method string, params any) error {
	return s.conn.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

// next is the next message, and when it came. A refusal is an error.
func (s session) next() (m message, at time.Time, err error) {
	if m, at, err = s.read(); err == nil && m.Error != nil {
		err = fmt.Errorf("refused: %s", m.Error)
	}
	return m, at, err
}

func (s session) read() (m message, at time.Time, err error) {
	_, raw, err := s.conn.ReadMessage()
	if err != nil {
		return m, at, fmt.Errorf("read: %w", err)
	}
	at = time.Now()
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, at, fmt.Errorf("decode %q: %w", raw, err)
	}
	return m, at, nil
}

// answer is what the next answer says, or why there is none.
func (s session) answer() (result json.RawMessage, refused string, err error) {
	for {
		m, _, err := s.read()
		if err != nil || m.ID != nil {
			return m.Result, string(m.Error), err
		}
	}
}

// subscribe follows a task and returns when that is answered.
func (s session) subscribe(task string) error {
	if err := s.request(1, "subscribe", map[string]any{"task": task}); err != nil {
		return err
	}
	_, refused, err := s.answer()
	if refused != "" {
		return errors.New(refused)
	}
	return err
}

// seen is what sessions saw: how soon output events came, which no commit delays,
// how soon events of states, which come behind their commit, and the first of all.
type seen struct {
	mu                   sync.Mutex
	first, output, state []time.Duration
}

func (s *seen) add(other *seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = append(s.first, other.first...)
	s.output = append(s.output, other.output...)
	s.state = append(s.state, other.state...)
}

// stream is what a demo.stream task is to do.
type stream struct {
	chunks   int
	interval time.Duration
}

func (st stream) payload() map[string]any {
	return map[string]any{"chunks": st.chunks, "interval": st.interval.String(), "size": 64}
}

// followOwn submits a stream and reads its events to the end.
func (s session) followOwn(st stream) (*seen, error) {
	began := time.Now()
	if err := s.request(1, "submit", map[string]any{"kind": "demo.stream", "follow": true, "payload": st.payload()}); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	return s.follow(st, began)
}

// follow reads a stream to its end. A missing output is an error.
func (s session) follow(st stream, began time.Time) (*seen, error) {
	out := &seen{}
	outputs := 0
	for {
		m, now, err := s.next()
		if err != nil {
			return nil, err
		}
		e := m.Params.Event
		switch {
		case m.Method == "end":
			if outputs != st.chunks {
				return nil, fmt.Errorf("%d outputs of %d", outputs, st.chunks)
			}
			return out, nil
		case m.Method != "event":
			continue
		}
		if len(out.first) == 0 {
			out.first = append(out.first, now.Sub(began))
		}
		delay := now.Sub(time.Time(e.At))
		switch {
		case e.Type == "output":
			outputs++
			out.output = append(out.output, delay)
		case e.Cursor != "0.1": // which happened before anybody could watch
			out.state = append(out.state, delay)
		}
	}
}
