package task

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Schedule submits a task again and again: at the times of a cron expression in a
// time zone, or every so long. Package runtime/cron says when those times are.
type Schedule struct {
	Namespace string
	Name      string // unique in the namespace

	Cron  string // empty: Every counts
	Zone  string // of Cron; a name of the IANA database, empty for UTC
	Every time.Duration

	Task Spec // what each firing submits; no id

	CatchUp      CatchUp
	CatchUpLimit int // how many missed ticks CatchUpAll makes up for
	Overlap      Overlap
	Paused       bool
	Starts, Ends time.Time // no tick before, none after; zero: no bound

	Created  time.Time
	Next     time.Time // its next tick; zero where none comes, or while it is paused
	Last     time.Time // the last tick that fired
	LastTask ID        // what that submitted
	Fired    int64     // so often it has, triggered or by itself
	// Revision counts its changes. A change names the one it was decided on; 0 makes
	// a new schedule.
	Revision int64
}

// CatchUp is what becomes of ticks that nobody was there for. A tick that is late
// by no more than [CatchUpGrace] has not been missed.
type CatchUp string

// The ways to catch up.
const (
	CatchUpOne  CatchUp = "one"  // the latest fires, once; where nothing is said
	CatchUpSkip CatchUp = "skip" // none does
	CatchUpAll  CatchUp = "all"  // the latest CatchUpLimit do, oldest first
)

// Overlap is what becomes of a tick while the task of the one before lives.
type Overlap string

// The ways to overlap.
const (
	OverlapAllow Overlap = "allow" // it fires; where nothing is said
	OverlapSkip  Overlap = "skip"  // it does not
)

// Bounds of a schedule.
const (
	CatchUpGrace        = 30 * time.Second
	DefaultCatchUpLimit = 100
	maxCatchUp          = 1000
	minEvery            = time.Second
	maxEvery            = 10 * 365 * 24 * time.Hour
)

// Tick is a time of a schedule: what a task that it submitted knows of it.
type Tick struct {
	Schedule string
	At       time.Time
}

// Anchor is where the ticks of a schedule that goes by Every are counted from.
func (s Schedule) Anchor() time.Time {
	if s.Starts.IsZero() {
		return s.Created
	}
	return s.Starts
}

// First is a time just before the earliest that may be a tick.
func (s Schedule) First() time.Time {
	if s.Starts.After(s.Created) {
		return s.Starts.Add(-time.Microsecond)
	}
	return s.Created
}

// Within gives a tick, or the zero time where the schedule has ended before.
func (s Schedule) Within(tick time.Time) time.Time {
	if !s.Ends.IsZero() && tick.After(s.Ends) {
		return time.Time{}
	}
	return tick
}

// Fire is the schedule after a tick, and the task that it submits. The id is made
// of the tick, so that whoever fires it again submits the same task.
func (s Schedule) Fire(tick time.Time) (after Schedule, spec Spec) {
	spec = s.Task
	spec.ID = s.idOf(tick)
	spec.Tick = Tick{Schedule: s.Name, At: tick}
	s.Last, s.LastTask = tick, spec.ID
	s.Fired++
	return s, spec
}

// idOf is a UUID of version 7 at the tick's time, and the hash of what is fired
// where another has chance.
func (s Schedule) idOf(tick time.Time) ID {
	text := fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d", s.Namespace, s.Name, s.Created.UnixMicro(), tick.UnixMicro())
	sum := sha256.Sum256(text)
	id := ID(sum[:16])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(0, tick.UnixMilli())))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ScheduleFilter selects schedules: those of a namespace by name, a page behind a
// name or the one of a name; or, with Coming, those of all namespaces that have a
// next tick, earliest first.
type ScheduleFilter struct {
	Namespace string
	Name      string // only this one
	After     string
	Coming    bool
	Limit     int
}

// CheckSchedule says, as an [InvalidError], what is wrong with a schedule, and gives
// it with its defaults. Whether its expression and its zone are ones is not looked at.
func (l Limits) CheckSchedule(s Schedule, now time.Time) (Schedule, error) {
	var bad faults
	bad.unless(ValidName(s.Name), "name", nameRule, maxName)
	switch {
	case s.Cron == "" && s.Every == 0:
		bad.unless(false, "cron", "is required, unless there is every")
	case s.Cron != "" && s.Every != 0:
		bad.unless(false, "every", "give either cron or every")
	case s.Every != 0:
		bad.unless(s.Every >= minEvery && s.Every <= maxEvery, "every", "must be between %s and %s", minEvery, maxEvery)
		bad.unless(s.Zone == "", "time_zone", "belongs to cron")
	}
	switch s.CatchUp {
	case "":
		s.CatchUp = CatchUpOne
	case CatchUpOne, CatchUpSkip, CatchUpAll:
	default:
		bad.unless(false, "catch_up", "must be %s, %s or %s", CatchUpSkip, CatchUpOne, CatchUpAll)
	}
	switch {
	case s.CatchUp == CatchUpAll && s.CatchUpLimit == 0:
		s.CatchUpLimit = DefaultCatchUpLimit
	case s.CatchUp == CatchUpAll:
		bad.unless(s.CatchUpLimit > 0 && s.CatchUpLimit <= maxCatchUp, "catch_up_limit", "must be between 1 and %d", maxCatchUp)
	default:
		bad.unless(s.CatchUpLimit == 0, "catch_up_limit", "belongs to catch_up: all")
	}
	switch s.Overlap {
	case "":
		s.Overlap = OverlapAllow
	case OverlapAllow, OverlapSkip:
	default:
		bad.unless(false, "overlap", "must be %s or %s", OverlapAllow, OverlapSkip)
	}
	bad.unless(s.Starts.IsZero() || s.Ends.IsZero() || s.Ends.After(s.Starts), "ends_at", "must be later than starts_at")
	bad.template(s.Task)
	var err error
	s.Task.Namespace = s.Namespace
	s.Task, err = l.Check(s.Task, now)
	if wrong, ok := errors.AsType[InvalidError](err); ok {
		for _, v := range wrong {
			bad.unless(false, "task."+v.Field, "%s", v.Message)
		}
	}
	return s, bad.err()
}

// template refuses what belongs to one task and not to one after the other.
func (f *faults) template(s Spec) {
	const only = "is for a single task"
	f.unless(s.ID.IsZero(), "task.id", only)
	f.unless(s.RunAt.IsZero(), "task.run_at", only)
	f.unless(s.Deadline.IsZero(), "task.deadline", only+"; a timeout is for each")
	f.unless(len(s.DependsOn) == 0, "task.depends_on", only)
}
