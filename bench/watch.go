package main

import (
	"context"
	"encoding/json"
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
		Event transport.Event `json:"event"`
	} `json:"params"`
}

// watchers opens the sessions, lets each submit and follow a task of its own,
// and gathers how soon each of its events arrived.
func watchers(ctx context.Context, s *server, o options, r *report) error {
	conns := make([]*websocket.Conn, o.sessions)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	dial, dialCtx := errgroup.WithContext(ctx)
	dial.SetLimit(32)
	for i := range conns {
		dial.Go(func() error {
			d := websocket.Dialer{Subprotocols: []string{"troupe.v1.json"}}
			c, resp, err := d.DialContext(dialCtx, "ws"+strings.TrimPrefix(s.url, "http")+"/v1/ws", nil)
			if err != nil {
				return fmt.Errorf("open session %d: %w", i, err)
			}
			_ = resp.Body.Close()
			conns[i] = c
			return nil
		})
	}
	if err := dial.Wait(); err != nil {
		return err
	}

	var mu sync.Mutex
	var first, delivery, scheduling []time.Duration
	group, groupCtx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(groupCtx, func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	defer stop()
	for i, c := range conns {
		group.Go(func() error {
			// The sessions begin one after the other, as people do.
			select {
			case <-time.After(o.spread * time.Duration(i) / time.Duration(len(conns))):
			case <-groupCtx.Done():
				return groupCtx.Err()
			}
			seen, err := followOwn(c, o)
			if err != nil {
				return fmt.Errorf("session %d: %w", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			first = append(first, seen.first)
			scheduling = append(scheduling, seen.scheduling)
			delivery = append(delivery, seen.delivery...)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.Events = len(delivery)
	r.FirstEvent, r.Delivery, r.Scheduling = spreadOf(first), spreadOf(delivery), spreadOf(scheduling)
	return nil
}

type seen struct {
	first, scheduling time.Duration
	delivery          []time.Duration
}

// followOwn submits one demo.stream task on c and reads its events to the end.
func followOwn(c *websocket.Conn, o options) (seen, error) {
	var out seen
	request := map[string]any{
		"jsonrpc": "2.0", "id": 1, "method": "submit",
		"params": map[string]any{
			"kind": "demo.stream", "follow": true,
			"payload": map[string]any{"chunks": o.chunks, "interval": o.interval.String(), "size": 64},
		},
	}
	began := time.Now()
	if err := c.WriteJSON(request); err != nil {
		return out, fmt.Errorf("submit: %w", err)
	}
	var queued time.Time
	outputs := 0
	for {
		_, raw, err := c.ReadMessage()
		if err != nil {
			return out, fmt.Errorf("read: %w", err)
		}
		now := time.Now()
		var m message
		if err := json.Unmarshal(raw, &m); err != nil {
			return out, fmt.Errorf("decode %q: %w", raw, err)
		}
		switch {
		case m.Error != nil:
			return out, fmt.Errorf("refused: %s", m.Error)
		case m.Method == "end":
			if outputs != o.chunks {
				return out, fmt.Errorf("%d outputs of %d", outputs, o.chunks)
			}
			return out, nil
		case m.Method != "event":
			continue
		}
		at := time.Time(m.Params.Event.At)
		if out.first == 0 {
			out.first = now.Sub(began)
		}
		switch m.Params.Event.Cursor {
		case "0.1":
			queued = at
			continue // it happened before anybody could watch
		case "1.1":
			out.scheduling = at.Sub(queued)
		}
		if m.Params.Event.Type == "output" {
			outputs++
		}
		out.delivery = append(out.delivery, now.Sub(at))
	}
}
