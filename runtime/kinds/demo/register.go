package demo

import (
	"context"
	"encoding/json"

	"github.com/troupe-run/troupe/runtime"
)

// Register gives r the demo kinds.
func Register(r *runtime.Runtime) {
	// The payload stays raw: decode is stricter than the runtime, and echo must
	// give back what it got.
	type attempt = runtime.Task[json.RawMessage]
	runtime.Handle(r, "demo.echo", func(_ context.Context, t *attempt) (json.RawMessage, error) {
		return echo(t.Payload)
	})
	runtime.Handle(r, "demo.sleep", func(ctx context.Context, t *attempt) (slept, error) {
		return sleep(ctx, t, t.Payload)
	})
	runtime.Handle(r, "demo.stream", func(ctx context.Context, t *attempt) (streamed, error) {
		return stream(ctx, t, t.Payload)
	})
	runtime.Handle(r, "demo.flaky", func(_ context.Context, t *attempt) (succeeded, error) {
		return flaky(t.Attempt, t.Payload)
	})
	runtime.Handle(r, "demo.panic", func(_ context.Context, t *attempt) (json.RawMessage, error) {
		return nil, panics(t.Payload)
	})
	runtime.Handle(r, "demo.steps", steps)
}
