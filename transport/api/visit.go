package api

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/troupe-run/troupe/runtime/task"
)

// visit is one request and what it takes up until it is answered.
type visit struct {
	server *Server
	id     string
	w      *writer
	r      *http.Request
	slot   *limit // the bound it counts against, nil for none
	bytes  int64  // reserved for its body
	long   bool   // streams or waits
	depart func() // leaves the crowd of those
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit { return ctx.Value(visitKey{}).(*visit) }

// visit is the outermost layer: it names the request, sees how it ends, and
// keeps a panic from leaving.
func (s *Server) visit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		v := &visit{server: s, id: requestID(r), w: &writer{ResponseWriter: w}, depart: func() {}}
		v.r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		w.Header().Set("X-Request-Id", v.id)
		defer func() { //nolint:contextcheck // it has the request
			p := recover()
			v.leave()
			v.finish(p, time.Since(began))
		}()
		next.ServeHTTP(v.w, v.r)
	})
}

// finish answers for a panic, if there was one, and notes how the visit went.
func (v *visit) finish(p any, took time.Duration) {
	s, abort := v.server, false
	err, _ := p.(error)
	switch {
	case p == nil:
	case errors.Is(err, http.ErrAbortHandler), v.w.broken:
		abort = true // the client is gone, or shall see that the answer broke off
	default:
		s.log.LogAttrs(v.r.Context(), slog.LevelError, "request panicked",
			slog.String("request_id", v.id), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		abort = v.w.status != 0
		if !abort {
			s.refuse(v.w, v.r, newProblem("internal", "Something went wrong on the server."))
		}
	}
	route := "none"
	if c := chi.RouteContext(v.r.Context()); c != nil && c.RoutePattern() != "" {
		route = c.RoutePattern()
	}
	s.metrics.observe(route, v.r.Method, v.w.status, took, v.long)
	s.log.LogAttrs(v.r.Context(), slog.LevelDebug, "request",
		slog.String("request_id", v.id), slog.String("method", v.r.Method), slog.String("route", route),
		slog.Int("status", v.w.status), slog.Int64("bytes", v.w.bytes), slog.Duration("took", took))
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// requestID takes the client's own id if it is fit to stand in a log.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	strange := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	}
	if id == "" || len(id) > 100 || strings.ContainsFunc(id, strange) {
		return rand.Text()
	}
	return id
}

// hold makes the visit one that lasts: it counts as a stream from here on, and
// may write for as long as it likes.
func (v *visit) hold(ctx context.Context) error {
	if v.long {
		return nil
	}
	if v.server.stopping.Err() != nil {
		return task.ErrClosed
	}
	leave, err := v.server.crowd.Enter(principal(ctx))
	if err != nil {
		return err
	}
	if !v.server.streams.enter(1) {
		leave()
		return newProblem("too_many_streams", "The server has as many streams and waits as it takes; try again later.")
	}
	if v.slot != nil {
		v.slot.leave(1)
	}
	v.slot, v.long, v.depart = &v.server.streams, true, leave
	_ = v.controller().SetWriteDeadline(time.Time{})
	return nil
}

// reserve takes n bytes of what all bodies may take together.
func (v *visit) reserve(n int64) error {
	if !v.server.bodies.enter(n) {
		return newProblem("too_many_requests", "The server has as much to read as it takes; try again later.")
	}
	v.bytes += n
	return nil
}

func (v *visit) leave() {
	if v.slot != nil {
		v.slot.leave(1)
	}
	v.depart()
	v.server.bodies.leave(v.bytes)
	v.slot, v.bytes = nil, 0
}

// patience bounds what is written next: a client that does not take it in time
// is disconnected.
func (v *visit) patience() {
	_ = v.controller().SetWriteDeadline(time.Now().Add(v.server.bounds.Write))
}

func (v *visit) controller() *http.ResponseController {
	return http.NewResponseController(v.w.ResponseWriter)
}

// writer notes what is written, and the status at most once.
type writer struct {
	http.ResponseWriter
	status int
	bytes  int64
	broken bool // the client took no more
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	w.broken = w.broken || err != nil
	return n, err
}

// Hijack is asked for by WebSocket libraries.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.status = http.StatusSwitchingProtocols
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		w.status = 0
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	return conn, buf, nil
}
