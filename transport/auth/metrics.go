package auth

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/transport"
)

// How somebody was let in or not.
const (
	byNothing = "none"
	byKey     = "key"
	byJWT     = "jwt"
	byTicket  = "ticket"
	byOpen    = "open"
	byUnknown = "unknown" // a credential of no kind that there is
)

type metrics struct{ auth *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{auth: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "troupe_auth_total", Help: "Credentials that were checked, by kind and verdict.",
	}, []string{"how", "verdict"})}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.auth); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) count(how string, err error) { m.auth.WithLabelValues(how, verdict(err)).Inc() }

func verdict(err error) string {
	p, ok := errors.AsType[*transport.Problem](err)
	switch {
	case err == nil:
		return "ok"
	case !ok:
		return "error"
	case p.Status == http.StatusUnauthorized:
		return "refused"
	case p.Status == http.StatusForbidden:
		return "forbidden"
	case p.Status == http.StatusTooManyRequests:
		return "slowed"
	}
	return "unavailable"
}
