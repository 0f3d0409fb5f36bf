package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func signalCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use:   "signal TASK NAME [PAYLOAD]",
		Short: "Send a task a signal that it waits for, or will",
		Long: `Send a task a signal that it waits for, or will. The payload is JSON, @file or -
for standard input; null where there is none.`,
		Example: `  troupe signal 0198f2c1-… approve '{"by":"ada"}'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return usage("want TASK NAME [PAYLOAD]; see: %s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var payload json.RawMessage
			if len(args) == 3 {
				var err error
				if payload, err = readPayload(args[2], t.in); err != nil {
					return err
				}
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			if err := c.Signal(cmd.Context(), args[0], args[1], payload); err != nil {
				return err
			}
			if r.json {
				return r.printJSON(map[string]string{"task": args[0], "signal": args[1]})
			}
			fmt.Fprintln(r.out, args[0], "was sent", line(args[1]))
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}
