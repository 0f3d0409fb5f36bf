package auth

import (
	"context"
	"net/http"

	"github.com/troupe-run/troupe/runtime/access"
)

type (
	principalKey struct{}
	ticketKey    struct{}
)

// With adds who asks to a context.
func With(ctx context.Context, p access.Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From says who asks.
func From(ctx context.Context) (access.Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(access.Principal)
	return p, ok
}

// AllowTicket marks a request whose ?ticket= counts as a credential, where it brings
// no other: those that browsers make without headers of ours.
func AllowTicket(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), ticketKey{}, true))
}

func ticketAllowed(ctx context.Context) bool { return ctx.Value(ticketKey{}) != nil }
