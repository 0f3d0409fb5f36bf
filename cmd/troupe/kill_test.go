package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

var (
	cycles = flag.Int("cycles", 50, "how often TestKill kills the server")
	seed   = flag.Uint64("seed", 0, "of TestKill's random choices; 0: one of its own")
)

// victim is a server that is killed again and again.
type victim struct {
	binary, address, data string
	cmd                   *exec.Cmd
	said                  tty
}

func (v *victim) start(t *testing.T) {
	t.Helper()
	v.cmd = exec.Command(v.binary, "serve", "--listen", v.address, "--data", v.data, "--log-level", "warn")
	v.cmd.Stderr = &v.said
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill is kill -9: the process gets no chance to say or store anything.
func (v *victim) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// observer submits and watches, and remembers what it was told.
type observer struct {
	c  *client.Client
	mu sync.Mutex
	h  history

	reconnects int
	unknown    int
}

// TestKill kills the server at random points, starts it again on the same
// directory, and checks in the end what its clients saw: every acknowledged task
// ends exactly once, and watchers, who come back by themselves with their
// cursors, see no gap and no repeat.
func TestKill(t *testing.T) {
	random := rand.New(rand.NewPCG(pickSeed(t), 1))
	dir := t.TempDir()
	v := &victim{binary: filepath.Join(dir, "troupe"), data: filepath.Join(dir, "data"), address: freeAddress(t)}
	if out, err := exec.Command("go", "build", "-o", v.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c, err := client.New("http://"+v.address, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{c: c, h: history{
		acked: map[string]transport.Submission{}, final: map[string]transport.Task{}, logs: map[string][]transport.Event{},
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Duration(*cycles)*2*time.Second)
	defer cancel()
	v.start(t)
	defer func() { v.kill() }()

	var watchers sync.WaitGroup
	for n := range *cycles {
		o.awaitReady(ctx, t, v)
		// One large cycle in five; the others are small, so that there are many.
		tasks := 30
		if n%5 == 0 {
			tasks = 1000
		}
		o.streams(ctx, t, &watchers, random, n)
		lines := batchOf(random, tasks)
		done := make(chan struct{})
		go func() {
			defer close(done)
			o.submit(ctx, lines)
		}()
		<-time.After(time.Duration(random.Int64N(int64(250 * time.Millisecond))))
		v.kill()
		<-done
		v.start(t)
	}
	o.awaitReady(ctx, t, v)
	o.collect(ctx, t)
	watchers.Wait()
	for _, violation := range o.h.check() {
		t.Error(violation)
	}
	interrupted := 0
	for _, one := range o.h.final {
		for _, e := range one.Errors {
			if e.Code == "node_lost" {
				interrupted++
			}
		}
	}
	t.Logf("%d kills: %d tasks acknowledged, %d submissions unanswered, %d tasks in the end, %d attempts interrupted, %d watchers came back %d times",
		*cycles, len(o.h.acked), o.unknown, len(o.h.final), interrupted, len(o.h.watched), o.reconnects)
	if said := v.said.String(); strings.Contains(said, "panic") {
		t.Errorf("the server said: %s", said)
	}
	v.kill()
	store, err := persistence.Open(ctx, v.data, persistence.Options{NoMigrate: true})
	if err != nil {
		t.Fatalf("open what is left: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func pickSeed(t *testing.T) uint64 {
	t.Helper()
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (o *observer) awaitReady(ctx context.Context, t *testing.T, v *victim) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); o.c.Ready(ctx) != nil; {
		if time.Now().After(deadline) {
			t.Fatalf("the server does not come back: %s", v.said.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// batchOf makes lines of quick tasks.
func batchOf(random *rand.Rand, n int) (lines []transport.Submission) {
	retry := &transport.RetrySubmission{Initial: "5ms", Max: "20ms"}
	for i := range n {
		s := transport.Submission{Kind: "demo.echo", Payload: json.RawMessage(strconv.Itoa(i)), MaxAttempts: 100, Retry: retry}
		switch random.IntN(10) {
		case 0:
			s.Kind, s.Payload = "demo.flaky", json.RawMessage(`{"failures":1}`)
		case 1:
			s.Kind, s.Payload = "demo.sleep", json.RawMessage(`{"duration":"20ms","steps":4}`)
		}
		lines = append(lines, s)
	}
	return lines
}

// streams submits a few streaming tasks and follows each from another
// goroutine, which lives across all kills to come.
func (o *observer) streams(ctx context.Context, t *testing.T, watchers *sync.WaitGroup, random *rand.Rand, cycle int) {
	t.Helper()
	for range 2 {
		s := transport.Submission{
			Kind: "demo.stream", MaxAttempts: 1000, Retry: &transport.RetrySubmission{Initial: "5ms", Max: "50ms"},
			Payload: json.RawMessage(fmt.Sprintf(`{"chunks":%d,"interval":"1ms","size":16}`, 20+random.IntN(150))),
		}
		one, _, err := o.c.Submit(ctx, s)
		if err != nil {
			t.Fatalf("cycle %d: submit: %v", cycle, err)
		}
		o.ack(one.ID, s)
		watchers.Go(func() { o.watch(ctx, t, one.ID) })
	}
}

func (o *observer) ack(id string, s transport.Submission) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.h.acked[id] = s
}

func (o *observer) watch(ctx context.Context, t *testing.T, id string) {
	t.Helper()
	var seen []transport.Event
	for item, err := range o.c.Watch(ctx, client.Topic{Task: id}) {
		switch {
		case err != nil && errors.Is(err, client.ErrUnreachable) && len(seen) == 0 && ctx.Err() == nil:
			// The server was down at the very first dial: the next one counts.
			o.watch(ctx, t, id)
			return
		case err != nil:
			t.Errorf("watch %s: %v", id, err)
		case item.Kind == client.Happened:
			seen = append(seen, item.Event)
		case item.Kind == client.Gap:
			t.Errorf("watch %s: a gap up to %s", id, item.First)
		case item.Kind == client.Reconnecting:
			o.mu.Lock()
			o.reconnects++
			o.mu.Unlock()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.h.watched = append(o.h.watched, seen)
}

// submit streams lines as NDJSON until they are through or the server dies, and
// notes which it acknowledged.
func (o *observer) submit(ctx context.Context, lines []transport.Submission) {
	reader, writer := io.Pipe()
	go func() {
		enc := json.NewEncoder(writer)
		for _, s := range lines {
			if enc.Encode(s) != nil {
				return
			}
		}
		_ = writer.Close()
	}()
	acked := 0
	_, _ = o.c.Batch(ctx, reader, func(l transport.BatchLine) {
		if l.ID != "" && l.Error == nil {
			o.ack(l.ID, lines[l.Line-1])
			acked++
		}
	})
	_ = reader.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unknown += len(lines) - acked
}

// collect waits until every task has ended, and reads all there is.
func (o *observer) collect(ctx context.Context, t *testing.T) {
	t.Helper()
	for {
		s, err := o.c.Stats(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if s.Counts["queued"]+s.Counts["running"]+s.Counts["scheduled"] == 0 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("tasks that do not end: %v", s.Counts)
		case <-time.After(20 * time.Millisecond):
		}
	}
	for one, err := range o.c.List(ctx, url.Values{"limit": {"1000"}}) {
		if err != nil {
			t.Fatal(err)
		}
		o.h.final[one.ID] = one
	}
	for id := range o.h.final {
		o.h.logs[id] = readLog(ctx, t, o.c.Server(), id)
	}
}

func readLog(ctx context.Context, t *testing.T, server, id string) (log []transport.Event) {
	t.Helper()
	for after := ""; ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/v1/tasks/"+id+"/events?limit=1000&after="+after, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var page transport.EventPage
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("events of %s: %s, %v", id, resp.Status, err)
		}
		if len(page.Events) == 0 {
			return log
		}
		log = append(log, page.Events...)
		after = page.Next
	}
}
