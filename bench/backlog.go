package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

// waiting says what backlog is to do.
type waiting struct {
	sizes         []int
	tasks, probes int
	by            string
}

func bindBacklog(flags *flag.FlagSet) measurement {
	o := waiting{sizes: []int{0, 100_000, 1_000_000}}
	flags.Func("waiting", "numbers of tasks that wait (default 0,100000,1000000)", listOf(&o.sizes))
	flags.StringVar(&o.by, "held-by", "queue", "what they wait for: queue, which is paused, or resource, which a long task holds")
	flags.IntVar(&o.tasks, "tasks", 20_000, "demo.echo tasks that run beside them")
	flags.IntVar(&o.probes, "probes", 200, "tasks one after the other, for the latency beside them")
	return o.turn
}

const (
	heldTask = `{"kind":"demo.echo","queue":"held","priority":-10,"payload":{"n":1,"text":"about a hundred bytes of payload, so that it is not nothing at all"}%s}`
	needGate = `,"resources":{"gate":1}`
	holder   = `{"kind":"demo.sleep","payload":{"duration":"1h","steps":1},"resources":{"gate":1}}`
	urgent   = `{"kind":"demo.echo","priority":10,"payload":{"n":1}}`
)

func (o *waiting) turn(ctx context.Context, l *lab, to *sheet) error {
	if o.tasks < 1 || o.probes < 1 || o.by != "queue" && o.by != "resource" {
		return errors.New("want at least 1 of everything, and what holds the tasks: queue or resource")
	}
	empty := 0.0 // tasks a second
	for _, n := range o.sizes {
		l.say("%d tasks wait", n)
		err := l.with(ctx, func(s *server) error {
			rate, err := o.beside(ctx, l, s, to, n)
			if n == 0 {
				empty = rate
			} else if empty > 0 && err == nil {
				to.add(waiters(n), "ended, beside none", "×", rate/empty)
			}
			return err
		}, "--resource", "slots=1000,gate=1", "--drain-timeout", "1s")
		if err != nil {
			return fmt.Errorf("%d tasks wait: %w", n, err)
		}
	}
	return nil
}

func waiters(n int) string { return fmt.Sprintf("%d wait", n) }

// beside measures what goes on beside n tasks that wait, and how a server starts with them.
func (o *waiting) beside(ctx context.Context, l *lab, s *server, to *sheet, n int) (rate float64, err error) {
	of := waiters(n)
	if err := o.fill(ctx, s, to, n); err != nil {
		return 0, err
	}
	if _, err := o.some(ctx, s, max(1, o.tasks/10)); err != nil { // so that no size is measured cold
		return 0, err
	}
	err = l.profile(ctx, s, func() error {
		rate, err = o.some(ctx, s, o.tasks)
		return err
	})
	if err != nil {
		return 0, err
	}
	to.add(of, "ended", "/s", rate)
	p, err := probeWith(ctx, urgent, func() *server { return s }, o.probes)
	if err != nil {
		return 0, err
	}
	to.addDelays(of, "submit to start, of higher priority", p.starts)
	to.addDelays(of, "submit to end, of higher priority", p.ends)
	return rate, o.restart(ctx, s, to, of)
}

// some is how many of n tasks end in a second.
func (o *waiting) some(ctx context.Context, s *server, n int) (float64, error) {
	t, err := untilEnded(ctx, []*server{s}, n, func() error {
		_, err := s.submitBatches(ctx, echo, n, 1000, 2)
		return err
	})
	return t.Ended, err
}

// fill has n tasks wait, and tells what one takes of the server's memory.
func (o *waiting) fill(ctx context.Context, s *server, to *sheet, n int) error {
	if n == 0 {
		return nil
	}
	task := fmt.Sprintf(heldTask, "")
	var err error
	if o.by == "resource" {
		task = fmt.Sprintf(heldTask, needGate)
		err = s.send(ctx, "POST", "/v1/tasks", holder, nil)
	} else {
		err = s.pauseQueue(ctx, "held", true)
	}
	if err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	before, began := s.usage().memory, time.Now()
	if _, err := s.submitBatches(ctx, task, n, 1000, 2); err != nil {
		return err
	}
	to.add(waiters(n), "accepted, of those that wait", "/s", float64(n)/time.Since(began).Seconds())
	if err := s.settle(ctx); err != nil {
		return err
	}
	to.add(waiters(n), "server's memory a waiting task", "B", (s.usage().memory-before)*(1<<20)/float64(n))
	return nil
}

// restart kills the server and tells how soon it is there again.
func (o *waiting) restart(ctx context.Context, s *server, to *sheet, of string) error {
	s.kill()
	began := time.Now()
	if err := s.begin(ctx); err != nil {
		return err
	}
	to.add(of, "killed and started, to ready", "s", time.Since(began).Seconds())
	var first struct {
		StartedAt time.Time `json:"started_at"`
	}
	if err := s.send(ctx, "POST", "/v1/tasks", urgent, &first, [2]string{"Prefer", "wait=60"}); err != nil {
		return err
	}
	if first.StartedAt.IsZero() {
		return errors.New("no task starts after the restart")
	}
	to.add(of, "killed and started, to a task's start", "s", first.StartedAt.Sub(began).Seconds())
	return nil
}
