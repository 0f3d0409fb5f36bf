package task

import (
	"encoding/hex"
	"fmt"
)

// ID names a task, a batch or a node: a UUID, made as version 7 by the runtime
// (RFC 9562), though a client may bring any. The zero ID is no id.
type ID [16]byte

var errBadID = fmt.Errorf("parse id: want xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx: %w", ErrInvalid)

// ParseID reads the 36-character form, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, errBadID
	}
	packed := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(packed)); err != nil {
		return ID{}, errBadID
	}
	return id, nil
}

// IsZero says that there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// String gives the 36-character form, in lower case.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
