package transport

import (
	"errors"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// ScheduleBody says what a schedule submits, and when.
type ScheduleBody struct {
	Name         string     `json:"name,omitempty" doc:"Unique; may be left out where the path has it"`
	Cron         string     `json:"cron,omitempty" doc:"A cron expression of five fields, or six with seconds" example:"0 9 * * MON-FRI"`
	TimeZone     string     `json:"time_zone,omitempty" doc:"Of cron: a name of the IANA database; UTC unless given" example:"Europe/Berlin"`
	Every        string     `json:"every,omitempty" doc:"Instead of cron: a Go duration of at least 1s, counted from starts_at or else from when it was made" example:"15m"`
	Task         Submission `json:"task" doc:"What each tick submits"`
	CatchUp      string     `json:"catch_up,omitempty" enum:"skip,one,all" default:"one" doc:"Which of the ticks fire that nobody was there for: none, the latest, or all up to catch_up_limit"`
	CatchUpLimit int        `json:"catch_up_limit,omitempty" minimum:"0" maximum:"1000" doc:"Of catch_up all: 100 unless given"`
	Overlap      string     `json:"overlap,omitempty" enum:"allow,skip" default:"allow" doc:"Whether a tick fires while the task of the one before lives"`
	Paused       bool       `json:"paused,omitempty"`
	StartsAt     *task.Time `json:"starts_at,omitempty" doc:"No tick before"`
	EndsAt       *task.Time `json:"ends_at,omitempty" doc:"No tick after"`
}

// ScheduleChange changes a schedule; what is left out stays. A task is replaced
// whole.
type ScheduleChange struct {
	Cron         *string     `json:"cron,omitempty" doc:"Takes the place of every"`
	TimeZone     *string     `json:"time_zone,omitempty"`
	Every        *string     `json:"every,omitempty" doc:"Takes the place of cron and time_zone"`
	Task         *Submission `json:"task,omitempty"`
	CatchUp      *string     `json:"catch_up,omitempty" enum:"skip,one,all"`
	CatchUpLimit *int        `json:"catch_up_limit,omitempty" minimum:"0" maximum:"1000"`
	Overlap      *string     `json:"overlap,omitempty" enum:"allow,skip"`
	Paused       *bool       `json:"paused,omitempty" doc:"A paused schedule has no ticks; those of that time are not made up for"`
	StartsAt     *task.Time  `json:"starts_at,omitempty"`
	EndsAt       *task.Time  `json:"ends_at,omitempty"`
}

// Schedule is a schedule as everybody outside sees it.
type Schedule struct {
	Name         string     `json:"name"`
	Cron         string     `json:"cron,omitempty"`
	TimeZone     string     `json:"time_zone,omitempty"`
	Every        string     `json:"every,omitempty"`
	Task         Submission `json:"task"`
	CatchUp      string     `json:"catch_up" enum:"skip,one,all"`
	CatchUpLimit int        `json:"catch_up_limit,omitempty"`
	Overlap      string     `json:"overlap" enum:"allow,skip"`
	Paused       bool       `json:"paused"`
	StartsAt     *task.Time `json:"starts_at,omitempty"`
	EndsAt       *task.Time `json:"ends_at,omitempty"`
	CreatedAt    task.Time  `json:"created_at"`
	NextAt       *task.Time `json:"next_at,omitempty" doc:"Its next tick; not there where none comes or it is paused"`
	LastAt       *task.Time `json:"last_at,omitempty" doc:"The tick that fired last, or when it was triggered since"`
	LastTask     string     `json:"last_task,omitempty" format:"uuid" doc:"What that submitted"`
	Fired        int64      `json:"fired" doc:"How often it has submitted its task, triggered or by itself"`
}

// ScheduleList is a page of schedules, by name.
type ScheduleList struct {
	Schedules  []Schedule `json:"schedules"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// Ticks is when a schedule fires next.
type Ticks struct {
	Ticks []task.Time `json:"ticks"`
}

// Tick is what a task knows of the schedule that submitted it.
type Tick struct {
	Name string    `json:"name"`
	At   task.Time `json:"at" doc:"The tick, whenever the task was submitted"`
}

// Of is the schedule for the core. Its error is a [task.InvalidError].
func (b ScheduleBody) Of(namespace string, now time.Time) (task.Schedule, error) {
	s := task.Schedule{
		Namespace: namespace, Name: b.Name, Cron: b.Cron, Zone: b.TimeZone,
		CatchUp: task.CatchUp(b.CatchUp), CatchUpLimit: b.CatchUpLimit, Overlap: task.Overlap(b.Overlap), Paused: b.Paused,
	}
	var bad task.InvalidError
	s.Every = readDuration(&bad, "every", b.Every)
	give(&s.Starts, (*time.Time)(b.StartsAt))
	give(&s.Ends, (*time.Time)(b.EndsAt))
	s.Task = b.Task.template(&bad, namespace, now)
	return s, orNil(bad)
}

// Make makes the change. Its error is a [task.InvalidError].
func (c ScheduleChange) Make(s *task.Schedule, now time.Time) error {
	var bad task.InvalidError
	if c.Cron != nil {
		s.Cron, s.Every = *c.Cron, 0
	}
	if c.Every != nil {
		s.Every, s.Cron, s.Zone = readDuration(&bad, "every", *c.Every), "", ""
	}
	give(&s.Zone, c.TimeZone)
	give(&s.CatchUp, (*task.CatchUp)(c.CatchUp))
	if c.CatchUp != nil && s.CatchUp != task.CatchUpAll {
		s.CatchUpLimit = 0
	}
	give(&s.CatchUpLimit, c.CatchUpLimit)
	give(&s.Overlap, (*task.Overlap)(c.Overlap))
	give(&s.Paused, c.Paused)
	give(&s.Starts, (*time.Time)(c.StartsAt))
	give(&s.Ends, (*time.Time)(c.EndsAt))
	if c.Task != nil {
		s.Task = c.Task.template(&bad, s.Namespace, now)
	}
	return orNil(bad)
}

// template is what a schedule submits again and again.
func (s Submission) template(bad *task.InvalidError, namespace string, now time.Time) task.Spec {
	only := func(field, text string) {
		if text != "" {
			*bad = append(*bad, task.Violation{Field: "task." + field, Message: "is for a single task"})
		}
	}
	only("delay", s.Delay)
	only("late", s.Late)
	s.Delay, s.Late = "", ""
	spec, err := s.Spec(namespace, now)
	if wrong, ok := errors.AsType[task.InvalidError](err); ok {
		for _, v := range wrong {
			*bad = append(*bad, task.Violation{Field: "task." + v.Field, Message: v.Message})
		}
	}
	return spec
}

func give[V any](field, to *V) {
	if to != nil {
		*field = *to
	}
}

func orNil(bad task.InvalidError) error {
	if bad == nil {
		return nil
	}
	return bad
}

// ViewSchedule makes the outside's shape of a schedule.
func ViewSchedule(s task.Schedule) Schedule {
	v := Schedule{
		Name: s.Name, Cron: s.Cron, TimeZone: s.Zone, Every: durationOrEmpty(s.Every), Task: SubmissionOf(s.Task),
		CatchUp: string(s.CatchUp), CatchUpLimit: s.CatchUpLimit, Overlap: string(s.Overlap), Paused: s.Paused,
		StartsAt: timeOrNil(s.Starts), EndsAt: timeOrNil(s.Ends), CreatedAt: task.Time(s.Created),
		NextAt: timeOrNil(s.Next), LastAt: timeOrNil(s.Last), Fired: s.Fired,
	}
	if s.Cron != "" && s.Zone == "" {
		v.TimeZone = "UTC"
	}
	if !s.LastTask.IsZero() {
		v.LastTask = s.LastTask.String()
	}
	return v
}

// SubmissionOf is the body that submits such a task.
func SubmissionOf(s task.Spec) Submission {
	b := Submission{
		Kind: s.Kind, Queue: s.Queue, Priority: s.Priority, Payload: s.Payload, Resources: s.Resources, Labels: s.Labels,
		RunAt: timeOrNil(s.RunAt), Timeout: durationOrEmpty(s.Timeout), Deadline: timeOrNil(s.Deadline),
		MaxAttempts: s.MaxAttempts, UniqueKey: s.UniqueKey,
		Retry: &RetrySubmission{
			Initial: s.Retry.Initial.String(), Factor: s.Retry.Factor, Max: s.Retry.Max.String(), Jitter: &s.Retry.Jitter,
		},
		ConcurrencyKey: s.ConcurrencyKey, ConcurrencyLimit: s.ConcurrencyLimit,
		RateKey: s.RateKey, Rate: s.Rate.String(), RateBurst: s.Rate.Burst, Placement: viewPlacement(s.Affinity), StickyKey: s.StickyKey,
		OnDependencyFailure: string(s.OnDependencyFailure),
	}
	if !s.ID.IsZero() {
		b.ID = s.ID.String()
	}
	if len(s.DependsOn) > 0 {
		b.DependsOn = idTexts(s.DependsOn)
	}
	if s.Cache.TTL > 0 {
		b.Cache = &CacheSubmission{Key: s.Cache.Key, TTL: s.Cache.TTL.String()}
	}
	return b
}
