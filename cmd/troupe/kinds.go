package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

func kindsCommand(t terminal) *cobra.Command {
	show := func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Kinds(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "KIND\tSERVED\tCONCURRENCY\tRETRY BUDGET\tBREAKER\tOPEN", func(w *tabwriter.Writer) {
			for _, k := range v.Kinds {
				fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%s\t%s\n", k.Name, k.Served, bound(k.Concurrency), budget(k), breaker(k), tripped(k))
			}
		})
	}
	cmd := lister(t, "kinds", "List kinds of tasks; bound them", show)
	cmd.AddCommand(lister(t, "ls", "List kinds of tasks", show), setKindCommand(t))
	return cmd
}

func setKindCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var fuse transport.Breaker
	cmd := &cobra.Command{
		Use: "set KIND", Short: "Bound the tasks of a kind, whatever their queues", Args: exactly(1, "one KIND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			change := transport.KindChange{Concurrency: given(f, "concurrency", f.GetInt), RetryBudget: given(f, "retry-budget", f.GetFloat64)}
			if f.Changed("breaker") || f.Changed("breaker-window") || f.Changed("breaker-open") {
				change.Breaker = &fuse
			}
			if change == (transport.KindChange{}) {
				return usage("want a flag that says what to set; see: %s --help", cmd.CommandPath())
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			k, err := c.SetKind(cmd.Context(), args[0], change)
			if err != nil {
				return err
			}
			if r.json {
				return r.printJSON(k)
			}
			fmt.Fprintf(r.out, "%s concurrency=%d retry_budget=%s breaker=%s\n", k.Name, k.Concurrency, budget(k), breaker(k))
			return nil
		},
	}
	cmd.Flags().Int("concurrency", 0, "so many at once in the whole cluster; 0 for any number")
	cmd.Flags().Float64("retry-budget", 0, "so many retries for each first attempt, from 0 to 1; further ones are put off; 0 for any number")
	cmd.Flags().IntVar(&fuse.Failures, "breaker", 0, "so many failures in a row with one error code stop its starts for a while; 0 for never")
	cmd.Flags().StringVar(&fuse.Window, "breaker-window", "", "of --breaker: within this time (1m)")
	cmd.Flags().StringVar(&fuse.OpenFor, "breaker-open", "", "of --breaker: for so long (30s)")
	r.flags(cmd)
	return cmd
}

func budget(k transport.Kind) string {
	if k.RetryBudget == 0 {
		return "-"
	}
	return strconv.FormatFloat(k.RetryBudget, 'g', -1, 64)
}

// breaker says when a kind's tasks stop starting.
func breaker(k transport.Kind) string {
	if k.Breaker == nil {
		return "-"
	}
	return fmt.Sprintf("%d in %s for %s", k.Breaker.Failures, k.Breaker.Window, k.Breaker.OpenFor)
}

// tripped says where they have stopped.
func tripped(k transport.Kind) string {
	var nodes []string
	for _, t := range k.Tripped {
		nodes = append(nodes, fmt.Sprintf("%s (%s)", line(t.Node), line(t.Code)))
	}
	return cmp.Or(strings.Join(nodes, ", "), "-")
}
