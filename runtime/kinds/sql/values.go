package sql

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// Values go to and come from PostgreSQL as text, which loses no digit.

// builtin are the types that pgx knows. It is only read.
var builtin = pgtype.NewMap()

// element is the type of the elements of an array, or 0.
func element(oid uint32) uint32 {
	t, ok := builtin.TypeForOID(oid)
	if !ok {
		return 0
	}
	array, ok := t.Codec.(*pgtype.ArrayCodec)
	if !ok {
		return 0
	}
	return array.ElementType.OID
}

func typeName(oid uint32) (string, bool) {
	if of := element(oid); of != 0 {
		name, ok := typeName(of)
		return name + "[]", ok
	}
	t, ok := builtin.TypeForOID(oid)
	if !ok {
		return "", false
	}
	return t.Name, true
}

// describe names the columns, and asks the server for what is not built in; again
// says that it did.
func describe(ctx context.Context, conn *pgconn.PgConn, fields []pgconn.FieldDescription) (columns []column, again bool, err error) {
	columns = make([]column, len(fields))
	asked := map[uint32]string{}
	for i, f := range fields {
		name, known := typeName(f.DataTypeOID)
		if !known {
			if name, known = asked[f.DataTypeOID]; !known {
				oid := strconv.FormatUint(uint64(f.DataTypeOID), 10)
				answer := conn.ExecParams(ctx, "select pg_catalog.format_type($1::oid, null)", [][]byte{[]byte(oid)}, nil, nil, nil).Read()
				if answer.Err != nil {
					return nil, true, answer.Err
				}
				name = string(answer.Rows[0][0])
				asked[f.DataTypeOID] = name
			}
		}
		columns[i] = column{Name: f.Name, Type: name}
	}
	return columns, len(asked) > 0, nil
}

// appendValue adds a value as JSON.
func appendValue(b []byte, oid uint32, text []byte) []byte {
	if text == nil {
		return append(b, "null"...)
	}
	switch oid {
	case pgtype.BoolOID:
		return strconv.AppendBool(b, string(text) == "t")
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.NumericOID, pgtype.Float4OID, pgtype.Float8OID:
		if json.Valid(text) {
			return append(b, text...)
		}
	case pgtype.JSONOID, pgtype.JSONBOID:
		if task.ValidJSON(text) {
			return append(b, encode(json.RawMessage(text))...)
		}
	case pgtype.ByteaOID:
		if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
			if raw, err := hex.AppendDecode(nil, digits); err == nil {
				return append(b, encode(raw)...)
			}
		}
	case pgtype.TimestamptzOID:
		if at, err := time.Parse("2006-01-02 15:04:05.999999999-07", string(text)); err == nil {
			return append(b, encode(at.UTC().Format(time.RFC3339Nano))...)
		}
	case pgtype.TimestampOID:
		if at, err := time.Parse(time.DateTime, string(text)); err == nil {
			return append(b, encode(at.Format("2006-01-02T15:04:05.999999999"))...)
		}
	}
	if of := element(oid); of != 0 {
		if list, ok := appendArray(b, of, text); ok {
			return list
		}
	}
	return append(b, encode(string(text))...)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // text, bytes or what was found to be JSON
	}
	return b
}

// argument is one of a task's, with what it is called in a message.
type argument struct {
	name  string
	value json.RawMessage
}

// encodeArguments writes the arguments in the way that the types read which the
// server found the statement to want.
func encodeArguments(args []argument, wanted []uint32) ([][]byte, error) {
	if len(args) != len(wanted) {
		return nil, invalid("args: the statement wants %d, not %d", len(wanted), len(args))
	}
	values := make([][]byte, len(args))
	for i, a := range args {
		value, err := encodeArgument(a.value, wanted[i])
		if err != nil {
			return nil, invalid("args.%s: %v", a.name, err)
		}
		values[i] = value
	}
	return values, nil
}

// encodeArgument gives nil for NULL.
func encodeArgument(raw json.RawMessage, oid uint32) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	switch {
	case string(raw) == "null":
		return nil, nil
	case oid == pgtype.JSONOID, oid == pgtype.JSONBOID:
		return raw, nil
	case raw[0] == '"':
		return encodeText(raw, oid)
	case raw[0] == '[':
		// A type that is not built in may be one of arrays too.
		_, known := builtin.TypeForOID(oid)
		if of := element(oid); of != 0 || !known {
			return arrayLiteral(raw, of)
		}
	}
	return raw, nil
}

func encodeText(raw json.RawMessage, oid uint32) ([]byte, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, err
	}
	if oid != pgtype.ByteaOID {
		return []byte(text), nil
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("want base64 for a bytea")
	}
	return hex.AppendEncode([]byte(`\x`), data), nil
}
