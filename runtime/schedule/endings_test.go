package schedule

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEndingsAreInOrderAndTakeNoMoreRoomThanThereWereAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var e endings
		var want []*item
		most := 0
		for n := range rapid.IntRange(1, 300).Draw(rt, "steps") {
			if len(want) > 0 && rapid.IntRange(0, 2).Draw(rt, "goes") > 0 {
				at := rapid.IntRange(0, len(want)-1).Draw(rt, "which")
				e.remove(want[at])
				want = slices.Delete(want, at, at+1)
			} else {
				i := &item{Entry: Entry{ID: ID{byte(n), byte(n >> 8)}}, run: &run{end: time.UnixMilli(rapid.Int64Range(0, 50).Draw(rt, "end"))}}
				e.insert(i)
				want = append(want, i)
				slices.SortFunc(want, (*item).byEnd)
			}
			most = max(most, len(want))
			if !slices.Equal(e.all(), want) {
				rt.Fatalf("%d items in another order", len(want))
			}
			for _, gone := range e.array[:e.head] {
				if gone != nil {
					rt.Fatal("an item that has gone is kept")
				}
			}
			if cap(e.array) > 4*most+8 {
				rt.Fatalf("%d places for what were never more than %d", cap(e.array), most)
			}
		}
	})
}
