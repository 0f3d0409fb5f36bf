package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
)

// probeRoutes are outside of the bounds: they must answer when all is taken.
func (s *Server) probeRoutes(cfg Config) {
	s.plain(probe("livez", "/livez", "Say that the process lives", mediaJSON, schema[status](s)), func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, mediaJSON, status{"alive"})
	}, http.MethodGet, http.MethodHead)
	s.plain(probe("readyz", "/readyz", "Say whether tasks are taken", mediaJSON, schema[status](s)), s.ready, http.MethodGet, http.MethodHead)
	if cfg.Metrics != nil {
		text := &huma.Schema{Type: huma.TypeString}
		s.plain(probe("metrics", "/metrics", "Metrics for Prometheus", "text/plain", text), s.metered(promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		})), http.MethodGet)
		if s.closedMetrics {
			s.described(operates, "/metrics")
		}
	}
	s.socket("open-watcher", "/v1/ws", "Open a WebSocket, subprotocol troupe.v1.json", identified, cfg.WS)
	s.socket("open-worker", "/v1/worker", "Open a WebSocket for a worker, subprotocol troupe.worker.v1.json", works, cfg.Workers)
}

// socket is a route to a WebSocket. What its methods need they say themselves.
func (s *Server) socket(id, path, summary string, n need, to http.Handler) {
	if to == nil {
		return
	}
	open := s.identify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := n.refuses(principal(r.Context())); err != nil {
			s.refuse(w, r, err)
			return
		}
		visitOf(r.Context()).long = true // the time it is open is no time to answer
		to.ServeHTTP(w, r)
	}))
	s.plain(huma.Operation{OperationID: id, Path: path, Summary: summary, Tags: []string{"sockets"}, Responses: map[string]*huma.Response{
		"101": {Description: "The socket is open; hello is said first on it"},
	}}, func(w http.ResponseWriter, r *http.Request) { open.ServeHTTP(w, auth.AllowTicket(r)) }, http.MethodGet)
	op := s.described(n, path)
	op.Security = append(op.Security, map[string][]string{ticket: {}})
}

// described has the document say what a route needs that huma has no part in.
func (s *Server) described(n need, path string) *huma.Operation {
	op := s.operation(http.MethodGet, path)
	s.guarded(n, op)
	op.Middlewares = nil // the route itself asks
	return op
}

// metered serves metrics, to everybody or to operators only.
func (s *Server) metered(metrics http.Handler) http.HandlerFunc {
	if !s.closedMetrics {
		return metrics.ServeHTTP
	}
	return s.identify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := operates.refuses(principal(r.Context())); err != nil {
			s.refuse(w, r, err)
			return
		}
		metrics.ServeHTTP(w, r)
	})).ServeHTTP
}

type status struct {
	Status string `json:"status"`
}

// readyWithin bounds how long it takes to find out.
const readyWithin = 2 * time.Second

// readiness is what /readyz says, as a number.
func (s *Server) readiness() float64 {
	ctx, cancel := context.WithTimeout(s.stopping, readyWithin)
	defer cancel()
	if s.tasks.Ready(ctx) != nil {
		return 0
	}
	return 1
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	if s.stopping.Err() != nil {
		s.refuse(w, r, task.ErrClosed)
		return
	}
	if err := s.tasks.Ready(ctx); err != nil {
		s.log.LogAttrs(ctx, slog.LevelDebug, "not ready", slog.Any("error", err))
		s.refuse(w, r, newProblem("not_ready", "The server cannot take tasks now."))
		return
	}
	writeJSON(w, http.StatusOK, mediaJSON, status{"ready"})
}

// plain registers a route that huma has no part in, and describes it.
func (s *Server) plain(op huma.Operation, handle http.HandlerFunc, methods ...string) {
	for _, method := range methods {
		s.mux.Method(method, op.Path, handle)
		one := op
		one.Method, one.Security = method, []map[string][]string{} // it asks for no credential
		if method == http.MethodHead {
			one.OperationID, one.Responses = "head-"+op.OperationID, map[string]*huma.Response{"200": {Description: "OK"}}
		}
		s.huma.OpenAPI().AddOperation(&one)
	}
}

// probe describes a probe, whose answer is of a type.
func probe(id, path, summary, media string, shape *huma.Schema) huma.Operation {
	return huma.Operation{
		OperationID: id, Path: path, Summary: summary, Tags: []string{"probes"},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{media: {Schema: shape}}}},
	}
}
