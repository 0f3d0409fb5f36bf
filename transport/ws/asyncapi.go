package ws

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/spec"
)

// object is JSON in the making.
type object = map[string]any

// gloss is what the description says of a message beside its shape.
type gloss struct {
	says   string
	params []any // examples, of the type of its parameters
	result any   // example of the answer; nil: it is never answered
}

// channel is one of the sockets.
type channel struct {
	name, address, says string
	protocol            string
	methods             []method
	asked, told         map[string]gloss // what the server is asked, and what it tells unasked
}

func channels() []channel {
	return []channel{
		{
			name: "watcher", address: "/v1/ws", protocol: Subprotocol, methods: watcherMethods(), asked: watcherAsks(), told: watcherTold(),
			says: "For who follows tasks. A subscription gets its snapshot as the answer, then all that happens behind it: no gap, no repeat. " +
				"Who gives their last cursor on a new connection, to any node, gets exactly what they have not seen.",
		},
		{
			name: "worker", address: "/v1/worker", protocol: WorkerSubprotocol, methods: workerMethods(), asked: workerAsks(), told: workerTold(),
			says: "For who runs tasks. A worker registers, is told to run attempts, and says of each how it goes, with the token it was given. " +
				"One that is silent for its lease loses its attempts, which run again elsewhere.",
		},
	}
}

// Document describes the sockets in AsyncAPI 3.0, as JSON. It is made of the methods'
// tables and the shapes they read and write.
func Document(version string) []byte {
	shapes := spec.Schemas()
	messages := object{"error": object{
		"name": "error", "title": "Error", "summary": "Why a request came to nothing; data is a problem, as over HTTP",
		"contentType": "application/json",
		"payload": envelope([]string{"id", "error"}, object{
			"id": anyID(), "error": shapes.Schema(reflect.TypeFor[rpcError](), true, "Error"),
		}),
		"examples": []object{{"name": "error", "payload": object{
			"jsonrpc": "2.0", "id": 1, "error": rpcError{Code: codeProblem, Message: "Not Found", Data: transport.NewProblem(404, "task_not_found", "There is no such task.")},
		}}},
	}}
	chans, operations := object{}, object{}
	for _, c := range channels() {
		chans[c.name] = c.describe(shapes, messages, operations)
	}
	document := object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": spec.Title + ": WebSockets", "version": version,
			"description": "JSON-RPC 2.0 in text frames, one message or one array of at most 100 in a frame. An array is answered by one array. " +
				"A request without an id is carried out and not answered. The server says hello first. Durations are Go's, such as 1.5s; times are RFC 3339. " +
				"Close codes say when to come back: 41xx at once, 42xx with backoff, 44xx not unchanged.",
			"contact": object{"name": spec.Title, "url": spec.Home},
			"license": object{"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
			"tags":    []object{{"name": "watcher", "description": "Follows tasks"}, {"name": "worker", "description": "Runs tasks"}},
		},
		"defaultContentType": "application/json",
		"servers": object{"local": object{
			"host": "localhost:8080", "protocol": "ws", "description": "Where troupe serve listens unless told otherwise; wss where it serves TLS",
			"security": []object{{"$ref": "#/components/securitySchemes/bearer"}, {"$ref": "#/components/securitySchemes/ticket"}},
		}},
		"channels":   chans,
		"operations": operations,
		"components": object{
			"messages": messages, "schemas": plain(shapes.Map()),
			"securitySchemes": object{
				"bearer": object{"type": "http", "scheme": "bearer", "description": "An API key, or a JSON Web Token of an issuer that the server knows."},
				"ticket": object{"type": "httpApiKey", "in": "query", "name": "ticket", "description": "What POST /v1/tickets gave: it opens one WebSocket, once."},
			},
		},
	}
	return mustJSON(document)
}

