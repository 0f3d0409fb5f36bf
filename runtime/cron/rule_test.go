package cron

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEveryCountsFromItsBegin(t *testing.T) {
	from := time.Date(2026, 1, 1, 10, 7, 0, 0, time.UTC)
	e := Every{Period: 15 * time.Minute, From: from}
	for after, want := range map[time.Time]time.Time{
		from.Add(-time.Hour):         from,
		from.Add(-1):                 from,
		from:                         from.Add(15 * time.Minute),
		from.Add(15*time.Minute - 1): from.Add(15 * time.Minute),
		from.Add(1000*24*time.Hour + time.Second): from.Add(1000*24*time.Hour + 15*time.Minute),
	} {
		if got := e.Next(after); !got.Equal(want) {
			t.Errorf("after %s comes %s, want %s", after, got, want)
		}
	}
}

// The last times are those that going through all of them finds.
func TestLastTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		expression := rapid.SampledFrom([]string{"", "*/10 * * * *", "0 3 * * MON", "0 0 1 1 *"}).Draw(t, "expression")
		rule, err := New(expression, "", rapid.SampledFrom([]time.Duration{time.Second, 7 * time.Minute, 100 * time.Hour}).Draw(t, "every"), begin)
		if err != nil {
			t.Fatal(err)
		}
		after := begin.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Hour)).Draw(t, "after")))
		until := after.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(30*time.Hour)).Draw(t, "long")))
		most := rapid.IntRange(0, 40).Draw(t, "most")
		var all []time.Time
		for at := rule.Next(after); !at.After(until); at = rule.Next(at) {
			all = append(all, at)
		}
		want := all[max(0, len(all)-most):]
		if got := Last(rule, after, until, most); !slices.Equal(got, want) {
			t.Fatalf("%v\nwant %v", got, want)
		}
	})
}
