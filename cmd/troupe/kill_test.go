package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // to look into the file that is left

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

var (
	cycles   = flag.Int("cycles", 12, "how often TestKill lets a server live and kills it")
	killSeed = flag.Uint64("seed", 0, "of TestKill's random choices; 0: one of its own")
)

// mostAttempts is what a server lets a task ask for unless told otherwise.
const mostAttempts = 1000

// TestKill kills the server at random points and starts it again on the same
// directory, while clients submit and watch. Then it checks what they saw and
// what is left; the rules are in history_test.go. A seed repeats the choices but
// not the run, as the machine's timing is its own.
func TestKill(t *testing.T) {
	t.Parallel()
	s := *killSeed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d -cycles=%d", s, *cycles)
	random := rand.New(rand.NewPCG(s, 0))

	v := newVictim(t, buildTroupe(t))
	w := newWitness(t, v.address)
	c := w.client
	ctx, cancel := within(t, time.Duration(*cycles)*10*time.Second)
	t.Cleanup(cancel)
	t.Cleanup(w.watchers.Wait)
	t.Cleanup(cancel) // before the wait above

	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	v.start(t)
	v.ready(ctx, t, c)
	w.follow(feeds, &client.Filter{})
	for range 3 { // live through all kills, or nearly
		w.stream(ctx, "1500", min(20+10**cycles, mostAttempts), 10)
	}
	for n := range *cycles {
		v.cycle(ctx, t, w, random, n%2 == 0)
	}
	v.ready(ctx, t, c)
	w.submitting.Wait()
	w.settle(ctx, t)
	endFeeds()
	await(ctx, t, "watchers that do not end with their tasks", func() bool { return w.watching.Load() == 0 })
	w.collect(ctx, t)
	v.kill()
	w.judge(t, *cycles)
	v.integrity(ctx, t)
	t.Logf("%d cycles, %d kills: %d tasks acknowledged, %d unknown of which %d exist, %d ended, %d attempts interrupted, %d watchers and %d feeds came back %d times",
		*cycles, v.kills, len(w.h.acked), len(w.h.sent)-len(w.h.acked), len(w.h.tasks)-len(w.h.acked), len(w.h.tasks),
		w.interrupted, len(w.h.watches), len(w.h.feeds), w.reconnects.Load())
	if t.Failed() {
		t.Logf("the server said:\n%s", v.said())
	}
}

// victim is a server.
type victim struct {
	binary, address string
	args            []string // of serve, beside the address
	data            string   // of an embedded store
	log             *os.File
	process         *exec.Cmd
	gone            chan struct{} // closed when the process is
	kills           int
}

// buildTroupe makes the program, once for all tests. What it does in a process of its
// own covers nothing, so that short runs, which are made for their coverage, go without.
func buildTroupe(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("short: starts the program; run without -short")
	}
	binary, err := shared.binary()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func build() (string, error) {
	dir, err := sharedDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "troupe")
	// As make build does, so that the one finds what the other has compiled.
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

func newVictim(t *testing.T, binary string, args ...string) *victim {
	t.Helper()
	dir := t.TempDir()
	v := &victim{binary: binary, address: ownAddress(t), data: filepath.Join(dir, "data")}
	if v.args = args; args == nil {
		v.args = []string{"--data", v.data, "--max-crashes", strconv.Itoa(mostAttempts)}
	}
	var err error
	if v.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.kill()
		_ = v.log.Close()
	})
	return v
}

func (v *victim) start(t *testing.T) {
	t.Helper()
	// Not CommandContext: the server dies by our hand or that is a fault.
	cmd := exec.Command(v.binary, append([]string{"serve", "--listen", v.address, "--log-level", "warn"}, v.args...)...)
	cmd.Stderr = v.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	v.process, v.gone = cmd, gone
}

// kill is kill -9: the server gets no chance to say or store anything. It says
// whether there was something to kill.
func (v *victim) kill() bool {
	if v.process == nil {
		return true
	}
	select {
	case <-v.gone:
		return false
	default:
	}
	_ = v.process.Process.Kill()
	<-v.gone
	v.process = nil
	v.kills++
	return true
}

func (v *victim) mustKill(t *testing.T) {
	t.Helper()
	if !v.kill() {
		t.Fatalf("the server ended by itself, %v:\n%s", v.process.ProcessState, v.said())
	}
}

