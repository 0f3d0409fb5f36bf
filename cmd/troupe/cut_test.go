package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// startCluster starts three nodes whose clients come through a balancer; args is
// what each is told beside its name.
func startCluster(ctx context.Context, t *testing.T, args func(node int) []string) *cluster {
	t.Helper()
	binary := buildTroupe(t)
	c := &cluster{}
	var addresses []string
	for i := range clusterNodes {
		v := newVictim(t, binary, append(args(i), "--name", nameOf(i), "--max-crashes", strconv.Itoa(mostAttempts))...)
		v.start(t)
		c.nodes, addresses = append(c.nodes, v), append(addresses, v.address)
	}
	c.w = newWitness(t, balancer(t, addresses))
	c.ready(ctx, t)
	t.Cleanup(func() {
		for i, v := range c.nodes {
			if t.Failed() {
				t.Logf("%s said:\n%s", nameOf(i), v.said())
			}
		}
	})
	return c
}

func nameOf(node int) string { return "n" + strconv.Itoa(node) }

// endWith ends a witness's watchers with the test.
func (w *witness) endWith(t *testing.T, cancel func()) {
	t.Helper()
	t.Cleanup(w.watchers.Wait)
	t.Cleanup(cancel) // before the wait above
}

// at speaks with one node of the cluster in the name of w.
func (c *cluster) at(t *testing.T, node int) *client.Client {
	t.Helper()
	of, err := client.New("http://"+c.nodes[node].address, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return of
}

// give submits a task through a node.
func (w *witness) give(ctx context.Context, to *client.Client, kind, payload string) (transport.Task, error) {
	s, n := w.note(transport.Submission{Kind: kind, Payload: json.RawMessage(payload), MaxAttempts: mostAttempts})
	v, _, err := to.Submit(ctx, s)
	if err == nil {
		w.ack(v.ID, n)
	}
	return v, err
}

// echo has a task done through a node.
func (w *witness) echo(ctx context.Context, through *client.Client) error {
	v, err := w.give(ctx, through, "demo.echo", "1")
	if err != nil {
		return err
	}
	result, err := through.Result(ctx, v.ID, time.Minute)
	if err == nil && result == nil {
		err = errors.New("it does not end")
	}
	return err
}

// alsoWatch has a task watched through this witness's server, too.
func (w *witness) alsoWatch(ctx context.Context, id string) {
	w.watching.Add(1)
	w.watchers.Go(func() {
		defer w.watching.Add(-1)
		w.watch(ctx, id)
	})
}

// conclude waits for everything to end and holds what w and others saw against
// the rules.
func (c *cluster) conclude(ctx context.Context, t *testing.T, endFeeds func(), others ...*witness) {
	t.Helper()
	c.w.submitting.Wait()
	c.w.settle(ctx, t)
	endFeeds()
	for _, w := range append(others, c.w) {
		await(ctx, t, "watchers that do not end with their tasks", func() bool { return w.watching.Load() == 0 })
	}
	c.w.collect(ctx, t)
	for _, w := range others {
		c.w.h.watches = append(c.w.h.watches, w.h.watches...)
		c.w.h.feeds = append(c.w.h.feeds, w.h.feeds...)
		c.w.reconnects.Add(w.reconnects.Load())
	}
	c.w.verdict(t)
	t.Logf("%d tasks acknowledged, %d unknown of which %d exist, %d attempts interrupted, %d watchers and %d feeds came back %d times",
		len(c.w.h.acked), len(c.w.h.sent)-len(c.w.h.acked), len(c.w.h.tasks)-len(c.w.h.acked),
		c.w.interrupted, len(c.w.h.watches), len(c.w.h.feeds), c.w.reconnects.Load())
}

// TestNodeCutFromTheDatabase takes one of three nodes its database, in every way
// a network can. The others go on meanwhile, that one says that it cannot, and
// no task is lost, ends twice or is seen with a gap.
func TestNodeCutFromTheDatabase(t *testing.T) {
	t.Parallel()
	const cut = 2
	direct, err := url.Parse(database(t))
	if err != nil {
		t.Fatal(err)
	}
	wire := newProxy(t, direct.Host)
	spoilt := *direct
	spoilt.Host = wire.address
	ctx, cancel := within(t)
	c := startCluster(ctx, t, func(node int) []string {
		store := direct
		if node == cut {
			store = &spoilt
		}
		return []string{"--store", store.String(), "--lease", clusterLease.String()}
	})
	w, behind := c.w, newWitness(t, c.nodes[cut].address)
	w.endWith(t, cancel)
	behind.endWith(t, cancel)
	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	w.follow(feeds, &client.Filter{})
	behind.follow(feeds, &client.Filter{})

	random := rand.New(rand.NewPCG(rand.Uint64(), 2))
	lost := way{lost: true}
	for _, x := range []struct {
		name  string
		spoil func()
		last  time.Duration
	}{
		{"black hole", wire.hole, 4 * clusterLease},
		{"refused", wire.refuse, 3 * clusterLease / 2},
		{"requests lost", func() { wire.spoil(lost, way{}) }, 2 * clusterLease},
		{"answers lost", func() { wire.spoil(way{}, lost) }, 3 * clusterLease},
		{"black hole", wire.hole, 3 * clusterLease / 2},
	} {
		c.ready(ctx, t)
		before, fenced := c.incarnation(ctx, t, cut), c.fenced(t, cut)
		for range 3 {
			var v transport.Task
			await(ctx, t, "a node that takes no tasks", func() bool {
				v, err = w.give(ctx, behind.client, "demo.stream", `{"chunks":600,"interval":"2ms","size":16}`)
				return err == nil
			})
			w.alsoWatch(ctx, v.ID)
			behind.alsoWatch(ctx, v.ID)
		}
		lines := w.lines(random, 200)
		w.submitting.Go(func() { w.batch(ctx, lines, len(lines), nil) })
		c.pause(ctx, t, int64(200*time.Millisecond))
		c.ready(ctx, t)
		x.spoil()
		until := time.Now().Add(x.last)
		// It is cut off until it has given up and the others have gone on without it,
		// however long that takes here.
		gaveUp := func() bool { return c.fenced(t, cut) > fenced }
		var probes sync.WaitGroup
		probes.Go(func() { c.probeCut(ctx, t, x.name, until, behind.client, gaveUp) })
		for node := range cut {
			probes.Go(func() { c.probeWhole(ctx, t, x.name, until, c.at(t, node)) })
		}
		probes.Wait()
		wire.heal()
		healed := time.Now()
		// Readiness is not waited for but a task: on a busy machine so short a lease
		// may be lost once more in between.
		await(ctx, t, "a node that does not take tasks again", func() bool {
			return w.echo(ctx, behind.client) == nil
		})
		back := time.Since(healed)
		if now := c.incarnation(ctx, t, cut); now <= before {
			t.Errorf("%s: the node goes on %v after, as %d; it was %d", x.name, back, now, before)
		}
		t.Logf("%s for %v: a task through that node was done %v after", x.name, x.last, back.Round(time.Millisecond))
	}
	c.conclude(ctx, t, endFeeds, behind)
	if w.interrupted == 0 || w.reconnects.Load() == 0 {
		t.Error("the cuts hit too little to show anything")
	}
}

// incarnation is the newest number of a node.
func (c *cluster) incarnation(ctx context.Context, t *testing.T, node int) (newest int64) {
	t.Helper()
	var l transport.NodeList
	insist(ctx, t, func() (err error) {
		l, err = c.at(t, 0).Nodes(ctx)
		return err
	})
	for _, n := range l.Nodes {
		if n.Name == nameOf(node) {
			newest = max(newest, n.Incarnation)
		}
	}
	return newest
}

// fenced is how often a node has lost its lease.
func (c *cluster) fenced(t *testing.T, node int) float64 {
	t.Helper()
	return metric(t, "http://"+c.nodes[node].address, "troupe_node_fenced_total")
}

// tooLong is what nobody here waits for an answer that comes at all: it takes some
// seconds, and more on a machine that stands still or is slow.
const tooLong = time.Minute

// probeCut asks a node without its database whether it is ready, and to take
// tasks, until it has given up, and some more. It must say no, and not for ever be
// silent.
func (c *cluster) probeCut(ctx context.Context, t *testing.T, cut string, until time.Time, node *client.Client, gaveUp func() bool) {
	t.Helper()
	slowest := time.Duration(0)
	for gone, again := false, true; again && ctx.Err() == nil; rest(ctx, 50*time.Millisecond) {
		again = !gone || time.Now().Before(until)
		asked := time.Now()
		_, err := c.w.give(ctx, node, "demo.echo", "2")
		took := time.Since(asked)
		slowest = max(slowest, took)
		p, _ := errors.AsType[*transport.Problem](err)
		if p == nil || p.Status != http.StatusServiceUnavailable || took > tooLong {
			t.Errorf("%s: a submit got %v after %v", cut, err, took)
		}
		asked = time.Now()
		err = node.Ready(ctx)
		took = time.Since(asked)
		slowest = max(slowest, took)
		p, _ = errors.AsType[*transport.Problem](err)
		if p == nil && gone || took > tooLong {
			t.Errorf("%s: the node has given up and says of itself %v, after %v", cut, err, took)
		}
		gone = gone || gaveUp()
	}
	t.Logf("%s: the node that was cut answered within %v", cut, slowest.Round(time.Millisecond))
}

// probeWhole has tasks done by a node while another is cut, one at least. Where the
// machine is so busy that it loses its lease, too, it is asked again.
func (c *cluster) probeWhole(ctx context.Context, t *testing.T, cut string, until time.Time, node *client.Client) {
	t.Helper()
	for done := 0; done == 0 || time.Now().Before(until); rest(ctx, 20*time.Millisecond) {
		began := time.Now()
		err := c.w.echo(ctx, node)
		for err != nil && time.Since(began) < tooLong {
			rest(ctx, 50*time.Millisecond)
			err = c.w.echo(ctx, node)
		}
		if took := time.Since(began); err != nil || took > tooLong {
			t.Errorf("%s: a task of a node that was not cut took %v: %v", cut, took, err)
		}
		done++
	}
}

// rest waits, or not, if there is no time left.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestNodesCutFromEachOther spoils what nodes say to each other, and nothing
// else: everything goes on through the database, a little later.
func TestNodesCutFromEachOther(t *testing.T) {
	t.Parallel()
	store := database(t)
	var inner []string
	var wires []*proxy
	for range clusterNodes {
		address := ownAddress(t)
		inner, wires = append(inner, address), append(wires, newProxy(t, address))
	}
	ctx, cancel := within(t)
	c := startCluster(ctx, t, func(node int) []string {
		return []string{"--store", store, "--lease", noDeath, "--cluster-listen", inner[node], "--cluster-advertise", wires[node].address}
	})
	w := c.w
	w.endWith(t, cancel)
	var through []*witness // each node, for its watchers
	for _, v := range c.nodes {
		of := newWitness(t, v.address)
		of.endWith(t, cancel)
		through = append(through, of)
	}
	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	through[0].follow(feeds, &client.Filter{})
	c.followsLive(ctx, t, "before")

	all := func(spoil func(*proxy)) func() {
		return func() {
			for _, p := range wires {
				spoil(p)
			}
		}
	}
	for _, x := range []struct {
		name  string
		total bool
		cut   func()
	}{
		{"slow", false, all(func(p *proxy) { p.spoil(way{late: 200 * time.Millisecond}, way{late: 200 * time.Millisecond}) })},
		{"refused", true, all((*proxy).refuse)},
		{"black holes", true, func() {
			wires[0].hole()
			wires[1].spoil(way{lost: true}, way{})
			wires[2].spoil(way{}, way{lost: true})
		}},
	} {
		c.cutApart(ctx, t, x.name, x.total, through, x.cut, all((*proxy).heal))
	}
	c.conclude(ctx, t, endFeeds, through...)
}

// cutApart has streams watched on all nodes, tasks done, and a task cancelled,
// while nodes do not hear each other.
func (c *cluster) cutApart(ctx context.Context, t *testing.T, name string, total bool, through []*witness, cut, heal func()) {
	t.Helper()
	holder := 0
	sleeper := c.running(ctx, t, holder, `{"duration":"5m","steps":1}`)
	for node := range through {
		v, err := c.w.give(ctx, c.at(t, node), "demo.stream", `{"chunks":800,"interval":"2ms","size":16}`)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range through {
			w.alsoWatch(ctx, v.ID)
		}
	}
	cut()
	cancelled, asked := make(chan struct{}), c.at(t, 1)
	go func() {
		defer close(cancelled)
		c.cancelThrough(ctx, t, name, asked, sleeper)
	}()
	slowest := time.Duration(0)
	until := time.Now().Add(2500 * time.Millisecond)
	for round := 0; round == 0 || time.Now().Before(until); rest(ctx, 50*time.Millisecond) {
		round++
		for node, w := range through {
			began := time.Now()
			v, err := c.w.give(ctx, c.at(t, (node+1)%len(through)), "demo.echo", "3")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			w.watch(ctx, v.ID) // its end is looked for in conclude
			slowest = max(slowest, time.Since(began))
		}
	}
	// What another node does not answer is given up after 2 s, at the next pulse. All
	// of it was seen while they were cut.
	if slowest > tooLong {
		t.Errorf("%s: a task was seen through another node after %v", name, slowest)
	}
	select {
	case <-cancelled:
		if total {
			t.Errorf("%s: a cancel got through", name)
		}
	default:
	}
	heal()
	healed := time.Now()
	c.followsLive(ctx, t, name)
	t.Logf("%s: watched through another node within %v; live again %v after", name, slowest.Round(time.Millisecond), time.Since(healed).Round(time.Millisecond))
	<-cancelled
	again := c.running(ctx, t, holder, `{"duration":"5m","steps":1}`)
	began := time.Now()
	if _, err := asked.Cancel(ctx, again, "enough"); err != nil || time.Since(began) > tooLong {
		t.Errorf("%s: a cancel afterwards: %v after %v", name, err, time.Since(began))
	}
}

// running has a node run a task that sleeps, and waits until it does.
func (c *cluster) running(ctx context.Context, t *testing.T, node int, payload string) (id string) {
	t.Helper()
	to := c.at(t, node)
	await(ctx, t, "a task that this node does not run", func() bool {
		v, err := c.w.give(ctx, to, "demo.sleep", payload)
		if err != nil {
			t.Fatal(err)
		}
		await(ctx, t, "a task that does not run", func() bool {
			v, err = to.Get(ctx, v.ID)
			return err == nil && v.State == task.Running
		})
		if id = v.ID; v.Node == nameOf(node) {
			return true
		}
		_, err = to.Cancel(ctx, id, "elsewhere")
		return err != nil
	})
	return id
}

// cancelThrough cancels a task that runs on a node which the one asked may not
// reach: it has to wait, or to say so, and not for ever.
func (c *cluster) cancelThrough(ctx context.Context, t *testing.T, cut string, node *client.Client, id string) {
	t.Helper()
	// An answer is waited for 10 s, and it takes 12 to find a connection dead: the
	// second question may be lost, too. The machine may stand still as well.
	const longest = 2 * time.Minute
	began := time.Now()
	for {
		_, err := node.Cancel(ctx, id, "cut")
		took := time.Since(began)
		if err == nil && took < longest {
			t.Logf("%s: cancelled after %v", cut, took.Round(time.Millisecond))
			return
		}
		p, ok := errors.AsType[*transport.Problem](err)
		if v, reading := node.Get(ctx, id); ok && p.Code == "task_ended" && reading == nil && v.State == task.Cancelled {
			t.Logf("%s: cancelled, and told so only now, after %v", cut, took.Round(time.Millisecond))
			return // by what was asked before, whose answer was lost
		}
		if !ok || p.Status != http.StatusServiceUnavailable || took > longest {
			t.Errorf("%s: a cancel got %v after %v", cut, err, took)
			return
		}
	}
}

// followsLive waits until a task is followed through every other node as it
// speaks: for a second, none of its words comes late.
func (c *cluster) followsLive(ctx context.Context, t *testing.T, when string) {
	t.Helper()
	id := c.running(ctx, t, 0, `{"duration":"5m","steps":3000}`)
	for node := 1; node < len(c.nodes); node++ {
		began, prompt := time.Now(), 0
		for item, err := range c.at(t, node).Watch(ctx, client.Topic{Task: id}) {
			if err != nil {
				t.Fatal(err)
			}
			if item.Kind != client.Happened || time.Time(item.Event.At).Before(began) {
				continue
			}
			if prompt++; time.Since(time.Time(item.Event.At)) > 500*time.Millisecond {
				prompt = 0
			}
			if took := time.Since(began); prompt == 10 {
				t.Logf("%s: live through %s after %v", when, nameOf(node), took.Round(time.Millisecond))
				break
			} else if took > patience {
				t.Errorf("%s: a task is not followed live through %s", when, nameOf(node))
				break
			}
		}
	}
	if _, err := c.at(t, 0).Cancel(ctx, id, "seen"); err != nil {
		t.Error(err)
	}
}

var deathLease = flag.Duration("lease", clusterLease, "of the nodes of TestTasksOfADeadNodeGoOnWithinTheLease")

// TestTasksOfADeadNodeGoOnWithinTheLease kills one node after the other, each with
// hundreds of tasks at work, and looks how long each waits for its next attempt.
func TestTasksOfADeadNodeGoOnWithinTheLease(t *testing.T) {
	t.Parallel()
	const most = 600
	const rounds = 3
	store := database(t)
	ctx, cancel := within(t, 10**deathLease)
	defer cancel()
	still := watchStandstill(t)
	c := startCluster(ctx, t, func(int) []string { return []string{"--store", store, "--lease", deathLease.String()} })
	began := time.Now()
	await(ctx, t, "tasks that nobody takes", func() bool {
		var lines []transport.Submission
		for range most {
			s, _ := c.w.note(transport.Submission{Kind: "demo.sleep", Payload: json.RawMessage(`{"duration":"1h","steps":1}`), MaxAttempts: mostAttempts})
			lines = append(lines, s)
		}
		c.w.batch(ctx, lines, len(lines), nil)
		return len(c.w.h.acked) >= most/2
	})
	// victim is a node with enough tasks at work, and those with their attempts.
	victim := func() (node int, at map[string]int) {
		await(ctx, t, "nodes that do not share their tasks", func() bool {
			on := c.whereTasksRun(ctx, t)
			sum := 0
			at = nil
			for i := range c.nodes {
				tasks := on[nameOf(i)]
				if sum += len(tasks); len(tasks) > len(at) {
					node, at = i, tasks
				}
			}
			return sum >= len(c.w.h.acked)
		})
		return node, at
	}
	victim()
	// What it takes here to start them all: a death's share of them takes no longer.
	slack := max(2*time.Second, 2*time.Since(began))

	round := func() error {
		node, at := victim()
		var waits []time.Duration
		killed, stood := time.Now(), still.sum()
		c.nodes[node].mustKill(t)
		await(ctx, t, "tasks that do not go on", func() bool {
			rest(ctx, 200*time.Millisecond)
			for _, tasks := range c.whereTasksRun(ctx, t) {
				for id, attempt := range tasks {
					if before, ok := at[id]; ok && attempt > before {
						delete(at, id)
						waits = append(waits, c.began(ctx, t, id, before+1).Sub(killed))
					}
				}
			}
			return len(at) == 0
		})
		stood = still.sum() - stood
		c.nodes[node].start(t)
		c.ready(ctx, t)
		slices.Sort(waits)
		p99 := waits[len(waits)*99/100]
		t.Logf("%d tasks of a dead node, lease %v: p50 %v, p99 %v, max %v; the machine stood still for %v",
			len(waits), *deathLease, waits[len(waits)/2], p99, waits[len(waits)-1], stood)
		if p99 > *deathLease+slack+stood {
			return fmt.Errorf("p99 is %v with a lease of %v", p99, *deathLease)
		}
		return nil
	}
	for range 2 {
		oneOf(t, rounds, round)
	}
}

// whereTasksRun gives the attempt of each running task, by node.
func (c *cluster) whereTasksRun(ctx context.Context, t *testing.T) map[string]map[string]int {
	t.Helper()
	on := map[string]map[string]int{}
	for v, err := range c.w.client.List(ctx, url.Values{"state": {"running"}, "limit": {"1000"}}) {
		if err != nil {
			return map[string]map[string]int{} // who calls does so again
		}
		if on[v.Node] == nil {
			on[v.Node] = map[string]int{}
		}
		on[v.Node][v.ID] = v.Attempt
	}
	return on
}

// began is when an attempt did.
func (c *cluster) began(ctx context.Context, t *testing.T, id string, attempt int) time.Time {
	t.Helper()
	var log []happening
	insist(ctx, t, func() (err error) {
		log, err = readLog(ctx, c.w.client.Server(), id, "")
		return err
	})
	for _, e := range log {
		var d stateData
		if e.kind == "state" && json.Unmarshal([]byte(e.data), &d) == nil && d.State == "running" && d.Attempt == attempt {
			var at task.Time
			if err := json.Unmarshal([]byte(e.at), &at); err != nil {
				t.Fatal(err)
			}
			return time.Time(at)
		}
	}
	t.Fatalf("attempt %d of task %s runs, and its log does not say so", attempt, id)
	return time.Time{}
}
