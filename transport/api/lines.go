package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// How much of a stream of lines is handed on at once. Three such chunks are
// held: one being read, one waiting, one being stored.
const (
	chunkLines = 1000
	chunkBytes = 2 << 20
)

// line is one line that has been read: a submission, or what is wrong with it.
type line struct {
	number int
	sub    task.Submission
	err    error
}

type chunk struct {
	lines []line
	bytes int
}

func (c chunk) full() bool { return len(c.lines) >= chunkLines || c.bytes >= chunkBytes }

// lineReader reads lines while those before them are being stored.
type lineReader struct {
	server *Server
	visit  *visit
	batch  task.ID
	chunks chan chunk // holds one, which grows until it is taken
	ended  bool       // chunks has been seen closed
	err    error      // why reading ended; to be read once it has
}

// submitLines takes a batch line by line. Chunks make themselves: whatever
// arrives while one is being stored is the next one, so that a slow client's
// line is stored at once and a fast one's go a thousand at a time.
func (s *Server) submitLines(ctx context.Context, batch task.ID) error {
	v := visitOf(ctx)
	if !s.uploads.enter(1) {
		return newProblem("too_many_streams", "The server has as many uploads as it takes; try again later.")
	}
	defer s.uploads.leave(1)
	if err := v.hold(ctx); err != nil {
		return err
	}
	rc := v.controller()
	_ = rc.EnableFullDuplex()       // HTTP/2 is so by itself
	until, cancel := s.lasting(ctx) // what has been read by then is stored all the same
	l := &lineReader{server: s, visit: v, batch: batch, chunks: make(chan chunk, 1)}
	go l.run(until)
	defer func() {
		cancel()
		if !l.ended {
			_ = rc.SetReadDeadline(time.Now()) // the reader may be waiting for the client
			for range l.chunks {               // until it has ended
			}
		}
		_ = rc.SetReadDeadline(time.Time{})
	}()

	// Nothing is answered before something was read: an early answer would keep
	// a client that waits for "100 Continue" from sending.
	first, ok, err := l.next(until)
	switch {
	case err != nil:
		return err
	case !ok:
		return invalid("", "there are no tasks")
	}
	v.w.Header().Set("Content-Type", mediaNDJSON)
	v.w.WriteHeader(http.StatusCreated)
	w := &lineWriter{visit: v, out: bufio.NewWriterSize(v.w, 32<<10)}
	w.write(transport.BatchBegun{BatchID: batch.String()})
	sum := transport.BatchSummary{BatchID: batch.String()}
	for c := first; ok && err == nil; c, ok, err = l.next(until) {
		s.store(ctx, until, c, w, &sum)
		if !w.flush() {
			return nil // nobody reads it
		}
	}
	if err != nil {
		sum.Error = s.problem(ctx, err)
	}
	w.write(sum)
	w.flush()
	return nil
}

// next waits for lines. ok is false when there are no more; an error says that
// there may be, but not for us.
func (l *lineReader) next(ctx context.Context) (c chunk, ok bool, err error) {
	select {
	case c, ok = <-l.chunks:
	case <-ctx.Done():
		return chunk{}, false, context.Cause(ctx)
	}
	if !ok {
		l.ended, err = true, l.err
	}
	return c, ok, err
}

// store submits a chunk and writes an answer for each of its lines.
func (s *Server) store(ctx, until context.Context, c chunk, w *lineWriter, sum *transport.BatchSummary) {
	defer w.visit.patience()
	subs := make([]task.Submission, 0, len(c.lines))
	for _, l := range c.lines {
		if l.err == nil {
			subs = append(subs, l.sub)
		}
	}
	var done []task.Submitted
	if len(subs) > 0 {
		done = s.enqueueCalmly(ctx, until, w, subs)
	}
	for _, l := range c.lines {
		out := transport.BatchLine{Line: l.number}
		err := l.err
		if err == nil {
			err = done[0].Err
			out.ID, out.Existing = done[0].Task.ID.String(), !done[0].Created
			done = done[1:]
		}
		if err != nil {
			out = transport.BatchLine{Line: l.number, Error: s.problem(ctx, err)}
			sum.Refused++
		} else {
			sum.Accepted++
		}
		w.write(out)
	}
}

// enqueueCalmly lets a stream that is too fast wait instead of refusing its lines:
// meanwhile nothing more of it is read.
func (s *Server) enqueueCalmly(ctx, until context.Context, w *lineWriter, subs []task.Submission) []task.Submitted {
	for {
		done := s.tasks.Enqueue(ctx, subs)
		fast, ok := errors.AsType[*task.TooFastError](done[0].Err)
		if !ok {
			return done
		}
		pause := time.NewTimer(fast.After)
		select {
		case <-pause.C:
			w.visit.patience()
		case <-until.Done():
			pause.Stop()
			return done
		}
	}
}

func (l *lineReader) run(ctx context.Context) {
	defer close(l.chunks)
	defer func() {
		// Off the request's goroutine a panic would end the process.
		if p := recover(); p != nil {
			l.err = fmt.Errorf("panic while reading lines: %v\n%s", p, debug.Stack())
		}
	}()
	in := bufio.NewReaderSize(l.visit.r.Body, 64<<10)
	var text []byte
	for number := 1; ; number++ {
		var long bool
		var err error
		text, long, err = l.readLine(in, text[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			l.err = unreadable(err)
			return
		}
		if long || len(bytes.TrimSpace(text)) > 0 {
			if !l.add(ctx, l.parse(ctx, number, text, long), len(text)) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readLine reads up to the end of a line. One that is too long is read to its
// end too, but not kept.
func (l *lineReader) readLine(in *bufio.Reader, text []byte) (_ []byte, long bool, _ error) {
	for {
		if in.Buffered() == 0 { // will wait for the client
			_ = l.visit.controller().SetReadDeadline(time.Now().Add(l.server.bounds.Read))
		}
		part, err := in.ReadSlice('\n')
		if long = long || len(text)+len(part) > l.server.bounds.Line+1; !long {
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, long, err
		}
	}
}

func (l *lineReader) parse(ctx context.Context, number int, text []byte, long bool) line {
	if long {
		return line{number: number, err: newProblem("payload_too_large",
			fmt.Sprintf("A line may have at most %d bytes.", l.server.bounds.Line))}
	}
	var body transport.Submission
	if err := transport.Decode(text, &body); err != nil {
		return line{number: number, err: err}
	}
	sub, err := l.server.submission(ctx, body, time.Now())
	sub.Spec.BatchID = l.batch
	return line{number: number, sub: sub, err: err}
}

// add puts a line into the chunk that waits, or begins a new one, for which
// there is room once the full one is taken.
func (l *lineReader) add(ctx context.Context, one line, size int) bool {
	var c chunk
	select {
	case c = <-l.chunks:
	default:
	}
	if c.full() {
		l.chunks <- c // nobody else puts anything: there is room
		c = chunk{}
	}
	c.lines, c.bytes = append(c.lines, one), c.bytes+size
	select {
	case l.chunks <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

// lineWriter writes NDJSON.
type lineWriter struct {
	visit *visit
	out   *bufio.Writer
}

func (w *lineWriter) write(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		w.visit.server.log.Error("encode a line", slog.Any("error", err))
		return
	}
	_, _ = w.out.Write(append(b, '\n')) // flush tells
}

func (w *lineWriter) flush() bool {
	w.visit.patience()
	return w.out.Flush() == nil && w.visit.controller().Flush() == nil
}
