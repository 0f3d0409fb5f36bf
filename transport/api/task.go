package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

type taskInput struct {
	ID string `path:"id" doc:"The task's UUID"`
}

func parseID(path, text string) (task.ID, error) {
	id, err := task.ParseID(text)
	if err != nil || id.IsZero() {
		return task.ID{}, invalid(path, "must be a UUID")
	}
	return id, nil
}

type answer[T any] struct{ Body T }

func (s *Server) taskRoutes() {
	tags := []string{"tasks"}
	s.submitRoute()
	s.listRoute()
	s.eventRoute()
	route(s, reads, huma.Operation{
		OperationID: "get-task", Method: http.MethodGet, Path: "/v1/tasks/{id}", Tags: tags,
		Summary: "Get a task", Description: "With why it waits, if it does.",
	}, nil, s.get)
	route(s, writes, huma.Operation{
		OperationID: "delete-task", Method: http.MethodDelete, Path: "/v1/tasks/{id}", Tags: tags,
		Summary: "Delete a task that has ended", Description: "With its events.",
	}, nil, s.remove)
	route(s, reads, huma.Operation{
		OperationID: "get-result", Method: http.MethodGet, Path: "/v1/tasks/{id}/result", Tags: tags,
		Summary: "Get a task's bare result",
		Responses: map[string]*huma.Response{
			"202": {Description: "Not ended yet: the task", Content: map[string]*huma.MediaType{mediaJSON: {Schema: schema[transport.Task](s)}}},
			"409": {Description: "`task_cancelled`"},
			"424": {Description: "`task_failed`, with the failure in the member `error`"},
		},
	}, nil, s.result)
	route(s, writes, huma.Operation{
		OperationID: "cancel-task", Method: http.MethodPost, Path: "/v1/tasks/{id}/cancel", Tags: tags,
		Summary: "Cancel a task",
	}, jsonBody[transport.Cancel](s, false), s.cancel)
	route(s, writes, huma.Operation{
		OperationID: "retry-task", Method: http.MethodPost, Path: "/v1/tasks/{id}/retry", Tags: tags,
		Summary: "Start a failed or cancelled task anew", Description: "Its attempts count on; none so far counts against max_attempts.",
	}, nil, s.retry)
	s.signalRoute()
	route(s, reads, huma.Operation{
		OperationID: "explain-task", Method: http.MethodGet, Path: "/v1/tasks/{id}/explain", Tags: tags,
		Summary: "Say why a task is not running",
	}, nil, s.explain)
}

func (s *Server) get(ctx context.Context, in *taskInput) (*answer[transport.Task], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	t, err := s.tasks.Task(ctx, namespace(ctx), id)
	if err != nil {
		return nil, err
	}
	view := transport.View(t)
	if !t.State.Terminal() && t.State != task.Running {
		why, err := s.tasks.Explain(ctx, namespace(ctx), id)
		if err != nil {
			return nil, err
		}
		view = transport.View(why.Task) // it may have moved on
		view.Waiting = transport.ViewWaiting(why.Waiting)
	}
	return &answer[transport.Task]{view}, nil
}

func (s *Server) remove(ctx context.Context, in *taskInput) (*struct{}, error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	return nil, s.tasks.Delete(ctx, namespace(ctx), id)
}

type resultInput struct {
	ID   string `path:"id" doc:"The task's UUID"`
	Wait string `query:"wait" example:"30s" doc:"Wait this long for the task to end, at most 10m"`
}

type resultOutput struct {
	Status int
	Body   json.RawMessage
}

func (s *Server) result(ctx context.Context, in *resultInput) (*resultOutput, error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	var wait time.Duration
	if in.Wait != "" {
		if wait, err = time.ParseDuration(in.Wait); err != nil || wait < 0 {
			return nil, invalid("wait", `must be a duration such as "30s"`)
		}
	}
	t, err := s.tasks.Task(ctx, namespace(ctx), id)
	if err != nil {
		return nil, err
	}
	if t, err = s.await(ctx, t, min(wait, s.bounds.Wait)); err != nil {
		return nil, err
	}
	switch t.State {
	case task.Succeeded:
		return &resultOutput{http.StatusOK, t.Result}, nil
	case task.Failed:
		p := newProblem("task_failed", "The task has failed.")
		p.Failure = t.Failure
		return nil, p
	case task.Cancelled:
		return nil, newProblem("task_cancelled", "The task was cancelled.")
	default:
		body, err := json.Marshal(transport.View(t))
		return &resultOutput{http.StatusAccepted, body}, err
	}
}

func (s *Server) cancel(ctx context.Context, in *taskInput) (*answer[transport.Task], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	var body transport.Cancel
	if err := s.read(ctx, &body, s.bounds.Body, true); err != nil {
		return nil, err
	}
	const longest = 1000
	if len(body.Reason) > longest {
		return nil, invalid("reason", "must be at most 1000 bytes")
	}
	t, err := s.tasks.Cancel(ctx, namespace(ctx), id, body.Reason)
	return &answer[transport.Task]{transport.View(t)}, err
}

func (s *Server) retry(ctx context.Context, in *taskInput) (*answer[transport.Task], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	t, err := s.tasks.Rerun(ctx, namespace(ctx), id)
	return &answer[transport.Task]{transport.View(t)}, err
}

func (s *Server) explain(ctx context.Context, in *taskInput) (*answer[transport.Explanation], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	why, err := s.tasks.Explain(ctx, namespace(ctx), id)
	return &answer[transport.Explanation]{transport.Explanation{
		Task: transport.View(why.Task), Waiting: transport.ViewWaiting(why.Waiting), Message: why.Message,
	}}, err
}
