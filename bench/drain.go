package main

import (
	"context"
	"errors"
	"flag"
	"time"
)

// drained says what drain is to do.
type drained struct{ tasks, batch, callers int }

func bindDrain(flags *flag.FlagSet) measurement {
	var o drained
	flags.IntVar(&o.tasks, "tasks", 50_000, "demo.echo tasks")
	flags.IntVar(&o.batch, "batch", 1000, "tasks of a batch")
	flags.IntVar(&o.callers, "callers", 2, "callers that submit batches")
	return o.turn
}

// turn has tasks worked off: once those that a paused queue held, once while they come in.
func (o *drained) turn(ctx context.Context, l *lab, to *sheet) error {
	if min(o.tasks, o.batch, o.callers) < 1 {
		return errors.New("want at least 1 of everything")
	}
	return l.with(ctx, func(s *server) error {
		if err := l.profile(ctx, s, func() error { return o.together(ctx, l, s, to) }); err != nil {
			return err
		}
		return o.held(ctx, l, s, to)
	})
}

func (o *drained) together(ctx context.Context, l *lab, s *server, to *sheet) error {
	before := l.cost(s)
	t, err := untilEnded(ctx, []*server{s}, o.tasks, func() error {
		_, err := s.submitBatches(ctx, echo, o.tasks, o.batch, o.callers)
		return err
	})
	if err != nil {
		return err
	}
	const of = "submitted while they run"
	to.add(of, "accepted", "/s", t.Accepted)
	to.add(of, "ended", "/s", t.Ended)
	l.addCost(to, of, "a task", s, before, o.tasks)
	return nil
}

func (o *drained) held(ctx context.Context, l *lab, s *server, to *sheet) error {
	const of = "held by a paused queue"
	if err := s.pauseQueue(ctx, "default", true); err != nil {
		return err
	}
	ended, err := s.ended(ctx)
	if err != nil {
		return err
	}
	before, began := l.cost(s), time.Now()
	if _, err := s.submitBatches(ctx, echo, o.tasks, o.batch, o.callers); err != nil {
		return err
	}
	to.add(of, "accepted", "/s", float64(o.tasks)/time.Since(began).Seconds())
	l.addCost(to, of, "a task accepted", s, before, o.tasks)
	before, began = l.cost(s), time.Now()
	if err := s.pauseQueue(ctx, "default", false); err != nil {
		return err
	}
	if err := s.awaitEnded(ctx, ended, o.tasks); err != nil {
		return err
	}
	to.add(of, "ended, from its release on", "/s", float64(o.tasks)/time.Since(began).Seconds())
	l.addCost(to, of, "a task ended", s, before, o.tasks)
	to.add("after both", "server's memory", "MiB", s.usage().memory)
	return nil
}
