package exec

import (
	"context"
	"encoding/json"

	"github.com/troupe-run/troupe/runtime"
)

// Register gives r the kind "exec", if cfg allows it.
func Register(r *runtime.Runtime, cfg Config) {
	if !cfg.Allow {
		return
	}
	keepFiles()
	if !cfg.InheritEnv {
		hide()
	}
	commands := newRunner(cfg)
	// The payload stays raw, for parse is stricter than the runtime.
	runtime.Handle(r, "exec", func(ctx context.Context, t *runtime.Task[json.RawMessage]) (result, error) {
		return commands.run(ctx, t, t.Payload)
	})
}
