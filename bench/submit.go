package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

// submitting says what submit is to do.
type submitting struct {
	inFlight     []int
	tasks, batch int
	run          bool
}

func bindSubmit(flags *flag.FlagSet) measurement {
	o := submitting{inFlight: []int{1, 16, 64, 1000}}
	flags.Func("in-flight", "numbers of callers that submit one by one (default 1,16,64,1000)", listOf(&o.inFlight))
	flags.IntVar(&o.tasks, "tasks", 20_000, "demo.echo tasks of each measurement; at most 1000 for each caller")
	flags.IntVar(&o.batch, "batch", 1000, "tasks of a batch")
	flags.BoolVar(&o.run, "run", false, "let the tasks run meanwhile; else their queue is paused")
	return o.turn
}

func (o *submitting) turn(ctx context.Context, l *lab, to *sheet) error {
	if min(o.tasks, o.batch) < 1 {
		return errors.New("want at least 1 of everything")
	}
	return l.with(ctx, func(s *server) error {
		if err := s.pauseQueue(ctx, "default", !o.run); err != nil {
			return err
		}
		return l.profile(ctx, s, func() error { return o.all(ctx, l, s, to) })
	})
}

func (o *submitting) all(ctx context.Context, l *lab, s *server, to *sheet) error {
	one := []*server{s}
	for _, callers := range o.inFlight {
		if callers < 1 {
			return errors.New("want at least one caller")
		}
		n := min(o.tasks, 1000*callers)
		of := fmt.Sprintf("one by one, %d in flight", callers)
		err := o.timed(l, s, to, of, n, func() ([]time.Duration, error) { return load(ctx, one, callers, n) })
		if err != nil {
			return fmt.Errorf("%s: %w", of, err)
		}
	}
	for _, callers := range []int{1, 4} {
		of := fmt.Sprintf("batches of %d, %d in flight", o.batch, callers)
		err := o.timed(l, s, to, of, o.tasks, func() ([]time.Duration, error) {
			return s.submitBatches(ctx, echo, o.tasks, o.batch, callers)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", of, err)
		}
	}
	return o.timed(l, s, to, "one stream of NDJSON", o.tasks, func() ([]time.Duration, error) {
		return nil, s.batch(ctx, o.tasks)
	})
}

// timed adds how many tasks were accepted a second, how long each answer took, and what a task cost.
func (o *submitting) timed(l *lab, s *server, to *sheet, of string, n int, do func() ([]time.Duration, error)) error {
	before, began := l.cost(s), time.Now()
	took, err := do()
	if err != nil {
		return err
	}
	to.add(of, "accepted", "/s", float64(n)/time.Since(began).Seconds())
	to.addDelays(of, "answer", took)
	l.addCost(to, of, "a task", s, before, n)
	return nil
}
