package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/runtime/cron"
	"github.com/troupe-run/troupe/runtime/task"
)

// How schedules are looked after: so many at a time, and so many of them at once.
const (
	schedulesLooked = 200
	schedulesAtOnce = 32
)

// schedules fires what schedules there are when their time comes. Every node does
// so, without regard to the others: the row says of which revision it must be to
// move on, and moves on together with the task that its tick submits.
//
// It keeps nothing, so a restart begins with a look.
type schedules struct {
	node *Node
	busy bool
	soon bool // a look is wanted once this one is over
	gen  uint64
}

type (
	lookAtSchedules struct{ gen uint64 }
	// schedulesSeen is what a look found: when the next tick comes, and whether there
	// may be more to do at once.
	schedulesSeen struct {
		next time.Time
		more bool
		err  error
	}
	// scheduleSet says that a schedule has changed.
	scheduleSet struct{}
)

// Receive implements [actor.Actor].
func (s *schedules) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		s.look(ctx)
	case lookAtSchedules:
		if msg.gen == s.gen {
			s.look(ctx)
		}
	case scheduleSet:
		s.look(ctx)
	case schedulesSeen:
		s.seen(ctx, msg)
	}
}

func (s *schedules) look(ctx actor.Context) {
	n := s.node
	if s.busy || n.draining.Load() {
		s.soon = s.busy
		return
	}
	s.busy, s.soon = true, false
	self := ctx.Self()
	n.work(func(workCtx context.Context) {
		next, more, err := n.fireDue(workCtx)
		n.root.Send(self, schedulesSeen{next: next, more: more, err: err})
	})
}

func (s *schedules) seen(ctx actor.Context, msg schedulesSeen) {
	s.busy = false
	if msg.err != nil && s.node.life.Err() == nil {
		s.node.log.Warn("cannot look after schedules", "error", msg.err)
	}
	wait := s.node.pollEvery()
	switch {
	case msg.err != nil:
	case msg.more || s.soon:
		wait = calmly
	case !msg.next.IsZero():
		wait = min(wait, max(0, s.node.until(msg.next)))
	}
	s.gen++
	gen, self, root := s.gen, ctx.Self(), s.node.root
	time.AfterFunc(wait, func() { root.Send(self, lookAtSchedules{gen: gen}) })
}

// fireDue fires the schedules whose time has come, and says when the next one's does.
func (n *Node) fireDue(ctx context.Context) (next time.Time, more bool, err error) {
	coming, err := n.cfg.Store.Schedules(ctx, task.ScheduleFilter{Coming: true, Limit: schedulesLooked})
	if err != nil {
		return time.Time{}, false, err
	}
	now := n.now()
	var all errgroup.Group
	all.SetLimit(schedulesAtOnce)
	for _, s := range coming {
		if s.Next.After(now) {
			next = s.Next
			break
		}
		more = true // it has another tick behind this one
		all.Go(func() error {
			err := n.fire(ctx, s, now)
			if errors.Is(err, task.ErrStale) || errors.Is(err, task.ErrNoSchedule) {
				return nil // another node was first, or somebody has changed it
			}
			return err
		})
	}
	return next, more, all.Wait()
}

// fire catches up with the ticks of a schedule until now.
func (n *Node) fire(ctx context.Context, s task.Schedule, now time.Time) error {
	rule, err := cron.New(s.Cron, s.Zone, s.Every, s.Anchor())
	if err != nil {
		// Somebody's newer version took it, or the database of zones has changed.
		n.log.Error("a schedule is not understood, and is paused", "schedule", s.Name, "error", err)
		s.Paused, s.Next = true, time.Time{}
		_, err := n.ChangeSchedule(ctx, task.Mutation{Op: task.SetSchedule, Schedule: new(s)})
		return err
	}
	ticks := ticksOf(s, rule, now)
	if s.Overlap == task.OverlapSkip && len(ticks) > 0 {
		ticks = ticks[len(ticks)-1:]
		if lives, err := n.lives(ctx, s.Namespace, s.LastTask); err != nil || lives {
			if err != nil {
				return err
			}
			ticks = nil
		}
	}
	next := s.Within(rule.Next(now))
	if len(ticks) == 0 {
		s.Next = next
		_, err := n.ChangeSchedule(ctx, task.Mutation{Op: task.SetSchedule, Schedule: new(s)})
		return err
	}
	for i, tick := range ticks {
		after, spec := s.Fire(tick)
		if after.Next = next; i+1 < len(ticks) {
			after.Next = ticks[i+1]
		}
		_, err := n.FireSchedule(ctx, after, spec)
		if err != nil && !errors.Is(err, task.ErrExists) { // the id may be taken: there is no second try for a tick
			return err
		}
		s = after
		s.Revision++
	}
	return nil
}

// ticksOf are the ticks that fire now: those that are hardly late, and of those that
// were missed as many as the schedule wants.
func ticksOf(s task.Schedule, rule cron.Rule, now time.Time) []time.Time {
	before := s.Next.Add(-time.Microsecond)
	if !s.Ends.IsZero() && s.Ends.Before(now) {
		now = s.Ends
	}
	grace := now.Add(-task.CatchUpGrace)
	missed := 0
	switch s.CatchUp {
	case task.CatchUpSkip:
	case task.CatchUpAll:
		missed = s.CatchUpLimit
	default:
		missed = 1
	}
	ticks := cron.Last(rule, before, grace, missed)
	if grace.After(before) {
		before = grace
	}
	return append(ticks, cron.Last(rule, before, now, int(task.CatchUpGrace/time.Second)+1)...)
}

// lives says whether a task has not ended.
func (n *Node) lives(ctx context.Context, namespace string, id task.ID) (bool, error) {
	if id.IsZero() {
		return false, nil
	}
	states, err := n.cfg.Store.States(ctx, namespace, []task.ID{id})
	state, there := states[id]
	return there && !state.Terminal(), err
}

// FireSchedule inserts a tick's task, together with the schedule as it is after it,
// where that is still of the revision it was decided on.
func (n *Node) FireSchedule(ctx context.Context, after task.Schedule, spec task.Spec) (task.Task, error) {
	step := task.New(spec, n.now(), 0)
	out, err := n.ChangeSchedule(ctx, task.Mutation{Op: task.Fire, Schedule: new(after), Task: step.Task, Events: step.Events})
	switch {
	case err != nil:
		return task.Task{}, err
	case out.Existing != nil:
		return *out.Existing, nil
	}
	n.counters.submitted.Add(1)
	return step.Task, nil
}

// ChangeSchedule writes a change of a schedule.
func (n *Node) ChangeSchedule(ctx context.Context, m task.Mutation) (task.Outcome, error) {
	out, err := n.write(ctx, m)
	if err != nil {
		return task.Outcome{}, fmt.Errorf("change schedule %s: %w", m.Schedule.Name, err)
	}
	n.root.Send(n.timed, scheduleSet{})
	return out, nil
}
