package ws

import "github.com/troupe-run/troupe/runtime/task"

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
