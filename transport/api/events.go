package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

type eventInput struct {
	ID          string `path:"id" doc:"The task's UUID"`
	After       string `query:"after" example:"0.1" doc:"Only events behind this cursor"`
	Limit       int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"Of a page; a stream has none"`
	LastEventID string `header:"Last-Event-ID" example:"0.1" doc:"Of a stream: goes before after"`
}

// written is the output of a call that has answered by itself.
type written struct{}

func (s *Server) eventRoute() {
	route(s, reads, huma.Operation{
		OperationID: "get-events", Method: http.MethodGet, Path: "/v1/tasks/{id}/events", Tags: []string{"tasks"},
		Summary: "Get a task's events, as a page or as a live stream",
		Description: "With `Accept: text/event-stream` the answer is a stream of server-sent events that follows the task: " +
			"`id` is the event's cursor, `event` its type, `data` the event. It ends after the terminal event; a reconnect " +
			"behind that gets 204, which tells an EventSource to stop. `event: gap`, which has no id, says that retention " +
			"has removed events, and which is the first still there.",
		DefaultStatus: http.StatusOK,
		Responses: map[string]*huma.Response{
			"200": {Description: "A page, or a stream", Content: map[string]*huma.MediaType{
				mediaJSON: {Schema: schema[transport.EventPage](s)}, mediaEvents: {Schema: &huma.Schema{Type: huma.TypeString}},
			}},
			"204": {Description: "The task has ended, and all its events have been seen"},
		},
	}, nil, s.events)
}

func (s *Server) events(ctx context.Context, in *eventInput) (*written, error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	accept := strings.Join(visitOf(ctx).r.Header.Values("Accept"), ",")
	streams := strings.Contains(accept, mediaEvents)
	text, path := in.After, "after"
	if streams && in.LastEventID != "" {
		text, path = in.LastEventID, "header.Last-Event-ID"
	}
	after, err := task.ParseCursor(text)
	if err != nil {
		return nil, invalid(path, "must be a cursor: ATTEMPT.SEQ, two whole numbers")
	}
	if streams {
		from := &after
		if text == "" {
			from = nil
		}
		return nil, s.stream(ctx, id, from)
	}
	page, err := s.page(ctx, id, after, in.Limit)
	if err != nil {
		return nil, err
	}
	writeJSON(visitOf(ctx).w, http.StatusOK, mediaJSON, page)
	return nil, nil
}

func (s *Server) page(ctx context.Context, id task.ID, after task.Cursor, limit int) (*transport.EventPage, error) {
	t, err := s.tasks.Task(ctx, namespace(ctx), id)
	if err != nil {
		return nil, err
	}
	events, err := s.tasks.Events(ctx, namespace(ctx), id, after, limit)
	if err != nil {
		return nil, err
	}
	page := &transport.EventPage{Events: make([]transport.Event, len(events)), Next: after.String()}
	for i, e := range events {
		page.Events[i] = transport.ViewEvent(e)
		page.Next = e.Cursor.String()
	}
	if len(events) > 0 && t.LostBetween(after, events[0].Cursor) {
		page.Gap = &transport.Gap{First: events[0].Cursor.String()}
	}
	return page, nil
}
