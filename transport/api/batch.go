package api

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

type batchInput struct {
	BatchID string `query:"batch_id" doc:"Your own UUID for the batch; one that is there already is added to"`
	Key     string `header:"Idempotency-Key" doc:"Not for batches: give the tasks ids of their own"`
}

type batchPath struct {
	ID string `path:"id" doc:"The batch's UUID"`
}

func (s *Server) batchRoutes() {
	tags := []string{"batches"}
	body := jsonBody[transport.Batch](s, true)
	body.Content[mediaNDJSON] = &huma.MediaType{Schema: schema[transport.Submission](s)}
	route(s, writes, huma.Operation{
		OperationID: "submit-batch", Method: http.MethodPost, Path: "/v1/batches", Tags: tags,
		Summary: "Submit many tasks",
		Description: "As JSON, up to 10,000 tasks: all are valid, there is room for all, or none is taken. As NDJSON, one task a line and any number " +
			"of lines: the answer is a stream of lines. Its first is `{\"batch_id\"}`, its last a summary, and between them is " +
			"one for each line, in order, as soon as that line's task is on disk. Read the answer while you send.",
		DefaultStatus: http.StatusCreated,
		Responses: map[string]*huma.Response{"201": {Description: "All are on disk", Content: map[string]*huma.MediaType{
			mediaJSON: {Schema: schema[transport.BatchAccepted](s)},
			mediaNDJSON: {Schema: &huma.Schema{OneOf: []*huma.Schema{
				schema[transport.BatchBegun](s), schema[transport.BatchLine](s), schema[transport.BatchSummary](s),
			}}},
		}}},
	}, body, s.submitBatch)
	route(s, reads, huma.Operation{
		OperationID: "get-batch", Method: http.MethodGet, Path: "/v1/batches/{id}", Tags: tags,
		Summary: "Count a batch's tasks by state",
	}, nil, s.batch)
	route(s, writes, huma.Operation{
		OperationID: "set-batch-callback", Method: http.MethodPost, Path: "/v1/batches/{id}/callback", Tags: tags,
		Summary:       "Give a batch its callback: a task that runs when all of it have ended, at once if they have",
		DefaultStatus: http.StatusCreated,
	}, jsonBody[transport.Submission](s, true), s.setCallback)
	route(s, writes, huma.Operation{
		OperationID: "cancel-batch", Method: http.MethodPost, Path: "/v1/batches/{id}/cancel", Tags: tags,
		Summary: "Cancel all tasks of a batch that have not ended",
	}, nil, s.cancelBatch)
}

func (s *Server) submitBatch(ctx context.Context, in *batchInput) (*written, error) {
	v := visitOf(ctx)
	media, err := mediaType(v.r, mediaJSON, mediaNDJSON)
	if err != nil {
		return nil, err
	}
	if in.Key != "" {
		return nil, invalid("header.Idempotency-Key", "is not for batches: give the tasks ids of their own")
	}
	batch := newBatchID(time.Now())
	if in.BatchID != "" {
		if batch, err = parseID("batch_id", in.BatchID); err != nil {
			return nil, err
		}
	}
	if media == mediaNDJSON {
		return nil, s.submitLines(ctx, batch)
	}
	accepted, err := s.submitAll(ctx, batch)
	if err != nil {
		return nil, err
	}
	writeJSON(v.w, http.StatusCreated, mediaJSON, accepted)
	return nil, nil
}

// submitAll takes a JSON batch, whole or not at all as far as the tasks' own
// faults and the room in their queues go.
func (s *Server) submitAll(ctx context.Context, batch task.ID) (*transport.BatchAccepted, error) {
	var body transport.Batch
	if err := s.read(ctx, &body, s.bounds.Batch, false); err != nil {
		return nil, err
	}
	if n := len(body.Tasks); n == 0 || n > s.bounds.BatchTasks {
		return nil, invalid("tasks", fmt.Sprintf("must be 1 to %d tasks", s.bounds.BatchTasks))
	}
	subs, err := s.submissions(ctx, batch, body.Tasks)
	if err != nil {
		return nil, err
	}
	specs := make([]task.Spec, len(subs))
	for i, sub := range subs {
		specs[i] = sub.Spec
	}
	if at, err := s.tasks.CheckDependencies(ctx, specs); err != nil {
		return nil, within(at, err)
	}
	if body.Callback != nil {
		last, err := s.callback(ctx, batch, *body.Callback)
		if err != nil {
			return nil, about("callback", err)
		}
		subs = append(subs, last) // behind all it waits for
	}
	accepted := &transport.BatchAccepted{BatchID: batch.String(), IDs: make([]string, len(body.Tasks))}
	for i, done := range s.tasks.Enqueue(ctx, subs) {
		switch {
		case i == len(body.Tasks) && done.Err != nil:
			return nil, about("callback", done.Err)
		case i == len(body.Tasks):
			accepted.Callback = done.Task.ID.String()
		case done.Err != nil:
			return nil, within(i, done.Err)
		default:
			accepted.IDs[i] = done.Task.ID.String()
		}
	}
	return accepted, nil
}

