package httpcall

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// job is what this kind needs of the attempt it runs in.
type job interface {
	Emit(chunk any) error
	EmitBytes(b []byte) error
}

type head struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
}

type result struct {
	head

	Body      json.RawMessage `json:"body"`
	Encoding  string          `json:"encoding"`
	Bytes     int64           `json:"bytes"`
	Truncated bool            `json:"truncated"`
}

// caller makes the requests of all tasks.
type caller struct {
	config Config
	client *http.Client
}

func newCaller(cfg Config) *caller {
	return &caller{config: cfg.withDefaults(), client: newClient(newDialler(cfg).dial)}
}

func (c *caller) run(ctx context.Context, j job, raw json.RawMessage) (result, error) {
	call, err := parse(raw, c.config.MaxTimeout)
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, call.timeout, errTimeout)
	defer cancel()
	request, err := call.request(ctx)
	if err != nil {
		return result{}, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return result{}, unanswered(ctx, call, err)
	}
	// Closing without having read all closes the connection too, so a body
	// that never ends costs no more than was read of it.
	defer func() { _ = response.Body.Close() }()

	answer := head{Status: response.StatusCode, Headers: shown(response.Header)}
	relay := &relay{job: j, keep: c.config.MaxBody}
	if err := relay.emit(func() error { return j.Emit(answer) }); err != nil {
		return result{}, err
	}
	whole, err := relay.stream(response.Body, c.config.MaxStream)
	if own, ok := errors.AsType[emitError](err); ok {
		return result{}, own.error
	}
	if err != nil {
		return result{}, unanswered(ctx, call, err)
	}
	if err := call.unexpected(response, time.Now()); err != nil {
		return result{}, err
	}
	got := result{head: answer, Bytes: relay.bytes}
	got.Body, got.Encoding, got.Truncated = relay.body(response.Header.Get("Content-Type"), whole, c.config.MaxBody)
	return got, nil
}

// shown are the headers of an answer as the task's log keeps them: without the
// credentials that a server hands out.
func shown(h http.Header) map[string]string {
	headers := make(map[string]string, len(h))
	for name, values := range h {
		if name != "Set-Cookie" && name != "Set-Cookie2" {
			headers[name] = strings.Join(values, ", ")
		}
	}
	return headers
}
