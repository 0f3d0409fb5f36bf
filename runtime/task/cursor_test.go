package task

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func anyCursor() *rapid.Generator[Cursor] {
	number := rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, 1<<31-1))
	return rapid.Custom(func(t *rapid.T) Cursor { return Cursor{number.Draw(t, "attempt"), number.Draw(t, "seq")} })
}

func TestCursorIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCursor().Draw(t, "cursor")
		if got, err := ParseCursor(c.String()); err != nil || got != c {
			t.Fatalf("%v was read as %v, %v", c, got, err)
		}
	})
	if got, err := ParseCursor(""); err != nil || !got.IsZero() {
		t.Errorf("nothing was read as %v, %v", got, err)
	}
	if (Cursor{0, 1}).IsZero() || (Cursor{1, 0}).IsZero() {
		t.Error("a cursor of an event is zero")
	}
}

func TestCursorHasOneSpelling(t *testing.T) {
	for _, s := range []string{
		"1", ".", "1.", ".1", "1.2.3", "01.1", "1.01", "+1.1", "1.-1", "1,1", " 1.1", "1.1 ", "0x1.1", "1_0.1",
		"2147483648.1", "1.2147483648", "99999999999999999999.1", "١.١",
	} {
		if got, err := ParseCursor(s); !errors.Is(err, ErrInvalid) || got != (Cursor{}) {
			t.Errorf("%q was read as %v, %v", s, got, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", "0.1", "2147483647.2147483647", "1.1.1", "00.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err == nil && s != "" && c.String() != s {
			t.Errorf("%q was read as %v", s, c)
		}
		if c.Attempt < 0 || c.Seq < 0 {
			t.Errorf("%q was read as %v", s, c)
		}
	})
}

func TestCursorsAreOrderedByAttemptThenNumber(t *testing.T) {
	inOrder := []Cursor{{0, 0}, {0, 1}, {0, 10}, {1, 0}, {1, 1}, {1, 2}, {2, 1}, {10, 1}}
	for i, c := range inOrder {
		for j, d := range inOrder {
			if got := c.Compare(d); got != cmp.Compare(i, j) || c.Before(d) != (i < j) {
				t.Errorf("%v against %v: %d", c, d, got)
			}
		}
	}
}

func TestNextCursorFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCursor().Draw(t, "cursor")
		later := c.Attempt + rapid.IntRange(1, 3).Draw(t, "attempts")
		for _, next := range []Cursor{c.In(c.Attempt), c.In(later)} {
			if !c.Before(next) || !next.Follows(c) || c.Follows(next) || c.Follows(c) {
				t.Fatalf("%v after %v", next, c)
			}
			skipped := Cursor{next.Attempt, next.Seq + 1}
			if skipped.Follows(c) {
				t.Fatalf("%v after %v, without %v", skipped, c, next)
			}
		}
	})
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{
		"", idA.String(), "01000000-0000-0000-0000-00000000000A", "{1000000-0000-0000-0000-00000000000}",
		"01000000-0000-0000-0000-00000000000", "0100000000000-0000-0000-00000000000a-", "0100000é-0000-0000-0000-0000000000a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && id.String() != strings.ToLower(s) {
			t.Errorf("%q was read as %v", s, id)
		}
		if err != nil && (!id.IsZero() || !errors.Is(err, ErrInvalid)) {
			t.Errorf("%q was read as %v, %v", s, id, err)
		}
	})
}

func TestIDIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		text, err := json.Marshal(map[ID]ID{id: id})
		if err != nil {
			t.Fatal(err)
		}
		var got map[ID]ID
		if err := json.Unmarshal(text, &got); err != nil || got[id] != id {
			t.Fatalf("%s was read as %v, %v", text, got, err)
		}
	})
	if got := (ID{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}).String(); got != "01234567-89ab-cdef-fedc-ba9876543210" {
		t.Error(got)
	}
	id := idA
	if err := id.UnmarshalText([]byte("no id")); err == nil || id != idA {
		t.Errorf("%v, %v", id, err)
	}
}

func TestStatesHaveTheNamesOfTheContract(t *testing.T) {
	names := []string{"scheduled", "blocked", "queued", "running", "succeeded", "failed", "cancelled"}
	if len(States()) != len(names) {
		t.Fatalf("%v", States())
	}
	for i, s := range States() {
		if int(s) != i+1 || s.String() != names[i] || s.Terminal() != (i >= 4) {
			t.Errorf("%d: %v, terminal %v", i+1, s, s.Terminal())
		}
		var got State
		text, _ := json.Marshal(s)
		if err := json.Unmarshal(text, &got); err != nil || got != s {
			t.Errorf("%s was read as %v, %v", text, got, err)
		}
	}
	for _, s := range []string{"", "Queued", "state(0)", "done"} {
		got := Running
		if err := got.UnmarshalText([]byte(s)); !errors.Is(err, ErrInvalid) || got != Running {
			t.Errorf("%q was read as %v, %v", s, got, err)
		}
	}
	for _, s := range []State{0, 8, 255} {
		if slices.Contains(names, s.String()) {
			t.Errorf("state %d is called %v", uint8(s), s)
		}
	}
}

func TestLostBetween(t *testing.T) {
	for _, c := range []struct {
		start, at, next Cursor
		lost            bool
	}{
		{Cursor{}, Cursor{}, Cursor{0, 1}, false},
		{Cursor{}, Cursor{1, 3}, Cursor{1, 4}, false},
		{Cursor{}, Cursor{1, 3}, Cursor{2, 1}, false},
		{Cursor{1, 6}, Cursor{}, Cursor{1, 6}, true},
		{Cursor{1, 6}, Cursor{1, 4}, Cursor{1, 6}, true},
		{Cursor{1, 6}, Cursor{1, 5}, Cursor{1, 6}, false},
		{Cursor{1, 6}, Cursor{1, 9}, Cursor{1, 10}, false},
		{Cursor{2, 1}, Cursor{1, 5}, Cursor{2, 1}, true}, // the first attempt may have gone on
	} {
		if lost := (Task{LogStart: c.start}).LostBetween(c.at, c.next); lost != c.lost {
			t.Errorf("log from %v, read to %v, next is %v: lost %v", c.start, c.at, c.next, lost)
		}
	}
}
