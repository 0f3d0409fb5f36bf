// Package cron says when a cron expression in a time zone fires next. The actor of
// the schedules asks it, and who shows the next ten times.
//
// # Expressions
//
// Five fields, or six with seconds before them: minute, hour, day of the month,
// month, day of the week, with lists, ranges, steps and names; L, LW, 15W and FRI#3
// as in Quartz; and @hourly, @daily, @weekly, @monthly, @yearly. Where both days are
// restricted, one of them is enough, as in every cron since the seventh edition.
//
// # Daylight saving
//
// An expression names times on the clock on the wall, and where that jumps there are
// two rules. If the hours are restricted, every time named happens once: one that the
// clock skips happens right after the gap, once for all that it skips there, and one
// that the clock shows twice happens the first time. If it names every hour, it means
// elapsed time: it happens whenever the clock shows one of its times, the second time
// too, and what the clock does not show does not happen.
package cron

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones do not depend on the machine

	cron "github.com/netresearch/go-cron"
)

// Schedule is a cron expression in a time zone.
type Schedule struct {
	wall   *cron.SpecSchedule // asked for times of the wall clock, as if of UTC
	zone   *time.Location
	hourly bool // it names every hour
}

// Bounds of an expression: bytes, and how many years ahead is looked for a time. The
// 29th of February may be eight years away.
const (
	maxExpression = 256
	maxYears      = 9
)

var parser = cron.MustNewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow |
	cron.Descriptor | cron.Extended | cron.DowOrDom)

var (
	errTooLong = fmt.Errorf("is longer than %d bytes", maxExpression)
	errZone    = errors.New("must name no time zone; that has a field of its own")
	errEvery   = errors.New("must not be @every; that has a field of its own")
	errNever   = errors.New("names a time that does not come")
)

// Parse reads an expression; the zone is a name of the IANA database, empty for UTC.
func Parse(expression, zone string) (Schedule, error) {
	switch {
	case len(expression) > maxExpression:
		return Schedule{}, errTooLong
	case strings.Contains(strings.ToUpper(expression), "TZ="):
		return Schedule{}, errZone
	}
	location, err := Zone(zone)
	if err != nil {
		return Schedule{}, err
	}
	parsed, err := parser.Parse(expression)
	if err != nil {
		return Schedule{}, err
	}
	wall, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Schedule{}, errEvery
	}
	const everyHour = 1<<24 - 1
	wall.Location, wall.MaxSearchYears = time.UTC, maxYears
	s := Schedule{wall: wall, zone: location, hourly: wall.Hour&everyHour == everyHour}
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, errNever
	}
	return s, nil
}

// Zone finds a time zone of the IANA database; empty is UTC. That of the machine is
// none: it may be another on the next one.
func Zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" {
		return nil, fmt.Errorf("time zone %q: want a name such as Europe/Berlin", name)
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %q is not known; want a name such as Europe/Berlin", name)
	}
	return location, nil
}

// Next is the first time later than after, in UTC and whole seconds; zero if none
// comes within some years.
func (s Schedule) Next(after time.Time) time.Time {
	at := after.In(s.zone)
	begin, end := at.ZoneBounds()
	from := onWall(at)
	for {
		if shown := onWall(begin.Add(-time.Second)).Add(time.Second); !s.hourly && !begin.IsZero() && from.Before(shown) {
			from = shown.Add(-time.Second) // the clock has shown these before it was put back
		}
		wall := s.wall.Next(from)
		if wall.IsZero() {
			return time.Time{}
		}
		_, offset := at.Zone()
		next := wall.Add(-time.Duration(offset) * time.Second)
		if end.IsZero() || next.Before(end) {
			return next
		}
		// Beyond the end of this offset the clock shows other times.
		at = end.In(s.zone)
		if now := onWall(at); !s.hourly && wall.Before(now) {
			return end.UTC() // it was skipped
		}
		from = onWall(at).Add(-time.Second)
		begin, end = at.ZoneBounds()
	}
}

// onWall is what the clock on the wall shows, as if of UTC.
func onWall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}
