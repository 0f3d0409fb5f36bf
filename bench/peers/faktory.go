package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	faktory "github.com/contribsys/faktory/client"
	worker "github.com/contribsys/faktory_worker_go"
)

// faktoryRedis is where Faktory writes the settings of its Redis, and reads them if
// they are there.
const faktoryRedis = "/tmp/redis.conf"

// faktoryQueue is Faktory's server as it comes, with a Redis that it starts itself and
// that saves a snapshot after 30 s with five writes. Its worker is in this process, with
// as many fetchers as callers; the default is 20. Jobs come in by PUSH, or in a batch by
// PUSHB.
type faktoryQueue struct {
	process *process
	pool    *faktory.Pool
	stop    context.CancelFunc
	over    chan error
	tidy    func() error
}

func openFaktory(ctx context.Context, at place, l *ledger) (queue, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	page, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	q := &faktoryQueue{over: make(chan error, 1), tidy: func() error { return nil }}
	if _, err := os.Stat(faktoryRedis); errors.Is(err, fs.ErrNotExist) {
		q.tidy = func() error { return os.Remove(faktoryRedis) }
	}
	// Its clients find the server in the environment only.
	if err := os.Setenv("FAKTORY_URL", "tcp://"+address); err != nil {
		return nil, err
	}
	if q.process, err = start(ctx, at.Faktory, "-b", address, "-w", page, "-l", "error", "-e", "development",
		"-d", filepath.Join(at.Dir, "db"), "-c", filepath.Join(at.Dir, "etc")); err != nil {
		return nil, err
	}
	if err := q.process.await(ctx, func(context.Context) error {
		c, err := faktory.Open()
		if err != nil {
			return err
		}
		return c.Close()
	}); err != nil {
		return nil, err
	}
	if q.pool, err = faktory.NewPool(2 * callers); err != nil {
		return nil, err
	}
	m := worker.NewManager()
	m.Concurrency, m.Logger = callers, silent{}
	m.Register("job", func(_ context.Context, args ...any) error { return runArgs(l, args) })
	m.ProcessStrictPriorityQueues("default")
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	q.stop = stop
	go func() { q.over <- m.RunWithContext(life) }()
	return q, nil
}

// runArgs reads a job as its worker gets it, which has decoded it into a map already.
func runArgs(l *ledger, args []any) error {
	for _, arg := range args {
		fields, _ := arg.(map[string]any)
		n, ok := fields["n"].(float64)
		if !ok {
			return fmt.Errorf("this is no job: %v", arg)
		}
		l.run(int(n))
	}
	return nil
}

func (q *faktoryQueue) submit(_ context.Context, jobs []job) error {
	many := make([]*faktory.Job, len(jobs))
	for i, j := range jobs {
		many[i] = faktory.NewJob("job", j)
	}
	return q.pool.With(func(c *faktory.Client) error {
		if len(many) == 1 {
			return c.Push(many[0])
		}
		refused, err := c.PushBulk(many)
		if err == nil && len(refused) > 0 {
			err = fmt.Errorf("%d jobs refused", len(refused))
		}
		return err
	})
}

func (q *faktoryQueue) ended(context.Context) (n int, err error) {
	err = q.pool.With(func(c *faktory.Client) error {
		state, err := c.CurrentState()
		if err == nil {
			n = int(state.Data.TotalProcessed - state.Data.TotalFailures) //nolint:gosec // far below
		}
		return err
	})
	return n, err
}

func (q *faktoryQueue) pids() []int { return []int{q.process.pid} }

func (q *faktoryQueue) close(context.Context) error {
	q.stop()
	err := <-q.over
	q.pool.Close()
	q.process.stop()
	return errors.Join(err, q.tidy())
}

// silent says nothing, as the other libraries are told to.
type silent struct{}

func (silent) Debug(...any)          {}
func (silent) Debugf(string, ...any) {}
func (silent) Info(...any)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Warn(...any)           {}
func (silent) Warnf(string, ...any)  {}
func (silent) Error(...any)          {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatal(...any)          {}
func (silent) Fatalf(string, ...any) {}
