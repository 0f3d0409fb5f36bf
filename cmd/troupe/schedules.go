package main

import (
	"context"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

func schedulesCommand(t terminal) *cobra.Command {
	cmd := lister(t, "schedules", "Submit tasks by the clock: list, set, pause, trigger", listSchedules)
	cmd.AddCommand(
		lister(t, "ls", "List schedules", listSchedules),
		setScheduleCommand(t),
		eachSchedule(t, "show", "Show a schedule", func(ctx context.Context, r *remote, c *client.Client, name string) error {
			return r.schedule(c.Schedule(ctx, name))
		}),
		pauseScheduleCommand(t, "pause", "Have a schedule fire no more", true),
		pauseScheduleCommand(t, "resume", "Have a paused schedule fire again, from now on", false),
		eachSchedule(t, "trigger", "Submit a schedule's task now, besides its ticks", func(ctx context.Context, r *remote, c *client.Client, name string) error {
			v, err := c.Trigger(ctx, name)
			if err != nil {
				return err
			}
			return r.submitted(v, true)
		}),
		nextTicksCommand(t),
		eachSchedule(t, "rm", "Forget a schedule; tasks it has submitted stay", func(ctx context.Context, _ *remote, c *client.Client, name string) error {
			return c.DeleteSchedule(ctx, name)
		}),
	)
	return cmd
}

func listSchedules(ctx context.Context, r *remote, c *client.Client) error {
	var all transport.ScheduleList
	for q := (url.Values{"limit": {"1000"}}); ; {
		page, err := c.Schedules(ctx, q)
		if err != nil {
			return err
		}
		if all.Schedules = append(all.Schedules, page.Schedules...); page.NextCursor == "" {
			break
		}
		q.Set("cursor", page.NextCursor)
	}
	return r.table(all, "SCHEDULE\tWHEN\tKIND\tNEXT\tLAST\tFIRED", func(w *tabwriter.Writer) {
		for _, s := range all.Schedules {
			next := when(s.NextAt)
			if s.Paused {
				next = "paused"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", s.Name, timing(s), s.Task.Kind, next, when(s.LastAt), s.Fired)
		}
	})
}

// timing says in a few words when a schedule fires.
func timing(s transport.Schedule) string {
	if s.Every != "" {
		return "every " + s.Every
	}
	return s.Cron + " " + s.TimeZone
}

func when(at *task.Time) string {
	if at == nil {
		return "-"
	}
	return time.Time(*at).Format(time.RFC3339)
}

func eachSchedule(t terminal, use, short string, do func(ctx context.Context, r *remote, c *client.Client, name string) error) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: use + " SCHEDULE", Short: short, Args: exactly(1, "one SCHEDULE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			return do(cmd.Context(), r, c, args[0])
		},
	}
	r.flags(cmd)
	return cmd
}

func pauseScheduleCommand(t terminal, use, short string, paused bool) *cobra.Command {
	return eachSchedule(t, use, short, func(ctx context.Context, r *remote, c *client.Client, name string) error {
		return r.schedule(c.ChangeSchedule(ctx, name, transport.ScheduleChange{Paused: &paused}))
	})
}

// schedule prints one.
func (r *remote) schedule(s transport.Schedule, err error) error {
	switch {
	case err != nil:
		return err
	case r.json:
		return r.printJSON(s)
	}
	fmt.Fprintf(r.out, "%s %s kind=%s catch_up=%s overlap=%s paused=%t next=%s last=%s fired=%d\n",
		s.Name, timing(s), s.Task.Kind, s.CatchUp, s.Overlap, s.Paused, when(s.NextAt), when(s.LastAt), s.Fired)
	return nil
}

func nextTicksCommand(t terminal) *cobra.Command {
	var count int
	cmd := eachSchedule(t, "next", "Say when a schedule fires next", func(ctx context.Context, r *remote, c *client.Client, name string) error {
		ticks, err := c.Ticks(ctx, name, count)
		switch {
		case err != nil:
			return err
		case r.json:
			return r.printJSON(ticks)
		}
		for _, at := range ticks.Ticks {
			fmt.Fprintln(r.out, time.Time(at).Format(time.RFC3339))
		}
		return nil
	})
	cmd.Flags().IntVar(&count, "count", 10, "so many times, at most 100")
	return cmd
}

func setScheduleCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var f submission
	var body transport.ScheduleBody
	var starts, ends string
	cmd := &cobra.Command{
		Use:   "set SCHEDULE KIND [PAYLOAD]",
		Short: "Make a schedule, or another one of that of its name",
		Example: `  troupe schedules set morning-report report.make '{"team":"data"}' --cron '0 9 * * MON-FRI' --zone Europe/Berlin
  troupe schedules set heartbeat http.get '{"url":"http://localhost:8080/"}' --every 15m --overlap skip`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return usage("want SCHEDULE KIND [PAYLOAD]; see: %s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if body.Task, err = f.read(); err != nil {
				return err
			}
			body.Name, body.Task.Kind = args[0], args[1]
			if len(args) == 3 {
				if body.Task.Payload, err = readPayload(args[2], t.in); err != nil {
					return err
				}
			}
			if body.StartsAt, err = timeFlag("starts", starts); err != nil {
				return err
			}
			if body.EndsAt, err = timeFlag("ends", ends); err != nil {
				return err
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			return r.schedule(c.SetSchedule(cmd.Context(), body))
		},
	}
	r.flags(cmd)
	f.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&body.Cron, "cron", "", `a cron expression, as "0 9 * * MON-FRI"`)
	flags.StringVar(&body.TimeZone, "zone", "", "the time zone of --cron, as Europe/Berlin (UTC)")
	flags.StringVar(&body.Every, "every", "", "instead of --cron: every so long, as 15m")
	flags.StringVar(&body.CatchUp, "catch-up", "", "which missed ticks fire: skip, one or all (one)")
	flags.IntVar(&body.CatchUpLimit, "catch-up-limit", 0, "at most so many, for --catch-up all (100)")
	flags.StringVar(&body.Overlap, "overlap", "", "whether a tick fires while the task before lives: allow or skip (allow)")
	flags.BoolVar(&body.Paused, "paused", false, "do not fire yet")
	flags.StringVar(&starts, "starts", "", "no tick before this time, RFC 3339")
	flags.StringVar(&ends, "ends", "", "no tick after this time, RFC 3339")
	return cmd
}

// timeFlag reads a flag that is a time; empty is none.
func timeFlag(name, text string) (*task.Time, error) {
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, usage("--%s %q: want a time such as 2026-12-24T18:00:00Z", name, text)
	}
	return (*task.Time)(&t), nil
}
