package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// job is what these kinds need of the attempt they run in.
type job interface {
	Progress(fraction float64, message string) error
	Emit(chunk any) error
}

// decode overwrites the defaults in p with what the payload has.
func decode(payload json.RawMessage, p any) error {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	err := d.Decode(p)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return invalid("want an object, got %s", wrong.Value)
		}
		return invalid("%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf(format, args...)}
}

func parseDuration(field, s string, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, invalid(`%s: want a duration such as "1.5s"`, field)
	}
	if d < 0 || d > most {
		return 0, invalid("%s: want a duration between 0 and %s", field, most)
	}
	return d, nil
}

func within(field string, n, least, most int) error {
	if n < least || n > most {
		return invalid("%s: want a number from %d to %d", field, least, most)
	}
	return nil
}

// waitUntil returns at that moment, or when ctx ends, with the reason for that.
func waitUntil(ctx context.Context, at time.Time) error {
	if left := time.Until(at); left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}
