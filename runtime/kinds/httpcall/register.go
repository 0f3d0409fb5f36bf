package httpcall

import (
	"context"
	"encoding/json"

	"github.com/troupe-run/troupe/runtime"
)

// Register gives r the kind "http".
func Register(r *runtime.Runtime, cfg Config) {
	c := newCaller(cfg)
	// The payload stays raw, for parse is stricter than the runtime.
	runtime.Handle(r, "http", func(ctx context.Context, t *runtime.Task[json.RawMessage]) (result, error) {
		return c.run(ctx, t, t.Payload)
	})
}
