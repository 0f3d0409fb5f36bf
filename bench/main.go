package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
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

const help = `usage: go run ./bench ws|cluster|schedule [flags]

  ws        watchers, latencies and throughput of one node
  cluster   throughput and latencies of several nodes over one PostgreSQL, and what bounds them
  schedule  the scheduler beside those of the literature, in virtual time

Each tells its flags by -h.
`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		args = []string{""}
	}
	switch args[0] {
	case "ws":
		return runWS(ctx, args[1:], stdout, stderr)
	case "cluster":
		return runCluster(ctx, args[1:], stdout, stderr)
	case "schedule":
		return runSchedule(ctx, args[1:], stdout, stderr)
	}
	fmt.Fprint(stderr, help)
	return errors.New("want the subcommand ws, cluster or schedule")
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
