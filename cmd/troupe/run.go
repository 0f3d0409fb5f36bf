package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

func runCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var f submission
	var raw bool
	var dir string
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD [ARG…]",
		Short: "Run a command as a task and follow it",
		Long: `Run a command as a task of the kind exec and follow it: its output appears live
and its exit status becomes this command's. Off a terminal the events are printed
as NDJSON; --raw prints the command's own output instead. Ctrl-C asks whether to
cancel the task or to leave it running.

Where no server answers at the default address and none was named, a node is
started for as long as the task takes.`,
		Example: `  troupe run -- go test ./...
  troupe run --resource cpu=2 --timeout 10m -- make`,
		Args: atLeast(1, "a command behind --"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.read()
			if err != nil {
				return err
			}
			if dir == "" {
				if dir, err = os.Getwd(); err != nil {
					return fmt.Errorf("find the current directory: %w", err)
				}
			}
			payload, err := json.Marshal(map[string]any{"command": args, "dir": dir})
			if err != nil {
				return err
			}
			s.Kind, s.Payload = "exec", payload
			s.MaxAttempts = cmp.Or(s.MaxAttempts, 1)
			return r.run(cmd.Context(), s, raw)
		},
	}
	r.flags(cmd)
	f.flags(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "print the command's output as it is, also off a terminal")
	cmd.Flags().StringVar(&dir, "dir", "", "directory to run it in; the current one")
	return cmd
}

// run submits a command, follows it and ends as it ends.
func (r *remote) run(ctx context.Context, s transport.Submission, raw bool) (err error) {
	c, stop, err := r.orEmbedded(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := stop(); err == nil {
			err = stopErr
		}
	}()
	if err := r.canExec(ctx, c); err != nil {
		return err
	}
	v, _, err := c.Submit(ctx, s)
	if err != nil {
		return err
	}
	followCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	go func() {
		select {
		case sig := <-interrupts:
			r.askCancel(ctx, c, v.ID, sig == syscall.SIGINT && r.inTTY, interrupts)
			cancel()
		case <-followCtx.Done():
		}
	}()
	if err := r.followCommand(followCtx, c, v.ID, raw); err != nil {
		return err
	}
	if ctx.Err() == nil && followCtx.Err() != nil {
		return &exitError{status: exitInterrupted}
	}
	final, err := c.Get(ctx, v.ID)
	if err != nil {
		return err
	}
	return r.commandVerdict(final)
}

// canExec refuses at once what would wait for ever.
func (r *remote) canExec(ctx context.Context, c *client.Client) error {
	workers, err := c.Workers(ctx)
	if err != nil {
		return err
	}
	for _, w := range workers.Workers {
		if slices.Contains(w.Kinds, "exec") {
			return nil
		}
	}
	return &exitError{status: exitFailed, message: "the server at " + c.Server() + " does not run commands\n  start it with: troupe serve --allow-exec"}
}

func (r *remote) followCommand(ctx context.Context, c *client.Client, id string, raw bool) error {
	asJSON := r.json || !r.outTTY && !raw
	show := &eventPrinter{out: r.out, err: r.err, started: time.Now(), quiet: true, raw: true}
	for item, err := range c.Watch(ctx, client.Topic{Task: id}) {
		switch {
		case err != nil && ctx.Err() != nil:
			return nil // interrupted: the caller knows
		case err != nil:
			return err
		case item.Kind == client.Happened && asJSON:
			if err := writeLine(r.out, item.Event); err != nil {
				return err
			}
		case item.Kind == client.Happened:
			show.event(item.Event)
		case item.Kind == client.Reconnecting:
			fmt.Fprintln(r.err, "troupe: lost the server; reconnecting")
		}
	}
	return nil
}

// askCancel is what Ctrl-C does: ask whether the task shall go, too. Without a
// person to ask it is left running.
func (r *remote) askCancel(ctx context.Context, c *client.Client, id string, ask bool, again <-chan os.Signal) {
	leave := func() {
		fmt.Fprintf(r.err, "\ntroupe: the task goes on; follow it with: troupe watch %s\n", id)
	}
	if !ask {
		leave()
		return
	}
	fmt.Fprint(r.err, "\ncancel the task? [y/N] (Ctrl-C again leaves it running) ")
	answers := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(r.in).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(text))
	}()
	select {
	case a := <-answers:
		if a != "y" && a != "yes" {
			leave()
			return
		}
	case <-again:
		leave()
		return
	}
	if _, err := c.Cancel(ctx, id, "interrupted"); err != nil {
		fmt.Fprintln(r.err, "troupe: "+describe(err))
		return
	}
	fmt.Fprintln(r.err, "troupe: cancelled")
}

// commandVerdict ends as the command ended.
func (r *remote) commandVerdict(v transport.Task) error {
	if v.State == task.Succeeded {
		if r.outTTY && !r.json {
			fmt.Fprintf(r.err, "succeeded in %s · task %s\n", took(v), v.ID)
		}
		return nil
	}
	if v.Error == nil {
		fmt.Fprintf(r.err, "troupe: the task was %s\n", v.State)
		return &exitError{status: exitFailed}
	}
	var details struct {
		ExitStatus int `json:"exit_status"`
	}
	_ = json.Unmarshal(v.Error.Details, &details)
	if v.Error.Code != "exit_status" || r.outTTY {
		fmt.Fprintf(r.err, "troupe: %s: %s · task %s\n", line(v.Error.Code), safe(v.Error.Message), v.ID)
	}
	return &exitError{status: cmp.Or(details.ExitStatus, exitFailed)}
}
