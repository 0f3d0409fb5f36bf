package codec

import (
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Schedule is what of a schedule has no column of its own.
func Schedule(s task.Schedule) []byte {
	m := message{}.text(1, s.Cron).text(2, s.Zone).int(3, int64(s.Every))
	m = m.bytes(4, message(nil).text(1, s.Task.Kind).text(2, s.Task.Queue).bytes(3, s.Task.Payload).
		text(4, s.Task.UniqueKey).bytes(5, Spec(&s.Task)))
	m = m.text(5, string(s.CatchUp)).int(6, int64(s.CatchUpLimit)).text(7, string(s.Overlap))
	if s.Paused {
		m = m.int(8, 1)
	}
	m = m.time(9, s.Starts).time(10, s.Ends).time(11, s.Created).time(12, s.Last).int(14, s.Fired)
	if !s.LastTask.IsZero() {
		m = m.bytes(13, s.LastTask[:])
	}
	return m
}

// DecodeSchedule reads into s what Schedule wrote; its namespace must be there.
func DecodeSchedule(b []byte, s *task.Schedule) error {
	s.Task.Namespace = s.Namespace
	return message(b).each(func(f field) error {
		switch f.number {
		case 1:
			s.Cron = string(f.b)
		case 2:
			s.Zone = string(f.b)
		case 3:
			s.Every = time.Duration(f.v)
		case 4:
			return template(f.b, &s.Task)
		case 5:
			s.CatchUp = task.CatchUp(f.b)
		case 6:
			s.CatchUpLimit = int(f.v)
		case 7:
			s.Overlap = task.Overlap(f.b)
		case 8:
			s.Paused = f.v != 0
		case 9:
			s.Starts = f.time()
		case 10:
			s.Ends = f.time()
		case 11:
			s.Created = f.time()
		case 12:
			s.Last = f.time()
		case 13:
			copy(s.LastTask[:], f.b)
		case 14:
			s.Fired = f.v
		}
		return nil
	})
}

// template reads what a schedule submits.
func template(b []byte, s *task.Spec) error {
	return message(b).each(func(f field) error {
		switch f.number {
		case 1:
			s.Kind = string(f.b)
		case 2:
			s.Queue = string(f.b)
		case 3:
			s.Payload = append([]byte(nil), f.b...)
		case 4:
			s.UniqueKey = string(f.b)
		case 5:
			return DecodeSpec(f.b, s)
		}
		return nil
	})
}
