package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

func watchCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var batch, queue, after string
	cmd := &cobra.Command{
		Use:   "watch [TASK…]",
		Short: "Follow tasks live",
		Long: `Follow tasks live, to their end; without any, everything that happens. On a
terminal each task is a line with its progress; otherwise, and with --json, every
event is a line of JSON. It goes on by itself when the server is restarted, and
neither loses nor repeats an event. The exit status is 1 if a task did not succeed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var topics []client.Topic
			for _, id := range args {
				topics = append(topics, client.Topic{Task: id, After: after})
			}
			switch {
			case len(args) > 0 && (batch != "" || queue != ""), batch != "" && queue != "":
				return usage("name tasks, or --batch, or --queue")
			case after != "" && len(args) != 1:
				return usage("--after goes with one task")
			case batch != "":
				topics = append(topics, client.Topic{Batch: batch})
			case queue != "":
				topics = append(topics, client.Topic{Queue: queue})
			case len(args) == 0:
				topics = append(topics, client.Topic{Filter: &client.Filter{}})
			}
			return r.watch(cmd.Context(), topics)
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&batch, "batch", "", "follow the tasks of a batch")
	cmd.Flags().StringVar(&queue, "queue", "", "follow the tasks of a queue")
	cmd.Flags().StringVar(&after, "after", "", "go on behind this cursor")
	return cmd
}

func (r *remote) watch(ctx context.Context, topics []client.Topic) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := r.client()
	if err != nil {
		return err
	}
	asJSON := r.json || !r.outTTY
	board := &board{out: r.out, width: r.width, rows: map[string]*row{}, limit: 30}
	failed := false
	for item, err := range c.Watch(ctx, topics...) {
		switch {
		case err != nil && ctx.Err() != nil:
			return &exitError{status: exitInterrupted}
		case err != nil && errors.Is(err, client.ErrUnreachable):
			return err
		case err != nil:
			return err
		case item.Kind == client.Reconnecting:
			fmt.Fprintln(r.err, "troupe: lost the server; reconnecting")
			board.lines = 0 // what stands above stays
			continue
		case item.Kind == client.Gap:
			fmt.Fprintf(r.err, "troupe: older events of %s are gone; going on at %s\n", item.Topic, item.First)
			continue
		}
		if item.Kind == client.Happened {
			failed = failed || notSucceeded(item.Event)
			if asJSON {
				if err := writeLine(r.out, item.Event); err != nil {
					return err
				}
				continue
			}
		}
		if !asJSON {
			board.take(item)
			if v := board.rows[item.Event.Task]; v != nil && v.kind == "" { // came after the view of the start
				if t, err := c.Get(ctx, v.id); err == nil {
					v.kind = t.Kind
				}
			}
			board.draw()
		}
	}
	if ctx.Err() != nil {
		return &exitError{status: exitInterrupted}
	}
	if failed {
		return &exitError{status: exitFailed}
	}
	return nil
}

// notSucceeded says whether an event is an end other than success.
func notSucceeded(e transport.Event) bool {
	var d task.StateData
	if e.Type != task.EventState || json.Unmarshal(e.Data, &d) != nil {
		return false
	}
	return d.State.Terminal() && d.State != task.Succeeded
}

// board is the live view: a line a task, the newest below, redrawn in place.
type board struct {
	out   io.Writer
	width func() int
	rows  map[string]*row
	order []string
	limit int
	lines int // on the terminal now
}

// row is one task on the board.
type row struct {
	id, kind string
	state    task.State
	fraction *float64
	message  string
	started  time.Time
	ended    time.Time
}

func (b *board) row(id string) *row {
	v := b.rows[id]
	if v == nil {
		v = &row{id: id, state: task.Queued}
		b.rows[id] = v
		b.order = append(b.order, id)
		if len(b.order) > b.limit {
			b.forget()
		}
	}
	return v
}

// forget drops the oldest line that has ended, or the oldest.
func (b *board) forget() {
	at := slices.IndexFunc(b.order, func(id string) bool { return b.rows[id].state.Terminal() })
	at = max(at, 0)
	delete(b.rows, b.order[at])
	b.order = slices.Delete(b.order, at, at+1)
}

func (b *board) take(item client.Item) {
	tasks := slices.Clone(item.Tasks)
	slices.Reverse(tasks) // they come newest first
	if item.Task != nil {
		tasks = append(tasks, *item.Task)
	}
	for _, t := range tasks {
		v := b.row(t.ID)
		v.kind, v.state = t.Kind, t.State
		if t.Progress != nil {
			v.fraction, v.message = t.Progress.Fraction, t.Progress.Message
		}
		if t.StartedAt != nil {
			v.started = time.Time(*t.StartedAt)
		}
		if t.FinishedAt != nil {
			v.ended = time.Time(*t.FinishedAt)
		}
	}
	if item.Kind == client.Happened {
		b.event(item.Event)
	}
}

func (b *board) event(e transport.Event) {
	v := b.row(e.Task)
	switch e.Type {
	case task.EventProgress:
		var d task.ProgressData
		if json.Unmarshal(e.Data, &d) == nil {
			v.fraction, v.message = d.Fraction, d.Message
		}
	case task.EventState:
		var d task.StateData
		if json.Unmarshal(e.Data, &d) != nil {
			return
		}
		v.state = d.State
		switch {
		case d.State == task.Running:
			v.started, v.fraction, v.message = time.Time(e.At), nil, ""
		case d.State.Terminal():
			v.ended = time.Time(e.At)
			if d.Error != nil {
				v.message = d.Error.Code + ": " + d.Error.Message
			}
		}
	default: // a line has no room for output and logs
	}
}

// draw moves up over what it drew last and writes every line anew.
func (b *board) draw() {
	var s strings.Builder
	if b.lines > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.lines)
	}
	width := b.width()
	for _, id := range b.order {
		fmt.Fprintf(&s, "\r\x1b[K%s\n", clip(b.rows[id].text(), width-1))
	}
	s.WriteString("\x1b[J")
	b.lines = len(b.order)
	_, _ = io.WriteString(b.out, s.String())
}

func (v *row) text() string {
	elapsed := ""
	if !v.started.IsZero() {
		end := v.ended
		if end.IsZero() {
			end = time.Now()
		}
		elapsed = end.Sub(v.started).Round(100 * time.Millisecond).String()
	}
	fraction := v.fraction
	if one := 1.0; v.state == task.Succeeded {
		fraction = &one
	}
	left := ""
	if v.state == task.Running {
		left = remaining(v.started, v.fraction)
	}
	return fmt.Sprintf("%-12s %s  %s %-9s %s %4s %7s  %s %s",
		clip(v.kind, 12), short(v.id), mark(v.state), v.state, bar(fraction, 20), percent(fraction), elapsed, left, line(v.message))
}

// short is enough of an id to tell tasks apart: the end of a UUIDv7 is random.
func short(id string) string {
	if len(id) < 36 {
		return id
	}
	return id[:8] + "…" + id[32:]
}

func mark(s task.State) string {
	switch s {
	case task.Succeeded:
		return "✓"
	case task.Failed:
		return "✗"
	case task.Cancelled:
		return "–"
	case task.Running:
		return "▶"
	default:
		return "·"
	}
}
