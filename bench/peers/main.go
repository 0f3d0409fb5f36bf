package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// roles are what a process of this program may be, beside the one that you start.
var roles = map[string]func(ctx context.Context, stdin io.Reader, stdout io.Writer) error{
	"queue": queueRole, "watch": watchRole, "centrifuge": centrifugeRole, "gorilla": gorillaRole, "limits": limitsRole,
}

type options struct {
	turns, sessions int
	short, json     bool
	only            []string
	troupe, faktory string // programs; empty: built
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && roles[args[0]] != nil {
		return roles[args[0]](ctx, os.Stdin, stdout)
	}
	var o options
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.turns, "turns", 0, "how often everything is measured; 5, or 2 with --short")
	flags.BoolVar(&o.short, "short", false, "lighter loads, for a first look")
	flags.BoolVar(&o.json, "json", false, "print JSON, with the figures of every turn")
	flags.IntVar(&o.sessions, "sessions", 500, "watchers")
	flags.StringVar(&o.troupe, "troupe", "", "measure this troupe program instead of building one")
	flags.StringVar(&o.faktory, "faktory", "", "the same for Faktory's server")
	only := flags.String("only", "", "measure only those whose name has one of these parts in it, as \"library,river PostgreSQL\"")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.turns == 0 {
		o.turns = 5
		if o.short {
			o.turns = 2
		}
	}
	r, err := measureAll(ctx, o, stderr)
	if r == nil {
		return err
	}
	if !o.json {
		return errors.Join(r.Print(stdout), err)
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	return errors.Join(enc.Encode(r), err)
}

func (o options) wants(name string) bool {
	for _, part := range o.only {
		if strings.Contains(name, part) {
			return true
		}
	}
	return len(o.only) == 0
}
