package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
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
		{"submit", "how fast tasks are accepted: one by one, in batches, as a stream", bindSubmit},
		{"drain", "tasks worked off: submitted while they run, and held back before", bindDrain},
		{"latency", "from submit to start, end and watcher, at a steady rate", bindLatency},
		{"backlog", "what tasks that wait cost those that do not", bindBacklog},
		{"resume", "watchers that come back at once after the server was killed", bindResume},
		{"limits", "what this machine does without Troupe: disk, SQLite, PostgreSQL, sockets", bindLimits},
	}
}

func subcommandOf(name string) (subcommand, bool) {
	all := subcommands()
	i := slices.IndexFunc(all, func(sub subcommand) bool { return sub.name == name })
	if i < 0 {
		return subcommand{}, false
	}
	return all[i], true
}

func help() string {
	var b strings.Builder
	b.WriteString("usage: go run ./bench SUBCOMMAND [flags]\n\n")
	for _, sub := range subcommands() {
		fmt.Fprintf(&b, "  %-9s %s\n", sub.name, sub.about)
	}
	b.WriteString("  all       a short form of all of these\n")
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
	case "all":
		return runAll(ctx, args[1:], stdout, stderr)
	case "lean": // which only the harness itself starts
		return runLean(ctx, args[1:], stdout, stderr)
	case "schedule":
		return runSchedule(ctx, args[1:], stdout, stderr)
	}
	if sub, ok := subcommandOf(args[0]); ok {
		return sub.run(ctx, args[1:], stdout, stderr)
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
