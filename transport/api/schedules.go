package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func (s *Server) scheduleRoutes() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/v1/schedules" + path, Tags: []string{"schedules"}, Summary: summary}
	}
	body := jsonBody[transport.ScheduleBody](s, true)
	create := op("create-schedule", http.MethodPost, "", "Make a schedule")
	create.DefaultStatus = http.StatusCreated
	route(s, writes, create, body, s.createSchedule)
	route(s, reads, op("list-schedules", http.MethodGet, "", "List schedules by name"), nil, s.listSchedules)
	route(s, reads, op("get-schedule", http.MethodGet, "/{name}", "Read a schedule"), nil, s.getSchedule)
	route(s, writes, op("set-schedule", http.MethodPut, "/{name}", "Make a schedule, or another one of that of its name"), body, s.setSchedule)
	route(s, writes, op("change-schedule", http.MethodPatch, "/{name}", "Change a schedule"),
		jsonBody[transport.ScheduleChange](s, true), s.changeSchedule)
	remove := op("delete-schedule", http.MethodDelete, "/{name}", "Forget a schedule; tasks it has submitted stay")
	remove.DefaultStatus = http.StatusNoContent
	route(s, writes, remove, nil, s.deleteSchedule)
	route(s, writes, op("pause-schedule", http.MethodPost, "/{name}/pause", "Have a schedule fire no more"), nil, s.pauseSchedule(true))
	route(s, writes, op("resume-schedule", http.MethodPost, "/{name}/resume", "Have a paused schedule fire again, from now on"), nil, s.pauseSchedule(false))
	trigger := op("trigger-schedule", http.MethodPost, "/{name}/trigger", "Submit a schedule's task now, besides its ticks")
	trigger.DefaultStatus = http.StatusCreated
	route(s, writes, trigger, nil, s.triggerSchedule)
	route(s, reads, op("next-ticks", http.MethodGet, "/{name}/next", "Say when a schedule fires next"), nil, s.nextTicks)
}

type scheduleInput struct {
	Name string `path:"name"`
}

func (s *Server) createSchedule(ctx context.Context, _ *none) (*answer[transport.Schedule], error) {
	body, err := s.readSchedule(ctx, "")
	if err != nil {
		return nil, err
	}
	return shown(s.tasks.AddSchedule(ctx, body))
}

func (s *Server) setSchedule(ctx context.Context, in *scheduleInput) (*answer[transport.Schedule], error) {
	body, err := s.readSchedule(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	stored, _, err := s.tasks.SetSchedule(ctx, body)
	return shown(stored, err)
}

func (s *Server) readSchedule(ctx context.Context, name string) (task.Schedule, error) {
	var body transport.ScheduleBody
	if err := s.read(ctx, &body, s.bounds.Body, false); err != nil {
		return task.Schedule{}, err
	}
	if name != "" {
		if body.Name != "" && body.Name != name {
			return task.Schedule{}, invalid("name", "is not that of the path")
		}
		body.Name = name
	}
	made, err := body.Of(namespace(ctx), time.Now())
	return made, aboutRequest(err)
}

func shown(made task.Schedule, err error) (*answer[transport.Schedule], error) {
	if err != nil {
		return nil, aboutRequest(err)
	}
	return &answer[transport.Schedule]{transport.ViewSchedule(made)}, nil
}

func (s *Server) getSchedule(ctx context.Context, in *scheduleInput) (*answer[transport.Schedule], error) {
	return shown(s.tasks.Schedule(ctx, namespace(ctx), in.Name))
}

func (s *Server) changeSchedule(ctx context.Context, in *scheduleInput) (*answer[transport.Schedule], error) {
	var change transport.ScheduleChange
	if err := s.read(ctx, &change, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if change == (transport.ScheduleChange{}) {
		return nil, invalid("", "names nothing to change")
	}
	return shown(s.tasks.ChangeSchedule(ctx, namespace(ctx), in.Name, func(there *task.Schedule) error {
		return change.Make(there, time.Now())
	}))
}

func (s *Server) pauseSchedule(paused bool) func(context.Context, *scheduleInput) (*answer[transport.Schedule], error) {
	return func(ctx context.Context, in *scheduleInput) (*answer[transport.Schedule], error) {
		return shown(s.tasks.ChangeSchedule(ctx, namespace(ctx), in.Name, func(there *task.Schedule) error {
			there.Paused = paused
			return nil
		}))
	}
}

func (s *Server) deleteSchedule(ctx context.Context, in *scheduleInput) (*struct{}, error) {
	return nil, s.tasks.DropSchedule(ctx, namespace(ctx), in.Name)
}

func (s *Server) triggerSchedule(ctx context.Context, in *scheduleInput) (*answer[transport.Task], error) {
	t, err := s.tasks.Trigger(ctx, namespace(ctx), in.Name)
	if err != nil {
		return nil, err
	}
	return &answer[transport.Task]{transport.View(t)}, nil
}

type schedulesInput struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Cursor string `query:"cursor" maxLength:"100" doc:"The next_cursor of the page before"`
}

func (s *Server) listSchedules(ctx context.Context, in *schedulesInput) (*answer[transport.ScheduleList], error) {
	all, err := s.tasks.Schedules(ctx, task.ScheduleFilter{Namespace: namespace(ctx), After: in.Cursor, Limit: in.Limit})
	list := transport.ScheduleList{Schedules: make([]transport.Schedule, len(all))}
	for i, one := range all {
		list.Schedules[i] = transport.ViewSchedule(one)
	}
	if len(all) == in.Limit {
		list.NextCursor = all[len(all)-1].Name
	}
	return &answer[transport.ScheduleList]{list}, err
}

type ticksInput struct {
	Name  string `path:"name"`
	Count int    `query:"count" default:"10" minimum:"1" maximum:"100"`
}

func (s *Server) nextTicks(ctx context.Context, in *ticksInput) (*answer[transport.Ticks], error) {
	there, err := s.tasks.Schedule(ctx, namespace(ctx), in.Name)
	if err != nil {
		return nil, err
	}
	times, err := s.tasks.Ticks(there, in.Count)
	ticks := transport.Ticks{Ticks: make([]task.Time, len(times))}
	for i, at := range times {
		ticks.Ticks[i] = task.Time(at)
	}
	return &answer[transport.Ticks]{ticks}, err
}
