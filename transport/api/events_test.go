package api

import (
	"bufio"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// ran is a task that started and said three things; its log is 0.1, 1.1 … 1.4.
func ran(f *front) string {
	f.tasks.add(task.Spec{Kind: "k"})
	f.tasks.start(id(1))
	f.tasks.say(id(1), `{"chunk":1}`)
	f.tasks.say(id(1), "{\"chunk\":\r\n2}")
	f.tasks.say(id(1), `{"text":"three"}`)
	return "/v1/tasks/" + id(1).String() + "/events"
}

func TestEventPages(t *testing.T) {
	f := newFront(Config{})
	path := ran(f)
	f.do(t, "GET", path+"?after=1.1&limit=2", "").want(t, 200).golden(t, "events.json")
	page := as[transport.EventPage](t, f.do(t, "GET", path+"?after=1.3", "").want(t, 200))
	if len(page.Events) != 1 || page.Next != "1.4" || page.Gap != nil {
		t.Errorf("%+v", page)
	}
	r := f.do(t, "GET", path+"?after=1.4", "").want(t, 200)
	if got := string(r.body); got != `{"events":[],"next":"1.4"}`+"\n" {
		t.Errorf("at the end: %s", got)
	}
	f.tasks.trim(id(1), 3)
	for after, first := range map[string]string{"": "1.3", "0.1": "1.3", "1.1": "1.3", "1.2": "", "1.3": ""} {
		page := as[transport.EventPage](t, f.do(t, "GET", path+"?after="+after, "").want(t, 200))
		if got := page.Gap; (got != nil) != (first != "") || got != nil && got.First != first {
			t.Errorf("after %q: gap %+v", after, got)
		}
	}
}

// event is one server-sent event, or a comment.
type event struct{ id, name, data, retry, comment string }

// source reads a stream of server-sent events.
type source struct {
	*http.Response
	lines *bufio.Scanner
}

func (s *source) next(tb testing.TB) (e event, ok bool) {
	tb.Helper()
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "":
			if e != (event{}) {
				return e, true
			}
			e.comment = value
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data += value
		case "retry":
			e.retry = value
		default:
			tb.Errorf("line %q", s.lines.Text())
		}
	}
	return e, false
}

// all reads to the end of the stream: the ids and names of its events.
func (s *source) all(tb testing.TB) (got []string) {
	tb.Helper()
	for {
		e, ok := s.next(tb)
		if !ok {
			return got
		}
		switch {
		case e.comment != "":
		case e.retry != "":
			got = append(got, "retry "+e.retry)
		default:
			got = append(got, strings.TrimSpace(e.id+" "+e.name))
		}
	}
}

func (f *front) open(tb testing.TB, path string, headers ...string) *source {
	tb.Helper()
	server := httptest.NewServer(f)
	tb.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := server.Client().Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = res.Body.Close() })
	return &source{res, bufio.NewScanner(res.Body)}
}

func TestStreamFollowsATaskToItsEnd(t *testing.T) {
	f := newFront(Config{})
	path := ran(f)
	s := f.open(t, path)
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no",
	} {
		if got := s.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	var got []event
	for len(got) < 5 {
		e, ok := s.next(t)
		if !ok {
			t.Fatal("the stream ended before the task")
		}
		if e.comment == "" {
			got = append(got, e)
		}
	}
	want := event{
		id: "1.3", name: "output",
		data: `{"task":"` + id(1).String() + `","cursor":"1.3","type":"output","at":"2026-11-05T12:00:00.123456Z","data":{"chunk":  2}}`,
	}
	if diff := cmp.Diff(want, got[3], cmp.AllowUnexported(event{})); diff != "" {
		t.Error(diff)
	}
	f.tasks.succeed(id(1), "7") // what comes live
	if diff := cmp.Diff([]string{"1.5 state"}, s.all(t)); diff != "" {
		t.Error(diff)
	}
	// Whoever has seen all of it is told to stop.
	f.do(t, "GET", path, "", "Accept", mediaEvents, "Last-Event-ID", "1.5").want(t, 204)
	f.do(t, "GET", path+"?after=1.5", "", "Accept", mediaEvents).want(t, 204)
	if got := f.open(t, path, "Last-Event-ID", "1.4").all(t); !cmp.Equal(got, []string{"1.5 state"}) {
		t.Errorf("before the last: %q", got)
	}
}

func TestLastEventIDGoesBeforeAfter(t *testing.T) {
	f := newFront(Config{})
	path := ran(f)
	f.tasks.succeed(id(1), "7")
	if got := f.open(t, path+"?after=1.1", "Last-Event-ID", "1.3").all(t); !cmp.Equal(got, []string{"1.4 output", "1.5 state"}) {
		t.Errorf("%q", got)
	}
	if got := f.open(t, path+"?after=1.3").all(t); !cmp.Equal(got, []string{"1.4 output", "1.5 state"}) {
		t.Errorf("%q", got)
	}
	r := f.do(t, "GET", path, "", "Accept", mediaEvents, "Last-Event-ID", "1.x").want(t, 422)
	if got := r.paths(t); !cmp.Equal(got, []string{"header.Last-Event-ID"}) {
		t.Errorf("%q", got)
	}
}

