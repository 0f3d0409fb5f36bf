package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport/auth"
)

// need is what a route asks of whoever calls it. One that asks for nothing is not
// made by mistake: route takes a need, and the zero one panics.
type need struct {
	scope    access.Scope
	operator bool // of the namespace that runs the place
	known    bool // any credential will do
}

var (
	reads       = need{scope: access.TasksRead}
	writes      = need{scope: access.TasksWrite}
	works       = need{scope: access.Workers}
	administers = need{scope: access.Admin}
	operates    = need{scope: access.Admin, operator: true}
	identified  = need{known: true}
)

// refuses says why a principal may not, or nil.
func (n need) refuses(p access.Principal) error {
	switch {
	case n.known:
		return nil
	case !p.May(n.scope):
		return newProblem("forbidden", "The credential does not have the scope "+string(n.scope)+".")
	case n.operator && p.Namespace != access.Operator:
		return newProblem("forbidden", "Only the namespace "+access.Operator+" may do this: it concerns everybody.")
	default:
		return nil
	}
}

// The ways to show a credential.
const (
	bearer = "bearer"
	ticket = "ticket"
)

var schemes = map[string]*huma.SecurityScheme{
	bearer: {Type: "http", Scheme: "bearer", Description: "An API key, or a JSON Web Token of an issuer that the server knows."},
	ticket: {Type: "apiKey", In: "query", Name: "ticket", Description: "What POST /v1/tickets gave: it opens one WebSocket, once."},
}

// guarded has a route ask for what it needs, before anything else of the request is
// looked at, and says so in the document.
func (s *Server) guarded(n need, op *huma.Operation) {
	if n == (need{}) {
		panic("api: " + op.OperationID + " does not say which scope it needs")
	}
	scopes := []string{}
	if !n.known {
		scopes = append(scopes, string(n.scope))
	}
	op.Security = []map[string][]string{{bearer: scopes}}
	if n.operator {
		op.Extensions = map[string]any{"x-operator": true}
	}
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		if err := n.refuses(principal(ctx.Context())); err != nil {
			r, w := humachi.Unwrap(ctx)
			s.refuse(w, r, err)
			return
		}
		next(ctx)
	})
}

// identify finds out who asks, and how often they do.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := s.door.Authenticate(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if s.rates != nil {
			state, err := s.rates.Take(r.Context(), p, middleware.GetClientIPAddr(r.Context()))
			state.Set(w.Header())
			if err != nil {
				s.refuse(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(auth.With(r.Context(), p)))
	})
}

// principal is who asks. Nobody comes here without having been identified; if one
// did, they could do nothing.
func principal(ctx context.Context) access.Principal {
	p, _ := auth.From(ctx)
	return p
}

// namespace is whose tasks a request is about.
func namespace(ctx context.Context) string { return principal(ctx).Namespace }
