package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
		return r.table(v, "QUEUE\tPAUSED\tCONCURRENCY\tRATE\tWEIGHT\tPOLICY\tPLACEMENT\tMAX\tSCHEDULED\tQUEUED\tRUNNING\tSUCCEEDED\tFAILED\tCANCELLED", func(w *tabwriter.Writer) {
			for _, q := range v.Queues {
				n := q.Counts
				fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%g\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", q.Name, q.Paused, bound(q.Concurrency),
					cmp.Or(q.Rate, "-"), q.Weight, q.Policy, q.Placement, bound(q.MaxQueued),
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
	set := eachQueue(t, "set", "Bound a queue, and say how its tasks start", queueChange)
	set.Flags().Int("concurrency", 0, "so many at once in the whole cluster; 0 for any number")
	set.Flags().String("rate", "", `so often, as "100/s", "30/m" or "5/h"; "" for as often as they can`)
	set.Flags().Int("burst", 0, "so many at once after a rest; 0 for a tenth of a second's worth of the rate")
	set.Flags().Float64("weight", 1, "its share of the starts beside other queues")
	set.Flags().String("policy", "priority-fifo", "the order of its tasks: priority-fifo, shortest-area or deadline")
	set.Flags().String("placement", "spread", "how its tasks go to nodes: spread or pack")
	set.Flags().Int("max-queued", 0, "so many of its tasks may wait; 0 for as many as the server lets")
	cmd.AddCommand(set)
	return cmd
}

// bound shows a bound that is none where it is 0.
func bound(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// queueChange reads the flags that were given.
func queueChange(cmd *cobra.Command) (transport.QueueChange, error) {
	f := cmd.Flags()
	c := transport.QueueChange{
		Concurrency: given(f, "concurrency", f.GetInt), Rate: given(f, "rate", f.GetString), Burst: given(f, "burst", f.GetInt),
		Weight: given(f, "weight", f.GetFloat64), Policy: given(f, "policy", f.GetString),
		Placement: given(f, "placement", f.GetString), MaxQueued: given(f, "max-queued", f.GetInt),
	}
	if c == (transport.QueueChange{}) {
		return c, usage("want a flag that says what to set; see: %s --help", cmd.CommandPath())
	}
	return c, nil
}

// given reads a flag if it was given.
func given[V any](f *pflag.FlagSet, name string, get func(string) (V, error)) *V {
	if !f.Changed(name) {
		return nil
	}
	v, _ := get(name) // it is of that type
	return &v
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
			fmt.Fprintf(r.out, "%s paused=%t concurrency=%d rate=%s burst=%d weight=%g policy=%s placement=%s max_queued=%d\n",
				q.Name, q.Paused, q.Concurrency, q.Rate, q.Burst, q.Weight, q.Policy, q.Placement, q.MaxQueued)
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}

func workersCommand(t terminal) *cobra.Command {
	cmd := lister(t, "workers", "List what runs tasks", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Workers(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "WORKER\tID\tSTATE\tNODE\tSLOTS\tRUNNING\tUP\tKINDS", func(w *tabwriter.Writer) {
			for _, x := range v.Workers {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", line(x.Name), x.ID, x.State, line(x.Node), x.Slots, x.Running, ago(time.Time(x.Since)), strings.Join(x.Kinds, " "))
			}
		})
	})
	cmd.AddCommand(drainCommand(t))
	return cmd
}

func drainCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: "drain WORKER", Short: "Have a worker take no more tasks and finish those it has", Args: exactly(1, "one WORKER, by its id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			return c.DrainWorker(cmd.Context(), args[0])
		},
	}
	r.flags(cmd)
	return cmd
}

func nodesCommand(t terminal) *cobra.Command {
	return lister(t, "nodes", "List nodes", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "NODE\tINCARNATION\tADDRESS\tUP\tSEEN\tLEFT\tLABELS", func(w *tabwriter.Writer) {
			for _, n := range v.Nodes {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s ago\t%t\t%s\n", line(n.Name), n.Incarnation, line(n.Address), ago(time.Time(n.StartedAt)), ago(time.Time(n.SeenAt)), n.Left, labelText(n.Labels))
			}
		})
	})
}

// labelText says labels in one line.
func labelText(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, line(key+"="+labels[key]))
	}
	return strings.Join(parts, " ")
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
