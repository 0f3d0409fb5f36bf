package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

// code is a kind of problem. Its name is for programs and never changes.
type code struct {
	Name   string
	Status int
	Means  string
}

// codes is every code the API answers with over HTTP: those of this package, and those
// package transport gives to the domain's errors. /docs/problems shows it.
var codes = []code{
	{"bad_request", 400, "The request cannot be read: its query is malformed or its body broke off."},
	{"malformed_json", 400, "The body is not JSON in UTF-8. The detail says where it stops being so."},
	{"unauthorized", 401, "The credential is missing, or expired, revoked or wrong."},
	{"cross_origin", 403, "A browser sent this from a page of another origin."},
	{"forbidden", 403, "The credential does not allow this. The detail says which scope it would need."},
	{"not_found", 404, "The API has no such path."},
	{"task_not_found", 404, "There is no such task, or it was deleted, or retention took it."},
	{"batch_not_found", 404, "No task of such a batch is there."},
	{"key_not_found", 404, "There is no such API key."},
	{"schedule_not_found", 404, "There is no such schedule."},
	{"worker_not_found", 404, "There is no such worker, or it is a node itself."},
	{"method_not_allowed", 405, "The path is there, but not for this method. The Allow header lists those it has."},
	{"not_acceptable", 406, "Nothing the API can answer is accepted by the request."},
	{"request_timeout", 408, "The body did not arrive in time, or the request was given up."},
	{"callback_exists", 409, "The batch has a callback already."},
	{"cursor_ahead", 409, "No event of the task has this cursor yet."},
	{"key_ended", 409, "The API key has expired or was revoked, so that no other one can take its place."},
	{"schedule_exists", 409, "There is a schedule of the name that was given."},
	{"task_cancelled", 409, "The task was cancelled and has no result. A retry would run it again."},
	{"task_changed", 409, "The task changed at the same time. Try again."},
	{"task_ended", 409, "The task has ended, and so cannot be cancelled or sent a signal."},
	{"task_exists", 409, "A task with the id that was given exists, and is another one."},
	{"task_not_ended", 409, "The task is in a state in which it cannot be retried or deleted."},
	{"payload_too_large", 413, "The body, a line of it, or the payload in it is larger than the server takes."},
	{"unsupported_media_type", 415, "The body's Content-Type is not one this path takes."},
	{"host_not_allowed", 421, "The Host header names a host that this server does not answer for. See its setting of hosts."},
	{"dependency_cycle", 422, "Tasks are to wait for each other. The detail names the circle."},
	{"dependency_not_found", 422, "A task depends on one that is not there. The errors name it."},
	{"idempotency_key_reused", 422, "The Idempotency-Key was used with a request that was another one."},
	{"invalid_request", 422, "A parameter or a field is unknown, missing or not of its form. The errors name each."},
	{"invalid_task", 422, "The task is not one that can be. The errors name each field that is wrong."},
	{"task_failed", 424, "The task has failed and has no result. The member error is its failure."},
	{"quota_exceeded", 429, "A namespace has used up what it may take up: tasks that wait, or bytes that are kept. The detail names which, Retry-After says when to try again."},
	{"queue_full", 429, "As many tasks wait in the queue as its max_queued lets. Retry-After says when to try again."},
	{"node_unreachable", 503, "The node that holds the task does not answer, and is not known to be dead. What was asked of it may still happen."},
	{"rate_limited", 429, "Tasks come faster than the server is set to take them. Retry-After says when to try again."},
	{"too_many_requests", 429, "The server has as many requests under way as it takes. Retry-After says when to try again."},
	{"too_many_streams", 429, "The server has as many streams and waits as it takes. Retry-After says when to try again."},
	{"too_many_signals", 429, "The task has as many signals as may be that it has not taken. Retry-After says when to try again."},
	{"deadline_unreachable", 503, "So many tasks wait that this one cannot be expected to meet its deadline. The member expected_start is when it would start; late: allow has it taken all the same."},
	{"issuer_unavailable", 503, "The server cannot get the keys of the token's issuer, and so cannot tell whether the token is good."},
	{"internal", 500, "Something went wrong on the server. Its log has more under the request_id."},
	{"not_ready", 503, "The server cannot take tasks now."},
	{"outcome_unknown", 503, "The server cannot tell whether this was stored. Ask again with the same id or Idempotency-Key."},
	{"shutting_down", 503, "The server is shutting down. Another one, or this one soon, will take the request."},
	{"store_unavailable", 503, "The server cannot store anything right now. Nothing was accepted."},
}