func TestStreamNamesAGapWithoutAnID(t *testing.T) {
	f := newFront(Config{})
	path := ran(f)
	f.tasks.succeed(id(1), "7")
	f.tasks.trim(id(1), 4)
	if got := f.open(t, path, "Last-Event-ID", "1.1").all(t); !cmp.Equal(got, []string{"gap", "1.4 output", "1.5 state"}) {
		t.Errorf("%q", got)
	}
}

func TestSilentStreamHasAHeartbeat(t *testing.T) {
	f := newFront(Config{Bounds: Bounds{Heartbeat: time.Millisecond}})
	s := f.open(t, ran(f))
	beats := 0
	for s.lines.Scan() && beats < 3 {
		if s.lines.Text() == ": " {
			beats++
		}
	}
	if beats < 3 {
		t.Errorf("%d beats", beats)
	}
}

func frames(list ...any) func(context.Context, task.Topic, *task.Cursor) iter.Seq2[*task.Frame, error] {
	return func(context.Context, task.Topic, *task.Cursor) iter.Seq2[*task.Frame, error] {
		return func(yield func(*task.Frame, error) bool) {
			for _, one := range list {
				var more bool
				switch one := one.(type) {
				case *task.Frame:
					more = yield(one, nil)
				case error:
					more = yield(nil, one)
				default:
					panic(one)
				}
				if !more {
					return
				}
			}
		}
	}
}

func TestHowStreamsEnd(t *testing.T) {
	subscribed := &task.Frame{Kind: task.Subscribed, Task: &task.Task{State: task.Running}}
	output := &task.Frame{Kind: task.Happened, Event: task.Event{Cursor: task.Cursor{Attempt: 1, Seq: 2}, Type: task.EventOutput}}
	var log strings.Builder
	f := newFront(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	path := ran(f)
	for _, tt := range []struct {
		name   string
		frames []any
		want   []string
	}{
		{"goodbye", []any{subscribed, output, &task.Frame{Kind: task.Goodbye, Delay: 1500 * time.Millisecond}}, []string{"1.2 output", "retry 1500"}},
		{"the end of the frames", []any{subscribed, &task.Frame{Kind: task.Reset}, output}, []string{"1.2 output"}},
		{"an error", []any{subscribed, output, errors.New("oh")}, []string{"1.2 output"}},
		{"a panic", []any{subscribed, output, "oh"}, []string{"1.2 output"}},
	} {
		f.tasks.follow = frames(tt.frames...)
		if got := f.open(t, path).all(t); !cmp.Equal(got, tt.want) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	if n := strings.Count(log.String(), "event stream broke off"); n != 2 {
		t.Errorf("logged %d times: %s", n, &log)
	}
	for _, tt := range []struct {
		frames []any
		want   int
	}{
		{nil, 503},
		{[]any{&task.Frame{Kind: task.Goodbye}}, 503},
		{[]any{&task.Frame{Kind: task.Refused, Err: task.ErrNotFound}}, 404},
		{[]any{task.ErrCursorAhead}, 409},
		{[]any{"oh"}, 500},
	} {
		f.tasks.follow = frames(tt.frames...)
		f.do(t, "GET", path, "", "Accept", mediaEvents).want(t, tt.want)
	}
}

func TestStopEndsStreams(t *testing.T) {
	f := newFront(Config{})
	s := f.open(t, ran(f))
	for range 3 {
		s.next(t)
	}
	f.stop()
	s.all(t)
	f.do(t, "GET", "/v1/tasks/"+id(1).String()+"/events", "", "Accept", mediaEvents).want(t, 503)
}

func TestClientThatGoesEndsItsStream(t *testing.T) {
	f := newFront(Config{})
	path := ran(f)
	ended := make(chan struct{})
	follow := (&fake{tasks: f.tasks.tasks, logs: f.tasks.logs, changed: f.tasks.changed}).Follow
	f.tasks.follow = func(ctx context.Context, topic task.Topic, after *task.Cursor) iter.Seq2[*task.Frame, error] {
		return func(yield func(*task.Frame, error) bool) {
			defer close(ended)
			follow(ctx, topic, after)(yield)
		}
	}
	s := f.open(t, path)
	s.next(t)
	_ = s.Body.Close()
	<-ended
}

func BenchmarkStream(b *testing.B) {
	f := newFront(Config{})
	happened := &task.Frame{Kind: task.Happened, Event: task.Event{
		Task: id(1), Cursor: task.Cursor{Attempt: 1, Seq: 1}, Type: task.EventOutput, At: epoch, Data: []byte(`{"chunk":{"i":7}}`),
	}}
	f.tasks.follow = func(context.Context, task.Topic, *task.Cursor) iter.Seq2[*task.Frame, error] {
		return func(yield func(*task.Frame, error) bool) {
			if !yield(&task.Frame{Kind: task.Subscribed, Task: &task.Task{}}, nil) {
				return
			}
			for b.Loop() {
				if !yield(happened, nil) {
					return
				}
			}
		}
	}
	s := f.open(b, "/v1/tasks/"+id(1).String()+"/events")
	n := 0
	for s.lines.Scan() {
		n++
	}
	b.ReportMetric(float64(n)/4/b.Elapsed().Seconds(), "events/s")
}
