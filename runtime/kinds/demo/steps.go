package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

const maxDurableSleep = 365 * 24 * time.Hour

type stepped struct {
	RanIn  []int           `json:"ran_in"` // for each step the attempt that ran it
	Signal json.RawMessage `json:"signal,omitempty"`
}

// steps shows steps, sleep and signals: whatever befalls its node, no step that is
// done is done again.
func steps(ctx context.Context, t *runtime.Task[json.RawMessage]) (out stepped, err error) {
	p := struct {
		Steps    int    `json:"steps"`
		Duration string `json:"duration"`
		Sleep    string `json:"sleep"`
		WaitFor  string `json:"wait_for"`
		Timeout  string `json:"timeout"`
	}{Steps: 3, Duration: "0s", Sleep: "0s"}
	if err := decode(t.Payload, &p); err != nil {
		return out, err
	}
	duration, err1 := parseDuration("duration", p.Duration, maxSleep)
	sleep, err2 := parseDuration("sleep", p.Sleep, maxDurableSleep)
	var timeout []time.Duration
	var err3 error
	if p.Timeout != "" {
		timeout = make([]time.Duration, 1)
		timeout[0], err3 = parseDuration("timeout", p.Timeout, maxDurableSleep)
	}
	if p.WaitFor != "" && !task.ValidName(p.WaitFor) {
		err3 = errors.Join(err3, invalid("wait_for: want 1 to 100 of the characters a-z 0-9 . _ -"))
	}
	if err := errors.Join(within("steps", p.Steps, 1, maxSteps/2), err1, err2, err3); err != nil {
		return out, err
	}
	for i := 1; i <= p.Steps; i++ {
		in, err := runtime.Step(ctx, t, fmt.Sprintf("step %d", i), func(ctx context.Context) (int, error) {
			return t.Attempt, waitUntil(ctx, time.Now().Add(duration))
		})
		if err != nil {
			return out, err
		}
		out.RanIn = append(out.RanIn, in)
		if err := t.Progress(float64(i)/float64(p.Steps), fmt.Sprintf("step %d of %d", i, p.Steps)); err != nil {
			return out, err
		}
		if sleep > 0 {
			if err := runtime.Sleep(ctx, t, sleep); err != nil {
				return out, err
			}
		}
	}
	if p.WaitFor != "" {
		out.Signal, err = runtime.WaitFor[json.RawMessage](ctx, t, p.WaitFor, timeout...)
	}
	if errors.Is(err, runtime.ErrNoSignal) {
		err = &task.Failure{Code: "no_signal", Message: "there was no signal in time"}
	}
	return out, err
}
