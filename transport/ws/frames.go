package ws

import (
	"encoding/binary"
	"encoding/json"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// rawFrame makes a whole frame of a server (RFC 6455, section 5.2): final, not
// masked, not compressed.
func rawFrame(opcode byte, payload []byte) []byte {
	frame := make([]byte, 0, len(payload)+10)
	frame = append(frame, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, byte(n))
	case n < 1<<16:
		frame = append(frame, 126)
		frame = binary.BigEndian.AppendUint16(frame, uint16(n))
	default:
		frame = append(frame, 127)
		frame = binary.BigEndian.AppendUint64(frame, uint64(n))
	}
	return append(frame, payload...)
}

func textFrame(payload []byte) []byte { return rawFrame(websocket.TextMessage, payload) }

// encodeFrame makes the bytes of what happened, for all its watchers at once.
func encodeFrame(f *task.Frame) any {
	switch f.Kind {
	case task.Happened:
		b := append(make([]byte, 0, 256+len(f.Event.Data)), `{"jsonrpc":"2.0","method":"event","params":{"subscription":`...)
		b = append(b, mustJSON(f.Topic)...)
		b = append(b, `,"event":`...)
		b = f.Event.AppendJSON(b)
		return textFrame(append(b, "}}"...))
	case task.Gap:
		return notification("gap", gapParams{Subscription: f.Topic, First: f.First.String()})
	case task.Reset:
		return notification("reset", resetParams{Subscription: f.Topic, Tasks: views(f.Tasks)})
	default:
		end := endParams{Subscription: f.Topic}
		if f.Counts != nil {
			end.Counts = new(transport.CountsOf(f.Counts))
		}
		return notification("end", end)
	}
}

func notification(method string, params any) []byte {
	return textFrame(mustJSON(struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", method, params}))
}

func views(tasks []task.Task) []transport.Task {
	out := make([]transport.Task, len(tasks))
	for i, t := range tasks {
		out[i] = transport.View(t)
	}
	return out
}

// mustJSON encodes what is made of our own types and of JSON that was checked
// when it came in.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
