package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"
)

type options struct {
	server, binary            string
	sessions, chunks, tasks   int
	callers, inFlight, probes int
	interval, spread          time.Duration
	json                      bool
}

func runWS(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench ws", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.server, "server", "", "measure this server instead of starting one")
	flags.StringVar(&o.binary, "binary", "", "start this troupe binary instead of building one")
	flags.IntVar(&o.sessions, "sessions", 500, "WebSocket sessions")
	flags.IntVar(&o.chunks, "chunks", 100, "output events of each session's task")
	flags.DurationVar(&o.interval, "interval", 100*time.Millisecond, "time between two of them")
	flags.DurationVar(&o.spread, "spread", 2*time.Second, "over which the sessions begin")
	flags.IntVar(&o.tasks, "tasks", 20000, "demo.echo tasks of each throughput measurement")
	flags.IntVar(&o.callers, "callers", 64, "callers that submit one by one")
	flags.IntVar(&o.inFlight, "in-flight", 1000, "requests in flight of the API measurement")
	flags.IntVar(&o.probes, "probes", 500, "unloaded tasks for the scheduling delay")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := measure(ctx, o, stderr)
	if err != nil {
		return err
	}
	return publish(stdout, r, o.json)
}

// measure runs everything against one server, one after the other, so that no
// measurement loads another.
func measure(ctx context.Context, o options, stderr io.Writer) (*report, error) {
	srv, err := startServer(ctx, o, stderr)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	one := []*server{srv}
	r := &report{Sessions: o.sessions}
	if r.Fsync, err = fsyncRate(); err != nil {
		return nil, err
	}
	say := func(what string) { fmt.Fprintln(stderr, "bench:", what) }

	say("scheduling delay, unloaded")
	if r.Unloaded, err = probe(ctx, func() *server { return srv }, o.probes); err != nil {
		return nil, fmt.Errorf("scheduling delay: %w", err)
	}
	say("watchers")
	before := srv.usage()
	began := time.Now()
	if err := watchers(ctx, srv, o, r); err != nil {
		return nil, fmt.Errorf("watchers: %w", err)
	}
	after := srv.usage()
	r.WatchSeconds = time.Since(began).Seconds()
	r.WatchCPU = after.cpu - before.cpu
	r.WatchMemory = after.memory

	say("one by one")
	if r.Single, err = oneByOne(ctx, one, o.callers, o.tasks); err != nil {
		return nil, fmt.Errorf("one by one: %w", err)
	}
	say("batches")
	if r.Batch, err = batches(ctx, one, o.tasks); err != nil {
		return nil, fmt.Errorf("batches: %w", err)
	}
	say("requests in flight")
	if r.API, err = inFlight(ctx, one, o.inFlight, o.tasks); err != nil {
		return nil, fmt.Errorf("requests in flight: %w", err)
	}
	end := srv.usage()
	r.ServerCPU, r.ServerMemory = end.cpu, end.memory
	return r, nil
}
