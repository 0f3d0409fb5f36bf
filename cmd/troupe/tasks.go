package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// eachTask makes a command that does one thing to each task it is given.
func eachTask(t terminal, use, short string, do func(ctx context.Context, r *remote, c *client.Client, id string) error) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: use + " TASK…", Short: short, Args: atLeast(1, "at least one TASK"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := do(cmd.Context(), r, c, id); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}

func lsCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	q := url.Values{}
	var states, labels []string
	var kind, queue, batch string
	var limit int
	var failed bool
	cmd := &cobra.Command{
		Use: "ls", Short: "List tasks, newest first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usage("--limit must be at least 1")
			}
			if failed {
				states = append(states, "failed")
			}
			for key, values := range map[string][]string{"state": states, "label": labels, "kind": {kind}, "queue": {queue}, "batch_id": {batch}} {
				for _, v := range values {
					if v != "" {
						q.Add(key, v)
					}
				}
			}
			q.Set("limit", strconv.Itoa(min(limit, 1000)))
			c, err := r.client()
			if err != nil {
				return err
			}
			return r.list(cmd.Context(), c, q, limit)
		},
	}
	r.flags(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&states, "state", nil, "only these states")
	flags.BoolVar(&failed, "failed", false, "only failed ones")
	flags.StringVar(&kind, "kind", "", "only this kind")
	flags.StringVar(&queue, "queue", "", "only this queue")
	flags.StringVar(&batch, "batch", "", "only this batch")
	flags.StringArrayVar(&labels, "label", nil, "only with this label, as key=value; repeatable")
	flags.IntVar(&limit, "limit", 50, "how many")
	return cmd
}

func (r *remote) list(ctx context.Context, c *client.Client, q url.Values, limit int) error {
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	if !r.json {
		fmt.Fprintln(w, "ID\tKIND\tQUEUE\tSTATE\tATTEMPT\tAGE\tPROGRESS")
	}
	n := 0
	for v, err := range c.List(ctx, q) {
		if err != nil {
			return err
		}
		if r.json {
			if err := writeLine(r.out, v); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%d\t%s\t%s\n", v.ID, v.Kind, v.Queue, mark(v.State), v.State, v.Attempt, ago(time.Time(v.CreatedAt)), progress(v))
		}
		if n++; n >= limit {
			break
		}
	}
	if n == 0 && !r.json {
		fmt.Fprintln(r.err, "no tasks; make one with: troupe submit demo.sleep --follow")
		return nil
	}
	return w.Flush()
}

func progress(v transport.Task) string {
	switch {
	case v.Error != nil:
		return clip(line(v.Error.Code+": "+v.Error.Message), 50)
	case v.Progress != nil && !v.State.Terminal():
		return percent(v.Progress.Fraction) + " " + clip(line(v.Progress.Message), 40)
	default:
		return ""
	}
}

func showCommand(t terminal) *cobra.Command {
	return eachTask(t, "show", "Show a task whole", func(ctx context.Context, r *remote, c *client.Client, id string) error {
		v, err := c.Get(ctx, id)
		if err != nil {
			return err
		}
		if r.json || !r.outTTY {
			return r.printJSON(v)
		}
		w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "task\t%s\nkind\t%s\nqueue\t%s\npriority\t%d\nstate\t%s %s\nattempt\t%d of %d\n",
			v.ID, v.Kind, v.Queue, v.Priority, mark(v.State), v.State, v.Attempt, v.MaxAttempts)
		fmt.Fprintf(w, "created\t%s (%s ago)\n", time.Time(v.CreatedAt).Format(time.RFC3339), ago(time.Time(v.CreatedAt)))
		if v.FinishedAt != nil {
			fmt.Fprintf(w, "took\t%s\n", took(v))
		}
		if v.Node != "" {
			fmt.Fprintf(w, "node\t%s\n", line(v.Node))
		}
		if v.Waiting != nil {
			fmt.Fprintf(w, "waits\t%s\n", strings.TrimSpace(v.Waiting.Reason+" "+v.Waiting.Signal))
		}
		if p := progress(v); p != "" && v.Error == nil {
			fmt.Fprintf(w, "progress\t%s\n", p)
		}
		for _, e := range v.Errors {
			fmt.Fprintf(w, "attempt %d failed\t%s: %s\n", e.Attempt, line(e.Code), line(e.Message))
		}
		fmt.Fprintf(w, "payload\t%s\n", line(string(v.Payload)))
		if v.Result != nil {
			fmt.Fprintf(w, "result\t%s\n", line(string(v.Result)))
		}
		return w.Flush()
	})
}

func explainCommand(t terminal) *cobra.Command {
	return eachTask(t, "explain", "Say why a task is not running", func(ctx context.Context, r *remote, c *client.Client, id string) error {
		e, err := c.Explain(ctx, id)
		if err != nil {
			return err
		}
		if r.json {
			return r.printJSON(e)
		}
		fmt.Fprintln(r.out, line(e.Message))
		return nil
	})
}

func cancelCommand(t terminal) *cobra.Command {
	var reason string
	cmd := eachTask(t, "cancel", "Cancel tasks", func(ctx context.Context, r *remote, c *client.Client, id string) error {
		v, err := c.Cancel(ctx, id, reason)
		return r.did(v, err)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "for whoever reads the log")
	return cmd
}

func retryCommand(t terminal) *cobra.Command {
	return eachTask(t, "retry", "Start failed or cancelled tasks anew", func(ctx context.Context, r *remote, c *client.Client, id string) error {
		v, err := c.Rerun(ctx, id)
		return r.did(v, err)
	})
}

func rmCommand(t terminal) *cobra.Command {
	return eachTask(t, "rm", "Delete tasks that have ended", func(ctx context.Context, r *remote, c *client.Client, id string) error {
		if err := c.Delete(ctx, id); err != nil {
			return err
		}
		if r.json {
			return r.printJSON(map[string]string{"deleted": id})
		}
		fmt.Fprintln(r.out, id, "deleted")
		return nil
	})
}

func (r *remote) did(v transport.Task, err error) error {
	switch {
	case err != nil:
		return err
	case r.json:
		return r.printJSON(v)
	}
	fmt.Fprintln(r.out, v.ID, v.State)
	return nil
}

// table prints rows under a head, or the value itself as JSON.
func (r *remote) table(v any, head string, rows func(w *tabwriter.Writer)) error {
	if r.json {
		return r.printJSON(v)
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	rows(w)
	return w.Flush()
}
