package sql

import (
	"context"
	"encoding/json"

	"github.com/troupe-run/troupe/runtime"
)

// Register gives r the kind "sql", if there is a source.
func (s *Sources) Register(r *runtime.Runtime) {
	if len(s.databases) == 0 {
		return
	}
	// The payload stays raw, for parse is stricter than the runtime.
	runtime.Handle(r, "sql", func(ctx context.Context, t *runtime.Task[json.RawMessage]) (result, error) {
		return s.run(ctx, t, t.Payload)
	})
}
