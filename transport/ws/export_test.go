package ws

import (
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Payload is what a watcher gets of what happened, without the frame around it.
func Payload(f *task.Frame) []byte {
	frame, _ := encodeFrame(f).([]byte)
	switch header := frame[1]; {
	case header < 126:
		return frame[2:]
	case header == 126:
		return frame[4:]
	default:
		return frame[10:]
	}
}

// Beat is a heartbeat of all connections, which comes late by so much.
func (h *Handler) Beat(now time.Time, late time.Duration) {
	for _, c := range h.all() {
		c.beat(now, late)
	}
}
