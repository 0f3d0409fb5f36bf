package llm

import (
	"context"
	"encoding/json"

	"github.com/troupe-run/troupe/runtime"
)

// Register gives r the kind "llm", if there is a provider.
func (m *Models) Register(r *runtime.Runtime) {
	if len(m.models) == 0 {
		return
	}
	// The payload stays raw, for parse is stricter than the runtime.
	runtime.Handle(r, "llm", func(ctx context.Context, t *runtime.Task[json.RawMessage]) (result, error) {
		return m.run(ctx, t, t.Payload)
	})
}
