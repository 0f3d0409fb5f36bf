package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/transport"
)

// submission is the flags that describe a task.
type submission struct {
	s               transport.Submission
	runAt           string
	deadline        string
	resources       string
	labels          []string
	require, prefer []string
	cache           transport.CacheSubmission
}

func (f *submission) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.s.ID, "id", "", "your own UUID for the task")
	flags.IntVar(&f.s.Priority, "priority", 0, "−100 to 100, higher runs first")
	flags.StringVar(&f.s.Queue, "queue", "", `queue ("default")`)
	flags.StringVar(&f.runAt, "run-at", "", "not before this time, RFC 3339")
	flags.StringVar(&f.s.Delay, "delay", "", "not before this long from now")
	flags.Var((*listFlag)(&f.resources), "resource", "what it holds while it runs, as cpu=2; repeatable")
	flags.StringArrayVar(&f.labels, "label", nil, "label as key=value; repeatable")
	flags.StringArrayVar(&f.require, "require", nil, "run only on nodes with this label, as gpu=a100; several values of one label: any of them; repeatable")
	flags.StringArrayVar(&f.prefer, "prefer", nil, "the same, but others will do while such nodes have no room; repeatable")
	flags.StringVar(&f.s.StickyKey, "sticky", "", "tasks with this key run on one node while that lives")
	flags.StringVar(&f.s.Timeout, "timeout", "", "bound of one attempt")
	flags.StringVar(&f.deadline, "deadline", "", "bound of the whole task, RFC 3339")
	flags.StringVar(&f.s.Late, "late", "", "what becomes of it if it cannot be expected to meet its deadline: refuse or allow (refuse)")
	flags.IntVar(&f.s.MaxAttempts, "max-attempts", 0, "attempts (3)")
	flags.StringVar(&f.s.ConcurrencyKey, "concurrency-key", "", "tasks with this key run at most --concurrency-limit at once, in the whole cluster")
	flags.IntVar(&f.s.ConcurrencyLimit, "concurrency-limit", 0, "so many with its key at once (1)")
	flags.StringVar(&f.s.RateKey, "rate-key", "", "tasks with this key start no faster than --rate, in the whole cluster")
	flags.StringVar(&f.s.Rate, "rate", "", `so often with its key, as "10/s", "30/m" or "5/h"`)
	flags.IntVar(&f.s.RateBurst, "rate-burst", 0, "so many with its key at once after a rest")
	flags.StringSliceVar(&f.s.DependsOn, "after", nil, "run after this task has succeeded; repeatable")
	flags.StringVar(&f.s.OnDependencyFailure, "after-failure", "", "what becomes of it if one of those does not succeed: cancel or run (cancel)")
	flags.StringVar(&f.cache.TTL, "cache", "", "use the result of an earlier success, and let others use its own for this long")
	flags.StringVar(&f.cache.Key, "cache-key", "", "what makes it the same task, for --cache (its payload)")
	flags.StringVar(&f.s.UniqueKey, "unique-key", "", "while a live task of this kind has it, the first one is returned")
}

func (f *submission) read() (transport.Submission, error) {
	var err error
	if f.s.RunAt, err = timeFlag("run-at", f.runAt); err != nil {
		return f.s, err
	}
	if f.s.Deadline, err = timeFlag("deadline", f.deadline); err != nil {
		return f.s, err
	}
	if f.resources != "" {
		if f.s.Resources, err = parseResources(f.resources); err != nil {
			return f.s, usage("--resource %s", err)
		}
	}
	if f.cache != (transport.CacheSubmission{}) {
		if f.cache.TTL == "" {
			return f.s, usage("--cache-key needs --cache, such as --cache 1h")
		}
		f.s.Cache = &f.cache
	}
	if f.s.Placement, err = placement(f.require, f.prefer); err != nil {
		return f.s, err
	}
	for _, l := range f.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			return f.s, usage("--label %q: want key=value", l)
		}
		if f.s.Labels == nil {
			f.s.Labels = map[string]string{}
		}
		f.s.Labels[k] = v
	}
	return f.s, nil
}

// placement reads what is asked of nodes; nil where nothing is.
func placement(require, prefer []string) (*transport.Placement, error) {
	if len(require)+len(prefer) == 0 {
		return nil, nil
	}
	terms := func(flag string, all []string) (map[string]transport.Values, error) {
		m := map[string]transport.Values{}
		for _, l := range all {
			key, value, ok := strings.Cut(l, "=")
			if !ok {
				return nil, usage("--%s %q: want key=value", flag, l)
			}
			m[key] = append(m[key], value)
		}
		return m, nil
	}
	p := &transport.Placement{}
	var err1, err2 error
	p.Require, err1 = terms("require", require)
	p.Prefer, err2 = terms("prefer", prefer)
	return p, errors.Join(err1, err2)
}

func submitCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var f submission
	var follow, wait bool
	cmd := &cobra.Command{
		Use:   "submit KIND [PAYLOAD]",
		Short: "Submit one task",
		Long: `Submit one task. The payload is JSON, @file or - for standard input.
With --follow its events are shown until it has ended; with --wait only its end.`,
		Example: `  troupe submit demo.sleep '{"duration":"5s","steps":50}' --follow
  troupe submit demo.echo @payload.json --priority 10 --label team=data`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage("want KIND [PAYLOAD]; see: %s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.read()
			if err != nil {
				return err
			}
			s.Kind = args[0]
			if len(args) == 2 {
				if s.Payload, err = readPayload(args[1], t.in); err != nil {
					return err
				}
			}
			return r.submit(cmd.Context(), s, follow, wait)
		},
	}
	r.flags(cmd)
	f.flags(cmd)
	cmd.Flags().BoolVar(&follow, "follow", false, "show its events until it has ended")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it has ended, and print it")
	return cmd
}

func (r *remote) submit(ctx context.Context, s transport.Submission, follow, wait bool) (err error) {
	ctx, stopSignals := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stopSignals()
	if !follow && !wait {
		c, err := r.client()
		if err != nil {
			return err
		}
		v, created, err := c.Submit(ctx, s)
		if err != nil {
			return err
		}
		return r.submitted(v, created)
	}
	c, stop, err := r.orEmbedded(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := stop(); err == nil {
			err = stopErr
		}
	}()
	v, _, err := c.Submit(ctx, s)
	if err != nil {
		return err
	}
	if wait && !follow {
		return r.wait(ctx, c, v.ID)
	}
	final, err := r.follow(ctx, c, v.ID)
	if err != nil {
		return err
	}
	return r.verdict(final)
}

func (r *remote) submitted(v transport.Task, created bool) error {
	if r.json {
		return r.printJSON(v)
	}
	if !created {
		fmt.Fprintf(r.err, "troupe: there was one already\n")
	}
	fmt.Fprintln(r.out, v.ID)
	if r.outTTY {
		fmt.Fprintf(r.err, "follow it with: troupe watch %s\n", v.ID)
	}
	return nil
}
