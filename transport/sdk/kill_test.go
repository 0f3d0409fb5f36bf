package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

var tasksOfEach = flag.Int("tasks", 500, "how many tasks TestWorkersAreKilled has the workers of each language run")

// languages are those that workers are written in. Each runs tasks of a kind of its own.
var languages = []string{"python", "typescript"}

// hand is a worker in a process of its own.
type hand struct {
	start   func() *exec.Cmd
	process *exec.Cmd
	gone    chan error // how it ended
}

func (h *hand) begin(t *testing.T) {
	t.Helper()
	h.process, h.gone = h.start(), make(chan error, 1)
	var said bytes.Buffer
	h.process.Stderr = &said
	if err := h.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := h.process.Wait()
		if err != nil && said.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, said.String())
		}
		h.gone <- err
	}()
}

// kill is kill -9. A worker that has ended by itself is a fault.
func (h *hand) kill(t *testing.T) {
	t.Helper()
	select {
	case err := <-h.gone:
		t.Errorf("a worker ended by itself: %v", err)
		return
	default:
	}
	_ = h.process.Process.Kill()
	if err := <-h.gone; err == nil {
		t.Error("a worker ended by itself")
	}
}

// Workers in Python and TypeScript run tasks while they, and now and then the
// server, are killed at random. Each task ends once, with its own result.
func TestWorkersAreKilled(t *testing.T) {
	t.Parallel()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, "--worker-lease", "1s")
	ctx := t.Context()
	c := s.client(t)
	for _, language := range languages {
		submitEchoes(ctx, t, c, language)
	}
	hands := handsAt(t, s)
	for _, h := range hands {
		h.begin(t)
	}
	kills, deaths := 0, 0
	for turn := 1; !t.Failed(); turn++ {
		// Killed by how far they come, they come on, however slow the machine is.
		if left := ended(ctx, t, c, rand.IntN(1+*tasksOfEach/10)); left == 0 {
			break
		}
		if turn%5 == 0 {
			s.kill()
			deaths++
			if err := s.start(ctx); err != nil {
				t.Fatal(err)
			}
			continue
		}
		h := hands[rand.IntN(len(hands))]
		h.kill(t)
		kills++
		h.begin(t)
	}
	for _, h := range hands {
		h.kill(t)
	}
	attempts := 0
	for _, language := range languages {
		attempts += checkEchoes(ctx, t, c, language)
	}
	t.Logf("%d tasks of each language in %d attempts, over %d kills of workers and %d of the server", *tasksOfEach, attempts, kills, deaths)
}

// handsAt is two workers of each language.
func handsAt(t *testing.T, s *server) []*hand {
	t.Helper()
	const beside = "typescript/build/worker.mjs" // where it finds the package under its own name
	raw, err := os.ReadFile("testdata/worker.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(beside, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	inPython := func() *exec.Cmd { return python(t, s.env(), filepath.Join("..", "testdata", "worker.py")) }
	inTypeScript := func() *exec.Cmd {
		cmd := node(t.Context(), "node", "build/worker.mjs")
		cmd.Env = append(cmd.Env, s.env()...)
		return cmd
	}
	return []*hand{{start: inPython}, {start: inPython}, {start: inTypeScript}, {start: inTypeScript}}
}

// submitEchoes submits tasks whose results are their payloads.
func submitEchoes(ctx context.Context, t *testing.T, c *client.Client, language string) {
	t.Helper()
	var lines strings.Builder
	for i := range *tasksOfEach {
		fmt.Fprintf(&lines, `{"kind":"%s.echo","payload":%d,"max_attempts":1000,"retry":{"initial":"10ms","max":"100ms"}}`+"\n", language, i)
	}
	sum, err := c.Batch(ctx, strings.NewReader(lines.String()), func(transport.BatchLine) {})
	if err != nil || sum.Accepted != *tasksOfEach {
		t.Fatalf("%+v, %v", sum, err)
	}
}

// ended waits until so many more tasks have ended, or all, and says how many are left.
func ended(ctx context.Context, t *testing.T, c *client.Client, more int) (left int64) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	first := int64(-1)
	for late := time.After(patience); ; {
		if n, err := live(ctx, c); err == nil {
			if first < 0 {
				first = n
			}
			if n == 0 || first-n >= int64(more) {
				return n
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d more tasks do not end", more)
		}
	}
}

// live is how many tasks have not ended.
func live(ctx context.Context, c *client.Client) (n int64, err error) {
	stats, err := c.Stats(ctx)
	for _, state := range []task.State{task.Scheduled, task.Blocked, task.Queued, task.Running} {
		n += stats.Counts[state.String()]
	}
	return n, err
}

// checkEchoes checks that each task of a language has ended once, with its own
// result, and says how many attempts that took.
func checkEchoes(ctx context.Context, t *testing.T, c *client.Client, language string) (attempts int) {
	t.Helper()
	seen := map[string]bool{}
	for v, err := range c.List(ctx, url.Values{"kind": {language + ".echo"}, "limit": {"1000"}}) {
		if err != nil {
			t.Fatal(err)
		}
		payload := string(v.Payload)
		if v.State != task.Succeeded || string(v.Result) != payload || seen[payload] {
			t.Errorf("task %s with payload %s is %s with result %s", v.ID, payload, v.State, v.Result)
		}
		seen[payload] = true
		attempts += v.Attempt
		checkEnd(ctx, t, c, v.ID)
	}
	for i := range *tasksOfEach {
		if !seen[strconv.Itoa(i)] {
			t.Errorf("%s: task %d is missing", language, i)
		}
	}
	return attempts
}

// checkEnd checks that a task's log has one end, and that it is the last event.
func checkEnd(ctx context.Context, t *testing.T, c *client.Client, id string) {
	t.Helper()
	ends, last := 0, false
	for item, err := range c.Watch(ctx, client.Topic{Task: id}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Kind != client.Happened {
			continue
		}
		var data struct{ State string }
		if err := json.Unmarshal(item.Event.Data, &data); err != nil {
			t.Fatal(err)
		}
		if last = data.State == task.Succeeded.String(); last {
			ends++
		}
	}
	if ends != 1 || !last {
		t.Errorf("task %s ended %d times, and last: %v", id, ends, last)
	}
}
