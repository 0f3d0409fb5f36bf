package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(s *Server, reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_http_requests_total", Help: "Requests by route, method and class of status.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "troupe_http_request_duration_seconds", Help: "Time to answer, of requests that neither stream nor wait.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 10},
		}, []string{"route", "method"}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, l *limit) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(l.used.Load()) })
	}
	// A name that is taken is a mistake in the program: panic as MustRegister does.
	reg.MustRegister(m.requests, m.duration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "troupe_ready", Help: "1 where the node takes tasks, else 0."}, s.readiness),
		gauge("troupe_http_requests_in_flight", "Short requests under way.", &s.requests),
		gauge("troupe_http_streams_in_flight", "Streams and waits under way.", &s.streams),
		gauge("troupe_http_uploads_in_flight", "NDJSON batches under way.", &s.uploads),
		gauge("troupe_http_body_bytes", "Bytes reserved for bodies.", &s.bodies))
	return m
}

// observe counts a request. Its labels are bounded: the route is a pattern of
// ours, and a method we do not have is "other".
func (m *metrics) observe(route, method string, status int, took time.Duration, long bool) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	if status == 0 {
		status = http.StatusOK // net/http's own answer for a handler that wrote nothing
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status/100)+"xx").Inc()
	if !long {
		m.duration.WithLabelValues(route, method).Observe(took.Seconds())
	}
}
