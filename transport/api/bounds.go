package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// limit counts up to a bound.
type limit struct {
	most int64
	used atomic.Int64
}

func (l *limit) enter(n int64) bool {
	if l.used.Add(n) > l.most {
		l.used.Add(-n)
		return false
	}
	return true
}

func (l *limit) leave(n int64) { l.used.Add(-n) }

// bounded counts the requests of the API itself, not its probes and pages.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.requests.enter(1) {
			s.refuse(w, r, newProblem("too_many_requests", "The server has as many requests under way as it takes; try again later."))
			return
		}
		visitOf(r.Context()).slot = &s.requests
		// What huma and net/url would pass over in silence is refused here.
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			s.refuse(w, r, newProblem("bad_request", "The query is malformed."))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// guard keeps out what a browser can be tricked into, and tells browsers to be
// careful with what they get.
func (s *Server) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	for _, o := range s.origins {
		if err := origin.AddTrustedOrigin(o); err != nil {
			panic(fmt.Sprintf("api: origin %q: %v", o, err)) // whoever reads the settings checks them
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if s.tls != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		switch {
		case !s.answersFor(r):
			s.refuse(w, r, newProblem("host_not_allowed", "This server does not answer for the host in the Host header."))
		case origin.Check(r) != nil:
			s.refuse(w, r, newProblem("cross_origin", "A page of another origin may not do this."))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// answersFor says whether the request may be meant for this server. Behind a
// loopback address only names of loopback can be: any other is a page in a
// browser on this machine that had its own name resolved to us. A request
// without a Host is no browser's.
func (s *Server) answersFor(r *http.Request) bool {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && !loopback(addr.String()) {
		return true
	}
	return r.Host == "" || loopback(r.Host) || slices.ContainsFunc(s.hosts, func(h string) bool {
		return strings.EqualFold(h, r.Host) || strings.EqualFold(h, hostname(r.Host))
	})
}

func loopback(host string) bool {
	name := hostname(host)
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// hostname is host without its port, and an IPv6 address without its brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// unreadable says what is wrong with a body that broke off.
func unreadable(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return newProblem("request_timeout", "The body did not arrive in time.")
	}
	return newProblem("bad_request", "The body broke off.")
}
