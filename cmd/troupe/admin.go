package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

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
		return r.table(v, "QUEUE\tPAUSED\tSCHEDULED\tQUEUED\tRUNNING\tSUCCEEDED\tFAILED\tCANCELLED", func(w *tabwriter.Writer) {
			for _, q := range v.Queues {
				n := q.Counts
				fmt.Fprintf(w, "%s\t%t\t%d\t%d\t%d\t%d\t%d\t%d\n", q.Name, q.Paused,
					n["scheduled"], n["queued"], n["running"], n["succeeded"], n["failed"], n["cancelled"])
			}
		})
	})
	for use, paused := range map[string]bool{"pause": true, "resume": false} {
		short := "Let a queue start tasks again"
		if paused {
			short = "Keep a queue from starting tasks"
		}
		cmd.AddCommand(eachQueue(t, use, short, paused))
	}
	return cmd
}

func eachQueue(t terminal, use, short string, paused bool) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: use + " QUEUE", Short: short, Args: exactly(1, "one QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			q, err := c.Pause(cmd.Context(), args[0], paused)
			if err != nil {
				return err
			}
			if r.json {
				return r.printJSON(q)
			}
			fmt.Fprintf(r.out, "%s paused=%t\n", q.Name, q.Paused)
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
	return lister(t, "resources", "Show resources and what is taken of them", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Resources(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "RESOURCE\tUSED\tCAPACITY\t", func(w *tabwriter.Writer) {
			for _, x := range v.Resources {
				share := 0.0
				if x.Capacity > 0 {
					share = min(1, float64(x.Used)/float64(x.Capacity))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Name, x.Used, x.Capacity, bar(&share, 20))
			}
		})
	})
}
