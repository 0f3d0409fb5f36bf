package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

type clusterOptions struct {
	nodes                                  []int
	tasks, turns, callers, probes, streams int
	limits                                 int
	binary                                 string
	json                                   bool
}

func runCluster(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := clusterOptions{nodes: []int{1, 2, 3}}
	flags := flag.NewFlagSet("bench cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Func("nodes", "numbers of nodes (default 1,2,3)", func(text string) (err error) {
		o.nodes, err = sizes(text)
		return err
	})
	flags.StringVar(&o.binary, "binary", "", "start this troupe binary instead of building one")
	flags.IntVar(&o.tasks, "tasks", 40000, "demo.echo tasks of each throughput measurement")
	flags.IntVar(&o.turns, "turns", 3, "how often each number of nodes is measured")
	flags.IntVar(&o.callers, "callers", 64, "callers that submit one by one")
	flags.IntVar(&o.probes, "probes", 300, "unloaded tasks for each latency")
	flags.IntVar(&o.streams, "streams", 10, "streams that are watched at once, 100 events each")
	flags.IntVar(&o.limits, "limits", 3, "seconds for each limit of the bare database")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if min(o.tasks, o.turns, o.callers, o.probes, o.streams, o.limits) < 1 {
		return errors.New("want at least 1 of everything")
	}
	r, err := measureClusters(ctx, o, stderr)
	if err != nil {
		return err
	}
	return publish(stdout, r, o.json)
}

// sizes reads "1,2,3". Each node takes eleven of PostgreSQL's connections.
func sizes(text string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || n > 15 {
			return nil, errors.New("want numbers from 1 to 15, such as 1,2,3")
		}
		all = append(all, n)
	}
	return all, nil
}

// measureClusters measures all numbers of nodes in turns, so that what the machine
// does besides hits all of them alike.
func measureClusters(ctx context.Context, o clusterOptions, stderr io.Writer) (r *clusterReport, err error) {
	dir, err := os.MkdirTemp("", "troupe-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.binary == "" {
		if o.binary, err = build(ctx, dir, stderr); err != nil {
			return nil, err
		}
	}
	db, err := startDatabase(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.stop()) }()
	r = newClusterReport(o)
	for turn := range o.turns {
		bulk, lone, err := db.limits(ctx, o.limits)
		if err != nil {
			return nil, err
		}
		r.Bulk = append(r.Bulk, bulk)
		r.Lone = append(r.Lone, lone)
		for _, size := range r.Sizes {
			fmt.Fprintf(stderr, "bench: turn %d of %d, nodes: %d\n", turn+1, o.turns, size.Nodes)
			if err := measureCluster(ctx, o, db, size); err != nil {
				return nil, fmt.Errorf("nodes: %d: %w", size.Nodes, err)
			}
		}
	}
	return r, nil
}

// measureCluster measures one number of nodes once: unloaded first, before there
// are tables of any size.
func measureCluster(ctx context.Context, o clusterOptions, db *database, r *sizeReport) (err error) {
	c, err := startCluster(ctx, o.binary, db, r.Nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	one, err := probeWith(ctx, echo, func() *server { return c.nodes[0] }, o.probes)
	if err != nil {
		return fmt.Errorf("latency at one node: %w", err)
	}
	r.OneNode.add(spreadOf(one.ends))
	//nolint:gosec // spread, not a secret
	anyNode, err := probeWith(ctx, echo, func() *server { return c.nodes[rand.IntN(len(c.nodes))] }, o.probes)
	if err != nil {
		return fmt.Errorf("latency at any node: %w", err)
	}
	r.AnyNode.add(spreadOf(anyNode.ends))
	delays, err := c.watchAfar(ctx, o.streams)
	if err != nil {
		return fmt.Errorf("watchers: %w", err)
	}
	r.Watcher.add(spreadOf(delays))
	if err := c.loaded(&r.Batches, func() (throughput, error) { return batches(ctx, c.nodes, o.tasks) }); err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	if err := c.loaded(&r.OneByOne, func() (throughput, error) { return oneByOne(ctx, c.nodes, o.callers, o.tasks) }); err != nil {
		return fmt.Errorf("one by one: %w", err)
	}
	return nil
}

// cluster is nodes over one database.
type cluster struct {
	db    *database
	name  string // of the database
	nodes []*server
}

// startCluster starts nodes and waits until all of them know each other.
func startCluster(ctx context.Context, binary string, db *database, nodes int) (*cluster, error) {
	name, err := db.fresh()
	if err != nil {
		return nil, err
	}
	c := &cluster{db: db, name: name}
	for i := range nodes {
		s, err := launch(ctx, binary, "--store", db.server.URL(name), "--name", nodeName(i))
		if err != nil {
			return nil, errors.Join(err, c.stop())
		}
		c.nodes = append(c.nodes, s)
	}
	if err := c.acquainted(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func nodeName(i int) string { return "n" + strconv.Itoa(i) }

// acquainted waits until each node hears of the workers of all.
func (c *cluster) acquainted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, s := range c.nodes {
		for {
			list, err := s.client().Workers(ctx)
			if err != nil {
				return fmt.Errorf("nodes that know each other: %w", err)
			}
			known := map[string]bool{}
			for _, w := range list.Workers {
				known[w.Node] = true
			}
			if len(known) == len(c.nodes) {
				break
			}
			if pause(ctx, 20*time.Millisecond) != nil {
				return errors.New("the nodes do not get to know each other")
			}
		}
	}
	return nil
}

func (s *server) client() *client.Client {
	c, err := client.New(s.url, client.Options{HTTP: s.http})
	if err != nil {
		panic(err) // we made the address
	}
	return c
}

func (c *cluster) stop() error {
	var err error
	for _, s := range c.nodes {
		err = errors.Join(err, s.stop())
	}
	return errors.Join(err, c.db.drop(c.name))
}

const chunks = 100

// watchAfar has streams watched through another node than the one that runs them,
// and tells how long each event took from there. A node alone watches its own.
func (c *cluster) watchAfar(ctx context.Context, streams int) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range streams {
		group.Go(func() error {
			holder := i % len(c.nodes)
			watcher := c.nodes[(i+1)%len(c.nodes)]
			delays, err := watchFrom(groupCtx, c.nodes[holder], watcher, nodeName(holder))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, delays...)
			return err
		})
	}
	err := group.Wait()
	return all, err
}

