package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/troupe-run/troupe/runtime/task"
)

var errTimeout = errors.New("the payload's timeout passed")

type details struct {
	ExitStatus int `json:"exit_status"`
}

func failure(code string, retryable bool, d *details, format string, args ...any) error {
	f := &task.Failure{Code: code, Message: fmt.Sprintf(format, args...), Retryable: retryable}
	if d != nil {
		raw, err := json.Marshal(d)
		if err != nil {
			panic(err) // a number
		}
		f.Details = raw
	}
	return f
}

// over is why an attempt whose context ended has failed.
func over(ctx context.Context, s spec) error {
	if cause := context.Cause(ctx); !errors.Is(cause, errTimeout) {
		return cause
	}
	return failure(task.CodeTimeout, true, nil, "the container took longer than %s", s.timeout)
}

const maxReason = 300

// refused is why the engine did not do what it was asked to. Its own words are
// about the container where the request was at fault, and about its machine where
// it was not, so only the first are passed on.
func refused(what string, err error) error {
	switch {
	case cerrdefs.IsNotFound(err), cerrdefs.IsInvalidArgument(err), cerrdefs.IsConflict(err), cerrdefs.IsPermissionDenied(err), cerrdefs.IsUnauthorized(err):
		return failure("container_failed", false, nil, "the engine did not %s it: %s", what, reason(err))
	}
	return failure("engine_failed", true, nil, "the engine did not %s it: it is away or in trouble", what)
}

// reason is what the engine or a registry says, on one line.
func reason(err error) string {
	s := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "Error response from daemon: ")), " ")
	if r := []rune(s); len(r) > maxReason {
		return string(r[:maxReason]) + "…"
	}
	return s
}
