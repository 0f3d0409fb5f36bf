package auth

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// health logs when something stops to work, and when it does again, once each.
type health struct {
	log  *slog.Logger
	what string
	down atomic.Bool
}

func (h *health) note(ctx context.Context, err error) {
	switch {
	case err != nil && !h.down.Swap(true):
		h.log.LogAttrs(ctx, slog.LevelWarn, "the door has to do without", slog.String("what", h.what), slog.Any("error", err))
	case err == nil && h.down.Load() && h.down.Swap(false):
		h.log.LogAttrs(ctx, slog.LevelInfo, "the door has it again", slog.String("what", h.what))
	}
}
