package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// healthCommand is the probe of a container whose image has nothing but this
// program.
func healthCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: "health", Short: "Say by the exit status whether the server takes tasks", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			const patience = 5 * time.Second // the server's own is 2 s
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			return c.Ready(ctx)
		},
	}
	r.flags(cmd)
	return cmd
}
