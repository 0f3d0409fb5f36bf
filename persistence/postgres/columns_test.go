package postgres

import (
	"bytes"
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

// A column is written as the driver writes the same slice.
func TestColumnsAreEncodedAsByTheDriver(t *testing.T) {
	driver, ours := pgtype.NewMap(), pgtype.NewMap()
	teach(ours)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(t, "rows")
		numbers, words, blobs, keys, bits := make(int8Column, n), make(textColumn, n), make(byteaColumn, n), make(uuidColumn, n), make(boolColumn, n)
		for i := range n {
			numbers[i] = rapid.Int64Range(math.MinInt64, math.MaxInt64).Draw(t, "number")
			words[i] = rapid.StringN(0, 5, -1).Draw(t, "word")
			blobs[i] = rapid.SampledFrom([][]byte{nil, {}, {0}, []byte("some bytes")}).Draw(t, "bytes")
			keys[i].Valid = rapid.Bool().Draw(t, "there")
			if keys[i].Valid {
				keys[i].Bytes = [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
			}
			bits[i] = rapid.Bool().Draw(t, "bit")
		}
		for _, c := range []struct {
			oid   uint32
			ours  column
			plain any
		}{
			{pgtype.Int8ArrayOID, numbers, []int64(numbers)},
			{pgtype.TextArrayOID, words, []string(words)},
			{pgtype.ByteaArrayOID, blobs, [][]byte(blobs)},
			{pgtype.UUIDArrayOID, keys, []pgtype.UUID(keys)},
			{pgtype.BoolArrayOID, bits, []bool(bits)},
		} {
			want, err := driver.Encode(c.oid, pgtype.BinaryFormatCode, c.plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ours.Encode(c.oid, pgtype.BinaryFormatCode, roomy{column: c.ours, room: encodedSize(c.ours)}, nil)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%T: %x, %v, want %x", c.ours, got, err, want)
			}
			if len(got) > encodedSize(c.ours) {
				t.Fatalf("%T takes %d bytes, more than the %d it said", c.ours, len(got), encodedSize(c.ours))
			}
		}
	})
}
