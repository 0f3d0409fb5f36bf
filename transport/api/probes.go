package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/troupe-run/troupe/runtime/task"
)

// probeRoutes are outside of the bounds: they must answer when all is taken.
func (s *Server) probeRoutes(cfg Config) {
	s.plain("/livez", "Say that the process lives", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, mediaJSON, status{"alive"})
	}, http.MethodGet, http.MethodHead)
	s.plain("/readyz", "Say whether tasks are taken", s.ready, http.MethodGet, http.MethodHead)
	if cfg.Metrics != nil {
		s.plain("/metrics", "Metrics for Prometheus", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		}).ServeHTTP, http.MethodGet)
	}
	if cfg.WS != nil {
		s.plain("/v1/ws", "Open a WebSocket, subprotocol troupe.v1.json", func(w http.ResponseWriter, r *http.Request) {
			visitOf(r.Context()).long = true // the time it is open is no time to answer
			cfg.WS.ServeHTTP(w, r)
		}, http.MethodGet)
	}
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
func (s *Server) plain(path, summary string, handle http.HandlerFunc, methods ...string) {
	for _, method := range methods {
		s.mux.Method(method, path, handle)
		s.huma.OpenAPI().AddOperation(&huma.Operation{
			Method: method, Path: path, Summary: summary, Tags: []string{"probes"},
			Responses: map[string]*huma.Response{"200": {Description: "OK"}},
		})
	}
}
