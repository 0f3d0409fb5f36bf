package llm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/troupe-run/troupe/runtime/task"
)

// refusal is a provider's answer that is no stream, or the error that ends one.
type refusal struct {
	status     int           // 0 in the middle of a stream
	after      time.Duration // less than 0 if the provider does not say when to come again
	kind, text string        // what the provider calls it, and says of it
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d", r.status) }

const maxRefusal = 64 << 10

func newRefusal(response *http.Response, now time.Time) *refusal {
	r := &refusal{status: response.StatusCode, after: retryAfter(response.Header, now)}
	raw, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal)) // as much of it as there is
	r.read(raw)
	return r
}

// read takes what both protocols say of an error.
func (r *refusal) read(raw []byte) {
	var envelope struct {
		Error struct {
			Type    string `json:"type"`
			Code    any    `json:"code"` // a number with some servers
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(raw, &envelope) == nil {
		code, _ := envelope.Error.Code.(string)
		r.kind, r.text = cmp.Or(code, envelope.Error.Type), envelope.Error.Message
	}
}

// longestWait is as long as a task waits before it asks again, whatever it is told.
const longestWait = time.Hour

// retryAfter reads when to come again: in milliseconds, seconds, or at a time.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms >= 0 {
		return time.Duration(min(ms, float64(longestWait.Milliseconds()))) * time.Millisecond
	}
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, longestWait.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), longestWait)
	}
	return -1
}

// What some providers call 529, and what all do who say it in mid-stream.
const statusOverloaded = 529

// busy says that the same would go well later, and that it is not the task's fault.
func (r *refusal) busy() bool {
	switch r.status {
	case http.StatusTooManyRequests:
		return r.kind != "insufficient_quota" // which only money mends
	case statusOverloaded:
		return true
	case http.StatusServiceUnavailable:
		return r.after >= 0
	case 0:
		return r.kind == "overloaded_error" || r.kind == "rate_limit_error" || r.kind == "rate_limit_exceeded"
	}
	return false
}

// wait is how long to wait: as long as the provider says and a little longer, so
// that not all come back at once, or longer each time. chance is uniform in [0,1).
func (r *refusal) wait(before int, chance float64) time.Duration {
	if r.after >= 0 {
		return max(r.after, 100*time.Millisecond) + time.Duration(chance*float64(max(r.after/10, time.Second)))
	}
	most := min(time.Second<<min(before, 6), time.Minute)
	return most/2 + time.Duration(chance*float64(most))
}

type details struct {
	Status int    `json:"status,omitempty"`
	Type   string `json:"type,omitempty"`
}

func (r *refusal) failure(provider, secret string) *task.Failure {
	kind, text := redact(bounded(r.kind), secret), redact(bounded(redact(r.text, secret)), secret)
	raw, err := json.Marshal(details{Status: r.status, Type: kind})
	if err != nil {
		panic(err) // a number and a string
	}
	message := fmt.Sprintf("%s answered %d %s", provider, r.status, http.StatusText(r.status))
	if r.status == 0 {
		message = provider + " broke off its answer"
	}
	if text != "" {
		message += ": " + text
	}
	again := r.status >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly}, r.status)
	if r.status == 0 {
		lasting := []string{"invalid_request_error", "authentication_error", "permission_error", "not_found_error", "insufficient_quota"}
		again = !slices.Contains(lasting, r.kind)
	}
	return &task.Failure{Code: "llm_error", Message: message, Retryable: again, Details: raw}
}

// refusalOf finds what the provider said in the error of a library.
func refusalOf(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	r := &refusal{after: -1}
	if said, ok := errors.AsType[*ssestream.StreamError](err); ok {
		r.read(said.Event.Data)
		return r
	}
	if said, ok := errors.AsType[*anthropic.Error](err); ok {
		r.read([]byte(said.RawJSON()))
		return r
	}
	return nil
}

// unanswered is why there is no answer, or not all of it. What the libraries say
// of it has addresses and parts of the answer in it, so it is put into other words.
func unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	reason := "the answer could not be understood"
	_, broken := errors.AsType[net.Error](err)
	for _, known := range []error{errSilent, errTooLong, errCutShort} {
		if errors.Is(err, known) {
			return llmError(known.Error())
		}
	}
	if broken || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		reason = "the provider cannot be reached, or the connection ended"
	}
	return llmError(reason)
}

func llmError(message string) error {
	return &task.Failure{Code: "llm_error", Message: message, Retryable: true}
}
