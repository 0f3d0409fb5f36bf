package cron

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestNextTimes(t *testing.T) {
	for name, c := range map[string]struct {
		expression, zone, after string
		want                    string // in the zone
	}{
		"plain":                        {"0 9 * * 1-5", "Europe/Berlin", "2026-01-02T09:00:00+01:00", "2026-01-05T09:00:00+01:00 2026-01-06T09:00:00+01:00"},
		"seconds":                      {"*/20 * * * * *", "", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:20Z 2026-01-01T00:00:40Z 2026-01-01T00:01:00Z"},
		"either day":                   {"0 0 13 * FRI", "", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z 2026-11-13T00:00:00Z 2026-11-20T00:00:00Z 2026-11-27T00:00:00Z 2026-12-04T00:00:00Z 2026-12-11T00:00:00Z 2026-12-13T00:00:00Z"},
		"last day":                     {"0 0 L * *", "", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z 2026-03-31T00:00:00Z"},
		"name":                         {"@daily", "Asia/Tokyo", "2026-01-01T00:00:00+09:00", "2026-01-02T00:00:00+09:00"},
		"leap day":                     {"0 0 29 2 *", "", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		"skipped: right after":         {"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00"},
		"skipped: once":                {"0,15,30,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:00:00+02:00"},
		"skipped: with who is due":     {"0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:00:00+02:00"},
		"skipped: midnight":            {"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00-03:00", "2018-11-04T01:00:00-02:00 2018-11-05T00:00:00-02:00"},
		"skipped: half an hour":        {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", "2026-10-04T02:30:00+11:00 2026-10-05T02:15:00+11:00"},
		"skipped: a day":               {"0 9 * * *", "Pacific/Apia", "2011-12-29T08:00:00-10:00", "2011-12-29T09:00:00-10:00 2011-12-31T00:00:00+14:00 2011-12-31T09:00:00+14:00"},
		"twice: the first":             {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
		"twice: asked in between":      {"30 2 * * *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", "2026-10-26T02:30:00+01:00"},
		"twice: the end of it":         {"0 3 * * *", "Europe/Berlin", "2026-10-25T02:59:00+02:00", "2026-10-25T03:00:00+01:00"},
		"every hour, forward":          {"0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00+01:00", "2026-03-29T01:00:00+01:00 2026-03-29T03:00:00+02:00 2026-03-29T04:00:00+02:00"},
		"every hour, back":             {"0 * * * *", "Europe/Berlin", "2026-10-25T01:30:00+02:00", "2026-10-25T02:00:00+02:00 2026-10-25T02:00:00+01:00 2026-10-25T03:00:00+01:00"},
		"every hour, half an hour off": {"*/30 * * * *", "Australia/Lord_Howe", "2026-10-04T01:30:00+10:30", "2026-10-04T02:30:00+11:00 2026-10-04T03:00:00+11:00"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(c.expression, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			when := at(t, c.after)
			var got []string
			for range strings.FieldsSeq(c.want) {
				when = s.Next(when)
				got = append(got, when.In(s.zone).Format(time.RFC3339))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s\nwant %s", strings.Join(got, " "), c.want)
			}
		})
	}
}

func TestWhatIsNoSchedule(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""},
		{"* * * *", ""},
		{"60 * * * *", ""},
		{"0 0 30 2 *", ""},
		{"0 0 31 4,6 *", ""},
		{"@every 1s", ""},
		{"@sometimes", ""},
		{"TZ=UTC * * * * *", ""},
		{"CRON_TZ=UTC * * * * *", ""},
		{"* * * * *", "Mars/Olympus"},
		{"* * * * *", "Local"},
		{"* * * * *", "../etc/passwd"},
		{strings.Repeat("1,", 200) + "1 * * * *", ""},
		{"* * * * * * * *", ""},
		{"*/0 * * * *", ""},
		{"5-1-2 * * * *", ""},
	} {
		if _, err := Parse(c[0], c[1]); err == nil {
			t.Errorf("%.40q in %q is taken", c[0], c[1])
		}
	}
}

// The times rise, each is one the clock shows or right after a gap, and which time
// is asked from does not matter.
func TestTimesAreConsistent(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tehran", "America/Sao_Paulo", "Africa/Casablanca"}
	rapid.Check(t, func(t *rapid.T) {
		expression := rapid.SampledFrom([]string{"30 2 * * *", "*/7 * * * *", "0 0 * * *", "15 1,2,3 * * SUN", "0 */2 * * *", "59 23 L * *"}).Draw(t, "expression")
		s, err := Parse(expression, rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Unix(rapid.Int64Range(1_000_000_000, 2_000_000_000).Draw(t, "from"), 0)
		next := s.Next(begin)
		if !next.After(begin) {
			t.Fatalf("%s is not after %s", next, begin)
		}
		between := begin.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(begin)-1)).Draw(t, "between")))
		if again := s.Next(between); !again.Equal(next) {
			t.Fatalf("from %s it is %s, from %s it is %s", begin, next, between, again)
		}
		start, _ := next.In(s.zone).ZoneBounds()
		wall := onWall(next.In(s.zone))
		if shows := s.wall.Next(wall.Add(-time.Second)).Equal(wall); !shows && (s.hourly || !next.Equal(start)) {
			t.Fatalf("%s is none of its times", next.In(s.zone))
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"* * * * *", "0 0 L-3 * FRI#2", "@yearly", "1-59/2,3 0-23 */31 JAN-DEC 0-7", "0 0 29 2 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		s, err := Parse(expression, "America/New_York")
		if err != nil {
			return
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if next := s.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%q: %s", expression, next)
		}
	})
}
