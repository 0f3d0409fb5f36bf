package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// runLean serves WebSockets and nothing else: it speaks as much of the watchers'
// protocol as the harness does, keeps nothing, and has no tasks behind it. What Troupe
// takes beyond it is the price of what Troupe does.
func runLean(ctx context.Context, args []string, _, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench lean", flag.ContinueOnError)
	flags.SetOutput(stderr)
	address := flags.String("listen", "127.0.0.1:0", "address")
	if err := flags.Parse(args); err != nil {
		return err
	}
	h := &lean{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /v1/ws", h.serve)
	mux.HandleFunc("POST /feed", h.feed)
	s := &http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// launchLean starts it in a process of its own, as this program under another name.
func launchLean(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	address, _, err := freeAddresses(ctx)
	if err != nil {
		return nil, err
	}
	url := "http://" + address
	s := &server{url: url, profiles: url + "/debug/pprof/", http: newHTTP(), binary: self, args: []string{"lean", "--listen", address}}
	return s, s.begin(ctx)
}

// lean is that server. All who subscribe hear the one feed.
type lean struct {
	mu      sync.Mutex
	hearers []*websocket.Conn
}

func (h *lean) serve(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"troupe.v1.json"}, ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: &leanBuffers}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for {
		var m struct {
			ID     int    `json:"id"`
			Method string `json:"method"`
			Params struct {
				Payload struct {
					Chunks   int
					Interval string
				}
			}
		}
		if c.ReadJSON(&m) != nil {
			return
		}
		// Nobody else writes: the feed begins when all have been answered.
		answer := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"result":{"subscription":"feed"}}`, m.ID)
		if c.WriteMessage(websocket.TextMessage, answer) != nil {
			return
		}
		switch m.Method {
		case "subscribe":
			h.mu.Lock()
			h.hearers = append(h.hearers, c)
			h.mu.Unlock()
		case "submit":
			interval, _ := time.ParseDuration(m.Params.Payload.Interval)
			leanStream(m.Params.Payload.Chunks, interval, func(b []byte) { _ = c.WriteMessage(websocket.TextMessage, b) })
		}
	}
}

var leanBuffers sync.Pool // as gorilla's own advice for many connections is

// feed sends one stream to all who subscribed.
func (h *lean) feed(_ http.ResponseWriter, r *http.Request) {
	var chunks int
	var every string
	if _, err := fmt.Sscan(r.FormValue("chunks"), &chunks); err != nil {
		return
	}
	every = r.FormValue("interval")
	interval, _ := time.ParseDuration(every)
	go leanStream(chunks, interval, func(b []byte) {
		m, err := websocket.NewPreparedMessage(websocket.TextMessage, b)
		if err != nil {
			return
		}
		for _, c := range h.hearers { // nobody comes any more
			_ = c.WritePreparedMessage(m)
		}
	})
}

// leanStream makes the events that a demo.stream task has, without one.
func leanStream(chunks int, interval time.Duration, send func([]byte)) {
	seq := 0
	event := func(kind, data string) {
		seq++
		send(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"event","params":{"subscription":"task:00000000-0000-0000-0000-000000000000",`+
			`"event":{"task":"00000000-0000-0000-0000-000000000000","cursor":"1.%d","type":"%s","at":"%s","data":%s}}}`,
			seq, kind, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), data))
	}
	event("state", `{"state":"running","attempt":1}`)
	tick := time.NewTicker(max(interval, time.Microsecond))
	defer tick.Stop()
	for i := range chunks {
		<-tick.C
		event("output", fmt.Sprintf(`{"chunk":{"i":%d,"data":"%s"}}`, i, strings.Repeat("x", 64)))
	}
	event("state", `{"state":"succeeded","attempt":1}`)
	send([]byte(`{"jsonrpc":"2.0","method":"end","params":{"subscription":"feed"}}`))
}
