package codec

import (
	"encoding/binary"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// A segment is events of one attempt without a hole, as one mutation brought
// them: the first one's cursor, then for each its type, the microseconds since
// the one before, and its data as it came.

// eventTypes numbers the types we know; others are written out behind a zero.
var eventTypes = []task.EventType{"", task.EventState, task.EventProgress, task.EventLog, task.EventOutput}

func typeNumber(of task.EventType) byte {
	for number := byte(1); int(number) < len(eventTypes); number++ {
		if eventTypes[number] == of {
			return number
		}
	}
	return 0
}

// Segment packs events that follow one another. It gives nil for no events.
func Segment(events []task.Event) []byte {
	if len(events) == 0 {
		return nil
	}
	size := 0
	for _, e := range events {
		size += len(e.Data) + 16
	}
	b := binary.AppendVarint(make([]byte, 0, size+8), Pack(events[0].Cursor))
	last := int64(0)
	for _, e := range events {
		number := typeNumber(e.Type)
		b = append(b, number)
		if number == 0 {
			b = append(binary.AppendUvarint(b, uint64(len(e.Type))), e.Type...)
		}
		at := e.At.UnixMicro()
		b = binary.AppendVarint(b, at-last)
		b = append(binary.AppendUvarint(b, uint64(len(e.Data))), e.Data...)
		last = at
	}
	return b
}

// DecodeSegment gives every event of a segment to f, until f says that it is
// enough. The data of the events is the segment's own.
func DecodeSegment(id task.ID, b []byte, f func(task.Event) error) error {
	if len(b) == 0 {
		return nil
	}
	r := reader{rest: b}
	cursor := Unpack(r.varint())
	at := int64(0)
	for ; len(r.rest) > 0 && !r.damaged; cursor.Seq++ {
		e := task.Event{Task: id, Cursor: cursor}
		if number := r.bytes(1); len(number) == 1 && int(number[0]) < len(eventTypes) {
			e.Type = eventTypes[number[0]]
		}
		if e.Type == "" {
			e.Type = task.EventType(r.bytes(r.uvarint()))
		}
		at += r.varint()
		e.At = time.UnixMicro(at).UTC()
		if data := r.bytes(r.uvarint()); len(data) > 0 {
			e.Data = data
		}
		if r.damaged {
			break
		}
		if err := f(e); err != nil {
			return err
		}
	}
	if r.damaged {
		return ErrDamaged
	}
	return nil
}
