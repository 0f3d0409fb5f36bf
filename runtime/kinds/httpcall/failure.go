package httpcall

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

var errTimeout = errors.New("the request's timeout passed")

// unanswered is why there is no answer, or not all of it. What Go says of it
// names addresses, so the reason is put into other words.
func unanswered(ctx context.Context, c call, err error) error {
	host := hostOf(err, c)
	switch {
	case errors.Is(err, errRefused):
		return &task.Failure{Code: "address_refused", Message: fmt.Sprintf("%s: %v", host, errRefused)}
	case errors.Is(err, errRedirect):
		return &task.Failure{Code: "http_redirect", Message: errors.Unwrap(err).Error()}
	case errors.Is(context.Cause(ctx), errTimeout):
		return httpError("%s: no complete answer within %s", host, c.timeout)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return httpError("%s: %s", host, reason(err))
}

func httpError(format string, args ...any) error {
	return &task.Failure{Code: "http_error", Message: fmt.Sprintf(format, args...), Retryable: true}
}

func reason(err error) string {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		if lookup.IsNotFound {
			return "there is no such name"
		}
		return "the name could not be resolved"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate was not accepted"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "it does not speak TLS"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "no connection in time"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection ended before the answer"
	}
	return "the connection failed"
}

type statusDetails struct {
	Status     int    `json:"status"`
	RetryAfter string `json:"retry_after,omitempty"`
}

// unexpected is why an answer with this status is no success, or nil.
func (c call) unexpected(r *http.Response, now time.Time) error {
	if len(c.expect) > 0 && slices.Contains(c.expect, r.StatusCode) || len(c.expect) == 0 && r.StatusCode < 400 {
		return nil
	}
	details, err := json.Marshal(statusDetails{r.StatusCode, retryAfter(r.Header.Get("Retry-After"), now)})
	if err != nil {
		panic(err) // a string and a number
	}
	passing := []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}
	return &task.Failure{
		Code: "http_status", Message: fmt.Sprintf("%s answered %d %s", r.Request.URL.Host, r.StatusCode, http.StatusText(r.StatusCode)),
		Retryable: r.StatusCode >= 500 || slices.Contains(passing, r.StatusCode), Details: details,
	}
}

// retryAfter reads a header that gives seconds or a time.
func retryAfter(header string, now time.Time) string {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return (time.Duration(seconds) * time.Second).String()
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now)).Round(time.Second).String()
	}
	return ""
}
