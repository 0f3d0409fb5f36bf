package cron

import "time"

// Rule says when something happens again.
type Rule interface {
	// Next is the first time later than after; zero if none comes.
	Next(after time.Time) time.Time
}

// New is the rule of an expression in a zone or, where that is empty, of a time every
// so long from one on.
func New(expression, zone string, every time.Duration, from time.Time) (Rule, error) {
	if expression == "" {
		return Every{Period: every, From: from}, nil
	}
	return Parse(expression, zone)
}

// Every is a time every so long, counted from one of them.
type Every struct {
	Period time.Duration
	From   time.Time
}

// Next implements [Rule].
func (e Every) Next(after time.Time) time.Time {
	if after.Before(e.From) {
		return e.From.UTC()
	}
	since := after.Sub(e.From)
	return after.Add(e.Period - since%e.Period).UTC()
}

// Last gives the last times of a rule, at most most of them, that are later than
// after and not later than until, oldest first. However many there were before
// those costs little: it looks back from the end, twice as far each time.
func Last(r Rule, after, until time.Time, most int) []time.Time {
	if most <= 0 {
		return nil
	}
	for back := time.Duration(most) * time.Second; ; back *= 2 {
		from := until.Add(-back)
		whole := from.Before(after) || back < 0
		if whole {
			from = after
		}
		times := make([]time.Time, 0, most)
		for at := r.Next(from); !at.IsZero() && !at.After(until); at = r.Next(at) {
			if len(times) == most {
				times = append(times[:0], times[1:]...)
			}
			times = append(times, at)
		}
		if whole || len(times) == most {
			return times
		}
	}
}
