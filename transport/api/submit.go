package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

type submitInput struct {
	Key    string `header:"Idempotency-Key" maxLength:"512" doc:"The same key with the same body gives the same task, for a day"`
	Prefer string `header:"Prefer" example:"wait=30" doc:"wait=SECONDS holds the answer until the task has ended or the time is over"`
}

type submitOutput struct {
	Status   int
	Location string `header:"Location"`
	Applied  string `header:"Preference-Applied"`
	Body     transport.Task
}

func (s *Server) submitRoute() {
	route(s, writes, huma.Operation{
		OperationID: "submit-task", Method: http.MethodPost, Path: "/v1/tasks", Tags: []string{"tasks"},
		Summary:       "Submit a task",
		Description:   "An answer of 2xx means that the task is on disk and survives any crash.",
		DefaultStatus: http.StatusCreated,
		Responses: map[string]*huma.Response{"200": {
			Description: "The task was there already, under its unique_key, its Idempotency-Key or its id",
			Content:     map[string]*huma.MediaType{mediaJSON: {Schema: schema[transport.Task](s)}},
		}},
	}, jsonBody[transport.Submission](s, true), s.submit)
}

func (s *Server) submit(ctx context.Context, in *submitInput) (*submitOutput, error) {
	var body transport.Submission
	if err := s.read(ctx, &body, s.bounds.Body, false); err != nil {
		return nil, err
	}
	now := time.Now()
	sub, err := s.submission(ctx, body, now)
	if err != nil {
		return nil, err
	}
	if in.Key != "" {
		if sub.Request, err = s.request(in.Key, body, now); err != nil {
			return nil, err
		}
	}
	done := s.tasks.Enqueue(ctx, []task.Submission{sub})[0]
	if done.Err != nil {
		return nil, done.Err
	}
	out := &submitOutput{Status: http.StatusOK, Location: "/v1/tasks/" + done.Task.ID.String()}
	if done.Created {
		out.Status = http.StatusCreated
	}
	if seconds, ok := preferredWait(in.Prefer); ok {
		// The task is stored: whatever becomes of the wait, that is the answer.
		wait := min(seconds, s.bounds.Wait)
		if t, err := s.await(ctx, done.Task, wait); err == nil {
			done.Task = t
			out.Applied = "wait=" + strconv.Itoa(int(wait/time.Second))
		}
	}
	out.Body = transport.View(done.Task)
	return out, nil
}

// submission makes the domain's shape of what a client submits.
func (s *Server) submission(ctx context.Context, body transport.Submission, now time.Time) (task.Submission, error) {
	if len(body.Payload) > s.limits.Payload {
		return task.Submission{}, newProblem("payload_too_large",
			"The payload may have at most "+strconv.Itoa(s.limits.Payload)+" bytes.")
	}
	return body.Submit(namespace(ctx), now)
}

// request makes the record by which a repeated request is known. The hash is of
// the body as we would write it, so that space and the order of fields do not
// make it another one.
func (s *Server) request(key string, body transport.Submission, now time.Time) (task.Request, error) {
	if !task.ValidKey(key) {
		return task.Request{}, invalid("header.Idempotency-Key", "must be at most 512 bytes of printable UTF-8")
	}
	canonical, err := json.Marshal(body)
	if err != nil {
		return task.Request{}, err
	}
	return task.Request{Key: key, Hash: sha256.Sum256(canonical), Expires: now.Add(s.bounds.KeyTTL)}, nil
}

// preferredWait reads the wait of a Prefer header (RFC 7240). What it does not
// understand it passes over, as preferences are to be.
func preferredWait(header string) (time.Duration, bool) {
	for preference := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		value, _, _ = strings.Cut(value, ";")
		seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		return time.Duration(seconds) * time.Second, err == nil
	}
	return 0, false
}

// await holds the request until the task has ended or the time is over, and
// gives the task as it is then. An error is only that it could not wait.
func (s *Server) await(ctx context.Context, t task.Task, d time.Duration) (task.Task, error) {
	if d <= 0 || t.State.Terminal() {
		return t, nil
	}
	v := visitOf(ctx)
	if err := v.hold(ctx); err != nil {
		return t, err
	}
	defer v.patience()
	ctx, cancel := s.lasting(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, d)
	defer cancel()
	now, err := s.tasks.Wait(ctx, t.Namespace, t.ID)
	switch {
	case err == nil:
		return now, nil
	case ctx.Err() == nil:
		return t, err
	case now.ID == t.ID:
		return now, nil
	default:
		return t, nil
	}
}
