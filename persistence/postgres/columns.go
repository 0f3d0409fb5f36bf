package postgres

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// A statement for many rows takes arrays, one for each column. The driver encodes them by
// reflection, an element at a time, into buffers that begin small with every statement.
// What follows knows how large they will be. That spares a fourth of what a task left to the
// garbage collector, and half the time to encode.

// column is a parameter that is an array, of one dimension.
type column interface {
	count() int
	size() int // of all elements, in bytes
	null(at int) bool
	element(buf []byte, at int) []byte // appends it, without its length
}

type (
	int8Column  []int64
	textColumn  []string
	byteaColumn [][]byte      // nil: NULL
	uuidColumn  []pgtype.UUID // not valid: NULL
	boolColumn  []bool
)

func (c int8Column) count() int    { return len(c) }
func (c int8Column) size() int     { return 8 * len(c) }
func (c int8Column) null(int) bool { return false }
func (c int8Column) element(buf []byte, at int) []byte {
	return binary.BigEndian.AppendUint64(buf, uint64(c[at])) //nolint:gosec // its bits
}

func (c textColumn) count() int                        { return len(c) }
func (c textColumn) size() int                         { return total(c) }
func (c textColumn) null(int) bool                     { return false }
func (c textColumn) element(buf []byte, at int) []byte { return append(buf, c[at]...) }

func (c byteaColumn) count() int                        { return len(c) }
func (c byteaColumn) size() int                         { return total(c) }
func (c byteaColumn) null(at int) bool                  { return c[at] == nil }
func (c byteaColumn) element(buf []byte, at int) []byte { return append(buf, c[at]...) }

func (c uuidColumn) count() int                        { return len(c) }
func (c uuidColumn) size() int                         { return 16 * len(c) }
func (c uuidColumn) null(at int) bool                  { return !c[at].Valid }
func (c uuidColumn) element(buf []byte, at int) []byte { return append(buf, c[at].Bytes[:]...) }

func (c boolColumn) count() int    { return len(c) }
func (c boolColumn) size() int     { return len(c) }
func (c boolColumn) null(int) bool { return false }
func (c boolColumn) element(buf []byte, at int) []byte {
	if c[at] {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func total[T string | []byte](all []T) (n int) {
	for _, one := range all {
		n += len(one)
	}
	return n
}

// Sizes of an array in PostgreSQL's binary format, in bytes.
const (
	arrayHead   = 20 // dimensions, whether NULLs are in it, type; length and lower bound
	elementHead = 4  // its length
)

func encodedSize(c column) int { return arrayHead + elementHead*c.count() + c.size() }

// appendArray writes an array of elements of the type oid, as array_recv reads it.
func appendArray(buf []byte, oid uint32, c column) []byte {
	n := c.count()
	buf = binary.BigEndian.AppendUint32(buf, 1)
	nulls := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, 0)
	buf = binary.BigEndian.AppendUint32(buf, oid)
	buf = binary.BigEndian.AppendUint32(buf, uint32(n)) //nolint:gosec // rows of one batch
	buf = binary.BigEndian.AppendUint32(buf, 1)
	for at := range n {
		if c.null(at) {
			buf[nulls+3] = 1
			buf = binary.BigEndian.AppendUint32(buf, ^uint32(0))
			continue
		}
		length := len(buf)
		buf = c.element(append(buf, 0, 0, 0, 0), at)
		binary.BigEndian.PutUint32(buf[length:], uint32(len(buf)-length-elementHead)) //nolint:gosec // bounded by a batch
	}
	return buf
}

// roomy is the first of a statement's columns: it makes room for all.
type roomy struct {
	column
	room int
}

// columnCodec is the driver's for an array type, which knows columns besides.
type columnCodec struct {
	pgtype.Codec

	element uint32
}

// PlanEncode implements [pgtype.Codec].
func (c columnCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(column); ok && format == pgtype.BinaryFormatCode {
		return columnPlan(c.element)
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type columnPlan uint32

// Encode implements [pgtype.EncodePlan].
func (p columnPlan) Encode(value any, buf []byte) ([]byte, error) {
	if first, ok := value.(roomy); ok {
		buf = slices.Grow(buf, first.room)
	}
	return appendArray(buf, uint32(p), value.(column)), nil
}

// teachColumns has a new connection know columns.
func teachColumns(_ context.Context, conn *pgx.Conn) error {
	teach(conn.TypeMap())
	return nil
}

func teach(m *pgtype.Map) {
	for array, element := range map[uint32]uint32{
		pgtype.Int8ArrayOID: pgtype.Int8OID, pgtype.TextArrayOID: pgtype.TextOID, pgtype.ByteaArrayOID: pgtype.ByteaOID,
		pgtype.UUIDArrayOID: pgtype.UUIDOID, pgtype.BoolArrayOID: pgtype.BoolOID,
	} {
		if t, ok := m.TypeForOID(array); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: array, Codec: columnCodec{Codec: t.Codec, element: element}})
		}
	}
}

// queue adds a statement that takes columns.
func (t *tx) queue(b *pgx.Batch, text string, columns ...column) *pgx.QueuedQuery {
	room := 0
	args := make([]any, len(columns))
	for i, c := range columns {
		room += encodedSize(c)
		args[i] = c
	}
	args[0] = roomy{column: columns[0], room: room}
	t.room += room
	return b.Queue(text, args...)
}

// room is no message: it only has the connection's buffer be large enough for those that
// come, where it would grow by a fourth at a time.
type room int

// headRoom is for what else is in a batch.
const headRoom = 4 << 10

// Encode implements [pgproto3.Message].
func (r room) Encode(dst []byte) ([]byte, error) { return slices.Grow(dst, int(r)), nil }

// Decode implements [pgproto3.Message].
func (room) Decode([]byte) error { return nil }

// Frontend implements [pgproto3.FrontendMessage].
func (room) Frontend() {}

var _ pgproto3.FrontendMessage = room(0)