// socketCodes are those of the WebSockets, in the data of an error or in place of
// an upgrade.
var socketCodes = []code{
	{"subprotocol_unknown", 400, "The WebSocket speaks another subprotocol. The detail names it."},
	{"upgrade_required", 400, "The path speaks WebSocket, version 13, and nothing else."},
	{"origin_refused", 403, "A page of another origin may not open this WebSocket."},
	{"subscription_not_found", 404, "On a WebSocket: it has no such subscription."},
	{"already_registered", 409, "On a worker's WebSocket: it has registered a worker already."},
	{"no_credentials", 409, "On a WebSocket: the server asks nobody for a credential, so that none can be renewed."},
	{"not_registered", 409, "On a worker's WebSocket: a worker registers first."},
	{"stale_attempt", 409, "On a worker's WebSocket: the attempt is over, or was never this worker's."},
	{"invalid_params", 422, "On a WebSocket: a parameter is unknown, missing or not of its form. The detail or the errors say which."},
	{"log_full", 429, "On a worker's WebSocket: the event log of this attempt is full; further events are not kept."},
	{"too_many_subscriptions", 429, "On a WebSocket: it follows as much as it may."},
}

// newProblem makes a problem of a code of the table.
func newProblem(name, detail string) *transport.Problem {
	return transport.NewProblem(named(name).Status, name, detail)
}

// named is a code of the table.
func named(name string) code {
	for _, table := range [][]code{codes, socketCodes} {
		for _, c := range table {
			if c.Name == name {
				return c
			}
		}
	}
	panic("api: no problem has the code " + name)
}

// invalid is a request with one thing wrong.
func invalid(path, message string) *transport.Problem {
	p := newProblem("invalid_request", "The request is not valid.")
	p.Errors = []transport.FieldError{{Path: path, Message: message}}
	return p
}

// problem says what the client sees of an error, and logs those that are ours.
func (s *Server) problem(ctx context.Context, err error) *transport.Problem {
	p, internal := transport.ProblemOf(err)
	v := visitOf(ctx)
	switch {
	case internal && s.stopping.Err() != nil:
		p = newProblem("shutting_down", "This server is shutting down.")
	case internal && ctx.Err() != nil:
		p = newProblem("request_timeout", "The request was given up.") // nobody is there to read it
	case internal:
		s.log.LogAttrs(ctx, slog.LevelError, "request failed",
			slog.String("request_id", v.id), slog.Any("error", err))
	}
	own := *p // the error may be shared
	own.RequestID = v.id
	return &own
}

// refuse answers with a problem.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problem(r.Context(), err)
	maps.Copy(w.Header(), (&refusal{p}).GetHeaders())
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the shapes all encode; a client that is gone is no error
}

// refusal is a problem as huma wants its errors to be.
type refusal struct{ *transport.Problem }

func (p *refusal) GetStatus() int               { return p.Status }
func (*refusal) ContentType(string) string      { return "application/problem+json" }
func (p *refusal) MarshalJSON() ([]byte, error) { return json.Marshal(p.Problem) }

func (*refusal) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[transport.Problem](), true, "Problem")
}

// GetHeaders tells a client that may come back when to do so, and one that nobody
// knows how to say who it is.
func (p *refusal) GetHeaders() http.Header {
	h := http.Header{}
	auth.Challenge(h, p.Problem)
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		seconds := max(1, int(math.Ceil(p.RetryAfter.Seconds())))
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
	return h
}

// humaErrors makes huma's own errors ours. It has only package variables for
// that, so this is done once, by the first server.
var humaErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, _ string, _ ...error) huma.StatusError {
		return &refusal{transport.NewProblem(status, "internal", "")}
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		v := visitOf(ctx.Context())
		return &refusal{v.server.problem(ctx.Context(), humaProblem(status, msg, errs))}
	}
})

func humaProblem(status int, msg string, errs []error) error {
	switch status {
	case http.StatusUnprocessableEntity:
		p := newProblem("invalid_request", "The request is not valid.")
		for _, err := range errs {
			field := transport.FieldError{Message: err.Error()}
			if detail, ok := errors.AsType[*huma.ErrorDetail](err); ok {
				field = transport.FieldError{Path: strings.TrimPrefix(detail.Location, "query."), Message: detail.Message}
			}
			p.Errors = append(p.Errors, field)
		}
		return p
	case http.StatusNotAcceptable:
		return newProblem("not_acceptable", "The API answers in JSON.")
	default:
		return errors.Join(append(errs, errors.New(msg))...)
	}
}