func (v *victim) said() string {
	all, err := os.ReadFile(v.log.Name())
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(all)) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "  ") { // not the greeting
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

func (v *victim) ready(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	await(ctx, t, "a server that does not come back:\n"+v.said(), func() bool {
		select {
		case <-v.gone:
			t.Fatalf("the server ended by itself, %v:\n%s", v.process.ProcessState, v.said())
		default:
		}
		return c.Ready(ctx) == nil
	})
}

// cycle lets clients work, kills the server under their hands and starts it
// again. Its life begins when it is there, or when it has taken what is watched:
// a slow machine might else be done with it before it took anything.
func (v *victim) cycle(ctx context.Context, t *testing.T, w *witness, random *rand.Rand, taken bool) {
	t.Helper()
	v.ready(ctx, t, w.client)
	life := time.Duration(random.Int64N(int64(400 * time.Millisecond)))
	killed := make(chan struct{})
	lines := w.lines(random, 400+random.IntN(1200))
	stall := len(lines) // where the client stops speaking until the server is dead
	if random.IntN(3) == 0 {
		stall = random.IntN(len(lines))
	}
	w.submitting.Go(func() { w.batch(ctx, lines, stall, killed) })
	before := w.answered.Load()
	for range 2 {
		w.stream(ctx, strconv.Itoa(200+random.IntN(200)), min(5+2**cycles, mostAttempts), random.IntN(20)-5)
	}
	w.single(ctx, random)
	if taken {
		w.answers(ctx, t, before+2)
	}
	pause(ctx, t, life)
	v.mustKill(t)
	close(killed)
	v.start(t)
	if random.IntN(5) > 0 {
		return
	}
	// Once more, while it is still finding out what the first death left.
	pause(ctx, t, time.Duration(random.Int64N(int64(150*time.Millisecond))))
	v.mustKill(t)
	v.start(t)
}

// integrity has SQLite read every page of what a last kill left.
func (v *victim) integrity(ctx context.Context, t *testing.T) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(v.data, "troupe.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("what is left of the database: %s %v", verdict, err)
	}
}

// witness submits, watches and remembers.
type witness struct {
	client *client.Client

	mu sync.Mutex
	h  history

	submitting, watchers sync.WaitGroup
	watching             atomic.Int64
	answered             atomic.Int64 // submissions of streams, whatever became of them
	reconnects           atomic.Int64
	interrupted          int
	refused              []error
}

func newWitness(t *testing.T, address string) *witness {
	t.Helper()
	c, err := client.New("http://"+address, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &witness{client: c, h: history{acked: map[string]int{}, tasks: map[string]outlast{}}}
}

// judge says what is wrong with what was seen, and whether enough was.
func (w *witness) judge(t *testing.T, least int) {
	t.Helper()
	if len(w.h.watches) < least || w.interrupted == 0 || w.reconnects.Load() == 0 {
		t.Error("the faults hit too little to show anything")
	}
	w.verdict(t)
}

// verdict says what is wrong with what was seen.
func (w *witness) verdict(t *testing.T) {
	t.Helper()
	for _, err := range w.refused {
		t.Errorf("a task was refused: %v", err)
	}
	found := check(w.h)
	for i, f := range found {
		if i == 40 {
			t.Errorf("and %d more", len(found)-i)
			break
		}
		t.Errorf("%s: %s", f.rule, f.text)
	}
}

// note gives a submission its number.
func (w *witness) note(s transport.Submission) (transport.Submission, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.h.sent)
	s.Labels = map[string]string{"n": strconv.Itoa(n)}
	s.Retry = &transport.RetrySubmission{Initial: "10ms", Max: "50ms"}
	w.h.sent = append(w.h.sent, sent{id: s.ID, kind: s.Kind, payload: string(s.Payload), maxAttempts: s.MaxAttempts, limits: limitsOn(s)})
	return s, n
}

// limitsOn names the limits a submission is under, as history knows them.
func limitsOn(s transport.Submission) (names []string) {
	if s.ConcurrencyKey != "" {
		names = append(names, "key "+s.ConcurrencyKey)
	}
	if _, pooled := s.Resources[boundPool]; pooled {
		names = append(names, "pool "+boundPool)
	}
	return append(names, "queue "+s.Queue)
}

func (w *witness) ack(id string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.h.acked[id] = n
}

// lines makes the tasks of one batch; the client chooses some of their ids.
func (w *witness) lines(random *rand.Rand, n int) (lines []transport.Submission) {
	for range n {
		s := transport.Submission{Kind: "demo.echo", MaxAttempts: 3, Priority: random.IntN(3)}
		s.Payload = json.RawMessage(fmt.Sprintf(`{"x":%d.50,"s":"%x"}`, random.IntN(1e9), random.Uint64()))
		switch random.IntN(20) {
		case 0, 1:
			s.Kind, s.Payload = "demo.flaky", json.RawMessage(`{"failures":1}`)
		case 2:
			s.Kind, s.Payload, s.MaxAttempts = "demo.flaky", json.RawMessage(`{"failures":3}`), 5
		case 3:
			s.MaxAttempts = 1
		}
		if random.IntN(300) == 0 {
			s.Kind, s.Payload, s.MaxAttempts = "demo.sleep", json.RawMessage(`{"duration":"30ms","steps":3}`), 5
		}
		if random.IntN(3) == 0 {
			s.ID = uuid.NewString()
		}
		s, _ = w.note(s)
		lines = append(lines, s)
	}
	return lines
}

