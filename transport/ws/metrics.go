package ws

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections prometheus.Gauge
	frames      prometheus.Counter
	bytes       prometheus.Counter
	slow        prometheus.Counter
	closes      *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_ws_connections", Help: "Open WebSockets of watchers."}),
		frames:      prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_ws_frames_total", Help: "Frames written to watchers."}),
		bytes:       prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_ws_bytes_total", Help: "Bytes written to watchers."}),
		slow:        prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_ws_slow_total", Help: "Times a watcher's outbox was full."}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_ws_closes_total", Help: "WebSockets the server closed, by close code.",
		}, []string{"code"}),
	}
	if r != nil {
		r.MustRegister(m.connections, m.frames, m.bytes, m.slow, m.closes)
	}
	return m
}

func (m *metrics) closed(code int) { m.closes.WithLabelValues(strconv.Itoa(code)).Inc() }
