package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

const (
	maxSleep    = 24 * time.Hour
	maxSteps    = 10_000
	maxChunks   = 1_000_000
	maxInterval = time.Minute
	maxSize     = 64 << 10
	maxFailures = 1000
	maxMessage  = 1 << 10
)

func echo(payload json.RawMessage) (json.RawMessage, error) { return payload, nil }

type slept struct {
	Slept string `json:"slept"`
}

func sleep(ctx context.Context, j job, payload json.RawMessage) (slept, error) {
	p := struct {
		Duration string `json:"duration"`
		Steps    int    `json:"steps"`
	}{"1s", 10}
	if err := decode(payload, &p); err != nil {
		return slept{}, err
	}
	if err := within("steps", p.Steps, 1, maxSteps); err != nil {
		return slept{}, err
	}
	duration, err := parseDuration("duration", p.Duration, maxSleep)
	if err != nil {
		return slept{}, err
	}
	start := time.Now()
	for i := 1; i <= p.Steps; i++ {
		due := start.Add(duration * time.Duration(i) / time.Duration(p.Steps))
		if err := waitUntil(ctx, due); err != nil {
			return slept{}, err
		}
		if err := j.Progress(float64(i)/float64(p.Steps), fmt.Sprintf("step %d of %d", i, p.Steps)); err != nil {
			return slept{}, err
		}
	}
	return slept{Slept: duration.String()}, nil
}

type chunk struct {
	I    int    `json:"i"`
	Data string `json:"data"`
}

type streamed struct {
	Chunks int `json:"chunks"`
}

func stream(ctx context.Context, j job, payload json.RawMessage) (streamed, error) {
	p := struct {
		Chunks   int    `json:"chunks"`
		Interval string `json:"interval"`
		Size     int    `json:"size"`
	}{100, "10ms", 64}
	if err := decode(payload, &p); err != nil {
		return streamed{}, err
	}
	interval, err := parseDuration("interval", p.Interval, maxInterval)
	if err = errors.Join(within("chunks", p.Chunks, 0, maxChunks), within("size", p.Size, 0, maxSize), err); err != nil {
		return streamed{}, err
	}
	data := strings.Repeat("0123456789abcdef", p.Size/16+1)[:p.Size]
	start := time.Now()
	for i := range p.Chunks {
		if err := waitUntil(ctx, start.Add(time.Duration(i)*interval)); err != nil {
			return streamed{}, err
		}
		err := j.Emit(chunk{I: i, Data: data})
		if errors.Is(err, task.ErrLogFull) {
			return streamed{}, &task.Failure{Code: "log_full", Message: fmt.Sprintf("after %d chunks: %v", i, err)}
		}
		if err != nil {
			return streamed{}, err
		}
	}
	return streamed{Chunks: p.Chunks}, nil
}

type succeeded struct {
	Attempts int `json:"attempts"`
}

func flaky(attempt int, payload json.RawMessage) (succeeded, error) {
	p := struct {
		Failures int `json:"failures"`
	}{1}
	if err := decode(payload, &p); err != nil {
		return succeeded{}, err
	}
	if err := within("failures", p.Failures, 0, maxFailures); err != nil {
		return succeeded{}, err
	}
	if attempt <= p.Failures {
		return succeeded{}, &task.Failure{
			Code: "flaky", Retryable: true,
			Message: fmt.Sprintf("attempt %d of the %d that fail", attempt, p.Failures),
		}
	}
	return succeeded{Attempts: attempt}, nil
}

// panics shows what becomes of a handler that does.
func panics(payload json.RawMessage) error {
	p := struct {
		Message string `json:"message"`
	}{"demo.panic was asked to panic"}
	if err := decode(payload, &p); err != nil {
		return err
	}
	if len(p.Message) > maxMessage {
		return invalid("message: want at most %d bytes", maxMessage)
	}
	panic(p.Message)
}
