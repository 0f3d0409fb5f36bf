package redis

import "github.com/prometheus/client_golang/prometheus"

// What a call came to, as the label says it. Each part has some of these.
const (
	hit        = "hit"
	missed     = "miss"
	stored     = "stored"
	foreign    = "foreign" // not as we stored it
	allowed    = "allowed"
	denied     = "denied"
	connected  = "connected"
	lost       = "lost" // a connection, or a try to make one
	sent       = "sent"
	heard      = "heard"
	own        = "own"        // a hint of this node itself
	unreadable = "unreadable" // a hint that is none
	refused    = "refused"    // beyond our bounds
	skipped    = "skipped"    // the breaker is open
	failed     = "failed"
)

type metrics struct {
	calls *prometheus.CounterVec
}

// newMetrics has the breaker say itself whether Redis is in use: told of each change,
// a gauge would keep the wrong one of two that came at once.
func newMetrics(r prometheus.Registerer, b *breaker) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_redis_calls_total", Help: "Uses of Redis, by part and by what each came to.",
		}, []string{"part", "result"}),
	}
	if r != nil {
		up := prometheus.GaugeOpts{Name: "troupe_redis_up", Help: "Whether Redis is in use: 1, or 0 while it does not answer."}
		r.MustRegister(m.calls, prometheus.NewGaugeFunc(up, func() float64 {
			if b.open.Load() {
				return 0
			}
			return 1
		}))
	}
	return m
}

func (m *metrics) count(part, result string) { m.calls.WithLabelValues(part, result).Inc() }

// failure is the label of an error.
func failure(err error) string {
	if err == errDown { //nolint:errorlint // ask gives it as it is
		return skipped
	}
	return failed
}
