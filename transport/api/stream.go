package api

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// followed is what Follow yields.
type followed struct {
	frame *task.Frame
	err   error
}

// stream follows a task as server-sent events until the task ends, the client
// goes, or the server stops. It returns an error only before the first byte.
func (s *Server) stream(ctx context.Context, id task.ID, after *task.Cursor) error {
	v := visitOf(ctx)
	if err := v.hold(ctx); err != nil {
		return err
	}
	ctx, cancel := s.lasting(ctx)
	frames := make(chan followed, 64) // as much as is written at one go
	go s.follow(ctx, task.Topic{Namespace: namespace(ctx), Task: id}, after, frames)
	defer func() {
		cancel()
		for range frames { // until follow has ended
		}
	}()

	snapshot, err := s.first(ctx, frames)
	if err != nil {
		return err
	}
	if after != nil && snapshot.State.Terminal() && !after.Before(snapshot.Cursor) {
		v.patience()
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	h := v.w.Header()
	h.Set("Content-Type", mediaEvents)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // proxies shall not hold events back
	v.w.WriteHeader(http.StatusOK)
	w := &eventWriter{visit: v, out: bufio.NewWriterSize(v.w, 16<<10)}
	w.comment("following")
	s.pump(ctx, w, frames)
	return nil
}

// follow puts what happens to the topic into frames and closes it. It is ended
// by ctx.
func (s *Server) follow(ctx context.Context, topic task.Topic, after *task.Cursor, frames chan<- followed) {
	defer close(frames)
	put := func(f followed) bool {
		select {
		case frames <- f:
			return true
		case <-ctx.Done():
			return false
		}
	}
	defer func() {
		// Off the request's goroutine a panic would end the process.
		if p := recover(); p != nil {
			put(followed{err: fmt.Errorf("panic while following: %v\n%s", p, debug.Stack())})
		}
	}()
	for frame, err := range s.tasks.Follow(ctx, topic, after) {
		if !put(followed{frame, err}) || err != nil {
			return
		}
	}
}

// first waits for the answer to the subscription: the task as it is.
func (s *Server) first(ctx context.Context, frames <-chan followed) (*task.Task, error) {
	f, ok := <-frames // follow closes it when ctx ends
	switch {
	case !ok && ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok:
		return nil, task.ErrClosed
	case f.err != nil:
		return nil, f.err
	case f.frame.Kind == task.Subscribed && f.frame.Task != nil:
		return f.frame.Task, nil
	case f.frame.Err != nil:
		return nil, f.frame.Err
	default:
		return nil, task.ErrClosed
	}
}

// pump writes what comes, burst by burst, until there is an end to it.
func (s *Server) pump(ctx context.Context, w *eventWriter, frames <-chan followed) {
	heartbeat := time.NewTicker(s.bounds.Heartbeat)
	defer heartbeat.Stop()
	for w.flush() {
		select {
		case f, ok := <-frames:
			w.visit.patience()
			for ; ok; f, ok = <-frames {
				if f.err != nil {
					s.broke(ctx, f.err)
					w.flush()
					return
				}
				if w.frame(f.frame) {
					w.flush()
					return
				}
				if len(frames) == 0 {
					break
				}
			}
			if !ok {
				w.flush()
				return
			}
		case <-heartbeat.C:
			w.comment("")
		}
	}
}

// broke notes that a stream ended on an error. The client will come back with
// its last event's id, and be told then what is wrong, if it still is.
func (s *Server) broke(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.LogAttrs(ctx, slog.LevelWarn, "event stream broke off",
		slog.String("request_id", visitOf(ctx).id), slog.Any("error", err))
}

// eventWriter writes server-sent events. Its errors are those of the
// connection, and flush tells.
type eventWriter struct {
	visit *visit
	out   *bufio.Writer
	buf   []byte
}

// frame writes a frame, and says whether it was the last.
func (w *eventWriter) frame(f *task.Frame) (last bool) {
	b := w.buf[:0]
	switch f.Kind {
	case task.Happened:
		b = append(b, "id: "...)
		b = append(b, f.Event.Cursor.String()...)
		b = append(b, "\nevent: "...)
		b = append(b, f.Event.Type...)
		b = append(b, "\ndata: "...)
		start := len(b)
		b = f.Event.AppendJSON(b)
		oneLine(b[start:])
		b = append(b, "\n\n"...)
	case task.Gap:
		// Without an id: it must not become the client's Last-Event-ID.
		b = fmt.Appendf(b, "event: gap\ndata: {\"first\":%q}\n\n", f.First.String())
	case task.Goodbye:
		b = fmt.Appendf(b, "retry: %d\n\n", max(f.Delay.Milliseconds(), 1))
		last = true
	case task.Ended:
		last = true
	default: // snapshots are not events
	}
	w.buf = b
	_, _ = w.out.Write(b)
	return last
}

// oneLine takes away the line ends that may stand between the tokens of JSON:
// in a stream they would end the data.
func oneLine(b []byte) {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
}

func (w *eventWriter) comment(text string) {
	_, _ = w.out.WriteString(": " + text + "\n\n")
}

// flush sends what has been written, and says whether the client takes it.
func (w *eventWriter) flush() bool {
	w.visit.patience()
	if w.out.Flush() != nil {
		return false
	}
	return w.visit.controller().Flush() == nil
}
