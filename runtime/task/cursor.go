package task

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Cursor is the place of one event in its task's log: "ATTEMPT.SEQ" on the
// wire, ordered by attempt and then by number. Attempt 0 is the time before the
// first run; numbers start at 1. The zero Cursor stands before everything.
type Cursor struct {
	Attempt int
	Seq     int
}

// ParseCursor reads "ATTEMPT.SEQ"; the empty string is the zero Cursor.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	left, right, ok := strings.Cut(s, ".")
	attempt, err1 := parseNumber(left)
	seq, err2 := parseNumber(right)
	if !ok || err1 != nil || err2 != nil {
		return Cursor{}, fmt.Errorf("parse cursor: want ATTEMPT.SEQ, two whole numbers: %w", ErrInvalid)
	}
	return Cursor{Attempt: attempt, Seq: seq}, nil
}

// parseNumber takes canonical decimal only, so that a cursor has one spelling.
func parseNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, ErrInvalid
	}
	return int(n), nil
}

// String gives "ATTEMPT.SEQ".
func (c Cursor) String() string {
	return strconv.Itoa(c.Attempt) + "." + strconv.Itoa(c.Seq)
}

// IsZero says that the cursor stands before every event.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// Compare orders two cursors of one task: −1, 0 or +1.
func (c Cursor) Compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.Attempt, d.Attempt), cmp.Compare(c.Seq, d.Seq))
}

// Before says that c stands before d in the log.
func (c Cursor) Before(d Cursor) bool { return c.Compare(d) < 0 }

// In gives the cursor after c for an event of the given attempt, which is c's
// own or a later one.
func (c Cursor) In(attempt int) Cursor {
	if attempt > c.Attempt {
		return Cursor{Attempt: attempt, Seq: 1}
	}
	return Cursor{Attempt: c.Attempt, Seq: c.Seq + 1}
}

// Follows says that c may be the very next event after d: it has the next
// number of the same attempt, or is the first of a later one. Within an attempt
// nothing can then be missing between the two. Across attempts that cannot be
// told, since d's attempt may have gone on.
func (c Cursor) Follows(d Cursor) bool {
	if c.Attempt == d.Attempt {
		return c.Seq == d.Seq+1
	}
	return c.Attempt > d.Attempt && c.Seq == 1
}
