package api

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

type listInput struct {
	State         []string `query:"state,explode" doc:"May be repeated, or a list with commas"`
	Kind          string   `query:"kind"`
	Queue         string   `query:"queue"`
	Label         []string `query:"label,explode" example:"customer=7" doc:"May be repeated: all must be there"`
	BatchID       string   `query:"batch_id"`
	CreatedAfter  string   `query:"created_after" doc:"RFC 3339"`
	CreatedBefore string   `query:"created_before" doc:"RFC 3339"`
	Limit         int      `query:"limit" default:"50" minimum:"1" maximum:"1000" doc:"A page may be shorter where its tasks are large"`
	Cursor        string   `query:"cursor" doc:"The next_cursor of the page before"`
}

func (s *Server) listRoute() {
	route(s, reads, huma.Operation{
		OperationID: "list-tasks", Method: http.MethodGet, Path: "/v1/tasks", Tags: []string{"tasks"},
		Summary: "List tasks, newest first",
	}, nil, s.list)
}

func (s *Server) list(ctx context.Context, in *listInput) (*answer[transport.TaskList], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	f.Namespace = namespace(ctx)
	tasks, next, err := s.tasks.Tasks(ctx, f)
	if err != nil {
		return nil, err
	}
	list := transport.TaskList{Tasks: make([]transport.Task, len(tasks)), NextCursor: formatPlace(next)}
	for i, t := range tasks {
		list.Tasks[i] = transport.View(t)
	}
	return &answer[transport.TaskList]{list}, nil
}

// filter reads all of the query, and says all that is wrong with it.
func (in *listInput) filter() (task.Filter, error) {
	f := task.Filter{Kind: in.Kind, Queue: in.Queue, Limit: in.Limit}
	var bad []transport.FieldError
	refuse := func(path, message string) {
		bad = append(bad, transport.FieldError{Path: path, Message: message})
	}
	for _, names := range in.State {
		for name := range strings.SplitSeq(names, ",") {
			state, err := task.ParseState(name)
			if err != nil {
				refuse("state", "must be scheduled, blocked, queued, running, succeeded, failed or cancelled")
			}
			f.States = append(f.States, state)
		}
	}
	for _, label := range in.Label {
		k, v, ok := strings.Cut(label, "=")
		if !ok || k == "" {
			refuse("label", "must be of the form key=value")
		}
		if f.Labels == nil {
			f.Labels = make(map[string]string)
		}
		if old, set := f.Labels[k]; set && old != v {
			refuse("label", "asks for two values of one key")
		}
		f.Labels[k] = v
	}
	if in.BatchID != "" {
		id, err := task.ParseID(in.BatchID)
		if err != nil || id.IsZero() {
			refuse("batch_id", "must be a UUID")
		}
		f.BatchID = id
	}
	moment := func(path, text string) (t time.Time) {
		if text == "" {
			return t
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			refuse(path, `must be a time such as "2006-01-02T15:04:05Z"`)
		}
		return t
	}
	f.CreatedAfter = moment("created_after", in.CreatedAfter)
	f.CreatedBefore = moment("created_before", in.CreatedBefore)
	place, ok := parsePlace(in.Cursor)
	if !ok {
		refuse("cursor", "is none this server has given")
	}
	f.After = place
	for path, text := range map[string]string{"kind": in.Kind, "queue": in.Queue} {
		if text != "" && !task.ValidName(text) {
			refuse(path, "must be 1 to 100 of the characters a-z 0-9 . _ -")
		}
	}
	// A store may build a condition of each.
	if len(f.States)+len(f.Labels) > 100 {
		refuse("label", "asks for too much at once")
	}
	if bad != nil {
		p := newProblem("invalid_request", "The request is not valid.")
		p.Errors = bad
		return task.Filter{}, p
	}
	return f, nil
}

// A place in the list goes out as an opaque text: a version, the time, the id
// and a checksum, so that what a client made up or cut is seen to be wrong.
const placeVersion = 1

func formatPlace(p task.Place) string {
	if p.IsZero() {
		return ""
	}
	b := []byte{placeVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(p.Created.UnixMicro()))
	b = append(b, p.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePlace(text string) (task.Place, bool) {
	if text == "" {
		return task.Place{}, true
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != 1+8+16+4 || b[0] != placeVersion ||
		binary.BigEndian.Uint32(b[25:]) != crc32.ChecksumIEEE(b[:25]) {
		return task.Place{}, false
	}
	micro := int64(binary.BigEndian.Uint64(b[1:])) //nolint:gosec // as it was written
	return task.Place{Created: time.UnixMicro(micro).UTC(), ID: task.ID(b[9:25])}, true
}
