package ws

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// Anyone is the scope of methods that every credential allows.
const Anyone access.Scope = "anyone"

// Method is one thing a socket can be asked for, and what that takes.
type Method struct {
	Socket string // watcher or worker
	Name   string
	Scope  access.Scope
}

// Methods lists them all.
func Methods() (all []Method) {
	for _, m := range watcherMethods() {
		all = append(all, Method{Socket: "watcher", Name: m.Name, Scope: m.Scope})
	}
	for _, m := range workerMethods() {
		all = append(all, Method{Socket: "worker", Name: m.Name, Scope: m.Scope})
	}
	return all
}

// method is a line of a protocol's table. call answers with a result or an error, or
// says errLater and does so itself.
type method struct {
	Name  string
	Scope access.Scope
	call  func(ctx context.Context, p party, params json.RawMessage, to *call) (any, error)

	params, result reflect.Type // as the description of the socket shows them
}

// asked makes a method of what does it for a party of a protocol. Its parameters and
// its result are as the types have them. One that takes none passes over what it gets.
func asked[W party, P, R any](name string, scope access.Scope, do func(W, context.Context, P, *call) (R, error)) method {
	m := method{Name: name, Scope: scope, params: reflect.TypeFor[P](), result: reflect.TypeFor[R]()}
	m.call = func(ctx context.Context, w party, raw json.RawMessage, to *call) (any, error) {
		var p P
		if m.params != reflect.TypeFor[nothing]() {
			if err := params(raw, &p); err != nil {
				return nil, err
			}
		}
		return do(w.(W), ctx, p, to) //nolint:forcetypeassert // the table is of its protocol
	}
	return m
}

// tableOf makes a table by name. A method that does not say what it takes is a mistake
// that must not be found out by whoever calls it.
func tableOf(methods []method) map[string]method {
	table := make(map[string]method, len(methods))
	for _, m := range methods {
		if m.Scope == "" || table[m.Name].call != nil {
			panic("ws: method " + m.Name + " has no scope, or is there twice")
		}
		table[m.Name] = m
	}
	return table
}

func (c *conn) ping(context.Context, nothing, *call) (pong, error) {
	return pong{At: task.Time(time.Now())}, nil
}

// params reads a method's parameters; none is the same as an empty object.
func params(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	return transport.Decode(raw, into)
}

func invalid(detail string) error {
	return transport.NewProblem(http.StatusUnprocessableEntity, "invalid_params", detail)
}

func parseID(field, text string) (task.ID, error) {
	id, err := task.ParseID(text)
	if err != nil || id.IsZero() {
		return task.ID{}, invalid(field + " must be a UUID.")
	}
	return id, nil
}
