package codec

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// A message is numbered fields, one after another: uvarint number<<1 and a
// signed varint, or number<<1|1, a length and as many bytes. A field at its zero
// value is left out; a reader passes over numbers it does not know. So fields
// can be added, and a version before can still read the row.
type message []byte

// ErrDamaged says that what is stored cannot be read.
var ErrDamaged = errors.New("a stored message is damaged")

func (m message) int(number uint64, v int64) message {
	if v == 0 {
		return m
	}
	return m.always(number, v)
}

func (m message) always(number uint64, v int64) message {
	return binary.AppendVarint(binary.AppendUvarint(m, number<<1), v)
}

func (m message) time(number uint64, t time.Time) message {
	if t.IsZero() {
		return m
	}
	return m.always(number, t.UnixMicro())
}

func (m message) text(number uint64, s string) message {
	if s == "" {
		return m
	}
	m = binary.AppendUvarint(m, number<<1|1)
	return append(binary.AppendUvarint(m, uint64(len(s))), s...)
}

// bytes writes also what is empty: it may mean something that it is there.
func (m message) bytes(number uint64, b []byte) message {
	m = binary.AppendUvarint(m, number<<1|1)
	return append(binary.AppendUvarint(m, uint64(len(b))), b...)
}

func (m message) float(number uint64, f float64) message {
	m = append(binary.AppendUvarint(m, number<<1|1), 8)
	return binary.LittleEndian.AppendUint64(m, math.Float64bits(f))
}

// field is one field read: v of a number, b of bytes, which are the row's own.
type field struct {
	number uint64
	v      int64
	b      []byte
}

func (f field) time() time.Time { return Micros(f.v) }

func (f field) float() float64 {
	if len(f.b) != 8 {
		return math.NaN()
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(f.b))
}

// Micros is the time that many microseconds after 1970, in UTC.
func Micros(v int64) time.Time { return time.UnixMicro(v).UTC() }

// MicrosOrNone is a time in a column, 0 for none; OrNone reads it.
func MicrosOrNone(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// OrNone is Micros, and no time for 0.
func OrNone(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return Micros(v)
}

// each gives every field to f.
func (m message) each(f func(field) error) error {
	r := reader{rest: m}
	for len(r.rest) > 0 {
		key := r.uvarint()
		next := field{number: key >> 1}
		if key&1 == 0 {
			next.v = r.varint()
		} else {
			next.b = r.bytes(r.uvarint())
		}
		if r.damaged {
			return ErrDamaged
		}
		if err := f(next); err != nil {
			return err
		}
	}
	return nil
}

// reader reads what may be damaged; then there is nothing left to read.
type reader struct {
	rest    []byte
	damaged bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	return skip(r, v, n)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	return skip(r, v, n)
}

func skip[V any](r *reader, v V, n int) V {
	if n <= 0 {
		r.damaged, r.rest = true, nil
		return v
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.damaged, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
