package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/runtime/kinds/exec"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

const defaultServer = "http://127.0.0.1:8080"

// remote is what every command that talks to a server takes.
type remote struct {
	terminal
	server, key string
	json        bool
}

func (r *remote) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.server, "server", "", "address of the server (TROUPE_SERVER; "+defaultServer+")")
	cmd.Flags().StringVar(&r.key, "key", "", "API key (TROUPE_KEY)")
	cmd.Flags().BoolVar(&r.json, "json", false, "print JSON")
}

// named says whether somebody said which server.
func (r *remote) named() bool { return r.server != "" || r.env("TROUPE_SERVER") != "" }

func (r *remote) client() (*client.Client, error) {
	address := cmp.Or(r.server, r.env("TROUPE_SERVER"), defaultServer)
	c, err := client.New(address, client.Options{Key: cmp.Or(r.key, r.env("TROUPE_KEY"))})
	if err != nil {
		return nil, usage("%s", err)
	}
	return c, nil
}

// orEmbedded is client, but where no server answers and none was named it starts
// a node for as long as the command takes. stop ends that node.
func (r *remote) orEmbedded(ctx context.Context) (c *client.Client, stop func() error, err error) {
	c, err = r.client()
	if err != nil {
		return nil, nil, err
	}
	stop = func() error { return nil }
	if r.named() || !errors.Is(c.Ready(ctx), client.ErrUnreachable) {
		return c, stop, nil
	}
	data := dataDirectory(r.env)
	fmt.Fprintf(r.err, "troupe: no server answers at %s; running a node of its own in %s for as long as this takes\n", defaultServer, data)
	texts := map[string]string{}
	for _, s := range settings {
		texts[s.name] = s.value
	}
	texts["data"], texts["drain-timeout"] = data, "5s"
	cfg, err := checkConfig(texts, map[string]string{}, false)
	if err != nil {
		return nil, nil, err
	}
	quiet := slog.New(slog.NewTextHandler(r.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := startNode(ctx, cfg, quiet, "127.0.0.1:0", exec.Config{Allow: true, InheritEnv: true, Helper: execHelper()})
	if err != nil {
		return nil, nil, err
	}
	c, err = client.New(n.url, client.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, n.stop(ctx))
	}
	return c, func() error { return n.stop(ctx) }, nil
}

// explainError says an error with the next thing to type, where there is one.
func explainError(err error) string {
	var p *transport.Problem
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return err.Error() + "\n  start one with: troupe serve"
	case errors.As(err, &p) && p.Code == "task_not_found":
		return "there is no such task\n  see what there is with: troupe ls"
	case errors.As(err, &p):
		return p.Error()
	default:
		return err.Error()
	}
}

// printJSON writes one value, indented for a person and on one line otherwise.
func (t terminal) printJSON(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetEscapeHTML(false)
	if t.outTTY {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// safe keeps what a task says from steering the terminal: control characters
// but tab and newline become visible.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// line is safe for one line of a table.
func line(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(safe(s))
}

// readPayload reads JSON from an argument, a file (@name) or standard input (-).
func readPayload(arg string, in io.Reader) (json.RawMessage, error) {
	text := []byte(arg)
	var err error
	switch name, isFile := strings.CutPrefix(arg, "@"); {
	case arg == "":
		return nil, nil
	case arg == "-":
		text, err = io.ReadAll(io.LimitReader(in, 64<<20))
	case isFile:
		text, err = os.ReadFile(name) //nolint:gosec // the caller names it
	}
	if err != nil {
		return nil, usage("read the payload: %v", err)
	}
	if !json.Valid(text) {
		return nil, usage("the payload is not JSON: %s\n  a text needs quotes: troupe submit KIND '\"text\"'", clip(string(text), 60))
	}
	return text, nil
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

func ago(t time.Time) string {
	switch d := time.Since(t).Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}
