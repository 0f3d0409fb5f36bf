package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// follow shows one task's events to its end, and returns it as it ended. Off a
// terminal, or with --json, they are NDJSON, one event a line.
func (r *remote) follow(ctx context.Context, c *client.Client, id string) (transport.Task, error) {
	asJSON := r.json || !r.outTTY
	show := &eventPrinter{out: r.out, err: r.err, started: time.Now(), quiet: asJSON}
	for item, err := range c.Watch(ctx, client.Topic{Task: id}) {
		if err != nil {
			return transport.Task{}, r.interrupted(ctx, id, err)
		}
		switch item.Kind {
		case client.Happened:
			if asJSON {
				if err := writeLine(r.out, item.Event); err != nil {
					return transport.Task{}, err
				}
				continue
			}
			show.event(item.Event)
		case client.Gap:
			fmt.Fprintf(r.err, "troupe: older events are gone; going on at %s\n", item.First)
		case client.Reconnecting:
			fmt.Fprintln(r.err, "troupe: lost the server; reconnecting")
		default: // what the events say too
		}
	}
	show.flush()
	if ctx.Err() != nil {
		return transport.Task{}, r.interrupted(ctx, id, ctx.Err())
	}
	return c.Get(ctx, id)
}

// interrupted tells how to go on with a task that was left running.
func (r *remote) interrupted(ctx context.Context, id string, err error) error {
	if ctx.Err() == nil {
		return err
	}
	fmt.Fprintf(r.err, "\ntroupe: the task goes on; follow it with: troupe watch %s\n", id)
	return &exitError{status: exitInterrupted}
}

// writeLine writes one value as one line of JSON.
func writeLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// verdict turns how a task ended into how the command ends.
func (r *remote) verdict(v transport.Task) error {
	switch v.State {
	case task.Succeeded:
		if !r.json && r.outTTY {
			fmt.Fprintf(r.err, "succeeded in %s · task %s\n", took(v), v.ID)
		}
		return nil
	case task.Failed:
		fmt.Fprintf(r.err, "troupe: failed: %s: %s\n  see it with: troupe show %s\n  try again with: troupe retry %s\n",
			line(v.Error.Code), safe(v.Error.Message), v.ID, v.ID)
	default:
		fmt.Fprintf(r.err, "troupe: the task was %s\n", v.State)
	}
	return &exitError{status: exitFailed}
}

func took(v transport.Task) time.Duration {
	if v.FinishedAt == nil {
		return 0
	}
	from := v.CreatedAt
	if v.StartedAt != nil {
		from = *v.StartedAt
	}
	d := time.Time(*v.FinishedAt).Sub(time.Time(from))
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// wait prints a task once it has ended.
func (r *remote) wait(ctx context.Context, c *client.Client, id string) error {
	for _, err := range c.Watch(ctx, client.Topic{Task: id}) {
		if err != nil {
			return r.interrupted(ctx, id, err)
		}
	}
	v, err := c.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := r.printJSON(v); err != nil {
		return err
	}
	if v.State != task.Succeeded {
		return &exitError{status: exitFailed}
	}
	return nil
}

// eventPrinter shows events to a person: output as it is, everything else on
// standard error.
type eventPrinter struct {
	out, err io.Writer
	started  time.Time
	quiet    bool // only what the task itself puts out
	bar      bool // a progress line stands on the terminal
	raw      bool // what it puts out goes through as it is
}

func (p *eventPrinter) event(e transport.Event) {
	switch e.Type {
	case task.EventOutput:
		p.flush()
		p.output(e.Data)
	case task.EventLog:
		p.flush()
		p.log(e.Data)
	case task.EventProgress:
		p.progress(e.Data)
	case task.EventState:
		p.flush()
		p.state(e.Data)
	}
}

func (p *eventPrinter) clean(s string) string {
	if p.raw {
		return s
	}
	return safe(s)
}

func (p *eventPrinter) output(data json.RawMessage) {
	var d struct {
		Chunk  json.RawMessage `json:"chunk"`
		Text   *string         `json:"text"`
		Base64 *string         `json:"base64"`
	}
	if json.Unmarshal(data, &d) != nil {
		return
	}
	switch {
	case d.Text != nil:
		fmt.Fprint(p.out, p.clean(*d.Text))
	case d.Base64 != nil:
		if b, err := base64.StdEncoding.DecodeString(*d.Base64); err == nil {
			fmt.Fprint(p.out, p.clean(string(b)))
		}
	default:
		fmt.Fprintln(p.out, string(d.Chunk))
	}
}

func (p *eventPrinter) log(data json.RawMessage) {
	var d struct {
		Level, Message string
		Fields         struct {
			Stream string `json:"stream"`
		}
	}
	if json.Unmarshal(data, &d) != nil {
		return
	}
	if d.Fields.Stream == "stderr" { // a command's own words
		fmt.Fprintln(p.err, p.clean(d.Message))
		return
	}
	fmt.Fprintf(p.err, "%-5s %s\n", d.Level, safe(d.Message))
}

func (p *eventPrinter) progress(data json.RawMessage) {
	var d task.ProgressData
	if p.quiet || json.Unmarshal(data, &d) != nil {
		return
	}
	p.bar = true
	fmt.Fprintf(p.err, "\r\x1b[K%s %s  %s", bar(d.Fraction, 24), percent(d.Fraction), clip(line(d.Message), 40))
	if left := remaining(p.started, d.Fraction); left != "" {
		fmt.Fprintf(p.err, "  %s", left)
	}
}

func (p *eventPrinter) state(data json.RawMessage) {
	var d task.StateData
	if p.quiet || json.Unmarshal(data, &d) != nil {
		return
	}
	switch {
	case d.State == task.Running:
		p.started = time.Now()
		if d.Attempt > 1 {
			fmt.Fprintf(p.err, "attempt %d\n", d.Attempt)
		}
	case d.Error != nil && !d.State.Terminal():
		fmt.Fprintf(p.err, "attempt %d failed: %s: %s; it will be tried again\n", d.Attempt, line(d.Error.Code), safe(d.Error.Message))
	}
}

// flush ends a progress line.
func (p *eventPrinter) flush() {
	if p.bar {
		fmt.Fprint(p.err, "\r\x1b[K")
		p.bar = false
	}
}

// bar draws a fraction; nil as an empty one.
func bar(fraction *float64, width int) string {
	full := 0
	if fraction != nil {
		full = int(*fraction*float64(width) + 0.5)
	}
	out := make([]rune, width)
	for i := range out {
		out[i] = '░'
		if i < full {
			out[i] = '█'
		}
	}
	return string(out)
}

func percent(fraction *float64) string {
	if fraction == nil {
		return "   "
	}
	return fmt.Sprintf("%3.0f%%", *fraction*100)
}

// remaining guesses how much longer it takes, if it goes on as it went.
func remaining(started time.Time, fraction *float64) string {
	if fraction == nil || *fraction < 0.02 || *fraction >= 1 {
		return ""
	}
	gone := time.Since(started)
	left := time.Duration(float64(gone) * (1 - *fraction) / *fraction)
	return "~" + left.Round(100*time.Millisecond).String() + " left"
}
