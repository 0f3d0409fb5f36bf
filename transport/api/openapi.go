package api

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// describe makes the part of huma that reads parameters and keeps the OpenAPI
// document. Its pages are left off: they load from elsewhere; see pages.go.
func describe(r chi.Router, version string) huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	// The core knows no huma, so how its types look is said here.
	registry.RegisterTypeAlias(reflect.TypeFor[task.Time](), reflect.TypeFor[time.Time]())
	registry.RegisterTypeAlias(reflect.TypeFor[task.Quantity](), reflect.TypeFor[quantity]())
	return humachi.New(r, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Troupe", Version: version,
				Description: "A durable concurrent task runtime. Errors are problems (RFC 9457); " +
					"[their codes](/docs/problems). Durations are Go's, such as `1.5s`; times are RFC 3339.",
			},
			Components: &huma.Components{Schemas: registry},
			Tags:       []*huma.Tag{{Name: "tasks"}, {Name: "batches"}, {Name: "cluster"}, {Name: "probes"}},
		},
		// "json" is what huma makes of application/problem+json.
		Formats:                      map[string]huma.Format{mediaJSON: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                mediaJSON,
		RejectUnknownQueryParameters: true,
	})
}

// quantity is the schema of a task.Quantity.
type quantity struct{}

func (quantity) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		OneOf: []*huma.Schema{
			{Type: huma.TypeNumber},
			{Type: huma.TypeString, Pattern: `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`},
		},
		Description: "A number or a Kubernetes quantity",
		Examples:    []any{2, "500m", "512Mi"},
	}
}

// route registers a call whose body, if any, its handler reads by itself with
// [Server.read], and whose errors are answered as problems.
func route[I, O any](s *Server, op huma.Operation, body *huma.RequestBody, call func(context.Context, *I) (*O, error)) {
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
	described.Responses["default"] = &huma.Response{
		Description: "Error", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema[transport.Problem](s)}},
	}
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
