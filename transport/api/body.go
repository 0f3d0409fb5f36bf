package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/troupe-run/troupe/transport"
)

const (
	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"
	mediaEvents = "text/event-stream"
)

// mediaType checks the body's type against those a call takes.
func mediaType(r *http.Request, allowed ...string) (string, error) {
	got, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err == nil && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		for _, a := range allowed {
			if got == a {
				return a, nil
			}
		}
	}
	return "", newProblem("unsupported_media_type", "The body must be of Content-Type "+strings.Join(allowed, " or ")+".")
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read decodes the request's JSON body, of at most most bytes, into a shape of
// package transport. Without a body it is left as it is where optional.
func (s *Server) read(ctx context.Context, into any, most int64, optional bool) error {
	v := visitOf(ctx)
	if optional && v.r.ContentLength == 0 {
		return nil
	}
	if _, err := mediaType(v.r, mediaJSON); err != nil {
		return err
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= 64<<10 {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	if err := v.readBody(buf, most); err != nil {
		return err
	}
	if optional && len(bytes.TrimSpace(buf.Bytes())) == 0 {
		return nil
	}
	return transport.Decode(buf.Bytes(), into) // copies what it keeps
}

// readBody reads the whole body, of which the client may send at most most
// bytes, and reserves room for it among all bodies.
func (v *visit) readBody(buf *bytes.Buffer, most int64) error {
	tooLarge := newProblem("payload_too_large", fmt.Sprintf("The body may have at most %d bytes.", most))
	expected := v.r.ContentLength
	if expected > most {
		return tooLarge
	}
	if expected < 0 {
		expected = most
	}
	if err := v.reserve(expected); err != nil {
		return err
	}
	rc := v.controller()
	_ = rc.SetReadDeadline(time.Now().Add(v.server.bounds.Read))
	n, err := io.Copy(buf, io.LimitReader(v.r.Body, most+1))
	// A deadline that stays would end the request when it passes.
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil {
		return unreadable(err)
	}
	if n > most {
		return tooLarge
	}
	return nil
}