// watchFrom has holder run a stream and watches it through watcher.
func watchFrom(ctx context.Context, holder, watcher *server, name string) ([]time.Duration, error) {
	payload := json.RawMessage(fmt.Sprintf(`{"chunks":%d,"interval":"20ms","size":64}`, chunks))
	t, _, err := holder.client().Submit(ctx, transport.Submission{Kind: "demo.stream", Payload: payload})
	if err != nil {
		return nil, err
	}
	var delays []time.Duration
	var joined time.Time
	for item, err := range watcher.client().Watch(ctx, client.Topic{Task: t.ID}) {
		now := time.Now()
		if err != nil {
			return nil, err
		}
		switch item.Kind {
		case client.Snapshot:
			joined = now
		case client.Happened:
			// What happened before anybody watched was not delayed by the way.
			if at := time.Time(item.Event.At); at.After(joined) {
				delays = append(delays, now.Sub(at))
			}
		case client.Reconnecting:
			return nil, fmt.Errorf("the watcher lost its connection: %w", item.Err)
		default:
		}
	}
	if len(delays) < chunks/2 {
		return nil, fmt.Errorf("%d events of %d were seen as they happened", len(delays), chunks)
	}
	if t, err = holder.client().Get(ctx, t.ID); err == nil && t.Node != name {
		err = fmt.Errorf("node %q ran what %s was given", t.Node, name)
	}
	return delays, err
}

// spent is what has been used so far: CPU seconds, commits, and
// bytes of PostgreSQL's log.
type spent struct {
	nodes, database, callers, machine float64
	commits, log                      int
	at                                time.Time
}

func (c *cluster) spent() (spent, error) {
	s := spent{database: c.db.cpu(), callers: ownTime(), machine: machineTime(), at: time.Now()}
	for _, node := range c.nodes {
		s.nodes += processTime(node.pid)
	}
	var err error
	s.commits, s.log, err = c.db.written()
	return s, err
}

// loaded measures one load and what it costs whom.
func (c *cluster) loaded(r *loadReport, do func() (throughput, error)) error {
	before, err := c.spent()
	if err != nil {
		return err
	}
	var t throughput
	found, err := c.db.waitsDuring(func() (err error) {
		t, err = do()
		return err
	})
	if err != nil {
		return err
	}
	after, err := c.spent()
	if err != nil {
		return err
	}
	r.add(t, before, after, found)
	return nil
}

// ownTime is the CPU time of this process, in seconds.
func ownTime() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// machineTime is how long the machine's cores were busy, whoever had them, in seconds.
func machineTime() float64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	sum := 0.0
	// Behind the name: user, nice, system, idle, iowait, irq, softirq, steal; guests
	// are counted as users already.
	for i, field := range strings.Fields(line) {
		if i >= 1 && i <= 8 && i != 4 && i != 5 {
			ticks, _ := strconv.ParseFloat(field, 64)
			sum += ticks
		}
	}
	return sum / 100
}
