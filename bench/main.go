package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// subcommands are those that measure one node.
func subcommands() []subcommand {
	return []subcommand{
		{"ws", "what watchers see, how soon, and what that costs", bindWS},
		{"drain", "tasks worked off: submitted while they run, and held back before", bindDrain},
	}
}

func help() string {
	var b strings.Builder
	b.WriteString("usage: go run ./bench SUBCOMMAND [flags]\n\n")
	for _, sub := range subcommands() {
		fmt.Fprintf(&b, "  %-9s %s\n", sub.name, sub.about)
	}
	b.WriteString("  cluster   throughput and latencies of several nodes over one PostgreSQL, and what bounds them\n")
	b.WriteString("  schedule  the scheduler beside those of the literature, in virtual time\n\nEach tells its flags by -h.\n")
	return b.String()
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		args = []string{""}
	}
	switch args[0] {
	case "cluster":
		return runCluster(ctx, args[1:], stdout, stderr)
	case "schedule":
		return runSchedule(ctx, args[1:], stdout, stderr)
	}
	for _, sub := range subcommands() {
		if sub.name == args[0] {
			return sub.run(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprint(stderr, help())
	return errors.New("want one of these subcommands")
}

// publish prints a report for people, or for programs.
func publish(w io.Writer, r interface{ Print(io.Writer) error }, asJSON bool) error {
	if !asJSON {
		return r.Print(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
