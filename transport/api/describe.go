package api

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/spec"
)

const mediaProblem = "application/problem+json"

// gloss is what the document says of a call beside the shapes of its parameters,
// bodies and answers.
type gloss struct {
	says    string         // a description, where the route has none
	refuses []string       // codes of problems that are its own
	params  params         // examples
	body    map[string]any // by what they show; a name is of lower-case words
	answers map[int]any    // by status
}

// params are examples of parameters, by name.
type params map[string]any

// Codes that many calls may answer with.
var (
	everywhere = []string{
		"bad_request", "unauthorized", "host_not_allowed", "not_acceptable", "request_timeout", "invalid_request", "rate_limited",
		"too_many_requests", "internal", "shutting_down", "store_unavailable", "issuer_unavailable",
	}
	ofBodies   = []string{"malformed_json", "payload_too_large", "unsupported_media_type"}
	ofUnsafe   = []string{"cross_origin"}
	ofChange   = []string{"outcome_unknown", "task_changed"}
	ofReads    = []string{"task_not_found", "node_unreachable"}
	ofBatches  = []string{"batch_not_found"}
	ofTasks    = slices.Concat(ofChange, []string{"task_not_found", "node_unreachable"})
	ofSubmits  = slices.Concat(ofChange, []string{"invalid_task", "task_exists", "queue_full", "deadline_unreachable", "dependency_not_found", "node_unreachable", "quota_exceeded"})
	ofSettings = []string{"outcome_unknown"}
)

// illustrate adds to every call what its gloss says. A call without one is a mistake
// of this package.
func (s *Server) illustrate() {
	document := s.huma.OpenAPI()
	document.Components.Examples, document.Components.Responses = map[string]*huma.Example{}, map[string]*huma.Response{}
	all := joined(taskGlosses(), batchGlosses(), scheduleGlosses(), clusterGlosses(), accessGlosses(), probeGlosses())
	for path := range document.Paths {
		for _, method := range methods {
			op := s.operation(method, path)
			if op == nil {
				continue
			}
			g, known := all[op.OperationID]
			if !known {
				panic("api: nothing is said about " + op.OperationID)
			}
			op.Description = cmp.Or(op.Description, g.says)
			exemplify(op, g)
			s.refusals(op, g.refuses)
		}
	}
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// exemplify gives a call its examples.
func exemplify(op *huma.Operation, g gloss) {
	for _, p := range op.Parameters {
		if v, ok := g.params[p.Name]; ok {
			p.Example = v
		} else if p.Schema != nil && len(p.Schema.Examples) > 0 {
			p.Example = p.Schema.Examples[0]
		}
	}
	for name, v := range g.body {
		for media, m := range op.RequestBody.Content {
			// A line of NDJSON is one task, and a batch of JSON many.
			if _, batch := v.(transport.Batch); batch == (media == mediaNDJSON) && len(op.RequestBody.Content) > 1 {
				continue
			}
			if m.Examples == nil {
				m.Examples = map[string]*huma.Example{}
			}
			m.Examples[strings.ReplaceAll(name, " ", "-")] = &huma.Example{Summary: strings.ToUpper(name[:1]) + name[1:], Value: v}
		}
	}
	for status, v := range g.answers {
		for media, m := range op.Responses[strconv.Itoa(status)].Content {
			if media == mediaJSON || len(op.Responses[strconv.Itoa(status)].Content) == 1 {
				m.Example = v
			}
		}
	}
}

// refusals describes the problems a call may answer with: one response for each
// status, shared by all calls that have the same codes under it.
func (s *Server) refusals(op *huma.Operation, own []string) {
	if len(op.Security) == 0 {
		own = append(slices.Clone(own), "host_not_allowed")
	} else {
		own = slices.Concat(own, everywhere)
		if scopes := op.Security[0][bearer]; len(scopes) > 0 {
			own = append(own, "forbidden")
		}
	}
	if op.RequestBody != nil {
		own = append(own, ofBodies...)
	}
	if op.Method != http.MethodGet && op.Method != http.MethodHead {
		own = append(own, ofUnsafe...)
	}
	byStatus := map[int][]string{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(own))) {
		c := named(name)
		byStatus[c.Status] = append(byStatus[c.Status], name)
	}
	for status, names := range byStatus {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + s.refusal(status, names)}
	}
}

// refusal is the name of the response with these codes.
func (s *Server) refusal(status int, names []string) string {
	parts := s.huma.OpenAPI().Components
	name := strings.Join(names, ".")
	if parts.Responses[name] != nil {
		return name
	}
	examples := map[string]*huma.Example{}
	said := make([]string, len(names))
	for i, one := range names {
		c := named(one)
		said[i] = "`" + one + "`: " + c.Means
		examples[one] = &huma.Example{Ref: "#/components/examples/" + one}
		parts.Examples[one] = &huma.Example{Summary: http.StatusText(status), Value: c.example()}
	}
	r := &huma.Response{
		Description: strings.Join(said, " "),
		Content:     map[string]*huma.MediaType{mediaProblem: {Schema: schema[transport.Problem](s), Examples: examples}},
	}
	header := func(name, says string, schema *huma.Schema) {
		r.Headers = map[string]*huma.Param{name: {Description: says, Schema: schema}}
	}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header("Retry-After", "When to try again, in seconds", &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0)})
	case http.StatusUnauthorized, http.StatusForbidden:
		header("WWW-Authenticate", "What credential is asked for; where it is the credential that does not do", &huma.Schema{Type: huma.TypeString})
	}
	parts.Responses[name] = r
	return name
}

// example is a problem of the code as a client may get it.
func (c code) example() *transport.Problem {
	p := transport.NewProblem(c.Status, c.Name, c.Means)
	p.RequestID = "6Z5T2YQ3WJ7KX4NB"
	switch c.Name {
	case "invalid_request", "invalid_task":
		p.Errors = []transport.FieldError{{Path: "kind", Message: "must be 1 to 100 of the characters a-z 0-9 . _ -"}}
	case "dependency_not_found":
		p.Errors = []transport.FieldError{{Path: "depends_on[0]", Message: "there is no task " + spec.NextID}}
	case "deadline_unreachable":
		start := spec.At(0)
		p.ExpectedStart = &start
	}
	return p
}

// also is a list with more in it, and leaves the list as it is.
func also(codes []string, more ...string) []string { return slices.Concat(codes, more) }

// exampleID is an id as the core has it.
func exampleID(text string) task.ID {
	id, err := task.ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// joined is all that some have.
func joined(some ...map[string]gloss) map[string]gloss {
	all := map[string]gloss{}
	for _, one := range some {
		maps.Copy(all, one)
	}
	return all
}
