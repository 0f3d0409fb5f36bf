package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

type signalInput struct {
	ID   string `path:"id" doc:"The task's UUID"`
	Name string `path:"name" doc:"What the task waits for"`
	Key  string `header:"Idempotency-Key" maxLength:"512" doc:"With the same key a signal is kept once, as long as the task has not ended"`
}

type signalOutput struct {
	Status int
	Body   transport.Signalled
}

func (s *Server) signalRoute() {
	route(s, writes, huma.Operation{
		OperationID: "signal-task", Method: http.MethodPost, Path: "/v1/tasks/{id}/signals/{name}", Tags: []string{"tasks"},
		Summary:       "Send a task a signal",
		Description:   "The body is the payload, any JSON; null where there is none. 202 means that the signal is on disk, for the task to take.",
		DefaultStatus: http.StatusAccepted,
	}, &huma.RequestBody{Content: map[string]*huma.MediaType{mediaJSON: {Schema: &huma.Schema{}}}}, s.signal)
}

func (s *Server) signal(ctx context.Context, in *signalInput) (*signalOutput, error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	if !task.ValidName(in.Name) {
		return nil, invalid("path.name", "must be 1 to 100 of the characters a-z 0-9 . _ -")
	}
	one := task.Signal{Name: in.Name}
	if in.Key != "" {
		if !task.ValidKey(in.Key) {
			return nil, invalid("header.Idempotency-Key", "must be at most 512 bytes of printable UTF-8")
		}
		one.ID = signalID(id, in.Key)
	}
	var body json.RawMessage
	if err := s.read(ctx, &body, int64(s.limits.Event), true); err != nil {
		return nil, err
	}
	one.Data = body
	if err := s.tasks.PutSignal(ctx, namespace(ctx), id, one); err != nil {
		return nil, err
	}
	return &signalOutput{http.StatusAccepted, transport.Signalled{Task: id.String(), Signal: in.Name}}, nil
}

// signalID makes an idempotency key the id of a signal: it is the task's own, so
// that a key may be used for many.
func signalID(of task.ID, key string) (id task.ID) {
	sum := sha256.Sum256(append(of[:], key...))
	copy(id[:], sum[:])
	return id
}