// callback reads the task that is to run behind a batch.
func (s *Server) callback(ctx context.Context, batch task.ID, body transport.Submission) (task.Submission, error) {
	now := time.Now()
	sub, err := s.submission(ctx, body, now)
	if err == nil {
		sub.Spec.AfterBatch = batch
		_, err = s.limits.Check(sub.Spec, now)
	}
	return sub, err
}

// setCallback gives a batch its callback, of which it has one.
func (s *Server) setCallback(ctx context.Context, in *batchPath) (*answer[transport.Task], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	var body transport.Submission
	if err := s.read(ctx, &body, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if _, err := s.batchStatus(ctx, id); err != nil {
		return nil, err
	}
	sub, err := s.callback(ctx, id, body)
	if err != nil {
		return nil, err
	}
	done := s.tasks.Enqueue(ctx, []task.Submission{sub})[0]
	return &answer[transport.Task]{transport.View(done.Task)}, done.Err
}

// submissions checks every task before any is taken, and says all that is wrong.
func (s *Server) submissions(ctx context.Context, batch task.ID, bodies []transport.Submission) ([]task.Submission, error) {
	const enough = 100 // faults
	now := time.Now()
	subs := make([]task.Submission, len(bodies))
	var bad task.InvalidError
	for i, body := range bodies {
		sub, err := s.submission(ctx, body, now)
		if err == nil {
			sub.Spec.BatchID = batch
			_, err = s.limits.Check(sub.Spec, now)
		}
		var invalid task.InvalidError
		switch err = within(i, err); {
		case errors.As(err, &invalid):
			bad = append(bad, invalid...)
		case err != nil:
			return nil, err
		}
		if len(bad) >= enough {
			break
		}
		sub.Together = true
		subs[i] = sub
	}
	if bad != nil {
		return nil, bad
	}
	return subs, nil
}

// within makes an error about a task one about the i-th task of a batch.
func within(i int, err error) error {
	var missing *task.MissingError
	if errors.As(err, &missing) && i >= 0 {
		return &task.MissingError{Task: missing.Task, Field: fmt.Sprintf("tasks[%d].%s", i, missing.Field)}
	}
	return about(fmt.Sprintf("tasks[%d]", i), err)
}

// about has what is wrong with a task be wrong with the part of the body it is.
func about(part string, err error) error {
	var bad task.InvalidError
	if !errors.As(err, &bad) {
		return err
	}
	moved := make(task.InvalidError, len(bad))
	for j, v := range bad {
		moved[j] = task.Violation{Field: part + "." + v.Field, Message: v.Message}
	}
	return moved
}

func (s *Server) batch(ctx context.Context, in *batchPath) (*answer[transport.BatchStatus], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	status, err := s.batchStatus(ctx, id)
	return &answer[transport.BatchStatus]{status}, err
}

func (s *Server) batchStatus(ctx context.Context, id task.ID) (transport.BatchStatus, error) {
	overview, err := s.tasks.Overview(ctx, task.Scope{Namespace: namespace(ctx), Batch: id})
	if err != nil {
		return transport.BatchStatus{}, err
	}
	status := transport.BatchStatus{BatchID: id.String(), Counts: transport.CountsOf(overview.Counts)}
	var ended int64
	for _, c := range overview.Counts {
		status.Total += c.Tasks
		if c.State.Terminal() {
			ended += c.Tasks
		}
	}
	if status.Total == 0 {
		return transport.BatchStatus{}, newProblem("batch_not_found", "There is no such batch.")
	}
	status.Done, status.Progress = ended == status.Total, float64(ended)/float64(status.Total)
	if !overview.Callback.IsZero() {
		status.Callback = overview.Callback.String()
	}
	return status, nil
}

func (s *Server) cancelBatch(ctx context.Context, in *batchPath) (*answer[transport.BatchCancelled], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	if _, err := s.batchStatus(ctx, id); err != nil {
		return nil, err
	}
	n, err := s.tasks.CancelBatch(ctx, namespace(ctx), id)
	return &answer[transport.BatchCancelled]{transport.BatchCancelled{BatchID: id.String(), Cancelled: n}}, err
}

// newBatchID makes a UUID of version 7 (RFC 9562).
func newBatchID(now time.Time) (id task.ID) {
	_, _ = rand.Read(id[:]) // never fails
	var milli [8]byte
	binary.BigEndian.PutUint64(milli[:], uint64(now.UnixMilli()))
	copy(id[:6], milli[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