// batch streams lines until they are through or the server is gone. At line
// stall it stops until then.
func (w *witness) batch(ctx context.Context, lines []transport.Submission, stall int, killed <-chan struct{}) {
	reader, writer := io.Pipe()
	var written sync.WaitGroup
	written.Go(func() {
		enc := json.NewEncoder(writer)
		for i, s := range lines {
			if i == stall {
				select {
				case <-killed:
				case <-ctx.Done():
				}
			}
			if enc.Encode(s) != nil {
				break
			}
		}
		_ = writer.Close()
	})
	_, _ = w.client.Batch(ctx, reader, func(l transport.BatchLine) {
		if l.ID != "" && l.Error == nil {
			n, _ := strconv.Atoi(lines[l.Line-1].Labels["n"])
			w.ack(l.ID, n)
		}
	})
	_ = reader.Close() // frees the writer where nobody reads any more
	written.Wait()
}

// single submits one task by itself.
func (w *witness) single(ctx context.Context, random *rand.Rand) {
	s, n := w.note(transport.Submission{Kind: "demo.echo", Payload: json.RawMessage(strconv.Itoa(random.Int())), MaxAttempts: 3})
	w.submitting.Go(func() { w.submit(ctx, s, n) })
}

// submit remembers an acknowledgement, and a refusal, which nothing here deserves.
func (w *witness) submit(ctx context.Context, s transport.Submission, n int) (v transport.Task, ok bool) {
	v, _, err := w.client.Submit(ctx, s)
	if err == nil {
		w.ack(v.ID, n)
		return v, true
	}
	var p *transport.Problem
	if errors.As(err, &p) && p.Status < http.StatusInternalServerError {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused = append(w.refused, err)
	}
	return v, false
}

// stream submits a task that speaks, and watches it from the moment it is
// acknowledged to its end.
func (w *witness) stream(ctx context.Context, chunks string, attempts, priority int) {
	s, n := w.note(transport.Submission{
		Kind: "demo.stream", MaxAttempts: attempts, Priority: priority,
		Payload: json.RawMessage(`{"chunks":` + chunks + `,"interval":"1ms","size":16}`),
	})
	w.submitting.Go(func() {
		v, ok := w.submit(ctx, s, n)
		defer w.answered.Add(1)
		if !ok {
			return
		}
		w.watching.Add(1)
		w.watchers.Go(func() {
			defer w.watching.Add(-1)
			w.watch(ctx, v.ID)
		})
	})
}

// answers waits until it is known of so many streams what became of them.
func (w *witness) answers(ctx context.Context, t *testing.T, streams int64) {
	t.Helper()
	await(ctx, t, "streams that are neither taken nor refused", func() bool { return w.answered.Load() >= streams })
}

// Of these at most so many run at once, in the whole cluster.
const (
	boundPool, boundQueue   = "tokens", "narrow"
	mostPooled, mostInQueue = 3, 2
	boundKeys, mostOfAKey   = 3, 2
)

