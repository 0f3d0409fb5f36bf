package codec

import (
	"encoding/json"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// usual is the room that what a task has without extras takes, in bytes.
const usual = 96

// Spec is what of a spec never changes and has no column of its own. The
// same spec always gives the same bytes: a second insert is compared by them.
// It is never nil.
func Spec(s *task.Spec) []byte {
	m := make(message, 0, usual).int(1, int64(s.Priority))
	var room [64]byte
	for name, amount := range inOrder(s.Resources) {
		m = m.bytes(2, message(room[:0]).text(1, name).int(2, int64(amount)))
	}
	m = m.labels(3, s.Labels)
	m = m.time(4, s.RunAt).int(5, int64(s.Timeout)).time(6, s.Deadline).int(7, int64(s.MaxAttempts))
	m = m.int(8, int64(s.Retry.Initial)).float(9, s.Retry.Factor).int(10, int64(s.Retry.Max)).float(11, s.Retry.Jitter)
	m = m.text(12, s.ConcurrencyKey).int(13, int64(s.ConcurrencyLimit))
	m = m.text(14, s.Cache.Key).int(15, int64(s.Cache.TTL))
	m = m.text(16, s.RateKey).int(17, int64(s.Rate.Count)).int(18, int64(s.Rate.Per)).int(19, int64(s.Rate.Burst))
	if len(s.DependsOn) > 0 {
		m = m.bytes(20, slices.Concat(idBytes(s.DependsOn)...))
	}
	m = m.text(21, string(s.OnDependencyFailure))
	if !s.AfterBatch.IsZero() {
		m = m.bytes(22, s.AfterBatch[:])
	}
	m = m.text(28, s.Tick.Schedule).time(29, s.Tick.At)
	return m.text(32, string(s.Affinity.Require)).text(33, string(s.Affinity.Prefer)).text(34, s.StickyKey)
}

// idBytes and ids write and read a list of ids, 16 bytes each.
func idBytes(list []task.ID) [][]byte {
	all := make([][]byte, len(list))
	for i := range list {
		all[i] = list[i][:]
	}
	return all
}

func ids(b []byte) []task.ID {
	list := make([]task.ID, 0, len(b)/16)
	for chunk := range slices.Chunk(b, 16) {
		var id task.ID
		copy(id[:], chunk)
		list = append(list, id)
	}
	return list
}

// inOrder goes through a map by its keys. Most have one entry.
func inOrder[V any](m map[string]V) iter.Seq2[string, V] {
	if len(m) <= 1 {
		return maps.All(m)
	}
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// DecodeSpec reads into s what Spec wrote. It leaves out RunAt and Deadline: life has them as they are now.
func DecodeSpec(b []byte, s *task.Spec) error {
	return message(b).each(func(f field) error {
		switch f.number {
		case 1:
			s.Priority = int(f.v)
		case 2:
			if s.Resources == nil {
				s.Resources = task.Resources{}
			}
			name, amount, _, err := pair(f.b)
			s.Resources[name] = task.Quantity(amount)
			return err
		case 3:
			return label(f.b, &s.Labels)
		case 5:
			s.Timeout = time.Duration(f.v)
		case 7:
			s.MaxAttempts = int(f.v)
		case 8:
			s.Retry.Initial = time.Duration(f.v)
		case 9:
			s.Retry.Factor = f.float()
		case 10:
			s.Retry.Max = time.Duration(f.v)
		case 11:
			s.Retry.Jitter = f.float()
		case 12:
			s.ConcurrencyKey = string(f.b)
		case 13:
			s.ConcurrencyLimit = int(f.v)
		case 14:
			s.Cache.Key = string(f.b)
		case 15:
			s.Cache.TTL = time.Duration(f.v)
		case 20:
			s.DependsOn = ids(f.b)
		case 21:
			s.OnDependencyFailure = task.OnFailure(f.b)
		case 22:
			copy(s.AfterBatch[:], f.b)
		case 28:
			s.Tick.Schedule = string(f.b)
		case 29:
			s.Tick.At = f.time()
		case 32:
			s.Affinity.Require = task.Selector(f.b)
		case 33:
			s.Affinity.Prefer = task.Selector(f.b)
		case 34:
			s.StickyKey = string(f.b)
		case 16:
			s.RateKey = string(f.b)
		case 17:
			s.Rate.Count = int(f.v)
		case 18:
			s.Rate.Per = time.Duration(f.v)
		case 19:
			s.Rate.Burst = int(f.v)
		}
		return nil
	})
}

func (m message) labels(number uint64, labels map[string]string) message {
	if len(labels) == 0 {
		return m
	}
	for key, value := range inOrder(labels) {
		m = m.bytes(number, message(nil).text(1, key).text(2, value))
	}
	return m
}

func label(m message, into *map[string]string) error {
	if *into == nil {
		*into = map[string]string{}
	}
	key, _, value, err := pair(m)
	(*into)[key] = value
	return err
}

func pair(m message) (name string, number int64, text string, err error) {
	err = m.each(func(f field) error {
		switch {
		case f.number == 1:
			name = string(f.b)
		case f.b != nil:
			text = string(f.b)
		default:
			number = f.v
		}
		return nil
	})
	return name, number, text, err
}

// Life is what of a task changes and has no column of its own.
func Life(t *task.Task) []byte {
	m := make(message, 0, usual).int(1, int64(t.Forgiven)).int(2, int64(t.Crashes))
	if t.Suspect {
		m = m.int(3, 1)
	}
	m = m.text(4, t.Node).text(5, t.Worker).int(6, Pack(t.Cursor))
	m = m.time(7, t.Ready).time(8, t.Started).time(9, t.Finished).time(10, t.RunAt).time(11, t.Deadline)
	if p := t.Progress; p != nil {
		b := message(nil).text(2, p.Message).time(3, p.At)
		if p.Fraction != nil {
			b = b.float(1, *p.Fraction)
		}
		m = m.bytes(12, b)
	}
	if f := t.Failure; f != nil {
		b := message(nil).text(1, f.Code).text(2, f.Message).text(4, string(f.Details))
		if f.Retryable {
			b = b.int(3, 1)
		}
		m = m.bytes(13, b)
	}
	for _, f := range t.Failures {
		m = m.bytes(14, message(nil).int(1, int64(f.Attempt)).text(2, f.Code).text(3, f.Message).
			time(4, time.Time(f.At)).text(5, f.Node))
	}
	for _, k := range t.Tokens {
		m = m.bytes(15, message(nil).int(1, int64(k.Limit.Scope)).text(2, k.Limit.Namespace).text(3, k.Limit.Name).
			int(4, int64(k.Amount)).int(5, int64(k.Most)).int(6, int64(k.Home)))
	}
	m = m.text(16, string(t.Cached)).int(24, int64(t.Memos)).int(25, t.MemoBytes).text(26, t.Awaits)
	if t.Asleep {
		m = m.int(27, 1)
	}
	return m
}

// DecodeLife reads into t what Life wrote.
func DecodeLife(b []byte, t *task.Task) error {
	return message(b).each(func(f field) error {
		switch f.number {
		case 1:
			t.Forgiven = int(f.v)
		case 2:
			t.Crashes = int(f.v)
		case 3:
			t.Suspect = f.v != 0
		case 4:
			t.Node = string(f.b)
		case 5:
			t.Worker = string(f.b)
		case 6:
			t.Cursor = Unpack(f.v)
		case 7:
			t.Ready = f.time()
		case 8:
			t.Started = f.time()
		case 9:
			t.Finished = f.time()
		case 10:
			t.RunAt = f.time()
		case 11:
			t.Deadline = f.time()
		case 12:
			return decodeProgress(f.b, t)
		case 13:
			return decodeFailure(f.b, t)
		case 14:
			return decodeAttempt(f.b, t)
		case 15:
			return decodeToken(f.b, t)
		case 16:
			t.Cached = task.CacheStatus(f.b)
		case 24:
			t.Memos = int(f.v)
		case 25:
			t.MemoBytes = f.v
		case 26:
			t.Awaits = string(f.b)
		case 27:
			t.Asleep = f.v != 0
		}
		return nil
	})
}

func decodeProgress(m message, t *task.Task) error {
	t.Progress = &task.Progress{}
	return m.each(func(f field) error {
		switch f.number {
		case 1:
			fraction := f.float()
			t.Progress.Fraction = &fraction
		case 2:
			t.Progress.Message = string(f.b)
		case 3:
			t.Progress.At = f.time()
		}
		return nil
	})
}

func decodeFailure(m message, t *task.Task) error {
	t.Failure = &task.Failure{}
	return m.each(func(f field) error {
		switch f.number {
		case 1:
			t.Failure.Code = string(f.b)
		case 2:
			t.Failure.Message = string(f.b)
		case 3:
			t.Failure.Retryable = f.v != 0
		case 4:
			t.Failure.Details = json.RawMessage(f.b)
		}
		return nil
	})
}

func decodeAttempt(m message, t *task.Task) error {
	var a task.AttemptError
	err := m.each(func(f field) error {
		switch f.number {
		case 1:
			a.Attempt = int(f.v)
		case 2:
			a.Code = string(f.b)
		case 3:
			a.Message = string(f.b)
		case 4:
			a.At = task.Time(f.time())
		case 5:
			a.Node = string(f.b)
		}
		return nil
	})
	t.Failures = append(t.Failures, a)
	return err
}

func decodeToken(m message, t *task.Task) error {
	var k task.Token
	err := m.each(func(f field) error {
		switch f.number {
		case 1:
			k.Limit.Scope = task.LimitScope(f.v & 15)
		case 2:
			k.Limit.Namespace = string(f.b)
		case 3:
			k.Limit.Name = string(f.b)
		case 4:
			k.Amount = task.Quantity(f.v)
		case 5:
			k.Most = task.Quantity(f.v)
		case 6:
			k.Home = task.Incarnation(f.v)
		}
		return nil
	})
	t.Tokens = append(t.Tokens, k)
	return err
}

// Pack gives a cursor as one number that orders as cursors do.
func Pack(c task.Cursor) int64 { return int64(c.Attempt)<<32 | int64(c.Seq) }

// Unpack reads what Pack wrote.
func Unpack(v int64) task.Cursor {
	return task.Cursor{Attempt: int(v >> 32), Seq: int(v & math.MaxUint32)}
}
