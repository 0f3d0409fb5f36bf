package spec

import (
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// What both descriptions say of the whole.
const (
	Title   = "Troupe"
	License = "Apache-2.0"
	Home    = "https://github.com/troupe-run/troupe"
)

// Schemas makes a registry of the shapes of a document. The core knows no huma, so
// how its types look is said here.
func Schemas() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	r.RegisterTypeAlias(reflect.TypeFor[task.Time](), reflect.TypeFor[time.Time]())
	r.RegisterTypeAlias(reflect.TypeFor[task.Quantity](), reflect.TypeFor[quantity]())
	r.RegisterTypeAlias(reflect.TypeFor[task.State](), reflect.TypeFor[state]())
	r.RegisterTypeAlias(reflect.TypeFor[[]task.State](), reflect.TypeFor[states]())
	r.RegisterTypeAlias(reflect.TypeFor[access.Scope](), reflect.TypeFor[scope]())
	r.RegisterTypeAlias(reflect.TypeFor[transport.Values](), reflect.TypeFor[values]())
	return r
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

// state is the schema of a task.State.
type state struct{}

func (state) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range task.States() {
		s.Enum = append(s.Enum, name.String())
	}
	return s
}

// states is the schema of many of them, which huma would take for bytes.
type states struct{}

func (states) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: state{}.Schema(r)}
}

// scope is the schema of an access.Scope.
type scope struct{}

func (scope) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range access.Scopes() {
		s.Enum = append(s.Enum, string(name))
	}
	return s
}

// values is the schema of a transport.Values.
type values struct{}

func (values) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{
		OneOf:       []*huma.Schema{text, {Type: huma.TypeArray, Items: text}},
		Description: "A value, or several of which any will do",
		Examples:    []any{"a100", []string{"a", "b"}},
	}
}