// bound sets limits. The node that is asked knows them at once, and those that
// start later.
func (w *witness) bound(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := w.client.SetQueue(ctx, boundQueue, transport.QueueChange{Concurrency: new(mostInQueue)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.SetResource(ctx, boundPool, 1000*mostPooled); err != nil {
		t.Fatal(err)
	}
	w.h.limits = map[string]int{"queue " + boundQueue: mostInQueue, "pool " + boundPool: mostPooled}
	for i := range boundKeys {
		w.h.limits["key "+strconv.Itoa(i)] = mostOfAKey
	}
}

// bounded submits a task that speaks under one, two or all of the limits.
func (w *witness) bounded(ctx context.Context, random *rand.Rand) {
	s := transport.Submission{
		Kind: "demo.stream", MaxAttempts: mostAttempts, Priority: random.IntN(3),
		Payload: json.RawMessage(`{"chunks":` + strconv.Itoa(5+random.IntN(20)) + `,"interval":"5ms","size":16}`),
	}
	which := 1 + random.IntN(7)
	if which&1 != 0 {
		s.ConcurrencyKey, s.ConcurrencyLimit = strconv.Itoa(random.IntN(boundKeys)), mostOfAKey
	}
	if which&2 != 0 {
		s.Resources = task.Resources{"slots": 1000, boundPool: 1000}
	}
	if which&4 != 0 {
		s.Queue = boundQueue
	}
	s, n := w.note(s)
	w.submitting.Go(func() { w.submit(ctx, s, n) })
}

// watch follows one task with one Watch. Only a server that was not there at
// its very first dial makes it start another.
func (w *witness) watch(ctx context.Context, id string) {
	seen := watched{task: id}
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.h.watches = append(w.h.watches, seen)
	}()
	for {
		heard := false
		for item, err := range w.client.Watch(ctx, client.Topic{Task: id}) {
			heard = heard || err == nil
			switch {
			case errors.Is(err, client.ErrUnreachable) && !heard && ctx.Err() == nil:
			case err != nil:
				seen.err = err.Error()
				return
			case item.Kind == client.Happened:
				seen.seen = append(seen.seen, view(item.Event))
			case item.Kind == client.Gap:
				seen.gaps = append(seen.gaps, item.First)
			case item.Kind == client.Ended:
				seen.ended = true
			case item.Kind == client.Reconnecting:
				w.reconnects.Add(1)
			}
		}
		if heard {
			return
		}
		pause := time.NewTimer(10 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// follow watches many tasks at once until ctx ends. What each connection was
// told is kept apart, as the next starts with a new view.
func (w *witness) follow(ctx context.Context, filter *client.Filter) {
	w.watching.Add(1)
	w.watchers.Go(func() {
		defer w.watching.Add(-1)
		var told [][]happening
		told = append(told, nil)
		for item, err := range w.client.Watch(ctx, client.Topic{Filter: filter}) {
			switch {
			case err != nil:
				continue
			case item.Kind == client.Happened:
				told[len(told)-1] = append(told[len(told)-1], view(item.Event))
			case item.Kind == client.Reconnecting:
				w.reconnects.Add(1)
				told = append(told, nil)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.h.feeds = append(w.h.feeds, told...)
	})
}

func view(e transport.Event) happening {
	at, _ := e.At.MarshalJSON()
	return happening{e.Task, e.Cursor, string(e.Type), string(at), string(e.Data)}
}

// settle waits until every task has ended, for as long as their number falls.
func (w *witness) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	live := url.Values{"state": {"scheduled,blocked,queued,running"}, "limit": {"1000"}}
	for left := -1; left != 0; {
		before := left
		await(ctx, t, fmt.Sprintf("%d tasks that do not end", before), func() bool {
			left = 0
			for _, err := range w.client.List(ctx, live) {
				if err != nil {
					t.Fatal(err)
				}
				left++
			}
			return before < 0 || left < before
		})
	}
}

// collect reads all there is.
func (w *witness) collect(ctx context.Context, t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids, ends []string
	for v, err := range w.client.List(ctx, url.Values{"limit": {"1000"}}) {
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(v.Labels["n"])
		if err != nil {
			n = -1
		}
		ids, ends = append(ids, v.ID), append(ends, v.Cursor)
		w.h.tasks[v.ID] = outlast{
			number: n, kind: v.Kind, payload: string(v.Payload), state: v.State.String(), result: string(v.Result),
			attempt: v.Attempt, maxAttempts: v.MaxAttempts,
		}
	}
	logs := make([][]happening, len(ids))
	errs := make([]error, len(ids))
	var readers sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ids); i = int(next.Add(1)) - 1 {
				logs[i], errs[i] = readLog(ctx, w.client.Server(), ids[i], ends[i])
			}
		})
	}
	readers.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		v := w.h.tasks[id]
		v.log = logs[i]
		w.h.tasks[id] = v
		w.interrupted += len(slices.DeleteFunc(slices.Clone(v.log), func(e happening) bool {
			return e.kind != "state" || !strings.Contains(e.data, `"node_lost"`)
		}))
	}
}

// readLog reads a task's log up to its end, the cursor the task names, and
// whatever stands behind it on the same page.
func readLog(ctx context.Context, server, id, end string) (log []happening, err error) {
	for after := ""; ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/v1/tasks/"+id+"/events?limit=1000&after="+after, nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		var page transport.EventPage
		err = json.NewDecoder(resp.Body).Decode(&page)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || page.Gap != nil {
			return nil, fmt.Errorf("events of %s behind %q: %s %v %w", id, after, resp.Status, page.Gap, err)
		}
		for _, e := range page.Events {
			log = append(log, view(e))
		}
		if len(page.Events) == 0 || log[len(log)-1].cursor == end {
			return log, nil
		}
		after = page.Next
	}
}
