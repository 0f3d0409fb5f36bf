package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/troupe-run/troupe/transport/spec"
)

// describe makes the part of huma that reads parameters and keeps the OpenAPI
// document. Its pages are left off: they load from elsewhere; see pages.go.
func describe(r chi.Router, version string) huma.API {
	return humachi.New(r, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: spec.Title, Version: version,
				Description: "A durable concurrent task runtime. Errors are problems (RFC 9457); " +
					"[their codes](/docs/problems). Durations are Go's, such as `1.5s`; times are RFC 3339. " +
					"What is said on the WebSockets is described in [another document](/asyncapi.json).",
				Contact: &huma.Contact{Name: spec.Title, URL: spec.Home},
				License: &huma.License{Name: "Apache 2.0", Identifier: spec.License},
			},
			Servers:    []*huma.Server{{URL: "/", Description: "Wherever this document comes from"}},
			Components: &huma.Components{Schemas: spec.Schemas(), SecuritySchemes: schemes},
			Tags: []*huma.Tag{
				{Name: "tasks", Description: "Submit tasks, follow them, cancel them"},
				{Name: "batches", Description: "Many tasks as one"},
				{Name: "schedules", Description: "Tasks that are submitted again and again"},
				{Name: "cluster", Description: "What there is to run tasks on, and how much of it they may take"},
				{Name: "access", Description: "Who may do what, and what they did"},
				{Name: "sockets", Description: "WebSockets; what is said on them is in [another document](/asyncapi.json)"},
				{Name: "probes", Description: "For whoever looks after the server"},
			},
		},
		// "json" is what huma makes of application/problem+json.
		Formats:                      map[string]huma.Format{mediaJSON: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                mediaJSON,
		RejectUnknownQueryParameters: true,
	})
}

// route registers a call that a scope is needed for, whose body, if any, its handler
// reads by itself with [Server.read], and whose errors are answered as problems.
func route[I, O any](s *Server, n need, op huma.Operation, body *huma.RequestBody, call func(context.Context, *I) (*O, error)) {
	s.guarded(n, &op)
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := call(ctx, in)
		if err != nil {
			return nil, &refusal{s.problem(ctx, err)}
		}
		return out, nil
	})
	described := s.operation(op.Method, op.Path)
	// Said only now, since huma would read and decode a body it knows of.
	described.RequestBody = body
}

// operation finds a call in the document.
func (s *Server) operation(method, path string) *huma.Operation {
	item := s.huma.OpenAPI().Paths[path]
	if item == nil {
		return nil
	}
	switch method {
	case http.MethodGet:
		return item.Get
	case http.MethodHead:
		return item.Head
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodPatch:
		return item.Patch
	case http.MethodDelete:
		return item.Delete
	default:
		return nil
	}
}

func schema[T any](s *Server) *huma.Schema {
	t := reflect.TypeFor[T]()
	return s.huma.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

func jsonBody[T any](s *Server, required bool) *huma.RequestBody {
	return &huma.RequestBody{Required: required, Content: map[string]*huma.MediaType{"application/json": {Schema: schema[T](s)}}}
}
