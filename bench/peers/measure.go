package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	batchSize   = 1000
	submitters  = 2  // of batches
	callers     = 64 // of one job a call
	probeEvery  = 10 * time.Millisecond
	lookEvery   = 5 * time.Millisecond // whether all have ended
	warmUp      = 2 * callers
	stuckWithin = 40 * time.Second
)

// load is how much a queue is given.
type load struct {
	Drain, Single, Probes int
}

func (l load) all() int { return warmUp + l.Drain + l.Single + l.Probes }

// figures are what one run measured, by metric.
type figures map[string]float64

// session is one queue under measurement.
type session struct {
	queue queue
	led   *ledger
	db    int // the process of a database that is not the queue's own
}

// measure lets a queue do all three loads, the lightest first, each when the one
// before has ended.
func (s *session) measure(ctx context.Context, l load) (figures, error) {
	f := figures{}
	// Connections are made and caches filled before anybody looks.
	if _, err := s.carryOut(ctx, warmUp, func(ctx context.Context, first int) error {
		return s.oneByOne(ctx, first, warmUp)
	}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	if err := s.latency(ctx, l.Probes, f); err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	took, err := s.carryOut(ctx, l.Single, func(ctx context.Context, first int) error {
		return s.oneByOne(ctx, first, l.Single)
	})
	if err != nil {
		return nil, fmt.Errorf("one by one: %w", err)
	}
	f["single"], f["single_cpu"] = float64(l.Single)/took.wall, took.cpu*1e6/float64(l.Single)
	took, err = s.carryOut(ctx, l.Drain, func(ctx context.Context, first int) error {
		return s.inBatches(ctx, first, l.Drain)
	})
	if err != nil {
		return nil, fmt.Errorf("in batches: %w", err)
	}
	f["drain"], f["drain_cpu"] = float64(l.Drain)/took.wall, took.cpu*1e6/float64(l.Drain)
	if _, far := s.queue.(distant); far {
		return f, nil // its books were right, or it had never ended
	}
	return f, s.led.check()
}

type cost struct{ wall, cpu float64 } // seconds

// carryOut has n jobs submitted and waits until they have ended.
func (s *session) carryOut(ctx context.Context, n int, submit func(ctx context.Context, first int) error) (cost, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stuckWithin, errors.New("not done in time"))
	defer cancel()
	first := s.led.take(n)
	before, began := s.cpu(), time.Now()
	if err := submit(ctx, first); err != nil {
		return cost{}, err
	}
	if err := s.await(ctx); err != nil {
		return cost{}, err
	}
	return cost{wall: time.Since(began).Seconds(), cpu: s.cpu() - before}, nil
}

// await waits until all jobs have run and then until the queue says they have ended,
// so that it is not asked while it has much to do.
func (s *session) await(ctx context.Context) error {
	if _, far := s.queue.(distant); !far {
		select {
		case <-s.led.reached:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), s.led.check())
		}
	}
	for {
		ended, err := s.queue.ended(ctx)
		if err != nil {
			return fmt.Errorf("ask what has ended: %w", err)
		}
		if ended >= s.led.taken {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of %d have ended", context.Cause(ctx), ended, s.led.taken)
		case <-time.After(lookEvery):
		}
	}
}

func (s *session) inBatches(ctx context.Context, first, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(submitters)
	for at := 0; at < n; at += batchSize {
		jobs := make([]job, 0, batchSize)
		for i := at; i < min(n, at+batchSize); i++ {
			jobs = append(jobs, newJob(first+i))
		}
		group.Go(func() error { return s.queue.submit(ctx, jobs) })
	}
	return group.Wait()
}

func (s *session) oneByOne(ctx context.Context, first, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	for caller := range callers {
		group.Go(func() error {
			for i := caller; i < n; i += callers {
				if err := s.queue.submit(ctx, []job{newJob(first + i)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// latency submits jobs at a steady rate, whether or not those before have been
// answered, and notes how long each took from before its submit to its start.
func (s *session) latency(ctx context.Context, n int, f figures) error {
	var first int
	_, err := s.carryOut(ctx, n, func(ctx context.Context, at int) error {
		first = at
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		group, ctx := errgroup.WithContext(ctx)
		for i := range n {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return errors.Join(context.Cause(ctx), group.Wait())
			}
			group.Go(func() error {
				j := newJob(first + i)
				s.led.send(j.N)
				return s.queue.submit(ctx, []job{j})
			})
		}
		return group.Wait()
	})
	if err != nil {
		return err
	}
	waits := make([]time.Duration, n)
	for i := range waits {
		if waits[i], err = s.waited(ctx, first+i); err != nil {
			return err
		}
	}
	slices.Sort(waits)
	f["start_p50"], f["start_p99"] = milliseconds(quantile(waits, 0.5)), milliseconds(quantile(waits, 0.99))
	return nil
}

func (s *session) waited(ctx context.Context, n int) (time.Duration, error) {
	sent := time.Duration(s.led.sent[n].Load())
	far, ok := s.queue.(distant)
	if !ok {
		return time.Duration(s.led.started[n].Load()) - sent, nil
	}
	at, err := far.startedAt(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("ask when job %d started: %w", n, err)
	}
	return at.Sub(s.led.began.Add(sent)), nil
}

// cpu is what the system has used so far: this process, which has the callers and
// most workers, its servers, and the database.
func (s *session) cpu() float64 {
	sum := ownTime()
	if s.db != 0 {
		sum += treeTime(s.db)
	}
	if q, ok := s.queue.(served); ok {
		for _, pid := range q.pids() {
			sum += treeTime(pid)
		}
	}
	return sum
}

// quantile is of what is sorted.
func quantile[T any](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
