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

func newMetrics(r prometheus.Registerer, socket string) *metrics {
	labels := prometheus.Labels{"socket": socket}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_ws_connections", Help: "Open WebSockets.", ConstLabels: labels}),
		frames:      prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_ws_frames_total", Help: "Frames written.", ConstLabels: labels}),
		bytes:       prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_ws_bytes_total", Help: "Bytes written.", ConstLabels: labels}),
		slow:        prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_ws_slow_total", Help: "Times an outbox was full.", ConstLabels: labels}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_ws_closes_total", Help: "WebSockets the server closed, by close code.", ConstLabels: labels,
		}, []string{"code"}),
	}
	if r != nil {
		r.MustRegister(m.connections, m.frames, m.bytes, m.slow, m.closes)
	}
	return m
}

func (m *metrics) closed(code int) { m.closes.WithLabelValues(strconv.Itoa(code)).Inc() }
