package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// lister makes a command that shows a list.
func lister(t terminal, use, short string, list func(ctx context.Context, r *remote, c *client.Client) error) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			return list(cmd.Context(), r, c)
		},
	}
	r.flags(cmd)
	return cmd
}

func queuesCommand(t terminal) *cobra.Command {
	cmd := lister(t, "queues", "List queues; pause and resume them", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Queues(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "QUEUE\tPAUSED\tCONCURRENCY\tRATE\tSCHEDULED\tQUEUED\tRUNNING\tSUCCEEDED\tFAILED\tCANCELLED", func(w *tabwriter.Writer) {
			for _, q := range v.Queues {
				n := q.Counts
				most := "-"
				if q.Concurrency > 0 {
					most = strconv.Itoa(q.Concurrency)
				}
				fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", q.Name, q.Paused, most, cmp.Or(q.Rate, "-"),
					n["scheduled"], n["queued"], n["running"], n["succeeded"], n["failed"], n["cancelled"])
			}
		})
	})
	for use, paused := range map[string]bool{"pause": true, "resume": false} {
		short := "Let a queue start tasks again"
		if paused {
			short = "Keep a queue from starting tasks"
		}
		cmd.AddCommand(eachQueue(t, use, short, func(*cobra.Command) (transport.QueueChange, error) {
			return transport.QueueChange{Paused: &paused}, nil
		}))
	}
	set := eachQueue(t, "set", "Bound how many tasks of a queue run at once, and how often they start", queueChange)
	set.Flags().Int("concurrency", 0, "so many at once in the whole cluster; 0 for any number")
	set.Flags().String("rate", "", `so often, as "100/s", "30/m" or "5/h"; "" for as often as they can`)
	cmd.AddCommand(set)
	return cmd
}

// queueChange reads the flags that were given.
func queueChange(cmd *cobra.Command) (c transport.QueueChange, err error) {
	if cmd.Flags().Changed("concurrency") {
		n, _ := cmd.Flags().GetInt("concurrency")
		c.Concurrency = &n
	}
	if cmd.Flags().Changed("rate") {
		rate, _ := cmd.Flags().GetString("rate")
		c.Rate = &rate
	}
	if c == (transport.QueueChange{}) {
		return c, usage("want --concurrency or --rate; see: %s --help", cmd.CommandPath())
	}
	return c, nil
}

func eachQueue(t terminal, use, short string, change func(*cobra.Command) (transport.QueueChange, error)) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: use + " QUEUE", Short: short, Args: exactly(1, "one QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := change(cmd)
			if err != nil {
				return err
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			q, err := c.SetQueue(cmd.Context(), args[0], to)
			if err != nil {
				return err
			}
			if r.json {
				return r.printJSON(q)
			}
			fmt.Fprintf(r.out, "%s paused=%t concurrency=%d rate=%s\n", q.Name, q.Paused, q.Concurrency, q.Rate)
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}

func workersCommand(t terminal) *cobra.Command {
	return lister(t, "workers", "List what runs tasks", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Workers(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "WORKER\tNODE\tSLOTS\tRUNNING\tUP\tKINDS", func(w *tabwriter.Writer) {
			for _, x := range v.Workers {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", line(x.Name), line(x.Node), x.Slots, x.Running, ago(time.Time(x.Since)), strings.Join(x.Kinds, " "))
			}
		})
	})
}

func nodesCommand(t terminal) *cobra.Command {
	return lister(t, "nodes", "List nodes", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "NODE\tINCARNATION\tADDRESS\tUP\tSEEN\tLEFT", func(w *tabwriter.Writer) {
			for _, n := range v.Nodes {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s ago\t%t\n", line(n.Name), n.Incarnation, line(n.Address), ago(time.Time(n.StartedAt)), ago(time.Time(n.SeenAt)), n.Left)
			}
		})
	})
}

func resourcesCommand(t terminal) *cobra.Command {
	cmd := lister(t, "resources", "Show resources and what is taken of them; set those of the whole cluster", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Resources(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "RESOURCE\tOF\tUSED\tCAPACITY\t", func(w *tabwriter.Writer) {
			for _, x := range v.Resources {
				share := 0.0
				if x.Capacity > 0 {
					share = min(1, float64(x.Used)/float64(x.Capacity))
				}
				of := "nodes"
				if x.Cluster != nil {
					of = "cluster"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.Name, of, x.Used, x.Capacity, bar(&share, 20))
			}
		})
	})
	cmd.AddCommand(eachResource(t, "set NAME QUANTITY", "Set how much there is of a resource in the whole cluster", 2,
		func(ctx context.Context, c *client.Client, args []string) (transport.Resource, error) {
			q, err := task.ParseQuantity(args[1])
			if err != nil {
				return transport.Resource{}, usage("%q: want a quantity such as 20 or 8Gi", args[1])
			}
			return c.SetResource(ctx, args[0], q)
		}))
	cmd.AddCommand(eachResource(t, "rm NAME", "Make a resource none of the whole cluster's", 1,
		func(ctx context.Context, c *client.Client, args []string) (transport.Resource, error) {
			return transport.Resource{Name: args[0]}, c.RemoveResource(ctx, args[0])
		}))
	return cmd
}

func eachResource(t terminal, use, short string, args int,
	do func(context.Context, *client.Client, []string) (transport.Resource, error),
) *cobra.Command {
	r := &remote{terminal: t}
	_, want, _ := strings.Cut(use, " ")
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly(args, want),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			v, err := do(cmd.Context(), c, args)
			switch {
			case err != nil:
				return err
			case r.json:
				return r.printJSON(v)
			case v.Cluster != nil:
				fmt.Fprintf(r.out, "%s capacity=%s used=%s\n", v.Name, v.Cluster.Capacity, v.Cluster.Used)
			}
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}
