package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

func batchCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var follow bool
	var call, payload string
	cmd := &cobra.Command{
		Use:   "batch FILE.ndjson",
		Short: "Submit every line of a file",
		Long: `Submit every line of a file, or of standard input (-): one task as JSON a line,
as POST /v1/tasks takes it. Lines that are refused are told with their number and
do not stop the others; the exit status is then 1.`,
		Args: exactly(1, "one FILE, or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := t.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usage("%v", err)
				}
				defer f.Close()
				in = f
			}
			var callback *transport.Submission
			if call != "" {
				raw, err := readPayload(cmp.Or(payload, "null"), t.in)
				if err != nil {
					return err
				}
				callback = &transport.Submission{Kind: call, Payload: raw}
			} else if payload != "" {
				return usage("--callback-payload needs --callback KIND")
			}
			return r.batch(cmd.Context(), in, callback, follow)
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&follow, "follow", false, "wait until all of them have ended")
	cmd.Flags().StringVar(&call, "callback", "", "submit a task of this kind that runs when all of them have ended")
	cmd.Flags().StringVar(&payload, "callback-payload", "", "its payload: JSON or @file")
	return cmd
}

func (r *remote) batch(ctx context.Context, in io.Reader, callback *transport.Submission, follow bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := r.client()
	if err != nil {
		return err
	}
	stored := 0
	last := time.Now()
	summary, err := c.Batch(ctx, in, func(l transport.BatchLine) {
		switch {
		case r.json:
			_ = writeLine(r.out, l)
		case l.Error != nil:
			fmt.Fprintf(r.err, "\r\x1b[Ktroupe: line %d: %s\n", l.Line, l.Error)
		}
		if l.ID != "" {
			stored++
		}
		if r.errTTY && time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			fmt.Fprintf(r.err, "\r\x1b[K%d stored", stored)
		}
	})
	if r.errTTY {
		fmt.Fprint(r.err, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	if r.json {
		if err := writeLine(r.out, summary); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(r.out, "batch %s: %d stored, %d refused\n", summary.BatchID, summary.Accepted, summary.Refused)
	}
	if summary.Error != nil {
		return summary.Error
	}
	if callback != nil && summary.Accepted > 0 {
		v, err := c.SetCallback(ctx, summary.BatchID, *callback)
		if err != nil {
			return err
		}
		if !r.json {
			fmt.Fprintf(r.out, "callback %s\n", v.ID)
		} else if err := writeLine(r.out, map[string]string{"batch_id": summary.BatchID, "callback": v.ID}); err != nil {
			return err
		}
	}
	if follow && summary.Accepted > 0 {
		if err := r.followBatch(ctx, c, summary.BatchID); err != nil {
			return err
		}
	}
	if summary.Refused > 0 {
		return &exitError{status: exitFailed}
	}
	return nil
}

// followBatch shows a batch's counts until all its tasks have ended. The feed
// tells when something moved; the counts are the server's.
func (r *remote) followBatch(ctx context.Context, c *client.Client, id string) error {
	var last time.Time
	show := newCounter(r)
	for item, err := range c.Watch(ctx, client.Topic{Batch: id}) {
		switch {
		case err != nil:
			return r.interrupted(ctx, id, err)
		case item.Kind != client.Ended && time.Since(last) < 200*time.Millisecond:
			continue
		}
		last = time.Now()
		s, err := c.BatchStatus(ctx, id)
		if err != nil {
			return r.interrupted(ctx, id, err)
		}
		if err := show(s); err != nil {
			return err
		}
		if item.Kind == client.Ended && s.Counts["succeeded"] < s.Total {
			return &exitError{status: exitFailed}
		}
	}
	return nil
}

// newCounter makes what shows how far a batch has come, each time it has.
func newCounter(r *remote) func(transport.BatchStatus) error {
	asJSON := r.json || !r.outTTY
	shown := ""
	return func(s transport.BatchStatus) error {
		ended := s.Counts["succeeded"] + s.Counts["failed"] + s.Counts["cancelled"]
		text := fmt.Sprintf("%d of %d ended, %d running, %d failed", ended, s.Total, s.Counts["running"], s.Counts["failed"])
		switch {
		case text == shown:
		case asJSON:
			return writeLine(r.out, s)
		default:
			fmt.Fprintf(r.out, "\r\x1b[K%s %s", bar(&s.Progress, 24), text)
		}
		shown = text
		if s.Done && !asJSON {
			fmt.Fprintln(r.out)
		}
		return nil
	}
}
