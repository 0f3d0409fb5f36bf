package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// What a later troupe adds to the schema, as docs/operations.md wants it done.
var expansion = map[string]string{
	"9001_column.sql": "-- +goose Up\nSET LOCAL lock_timeout = '2s';\nALTER TABLE troupe.tasks ADD COLUMN later text;\n",
	"9002_index.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nDROP INDEX IF EXISTS troupe.live_later;\n" +
		"CREATE INDEX CONCURRENTLY live_later ON troupe.tasks_live (later) WHERE later IS NOT NULL;\n",
}

// buildLater makes the program as a later version of it would be.
func buildLater(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	added := map[string]string{}
	for name, text := range expansion {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		added[filepath.Join(root, "persistence/postgres/migrations", name)] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": added})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "troupe")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", list, "-ldflags", "-X main.version=later", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does, which has compiled most of it
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// TestRollingUpgrade replaces three nodes by those of a later version, one after
// the other, while clients submit and watch. When the schema has been expanded,
// one of the old and one of the new are killed, and have to come back on it.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	store := database(t)
	binary, later := buildTroupe(t), buildLater(t)
	nodes := make([]*victim, clusterNodes)
	var addresses []string
	for i := range nodes {
		nodes[i] = newVictim(t, binary, "--store", store, "--lease", "4s", "--drain-timeout", "300ms", "--name", "n"+strconv.Itoa(i))
		nodes[i].start(t)
		addresses = append(addresses, nodes[i].address)
	}
	w := newWitness(t, balancer(t, addresses))
	ctx, cancel := within(t)
	t.Cleanup(w.watchers.Wait)
	t.Cleanup(cancel) // before the wait above
	c := &cluster{nodes: nodes, w: w, random: rand.New(rand.NewPCG(1, 2))}
	c.ready(ctx, t)

	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	w.follow(feeds, &client.Filter{})
	for range 6 { // too long to end before the last node has gone
		w.stream(ctx, "4000", 2, 10)
	}
	load, endLoad := context.WithCancel(ctx)
	defer endLoad()
	w.submitting.Go(func() { c.load(load, ctx) })

	for i, n := range nodes {
		c.pause(ctx, t, int64(500*time.Millisecond))
		c.speaks(ctx, t, i)
		n.drain(ctx, t)
		n.binary = later
		n.start(t)
		c.ready(ctx, t)
		if i != 1 {
			continue
		}
		// Whatever was handed back so far is held by these two, or by a third that
		// has just begun.
		c.speaks(ctx, t, 0)
		nodes[0].mustKill(t)
		nodes[2].mustKill(t)
		nodes[0].start(t)
		nodes[2].start(t)
		c.ready(ctx, t)
	}
	endLoad()
	w.submitting.Wait()
	w.settle(ctx, t)
	endFeeds()
	await(ctx, t, "watchers that do not end with their tasks", func() bool { return w.watching.Load() == 0 })
	w.collect(ctx, t)
	beyond := forgive(t, &w.h)
	w.judge(t, 6)
	if beyond == 0 {
		t.Error("the drains hit too little to show anything")
	}
	for _, n := range nodes {
		if greeting, err := os.ReadFile(n.log.Name()); err != nil || !strings.Contains(string(greeting), "Troupe later serves") {
			t.Errorf("a node is not of the later version: %v", err)
		}
	}
	if v := ask(t, store, "SELECT max(version_id) FROM troupe.migrations"); v != "9002" {
		t.Errorf("the schema has version %s", v)
	}
	t.Logf("%d tasks acknowledged, %d unknown of which %d exist; %d attempts interrupted, %d streams in attempts beyond their number; %d watchers and %d feeds came back %d times",
		len(w.h.acked), len(w.h.sent)-len(w.h.acked), len(w.h.tasks)-len(w.h.acked), w.interrupted, beyond, len(w.h.watches), len(w.h.feeds), w.reconnects.Load())
	if t.Failed() {
		for i, n := range nodes {
			t.Logf("node %d said:\n%s", i, n.said())
		}
	}
}

// load keeps clients at work until load ends; what is under way then may finish
// until ctx does.
func (c *cluster) load(load, ctx context.Context) {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for load.Err() == nil {
		lines := c.w.lines(c.random, 50)
		c.w.batch(ctx, lines, len(lines), nil)
		c.w.stream(ctx, strconv.Itoa(100+c.random.IntN(300)), 2, c.random.IntN(20)-5)
		c.w.single(ctx, c.random)
		select {
		case <-again.C:
		case <-load.Done():
		}
	}
}

// speaks has a node run a stream that goes on for a while.
func (c *cluster) speaks(ctx context.Context, t *testing.T, node int) {
	t.Helper()
	to := c.at(t, node)
	await(ctx, t, "a stream that this node does not run", func() bool {
		s, n := c.w.note(transport.Submission{
			ID: uuid.NewString(), Kind: "demo.stream", MaxAttempts: 2, Priority: 10,
			Payload: json.RawMessage(`{"chunks":4000,"interval":"1ms","size":16}`),
		})
		var v transport.Task
		insist(ctx, t, func() (err error) {
			v, _, err = to.Submit(ctx, s)
			return err
		})
		c.w.ack(v.ID, n)
		c.w.alsoWatch(ctx, v.ID)
		await(ctx, t, "a stream that does not run", func() bool {
			v = lookAt(ctx, t, to, v.ID)
			return v.State == task.Running || v.State.Terminal()
		})
		return v.State == task.Running && v.Node == nameOf(node)
	})
}

// drain ends the server as a service manager does.
func (v *victim) drain(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := v.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-v.gone:
	case <-late.C:
		t.Fatalf("a node does not end:\n%s", v.said())
	case <-ctx.Done():
		t.Fatal("out of time")
	}
	// Where the machine stood still, requests did not end in time, and it says so.
	if !v.process.ProcessState.Success() && !strings.Contains(v.said(), "did not end in time") {
		t.Fatalf("a node was told to end: %v\n%s", v.process.ProcessState, v.said())
	}
	v.process = nil
}

// forgive grants each task the attempts that drained nodes handed back, which do
// not count, and says how many streams needed them. A stream may be interrupted once,
// by a death or a lease that ran out: none fails that was not interrupted twice.
func forgive(t *testing.T, h *history) (beyond int) {
	t.Helper()
	for id, v := range h.tasks {
		back, died := 0, 0
		for _, e := range v.log {
			if strings.Contains(e.data, `"handed_back"`) {
				back++
			}
			if strings.Contains(e.data, `"node_lost"`) {
				died++
			}
		}
		if v.kind == "demo.stream" && v.state != "succeeded" && died < v.maxAttempts {
			t.Errorf("stream %s %s in attempt %d of %d: %v", id, v.state, v.attempt, v.maxAttempts, v.log[len(v.log)-1])
		}
		if v.kind == "demo.stream" && back > 0 && v.attempt > 1+died {
			beyond++
		}
		if back > 0 && v.number >= 0 {
			v.maxAttempts += back
			h.sent[v.number].maxAttempts += back
			h.tasks[id] = v
		}
	}
	return beyond
}
