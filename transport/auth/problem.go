package auth

import (
	"net/http"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
)

// Unauthorized is what everybody is told whose credential opens nothing, whatever
// the reason.
func Unauthorized() *transport.Problem {
	return transport.NewProblem(http.StatusUnauthorized, "unauthorized", "The credential is missing, expired, revoked or wrong.")
}

// Forbidden is for a credential that is good, but not for this.
func Forbidden(detail string) *transport.Problem {
	return transport.NewProblem(http.StatusForbidden, "forbidden", detail)
}

// Require refuses a principal that lacks a scope.
func Require(p access.Principal, s access.Scope) error {
	if p.May(s) {
		return nil
	}
	return Forbidden("The credential lacks the scope " + string(s) + ".")
}

// Challenge adds to an answer what RFC 6750 wants beside a problem.
func Challenge(h http.Header, p *transport.Problem) {
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="troupe"`)
	case http.StatusForbidden:
		h.Set("WWW-Authenticate", `Bearer realm="troupe", error="insufficient_scope"`)
	}
}

func unavailable() *transport.Problem {
	p := transport.NewProblem(http.StatusServiceUnavailable, "store_unavailable", "The server cannot check credentials right now; try again later.")
	p.RetryAfter = time.Second
	return p
}

func slowDown(wait time.Duration) *transport.Problem {
	p := transport.NewProblem(http.StatusTooManyRequests, "rate_limited", "Too many credentials were refused that came from this address; try again later.")
	p.RetryAfter = wait
	return p
}
