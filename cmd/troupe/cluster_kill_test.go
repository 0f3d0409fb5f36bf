package main

import (
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/transport/client"
)

var faults = flag.Int("faults", 10, "how often TestClusterKill strikes")

// The cluster of TestClusterKill. On a machine with much else to do a lease of a
// second is lost again and again, and then nothing goes on.
const (
	clusterNodes = 3
	clusterLease = 2 * time.Second
)

// TestClusterKill strikes three nodes on one PostgreSQL at random: nodes are
// killed, or stand still for up to three leases; the database's connections are
// cut, and it is killed or restarted itself. Clients come through one address, as
// through a balancer, and submit and watch all the while. Then the rules of
// history_test.go are applied to what they saw and what is left.
func TestClusterKill(t *testing.T) {
	s := *killSeed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Parallel()
	t.Logf("-seed=%d -faults=%d", s, *faults)
	random := rand.New(rand.NewPCG(s, 1))
	db := pgtest.New(t)
	url := db.Database(t)
	binary := buildTroupe(t)
	nodes := make([]*victim, clusterNodes)
	var addresses []string
	for i := range nodes {
		nodes[i] = newVictim(t, binary, "--store", url, "--lease", clusterLease.String(), "--name", "n"+strconv.Itoa(i),
			"--max-crashes", strconv.Itoa(mostAttempts))
		addresses = append(addresses, nodes[i].address)
	}
	w := newWitness(t, balancer(t, addresses))
	ctx, cancel := within(t, time.Duration(*faults)*20*time.Second)
	t.Cleanup(w.watchers.Wait)
	t.Cleanup(cancel) // before the wait above

	c := &cluster{nodes: nodes, db: db, w: w, random: random}
	nodes[0].start(t)
	nodes[0].ready(ctx, t, w.client)
	w.bound(ctx, t)
	for _, n := range nodes[1:] {
		n.start(t)
	}
	c.ready(ctx, t)
	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	w.follow(feeds, &client.Filter{})
	for range 3 { // live through all, or nearly
		w.stream(ctx, "1500", mostAttempts, 10)
	}
	struck := map[string]int{}
	for n := range *faults {
		struck[c.cycle(ctx, t, n%2 == 0)]++
	}
	c.ready(ctx, t)
	w.submitting.Wait()
	w.settle(ctx, t)
	endFeeds()
	await(ctx, t, "watchers that do not end with their tasks", func() bool { return w.watching.Load() == 0 })
	w.collect(ctx, t)
	w.judge(t, *faults)
	t.Logf("%d faults %v: %d tasks acknowledged, %d unknown of which %d exist, %d ended, %d attempts interrupted, %d watchers and %d feeds came back %d times",
		*faults, struck, len(w.h.acked), len(w.h.sent)-len(w.h.acked), len(w.h.tasks)-len(w.h.acked), len(w.h.tasks),
		w.interrupted, len(w.h.watches), len(w.h.feeds), w.reconnects.Load())
	if t.Failed() {
		for i, n := range nodes {
			t.Logf("node %d said:\n%s", i, n.said())
		}
	}
}

type cluster struct {
	nodes  []*victim
	db     *pgtest.Server
	w      *witness
	random *rand.Rand
}

// ready waits until every node takes work.
func (c *cluster) ready(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		of, err := client.New("http://"+n.address, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		await(ctx, t, "a node that does not come back:\n"+n.said(), func() bool {
			select {
			case <-n.gone:
				t.Fatalf("a node ended by itself, %v:\n%s", n.process.ProcessState, n.said())
			default:
			}
			// A node knows within two seconds; a connection may lead nowhere.
			soon, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			return of.Ready(soon) == nil
		})
	}
}

// cycle lets clients work and strikes under their hands, or when what is watched has
// been taken, too; it says how.
func (c *cluster) cycle(ctx context.Context, t *testing.T, taken bool) string {
	t.Helper()
	struck := make(chan struct{})
	before := c.w.answered.Load()
	lines := c.w.lines(c.random, 200+c.random.IntN(600))
	stall := len(lines)
	if c.random.IntN(3) == 0 {
		stall = c.random.IntN(len(lines))
	}
	c.w.submitting.Go(func() { c.w.batch(ctx, lines, stall, struck) })
	for range 2 {
		c.w.stream(ctx, strconv.Itoa(100+c.random.IntN(300)), mostAttempts, c.random.IntN(20)-5)
	}
	c.w.single(ctx, c.random)
	for range 8 {
		c.w.bounded(ctx, c.random)
	}
	if taken {
		c.w.answers(ctx, t, before+2)
	}
	c.pause(ctx, t, c.random.Int64N(int64(600*time.Millisecond)))
	victim := c.nodes[c.random.IntN(len(c.nodes))]
	defer close(struck)
	switch at := c.random.IntN(10); {
	case at < 4:
		victim.mustKill(t)
		c.pause(ctx, t, c.random.Int64N(int64(clusterLease)))
		victim.start(t)
		return "kill"
	case at < 7:
		_ = victim.process.Process.Signal(syscall.SIGSTOP)
		c.pause(ctx, t, int64(clusterLease)+c.random.Int64N(int64(2*clusterLease)))
		_ = victim.process.Process.Signal(syscall.SIGCONT)
		return "stop"
	case at < 8:
		c.db.Exec(t, "postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'troupe'")
		return "cut"
	case at < 9:
		c.db.Kill()
		c.restart(t)
		return "database kill"
	}
	c.db.Stop()
	c.restart(t)
	return "database restart"
}

func (c *cluster) restart(t *testing.T) {
	t.Helper()
	if err := c.db.Restart(); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) pause(ctx context.Context, t *testing.T, d int64) {
	t.Helper()
	pause(ctx, t, time.Duration(d))
}

// balancer gives an address that leads to one of many: each connection to the
// next that can be reached.
func balancer(t *testing.T, addresses []string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	closing, end := context.WithCancel(context.Background())
	t.Cleanup(all.Wait)
	t.Cleanup(end)
	t.Cleanup(func() { _ = l.Close() })
	all.Go(func() {
		for next := 0; ; next++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { forward(closing, in, addresses, next) })
		}
	})
	return l.Addr().String()
}

func forward(ctx context.Context, in net.Conn, addresses []string, first int) {
	defer in.Close()
	defer context.AfterFunc(ctx, func() { _ = in.Close() })()
	for i := range addresses {
		out, err := net.DialTimeout("tcp", addresses[(first+i)%len(addresses)], 20*time.Second)
		if err != nil {
			continue
		}
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() })
		both.Go(func() { _, _ = io.Copy(in, out); _ = in.(*net.TCPConn).CloseWrite() })
		both.Wait()
		_ = out.Close()
		return
	}
}
