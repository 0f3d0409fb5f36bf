package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// contestant is what is measured in a turn: a queue, a server of watchers.
type contestant struct {
	name   string
	safe   string
	beside []string
	run    func(ctx context.Context) (figures, error)
}

// ground is what all are measured on: the same programs and database server.
type ground struct {
	options

	dir  string
	db   *database
	made int
}

// runWithin bounds one contestant in one turn.
const runWithin = 2 * time.Minute

// measureAll measures all contestants one after the other, and again. Whoever was first
// is last in the next turn. One that fails spoils no other.
func measureAll(ctx context.Context, o options, stderr io.Writer) (r *report, err error) {
	g := &ground{options: o}
	if g.dir, err = os.MkdirTemp("", "troupe-peers-"); err != nil {
		return nil, fmt.Errorf("a directory for the data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(g.dir)) }()
	if err := g.build(ctx, stderr); err != nil {
		return nil, err
	}
	if g.db, err = startDatabase(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.db.stop(ctx)) }()

	all := g.contestants()
	r = newReport(o, all)
	for turn := range o.turns {
		for i := range all {
			c := all[(i+turn)%len(all)]
			fmt.Fprintf(stderr, "peers: turn %d of %d: %s\n", turn+1, o.turns, c.name)
			bounded, cancel := context.WithTimeout(ctx, runWithin)
			f, failed := c.run(bounded)
			cancel()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("%s, turn %d: %w", c.name, turn+1, failed))
			}
			r.add(c.name, f)
		}
	}
	r.compare()
	return r, err
}

// build makes the programs that were not given: Troupe's as its own module builds it,
// Faktory's of the version that this one names.
func (g *ground) build(ctx context.Context, stderr io.Writer) error {
	fmt.Fprintln(stderr, "peers: building the servers")
	if g.troupe == "" {
		root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/troupe-run/troupe").Output()
		if err != nil {
			return fmt.Errorf("find Troupe's module; run this in bench/peers: %w", err)
		}
		g.troupe = filepath.Join(g.dir, "troupe")
		if err := goBuild(ctx, "-C", strings.TrimSpace(string(root)), "build", "-o", g.troupe, "./cmd/troupe"); err != nil {
			return err
		}
	}
	if g.faktory == "" {
		g.faktory = filepath.Join(g.dir, "faktory")
		return goBuild(ctx, "build", "-o", g.faktory, "github.com/contribsys/faktory/cmd/faktory")
	}
	return nil
}

func goBuild(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // into our own directory
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the servers: %w: %s", err, said)
	}
	return nil
}

func (g *ground) contestants() []contestant {
	var all []contestant
	add := func(c contestant) {
		if g.wants(c.name) {
			all = append(all, c)
		}
	}
	for _, p := range peers() {
		add(contestant{name: p.name, safe: p.safe, beside: p.beside, run: func(ctx context.Context) (figures, error) { return g.queue(ctx, p) }})
	}
	for _, w := range watches() {
		c := contestant{name: w.name, safe: w.safe, run: func(ctx context.Context) (figures, error) { return g.watch(ctx, w) }}
		if w.name != watchTroupe {
			c.beside = []string{watchTroupe}
		}
		add(c)
	}
	add(contestant{name: "this machine", run: g.limits})
	return all
}

// loadOf is about two seconds in batches, as long one by one, and three of probes.
func (g *ground) loadOf(p peer) load {
	l := load{Drain: 2 * p.rate, Single: p.rate, Probes: 300}
	if g.short {
		l = load{Drain: p.rate, Single: p.rate / 2, Probes: 150}
	}
	return l
}

// queue measures one in a process of its own, so that none inherits another's memory.
func (g *ground) queue(ctx context.Context, p peer) (f figures, err error) {
	spec := queueSpec{Peer: p.name, Load: g.loadOf(p), Place: place{Dir: g.fresh(), Troupe: g.troupe, Faktory: g.faktory}}
	if p.postgres {
		name, url, err := g.db.fresh(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, g.db.drop(context.WithoutCancel(ctx), name)) }()
		spec.Place.Postgres, spec.DB = url, g.db.pid
	}
	err = g.role(ctx, "queue", spec, &f)
	return f, errors.Join(err, os.RemoveAll(spec.Place.Dir))
}

func (g *ground) watch(ctx context.Context, w watched) (f figures, err error) {
	spec := watchSpec{
		Name: w.name, Place: place{Dir: g.fresh(), Troupe: g.troupe},
		Stream: stream{Sessions: g.sessions, Events: 50, Every: 100 * time.Millisecond, Spread: time.Second},
	}
	if g.short {
		spec.Stream.Events = 20
	}
	err = g.role(ctx, "watch", spec, &f)
	return f, errors.Join(err, os.RemoveAll(spec.Place.Dir))
}

// limits measures the machine as whoever uses it finds it, in the same turn.
func (g *ground) limits(ctx context.Context) (f figures, err error) {
	name, url, err := g.db.fresh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.db.drop(context.WithoutCancel(ctx), name)) }()
	spec := limitsSpec{Dir: g.fresh(), Postgres: url, For: time.Second}
	if g.short {
		spec.For /= 2
	}
	err = g.role(ctx, "limits", spec, &f)
	return f, errors.Join(err, os.RemoveAll(spec.Dir))
}

// fresh names a directory nobody has had; whoever gets it makes it.
func (g *ground) fresh() string {
	g.made++
	return filepath.Join(g.dir, fmt.Sprintf("run%d", g.made))
}

// role runs this program in another role, which reads JSON and answers with JSON.
func (g *ground) role(ctx context.Context, name string, in, out any) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, name) //nolint:gosec // ourselves
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(raw), &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWithin
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(stderr.String()))
	}
	return json.Unmarshal(stdout.Bytes(), out)
}

func lastLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return lines[len(lines)-1]
}

// queueSpec is what the role of a queue is told.
type queueSpec struct {
	Peer  string
	Load  load
	Place place
	DB    int
}

func queueRole(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var spec queueSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return err
	}
	p, err := peerOf(spec.Peer)
	if err != nil {
		return err
	}
	f, err := runQueue(ctx, p, spec.Load, spec.Place, spec.DB)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(f)
}

func runQueue(ctx context.Context, p peer, l load, at place, db int) (f figures, err error) {
	if err := os.MkdirAll(at.Dir, 0o700); err != nil {
		return nil, err
	}
	led := newLedger(l.all())
	q, err := p.open(ctx, at, led)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	s := &session{queue: q, led: led, db: db}
	f, err = s.measure(ctx, l)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return f, errors.Join(err, q.close(closing))
}
