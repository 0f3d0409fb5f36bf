// Command croncheck compares the times of Troupe's schedules with those of two other
// cron engines: 50 expressions in 100 time zones over 20 years. It is a module of its
// own, so that the others are none of Troupe's dependencies.
//
// Both others are asked for the time after each of ours. A difference is accepted only
// where a clock is changed between the time asked from and the answers, or a day or so
// off, and of two kinds: at an instant no further from the change than the clock is changed by, where
// the engines follow different rules, ours being in docs/schedules.md; or where one of
// the others agrees with us, be it that it is asked minute by minute. The latter are
// faults of theirs: they lose their way where a midnight is skipped or comes twice. Any
// other difference is printed, and the command fails.
//
// Expressions that fire less than ten times a day are compared at each of their times;
// those that fire more often from half a day before to half a day behind every change
// of the clock, and for a day of every twelve weeks.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/adhocore/gronx"
	robfig "github.com/robfig/cron/v3"

	"github.com/troupe-run/troupe/runtime/cron"
)

func main() {
	years := flag.Int("years", 20, "how many years from 2010 on")
	zones := flag.Int("zones", len(allZones), "how many of the time zones")
	only := flag.String("zone", "", "only this one")
	flag.Parse()
	began := time.Now()
	c := check{
		from: time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC),
		to:   time.Date(2010+*years, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	chosen := allZones[:min(*zones, len(allZones))]
	if *only != "" {
		chosen = []string{*only}
	}
	work := make(chan string)
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			for zone := range work {
				c.zone(zone)
			}
		})
	}
	for _, zone := range chosen {
		work <- zone
	}
	close(work)
	all.Wait()
	fmt.Printf("%d expressions × %d zones × %d years: %d times compared with each of 2 engines; %d differ where a clock is changed, at %d more one of the others agrees, %d are wrong (%.0fs)\n",
		len(expressions), len(chosen), *years, c.compared, c.ruled, c.astray, c.wrong, time.Since(began).Seconds())
	if c.wrong > 0 {
		os.Exit(1)
	}
}

// check counts, over all zones.
type check struct {
	from, to time.Time

	mu                             sync.Mutex
	compared, ruled, astray, wrong int
}

// change is a change of the clock.
type change struct {
	at time.Time
	by time.Duration
}

func changes(zone *time.Location, from, to time.Time) (all []change) {
	for at := from.In(zone); ; {
		_, end := at.ZoneBounds()
		if end.IsZero() || end.After(to) {
			return all
		}
		_, before := end.Add(-time.Second).Zone()
		_, after := end.Zone()
		all = append(all, change{end, time.Duration(after-before) * time.Second})
		at = end
	}
}

func (c *check) zone(name string) {
	zone, err := cron.Zone(name)
	if err != nil {
		panic(err)
	}
	jumps := changes(zone, c.from, c.to)
	for _, e := range expressions {
		compared, ruled, astray, wrong := 0, 0, 0, 0
		engines := others(e.text, zone)
		ours, err := cron.Parse(e.text, name)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", e.text, err))
		}
		for _, span := range c.spans(e, jumps) {
			at := span.from
			for at.Before(span.to) {
				mine := ours.Next(at)
				if mine.IsZero() {
					break
				}
				compared++
				a, b := engines[0](at), engines[1](at)
				if !a.Equal(mine) || !b.Equal(mine) {
					switch between := within(jumps, at, mine, a, b); {
					case rule(between, at, mine):
						ruled++
					case len(between) > 0 && (a.Equal(mine) || b.Equal(mine) || stepped(e.text, at.In(zone), mine)):
						astray++
					default:
						if wrong++; wrong < 5 {
							fmt.Printf("%s in %s: after %s comes %s; the others say %s and %s\n", e.text, name, at.In(zone), mine.In(zone), a.In(zone), b.In(zone))
						}
					}
				}
				at = mine
			}
		}
		c.mu.Lock()
		c.compared, c.ruled, c.astray, c.wrong = c.compared+compared, c.ruled+ruled, c.astray+astray, c.wrong+wrong
		c.mu.Unlock()
	}
}

// stepped says whether another engine, asked of each minute for itself, finds no other
// time before ours.
func stepped(expression string, asked, mine time.Time) bool {
	const most = 5 * 366 * 24 * time.Hour // from one leap day to the next
	engine := gronx.New()
	for at := asked.Truncate(time.Minute).Add(time.Minute); at.Before(asked.Add(most)); at = at.Add(time.Minute) {
		if due, err := engine.IsDue(expression, at); err != nil || due {
			return err == nil && at.Equal(mine)
		}
	}
	return false
}

// others are the other engines: each gives the time after one.
func others(expression string, zone *time.Location) [2]func(time.Time) time.Time {
	parsed, err := robfig.NewParser(robfig.Minute | robfig.Hour | robfig.Dom | robfig.Month | robfig.Dow).Parse(expression)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", expression, err))
	}
	spec := parsed.(*robfig.SpecSchedule)
	spec.Location = zone
	return [2]func(time.Time) time.Time{
		func(after time.Time) time.Time { return spec.Next(after.In(zone)) },
		func(after time.Time) time.Time {
			next, err := gronx.NextTickAfter(expression, after.In(zone), false)
			if err != nil {
				return time.Time{}
			}
			return next
		},
	}
}

type span struct{ from, to time.Time }

// spans is where an expression is compared.
func (c *check) spans(e expression, jumps []change) []span {
	if !e.often {
		return []span{{c.from, c.to}}
	}
	const day = 24 * time.Hour
	var all []span
	for _, j := range jumps {
		all = append(all, span{j.at.Add(-day / 2), j.at.Add(day / 2)})
	}
	for at := c.from; at.Before(c.to); at = at.Add(83 * day) { // another weekday each time
		all = append(all, span{at, at.Add(day)})
	}
	return all
}

// within are the changes of the clock between a time and any of the answers to what
// comes after it, and those so close that an engine may have come across them: it looks
// at the days around.
func within(jumps []change, asked time.Time, answers ...time.Time) (all []change) {
	last := asked
	for _, a := range answers {
		if a.After(last) {
			last = a
		}
	}
	for _, j := range jumps {
		if margin := 36 * time.Hour; !j.at.Before(asked.Add(-margin)) && !j.at.After(last.Add(margin)) {
			all = append(all, j)
		}
	}
	return all
}

// rule says whether our answer, or what was asked from, is where our rules about
// changes of the clock decide.
func rule(jumps []change, times ...time.Time) bool {
	for _, j := range jumps {
		for _, at := range times {
			if at.Sub(j.at).Abs() <= j.by.Abs() {
				return true
			}
		}
	}
	return false
}
