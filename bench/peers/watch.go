package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// stream is what each session watches: a channel of its own, and so many events on it.
// They begin over a while, as people do.
type stream struct {
	Sessions, Events int
	Every, Spread    time.Duration
}

// at is how each server says, in the JSON of an event, when it was made. The watchers
// look for no more, so that they take little of the machine.
const (
	atField  = `"at":"`
	atLayout = "2006-01-02T15:04:05.000000Z"
)

// watched is a server of events over WebSockets.
type watched struct {
	name  string
	safe  string
	serve func(ctx context.Context, at place, address, profiles string, of stream) (*process, error)
	path  string
	// subprotocol, and what a session says until it watches something idle; the server
	// has answered when it sends what contains answer.
	subprotocol, hello, answer string
	// begin has the events begin; each contains event.
	begin func(of stream) string
	event string
}

const watchTroupe = "watch troupe server SQLite"

func watches() []watched {
	return []watched{
		{
			// The stream of a task, which is kept, numbered and resumable; while idle, a
			// session follows a task that is due in an hour.
			name: watchTroupe, safe: "all older than a moment", serve: serveTroupe, path: "/v1/ws", subprotocol: "troupe.v1.json",
			hello:  `{"jsonrpc":"2.0","id":1,"method":"submit","params":{"kind":"demo.echo","delay":"1h","follow":true}}`,
			answer: `"id":1,`,
			begin: func(of stream) string {
				return fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"submit","params":{"kind":"demo.stream","follow":true,`+
					`"payload":{"chunks":%d,"interval":%q,"size":%d}}}`, of.Events, of.Every, eventBytes)
			},
			event: `"type":"output"`,
		},
		{
			name: "watch centrifuge", safe: "none; the newest in memory", serve: serveRole("centrifuge"), path: "/ws", subprotocol: "centrifuge-json",
			hello: `{"id":1,"connect":{}}`, answer: `"id":1,`,
			begin: func(stream) string { return `{"send":{"data":{}}}` }, event: `"push":`,
		},
		{
			name: "watch gorilla/websocket", safe: "none", serve: serveRole("gorilla"), path: "/ws",
			hello: "hello", answer: "hello", begin: func(stream) string { return "begin" }, event: `"data":`,
		},
	}
}

func watchOf(name string) (watched, error) {
	for _, w := range watches() {
		if w.name == name {
			return w, nil
		}
	}
	return watched{}, fmt.Errorf("no server of watchers is called %q", name)
}

func serveTroupe(ctx context.Context, at place, address, profiles string, _ stream) (*process, error) {
	return start(ctx, at.Troupe, "serve", "--listen", address, "--pprof", profiles, "--log-level", "warn",
		"--data", filepath.Join(at.Dir, "data"))
}

// watchSpec is what the role of all watchers is told.
type watchSpec struct {
	Name   string
	Stream stream
	Place  place
}

func watchRole(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var spec watchSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return err
	}
	w, err := watchOf(spec.Name)
	if err != nil {
		return err
	}
	f, err := runWatch(ctx, w, spec.Stream, spec.Place)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(f)
}

// runWatch starts a server and has this process watch it.
func runWatch(ctx context.Context, w watched, of stream, at place) (figures, error) {
	if err := os.MkdirAll(at.Dir, 0o700); err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	profiles, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p, err := w.serve(ctx, at, address, profiles, of)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if err := p.await(ctx, func(ctx context.Context) error { return ready(ctx, address) }); err != nil {
		return nil, err
	}
	crowd := &crowd{of: of, server: w, url: "ws://" + address + w.path}
	defer crowd.leave()
	if err := crowd.enter(ctx, 1); err != nil { // what the first one costs all share
		return nil, err
	}
	before, err := settled(ctx, p.pid, profiles)
	if err != nil {
		return nil, err
	}
	if err := crowd.enter(ctx, of.Sessions); err != nil {
		return nil, err
	}
	idle, err := settled(ctx, p.pid, profiles)
	if err != nil {
		return nil, err
	}
	cpu := treeTime(p.pid)
	delays, err := crowd.watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w; the server said: %q", err, lastLine(p.said.String()))
	}
	cpu = treeTime(p.pid) - cpu
	slices.Sort(delays)
	return figures{
		"watch_p50": milliseconds(quantile(delays, 0.5)), "watch_p99": milliseconds(quantile(delays, 0.99)),
		"watch_cpu": cpu * 1e6 / float64(len(delays)), "watch_memory": (idle - before) / float64(of.Sessions),
	}, nil
}

// settled is a server's resident memory once it has collected its garbage.
func settled(ctx context.Context, pid int, profiles string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+profiles+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("have the server collect its garbage: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("have the server collect its garbage: %s: %w", resp.Status, err)
	}
	return resident(pid)
}

// ready says whether a server is: Troupe by its probe, the others by any answer.
func ready(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return errors.New(resp.Status)
	}
	return nil
}

// crowd is the watchers, one WebSocket each.
type crowd struct {
	of     stream
	server watched
	url    string

	mu    sync.Mutex
	conns []*websocket.Conn
}

// enter opens so many sessions more, each of which watches something idle.
func (c *crowd) enter(ctx context.Context, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for range n {
		group.Go(func() error {
			dialer := websocket.Dialer{NetDialContext: new(net.Dialer).DialContext}
			if c.server.subprotocol != "" {
				dialer.Subprotocols = []string{c.server.subprotocol}
			}
			conn, resp, err := dialer.DialContext(ctx, c.url, nil)
			if err != nil {
				return fmt.Errorf("open a session: %w", err)
			}
			_ = resp.Body.Close()
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			return c.greet(conn)
		})
	}
	return group.Wait()
}

func (c *crowd) greet(conn *websocket.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(readyWithin))
	if err := conn.WriteMessage(websocket.TextMessage, []byte(c.server.hello)); err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	for {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("greet: %w", err)
		}
		if bytes.Contains(raw, []byte(c.server.answer)) {
			return nil
		}
	}
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// watch has the events of all sessions but the first begin, and gives how late each of
// them came. Every one must.
func (c *crowd) watch(ctx context.Context) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, c.leave)
	defer stop()
	for i, conn := range c.conns[1:] {
		group.Go(func() error {
			select {
			case <-time.After(c.of.Spread * time.Duration(i) / time.Duration(c.of.Sessions)):
			case <-ctx.Done():
				return ctx.Err()
			}
			delays, err := c.follow(conn)
			if err != nil {
				return fmt.Errorf("session %d, after %d events: %w", i, len(delays), err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, delays...)
			return nil
		})
	}
	return all, group.Wait()
}

// follow reads a session's events.
func (c *crowd) follow(conn *websocket.Conn) ([]time.Duration, error) {
	_ = conn.SetReadDeadline(time.Now().Add(stuckWithin))
	if err := conn.WriteMessage(websocket.TextMessage, []byte(c.server.begin(c.of))); err != nil {
		return nil, err
	}
	delays := make([]time.Duration, 0, c.of.Events)
	for len(delays) < c.of.Events {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return delays, err
		}
		now := time.Now()
		for line := range bytes.Lines(raw) { // Centrifuge puts several into a frame
			if !bytes.Contains(line, []byte(c.server.event)) {
				continue
			}
			at, err := madeAt(line)
			if err != nil {
				return delays, err
			}
			delays = append(delays, now.Sub(at))
		}
	}
	return delays, nil
}

func madeAt(event []byte) (time.Time, error) {
	_, rest, found := bytes.Cut(event, []byte(atField))
	if !found || len(rest) < len(atLayout) {
		return time.Time{}, fmt.Errorf("an event without its time: %s", event)
	}
	return time.Parse(atLayout, string(rest[:len(atLayout)]))
}