// describe adds a socket's messages and operations to the document's.
func (c channel) describe(shapes huma.Registry, messages, operations object) object {
	its := object{"error": ref("components/messages/error")}
	add := func(key string, message object) object {
		messages[c.name+"."+key] = message
		its[key] = ref("components/messages/" + c.name + "." + key)
		return ref("channels/" + c.name + "/messages/" + key)
	}
	here := ref("channels/" + c.name)
	for _, m := range c.methods {
		g, known := c.asked[m.Name]
		if !known {
			panic("ws: nothing is said about " + c.name + "." + m.Name)
		}
		asked := add(m.Name, question(shapes, m, g))
		answer := add(m.Name+".result", result(shapes, m, g))
		operations[c.name+"."+m.Name] = object{
			"action": "receive", "channel": here, "summary": g.says, "description": needs(m.Scope), "x-scope": m.Scope,
			"messages": []object{asked},
			"reply":    object{"channel": here, "messages": []object{answer, ref("channels/" + c.name + "/messages/error")}},
		}
	}
	for name, g := range c.told {
		told := add(name+".told", notice(shapes, name, g))
		operations[c.name+"."+name+".told"] = object{
			"action": "send", "channel": here, "summary": g.says, "description": "A notification: it has no id and is not answered.",
			"messages": []object{told},
		}
	}
	return object{
		"address": c.address, "title": "GET " + c.address, "summary": "Subprotocol " + c.protocol, "description": c.says,
		"servers": []object{ref("servers/local")}, "messages": its,
		"bindings": object{"ws": object{
			"bindingVersion": "0.1.0", "method": "GET",
			"headers": object{"type": "object", "properties": object{"Sec-WebSocket-Protocol": object{"type": "string", "const": c.protocol}}},
			"query":   object{"type": "object", "properties": object{"ticket": object{"type": "string", "description": "In place of a credential"}}},
		}},
	}
}

// plain has nothing stand beside a reference, which AsyncAPI does not allow.
func plain(shapes map[string]*huma.Schema) map[string]*huma.Schema {
	for _, shape := range shapes {
		for name, field := range shape.Properties {
			if field.Ref != "" && field.Description != "" {
				shape.Properties[name] = &huma.Schema{Description: field.Description, AllOf: []*huma.Schema{{Ref: field.Ref}}}
			}
		}
	}
	return shapes
}

func needs(s access.Scope) string {
	if s == Anyone {
		return "Any credential will do."
	}
	return "It takes the scope " + string(s) + "."
}

func ref(to string) object { return object{"$ref": "#/" + to} }

// question is the message of a method.
func question(shapes huma.Registry, m method, g gloss) object {
	fields := object{"id": anyID(), "method": object{"const": m.Name}, "params": shapes.Schema(m.params, true, m.Name)}
	var examples []object
	for _, p := range g.params {
		if reflect.TypeOf(p) != m.params {
			panic("ws: an example of " + m.Name + " is of another type")
		}
		examples = append(examples, object{"name": m.Name, "payload": object{"jsonrpc": "2.0", "id": 1, "method": m.Name, "params": p}})
	}
	return message(m.Name, g.says, envelope([]string{"method"}, fields), examples)
}

// result is the message that answers a method.
func result(shapes huma.Registry, m method, g gloss) object {
	if reflect.TypeOf(g.result) != m.result {
		panic("ws: the example of the answer to " + m.Name + " is of another type")
	}
	fields := object{"id": anyID(), "result": shapes.Schema(m.result, true, m.Name)}
	return message(m.Name+" result", "The answer to "+m.Name, envelope([]string{"id", "result"}, fields),
		[]object{{"name": m.Name, "payload": object{"jsonrpc": "2.0", "id": 1, "result": g.result}}})
}

// notice is the message of a notification.
func notice(shapes huma.Registry, name string, g gloss) object {
	p := g.params[0]
	fields := object{"method": object{"const": name}, "params": shapes.Schema(reflect.TypeOf(p), true, name)}
	return message(name, g.says, envelope([]string{"method", "params"}, fields),
		[]object{{"name": name, "payload": object{"jsonrpc": "2.0", "method": name, "params": p}}})
}

func message(name, says string, payload object, examples []object) object {
	return object{
		"name": name, "title": name, "summary": says, "contentType": "application/json", "payload": payload, "examples": examples,
	}
}

// envelope is what JSON-RPC 2.0 has around everything.
func envelope(required []string, fields object) object {
	fields["jsonrpc"] = object{"const": "2.0"}
	return object{
		"type": "object", "additionalProperties": false, "required": append([]string{"jsonrpc"}, required...), "properties": fields,
	}
}

func anyID() object { return object{"type": []string{"string", "number", "null"}} }
