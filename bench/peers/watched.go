package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/gorilla/websocket"
)

// eventBytes is how much each event carries, beside its number and its time.
const eventBytes = 64

var eventData = strings.Repeat("0123456789abcdef", eventBytes/16)

// newEvent is what an event of demo.stream carries, with its time.
func newEvent(i int) []byte {
	return fmt.Appendf(nil, `{"i":%d,"data":%q,%s%s"}`, i, eventData, atField, time.Now().UTC().Format(atLayout))
}

// play makes the events of one session at their times.
func (of stream) play(ctx context.Context, send func(event []byte) error) error {
	tick := time.NewTicker(of.Every)
	defer tick.Stop()
	for i := range of.Events {
		if err := send(newEvent(i)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// serveRole starts this program again as a server of watchers, which has the machine's
// attention to itself as Troupe's has.
func serveRole(name string) func(context.Context, place, string, string, stream) (*process, error) {
	return func(ctx context.Context, _ place, address, profiles string, of stream) (*process, error) {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		spec, err := json.Marshal(serveSpec{Address: address, Profiles: profiles, Stream: of})
		if err != nil {
			return nil, err
		}
		return startWith(ctx, string(spec), program, name)
	}
}

type serveSpec struct {
	Address, Profiles string
	Stream            stream
}

// listen serves until ctx ends.
func listen(ctx context.Context, stdin io.Reader, handler func(of stream) (http.Handler, error)) error {
	var spec serveSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return err
	}
	h, err := handler(spec.Stream)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", h)
	s := &http.Server{Addr: spec.Address, Handler: mux, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	look := &http.Server{Addr: spec.Profiles, Handler: http.HandlerFunc(pprof.Index), ReadHeaderTimeout: time.Minute}
	go func() { _ = look.ListenAndServe() }() // who needs it finds out
	defer look.Close()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// centrifugeRole is the library with its defaults. Channels keep history and sessions
// recover from it, as that is nearest to what Troupe gives; the history is in memory,
// and bounded.
func centrifugeRole(ctx context.Context, stdin io.Reader, _ io.Writer) error {
	return listen(ctx, stdin, func(of stream) (http.Handler, error) {
		node, err := centrifuge.New(centrifuge.Config{})
		if err != nil {
			return nil, err
		}
		node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
			return centrifuge.ConnectReply{
				Credentials:   &centrifuge.Credentials{},
				Subscriptions: map[string]centrifuge.SubscribeOptions{e.ClientID: {EnableRecovery: true}},
			}, nil
		})
		node.OnConnect(func(c *centrifuge.Client) {
			c.OnMessage(func(centrifuge.MessageEvent) {
				go func() {
					_ = of.play(c.Context(), func(event []byte) error { // the watcher misses what is lost
						_, err := node.Publish(c.ID(), event, centrifuge.WithHistory(of.Events, time.Minute))
						return err
					})
				}()
			})
		})
		return centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}), node.Run()
	})
}

// gorillaRole is the bare minimum: a goroutine writes each session's events to its
// socket, and nothing is kept.
func gorillaRole(ctx context.Context, stdin io.Reader, _ io.Writer) error {
	var upgrader websocket.Upgrader
	return listen(ctx, stdin, func(of stream) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer c.Close()
			for range 2 { // its greeting, and the word to begin
				kind, word, err := c.ReadMessage()
				if err != nil {
					return
				}
				if string(word) == "hello" {
					err = c.WriteMessage(kind, word)
				} else {
					err = of.play(r.Context(), func(event []byte) error { return c.WriteMessage(websocket.TextMessage, event) })
				}
				if err != nil {
					return
				}
			}
			_, _, _ = c.ReadMessage() // until the watcher leaves
		}), nil
	})
}
