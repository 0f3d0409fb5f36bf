package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// common is what every subcommand of one node can be told.
type common struct {
	binary, store     string
	cpuProfile, trace string
	profileFor        time.Duration
	plot              string
	json              bool
	turns             int
}

func (c *common) bind(flags *flag.FlagSet) {
	flags.StringVar(&c.binary, "binary", "", "start this troupe binary instead of building one")
	flags.StringVar(&c.store, "store", "sqlite", "sqlite, or postgres: one is started")
	flags.IntVar(&c.turns, "turns", 1, "how often all is measured")
	flags.StringVar(&c.cpuProfile, "cpuprofile", "", "write a CPU profile of the server to this file, from when the first measurement begins")
	flags.StringVar(&c.trace, "trace", "", "write an execution trace of the server to this file, from then on")
	flags.DurationVar(&c.profileFor, "profile-for", 5*time.Second, "how long these are taken")
	flags.StringVar(&c.plot, "plot", "", "draw the figures to this SVG file")
	flags.BoolVar(&c.json, "json", false, "print JSON")
}

func (c *common) check() error {
	if c.store != "sqlite" && c.store != "postgres" {
		return fmt.Errorf("--store is %q; want sqlite or postgres", c.store)
	}
	if c.turns < 1 {
		return errors.New("want at least one turn")
	}
	return nil
}

// measurement is one turn of a subcommand. It adds to the sheet.
type measurement func(ctx context.Context, l *lab, s *sheet) error

// subcommand measures one node. bind defines its flags and gives what reads them.
type subcommand struct {
	name, about string
	bind        func(*flag.FlagSet) measurement
}

// measure runs a subcommand, turn by turn.
func (sub subcommand) measure(ctx context.Context, args []string, stderr io.Writer) (_ *sheet, _ common, err error) {
	var c common
	flags := flag.NewFlagSet("bench "+sub.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	c.bind(flags)
	turn := sub.bind(flags)
	if err := flags.Parse(args); err != nil {
		return nil, c, err
	}
	if err := c.check(); err != nil {
		return nil, c, err
	}
	l, err := openLab(ctx, c, stderr)
	if err != nil {
		return nil, c, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	s := &sheet{What: sub.name, Store: c.store, Turns: c.turns, Cores: runtime.NumCPU()}
	for i := range c.turns {
		l.say("%s, turn %d of %d", sub.name, i+1, c.turns)
		if err := turn(ctx, l, s); err != nil {
			return nil, c, fmt.Errorf("%s: %w", sub.name, err)
		}
	}
	if c.plot != "" {
		err = create(c.plot, s.draw)
	}
	return s, c, err
}

func (sub subcommand) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, c, err := sub.measure(ctx, args, stderr)
	if err != nil {
		return err
	}
	return publish(stdout, s, c.json)
}

// lab is where servers are started and measured.
type lab struct {
	common

	dir      string
	db       *database // nil: not asked for
	stderr   io.Writer
	profiled bool
}

func openLab(ctx context.Context, c common, stderr io.Writer) (*lab, error) {
	dir, err := os.MkdirTemp("", "troupe-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	l := &lab{common: c, dir: dir, stderr: stderr}
	if l.binary == "" {
		l.binary, err = build(ctx, dir, stderr)
	}
	if err == nil && c.store == "postgres" {
		l.db, err = startDatabase(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) close() error {
	var err error
	if l.db != nil {
		err = l.db.stop()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

func (l *lab) say(format string, args ...any) { fmt.Fprintf(l.stderr, "bench: "+format+"\n", args...) }

// start starts a server on an empty store. What it kept goes when it stops.
func (l *lab) start(ctx context.Context, args ...string) (*server, error) {
	store, drop, err := l.emptyStore()
	if err != nil {
		return nil, err
	}
	s, err := launch(ctx, l.binary, append(store, args...)...)
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	s.drop = drop
	return s, nil
}

func (l *lab) emptyStore() (args []string, drop func() error, err error) {
	if l.db != nil {
		name, err := l.db.fresh()
		return []string{"--store", l.db.server.URL(name)}, func() error { return l.db.drop(name) }, err
	}
	data, drop, err := l.directory()
	return []string{"--data", data}, drop, err
}

// directory makes an empty one.
func (l *lab) directory() (name string, drop func() error, err error) {
	name, err = os.MkdirTemp(l.dir, "data-")
	return name, func() error { return os.RemoveAll(name) }, err
}

// with measures on a server of its own.
func (l *lab) with(ctx context.Context, do func(*server) error, args ...string) (err error) {
	s, err := l.start(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := do(s); err != nil {
		return fmt.Errorf("%w%s", err, s.lastSaid())
	}
	return nil
}

// lastSaid is the end of what the server logged, for when something went wrong.
func (s *server) lastSaid() string {
	said := strings.TrimSpace(s.stderr.String())
	if said == "" {
		return ""
	}
	return "\nthe server said: " + said[max(0, len(said)-2000):]
}

// cost is what has been used so far, in CPU seconds.
type cost struct{ server, database, callers float64 }

func (l *lab) cost(s *server) cost {
	c := cost{server: processTime(s.pid), callers: ownTime()}
	if l.db != nil {
		c.database = l.db.cpu()
	}
	return c
}

// addCost adds rows for what n of something, "a task" or so, have cost since.
func (l *lab) addCost(to *sheet, of, each string, s *server, since cost, n int) {
	now := l.cost(s)
	micros := func(seconds float64) float64 { return seconds * 1e6 / float64(max(n, 1)) }
	to.add(of, "server's CPU "+each, "µs", micros(now.server-since.server))
	if l.db != nil {
		to.add(of, "PostgreSQL's CPU "+each, "µs", micros(now.database-since.database))
	}
	to.add(of, "bench's own CPU "+each, "µs", micros(now.callers-since.callers))
}

// listOf reads "1,16,64".
func listOf(into *[]int) func(string) error {
	return func(text string) error {
		*into = nil
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 {
				return errors.New("want numbers, such as 1,16,64")
			}
			*into = append(*into, n)
		}
		return nil
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
