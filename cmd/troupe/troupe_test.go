package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/transport"
)

// tty is a test's terminal: what was written can be read while the command
// runs.
type tty struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *tty) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *tty) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// outcome is how a command ended.
type outcome struct {
	status   int
	out, err string
}

// troupe runs a command against a server, off a terminal unless person.
func troupe(tb testing.TB, server string, person bool, stdin string, args ...string) outcome {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errs tty
	status := run(ctx, args, terminal{
		in: strings.NewReader(stdin), out: &out, err: &errs, outTTY: person, errTTY: person,
		width: func() int { return 100 },
		env: func(name string) string {
			if name == "TROUPE_SERVER" {
				return server
			}
			return ""
		},
	})
	return outcome{status, out.String(), errs.String()}
}

// serveIn starts "troupe serve" in this process, and stops it with the test.
func serveIn(tb testing.TB, args ...string) (server string) {
	tb.Helper()
	address := ownAddress(tb)
	return serveAt(tb, "http://"+address, http.DefaultClient, append([]string{"--listen", address}, args...)...)
}

// serveAt is serveIn for who says where it listens, and how to reach it there; where
// server is empty, it says so itself.
func serveAt(tb testing.TB, server string, by *http.Client, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var errs tty
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--data", tb.TempDir(), "--drain-timeout", "2s"}, args...),
			terminal{in: strings.NewReader(""), out: &errs, err: &errs, width: func() int { return 80 }, env: func(string) string { return "" }})
	}()
	tb.Cleanup(func() {
		cancel()
		if status := <-ended; status != 0 {
			tb.Errorf("serve ended with %d: %s", status, errs.String())
		}
	})
	if !comes(ctx, func() bool {
		if said := greeting.FindStringSubmatch(errs.String()); server == "" && said != nil {
			server = said[1]
		}
		resp, err := by.Get(server + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}) {
		tb.Fatalf("the server does not come up: %s", errs.String())
	}
	return server
}

// greeting has the address of a server in it.
var greeting = regexp.MustCompile(`Troupe \S+ serves (\S+) `)

func wantStatus(t *testing.T, got outcome, status int, texts ...string) {
	t.Helper()
	if got.status != status {
		t.Errorf("status %d, want %d\n%s%s", got.status, status, got.out, got.err)
	}
	for _, text := range texts {
		if !strings.Contains(got.out+got.err, text) {
			t.Errorf("lacks %q:\n%s%s", text, got.out, got.err)
		}
	}
}

func TestCommandsAgainstAServer(t *testing.T) {
	t.Parallel()
	server := serveIn(t, "--allow-exec")
	do := func(args ...string) outcome { return troupe(t, server, false, "", args...) }
	person := func(args ...string) outcome { return troupe(t, server, true, "", args...) }

	one := do("submit", "demo.echo", `{"a":1}`, "--priority", "3", "--label", "k=v", "--resource", "cpu=1", "--resource", "slots=1")
	wantStatus(t, one, 0)
	id := strings.TrimSpace(one.out)
	wantStatus(t, do("watch", id), 0, `"cursor":"0.1"`, `"state":"succeeded"`)
	var shown transport.Task
	if got := do("show", id); json.Unmarshal([]byte(got.out), &shown) != nil || shown.Priority != 3 || shown.Labels["k"] != "v" || string(shown.Result) != `{"a":1}` {
		t.Errorf("show: %s", got.out)
	}
	wantStatus(t, person("show", id), 0, "priority", "✓ succeeded", `{"a":1}`)
	wantStatus(t, do("explain", id), 0, "has ended")
	wantStatus(t, do("ls", "--kind", "demo.echo", "--label", "k=v"), 0, id, "succeeded")
	wantStatus(t, do("ls", "--json"), 0, `"id":"`+id)
	wantStatus(t, do("ls", "--failed"), 0, "no tasks")
	wantStatus(t, do("cancel", id), 1, "has ended")
	wantStatus(t, do("retry", id), 1)
	wantStatus(t, do("rm", id), 0, "deleted")
	wantStatus(t, do("show", id), 1, "there is no such task", "troupe ls")

	wantStatus(t, do("submit", "demo.echo", "7", "--wait"), 0, `"result":7`)
	wantStatus(t, do("submit", "demo.flaky", `{"failures":9}`, "--max-attempts", "1", "--follow"), 1, "failed", "troupe retry")
	wantStatus(t, person("submit", "demo.sleep", `{"duration":"200ms","steps":4}`, "--follow"), 0, "█", "succeeded in")
	wantStatus(t, person("submit", "demo.stream", `{"chunks":2,"interval":"1ms","size":4}`, "--follow"), 0, `{"i":1,`)
	wantStatus(t, troupe(t, server, false, `{"from":"stdin"}`, "submit", "demo.echo", "-", "--wait"), 0, `{"from":"stdin"}`)

	later := strings.TrimSpace(do("submit", "demo.echo", "1", "--delay", "1h").out)
	wantStatus(t, do("explain", later), 0, "It was submitted to run at")
	wantStatus(t, do("explain", later, "--json"), 0, `"reason":"time"`)
	wantStatus(t, do("cancel", later, "--reason", "enough"), 0, "cancelled")
	wantStatus(t, do("watch", later), 1, `"reason":"enough"`)
	wantStatus(t, do("retry", later, "--json"), 0, `"state":"queued"`)

	waits := strings.TrimSpace(do("submit", "demo.steps", `{"steps":2,"sleep":"1500ms","wait_for":"go"}`).out)
	wantStatus(t, do("signal", waits, "go", `{"by":"ada"}`), 0, "was sent go")
	wantStatus(t, do("watch", waits), 0, `"message":"step finished"`, `"reason":"sleep"`, `"message":"signal taken"`, `"signal":{"by":"ada"}`)
	wantStatus(t, do("signal", waits, "go"), 1, "has ended")
	waits = strings.TrimSpace(do("submit", "demo.steps", `{"wait_for":"go"}`, "--deadline", time.Now().Add(time.Hour).Format(time.RFC3339)).out)
	await(t.Context(), t, "wait for its signal", func() bool { return strings.Contains(do("explain", waits).out, `It waits for the signal "go".`) })
	wantStatus(t, do("explain", waits, "--json"), 0, `"reason":"signal"`, `"signal":"go"`)
	wantStatus(t, troupe(t, server, false, `[1]`, "signal", waits, "go", "-", "--json"), 0, `"signal":"go"`)
	wantStatus(t, do("watch", waits), 0, `"signal":[1]`)
	wantStatus(t, do("signal", waits), 2)
	wantStatus(t, do("signal", waits, "go", "{"), 2, "not JSON")

	wantStatus(t, do("queues"), 0, "QUEUE", "default")
	wantStatus(t, do("queues", "pause", "slow"), 0, "slow paused=true")
	wantStatus(t, do("queues", "set", "slow", "--concurrency", "2", "--rate", "5/s"), 0, "slow paused=true concurrency=2 rate=5/s")
	wantStatus(t, do("queues", "set", "slow"), 2, "a flag")
	wantStatus(t, do("queues", "set", "slow", "--burst", "3", "--weight", "0.5", "--policy", "deadline", "--placement", "pack", "--max-queued", "9"), 0,
		"concurrency=2 rate=5/s burst=3 weight=0.5 policy=deadline placement=pack max_queued=9")
	wantStatus(t, do("queues", "set", "slow", "--policy", "lifo"), 1, "policy")
	wantStatus(t, do("queues", "set", "slow", "--rate", "soon"), 1, "rate")
	wantStatus(t, do("queues"), 0, "slow", "5/s")
	wantStatus(t, do("resources", "set", "openai", "20"), 0, "openai capacity=20 used=0")
	wantStatus(t, do("resources", "set", "openai", "many"), 2, "quantity")
	wantStatus(t, do("resources"), 0, "openai", "cluster")
	wantStatus(t, do("resources", "rm", "openai"), 0)
	wantStatus(t, do("kinds", "set", "demo.echo", "--concurrency", "7"), 0, "demo.echo concurrency=7")
	wantStatus(t, do("kinds", "set", "demo.echo", "--breaker", "5", "--breaker-open", "2m"), 0, "breaker=5 in 1m0s for 2m0s")
	wantStatus(t, do("kinds", "set", "demo.echo", "--breaker", "5", "--breaker-open", "1ms"), 1, "breaker.open_for")
	wantStatus(t, do("kinds", "set", "demo.echo", "--breaker", "5", "--breaker-window", "x"), 1, "breaker.window")
	wantStatus(t, do("kinds", "set", "demo.echo", "--breaker", "0"), 0, "breaker=-")
	wantStatus(t, do("kinds", "set", "demo.echo", "--retry-budget", "0.25"), 0, "retry_budget=0.25")
	wantStatus(t, do("kinds", "set", "demo.echo", "--retry-budget", "2"), 1, "retry_budget")
	wantStatus(t, do("kinds", "set", "demo.echo"), 2, "a flag")
	wantStatus(t, do("kinds", "set", "demo.echo", "--concurrency", "-1"), 1, "concurrency")
	wantStatus(t, do("kinds", "ls"), 0, "demo.echo", "7", "true")
	wantStatus(t, do("kinds", "--json"), 0, `"served":true`)
	wantStatus(t, do("submit", "demo.echo", "1", "--require", "os="+runtime.GOOS, "--require", "os=other", "--prefer", "zone=a", "--sticky", "s", "--wait", "--json"), 0,
		`"prefer":{"zone":"a"}`, `"sticky_key":"s"`, `"succeeded"`)
	wantStatus(t, do("submit", "demo.echo", "1", "--require", "zone"), 2, "want key=value")
	wantStatus(t, do("submit", "demo.echo", "1", "--rate-key", "k", "--rate", "5/s", "--rate-burst", "2", "--wait", "--json"), 0,
		`"rate_key":"k"`, `"rate":"5/s"`, `"rate_burst":2`)
	wantStatus(t, do("queues", "resume", "slow", "--json"), 0, `"paused":false`)
	wantStatus(t, do("schedules", "set", "report", "demo.echo", `{"a":1}`, "--cron", "0 9 * * MON", "--zone", "Europe/Berlin", "--label", "k=v",
		"--starts", "2026-01-01T00:00:00Z", "--ends", "2099-01-01T00:00:00Z"), 0, "report 0 9 * * MON Europe/Berlin kind=demo.echo", "fired=0")
	wantStatus(t, do("schedules", "set", "beat", "demo.echo", "--every", "15m", "--paused", "--json"), 0, `"every":"15m0s"`, `"paused":true`)
	wantStatus(t, do("schedules", "set", "beat"), 2, "KIND")
	wantStatus(t, do("schedules", "set", "beat", "demo.echo", "--starts", "now"), 2, "--starts")
	wantStatus(t, do("schedules", "set", "beat", "demo.echo", "--ends", "now"), 2, "--ends")
	wantStatus(t, do("schedules", "set", "beat", "demo.echo", "--cron", "soon"), 1, "cron")
	wantStatus(t, do("schedules"), 0, "SCHEDULE", "report", "beat", "paused")
	wantStatus(t, do("schedules", "next", "report", "--count", "2"), 0, ":00:00Z")
	wantStatus(t, do("schedules", "next", "report", "--json"), 0, `"ticks"`)
	fired := do("schedules", "trigger", "report")
	wantStatus(t, fired, 0)
	wantStatus(t, do("watch", strings.TrimSpace(fired.out)), 0, `"state":"succeeded"`)
	wantStatus(t, do("show", strings.TrimSpace(fired.out)), 0, `"schedule":{"name":"report"`)
	wantStatus(t, do("schedules", "show", "report"), 0, "fired=1")
	wantStatus(t, do("schedules", "pause", "report"), 0, "paused=true next=-")
	wantStatus(t, do("schedules", "resume", "report"), 0, "paused=false next=2")
	wantStatus(t, do("schedules", "rm", "report"), 0)
	wantStatus(t, do("schedules", "show", "report"), 1, "no such schedule")
	wantStatus(t, do("workers"), 0, "demo.echo", "exec")
	wantStatus(t, do("nodes", "--json"), 0, `"incarnation":1`)
	wantStatus(t, do("nodes"), 0, "NODE", "os="+runtime.GOOS)
	wantStatus(t, do("resources"), 0, "slots", "1000")

	wantStatus(t, do("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"), 7, `{"text":"out\n"}`, `"message":"err"`)
	raw := do("run", "--raw", "--", "echo", "plain")
	if wantStatus(t, raw, 0); raw.out != "plain\n" {
		t.Errorf("raw output %q", raw.out)
	}
	wantStatus(t, person("run", "--", "sh", "-c", "echo out; exit 4"), 4, "out", "exit_status")
	wantStatus(t, do("run", "--", "no-such-program"), 127, "exec_not_found")
	wantStatus(t, do("run", "--timeout", "100ms", "--", "sleep", "30"), 1, "timeout")
}

func TestBatchSubmitsEveryLine(t *testing.T) {
	t.Parallel()
	server := serveIn(t)
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	lines := strings.Repeat(`{"kind":"demo.echo","payload":1}`+"\n", 500) + "nonsense\n\n" + `{"kind":"Bad Kind"}` + "\n"
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, troupe(t, server, false, "", "batch", file), 1, "500 stored, 2 refused", "line 501", "line 503")
	good := strings.Repeat(`{"kind":"demo.echo"}`+"\n", 100)
	wantStatus(t, troupe(t, server, false, good, "batch", "-", "--follow", "--json"), 0, `"accepted":100`, `"done":true`)
	wantStatus(t, troupe(t, server, true, good, "batch", "-", "--follow"), 0, "100 of 100 ended")
	wantStatus(t, troupe(t, server, true, `{"kind":"demo.flaky","payload":{"failures":1},"max_attempts":1}`, "batch", "-", "--follow"), 1, "1 failed")
	called := troupe(t, server, false, good, "batch", "-", "--callback", "demo.echo", "--callback-payload", `"all of it"`, "--follow")
	wantStatus(t, called, 0, "100 stored", "callback ", `"progress":1`)
	_, callback, _ := strings.Cut(called.out, "callback ")
	wantStatus(t, troupe(t, server, false, "", "watch", strings.Fields(callback)[0]), 0, `"state":"blocked"`, `"reason":"batch"`, `"state":"succeeded"`)
	wantStatus(t, troupe(t, server, false, good, "batch", "-", "--callback-payload", "1"), 2, "--callback")
	wantStatus(t, troupe(t, server, false, "", "batch", file+".gone"), 2)
}

func TestWatchDrawsALinePerTask(t *testing.T) {
	t.Parallel()
	server := serveIn(t)
	a := strings.TrimSpace(troupe(t, server, false, "", "submit", "demo.sleep", `{"duration":"300ms","steps":10}`).out)
	b := strings.TrimSpace(troupe(t, server, false, "", "submit", "demo.flaky", `{"failures":1}`, "--max-attempts", "1").out)
	wantStatus(t, troupe(t, server, true, "", "watch", a, b), 1, "demo.sleep", "▶ running", "✓ succeeded", "✗ failed", "flaky")

	// Without a task: everything that happens, until it is interrupted.
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs tty
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"watch", "--server", server}, terminal{in: strings.NewReader(""), out: &out, err: &errs, width: func() int { return 80 }, env: func(string) string { return "" }})
	}()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), `"state":"succeeded"`); {
		if time.Now().After(deadline) {
			t.Fatalf("nothing seen: %s %s", out.String(), errs.String())
		}
		troupe(t, server, false, "", "submit", "demo.echo", "--wait")
	}
	cancel()
	if status := <-ended; status != exitInterrupted {
		t.Errorf("interrupted with %d", status)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"},
		{"submit"},
		{"submit", "a", "b", "c"},
		{"submit", "k", "not json"},
		{"submit", "k", "@/no/such/file"},
		{"submit", "k", "--run-at", "tomorrow"},
		{"submit", "k", "--label", "x"},
		{"submit", "k", "--resource", "cpu"},
		{"submit", "k", "--nope"},
		{"run"},
		{"show"},
		{"ls", "--limit", "0"},
		{"ls", "extra"},
		{"queues", "pause"},
		{"serve", "extra"},
		{"watch", "a", "--queue", "q"},
		{"watch", "--after", "0.1"},
		{"show", "x", "--server", "ftp://x"},
	} {
		if got := troupe(t, "http://127.0.0.1:9", false, "", args...); got.status != exitUsage || got.err == "" {
			t.Errorf("%v: status %d, said %q", args, got.status, got.err)
		}
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	got := troupe(t, "http://127.0.0.1:9", false, "", "ls")
	wantStatus(t, got, 1, "no server answers at http://127.0.0.1:9", "troupe serve")
	wantStatus(t, troupe(t, "http://127.0.0.1:9", false, "", "watch"), 1, "no server answers")
	wantStatus(t, troupe(t, "http://127.0.0.1:9", false, "", "run", "--", "true"), 1, "no server answers")
}

// Where no server answers and none was named, a task gets a node of its own.
func TestFirstCommandNeedsNoServer(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "127.0.0.1:8080"); err != nil {
		t.Logf("something listens on the default address; named servers are tested elsewhere")
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	do := func(args ...string) outcome {
		var out, errs tty
		status := run(t.Context(), args, terminal{in: strings.NewReader(""), out: &out, err: &errs, width: func() int { return 80 }, env: func(name string) string {
			if name == "TROUPE_DATA" {
				return data
			}
			return ""
		}})
		return outcome{status, out.String(), errs.String()}
	}
	wantStatus(t, do("run", "--raw", "--", "echo", "hello"), 0, "hello", "running a node of its own")
	wantStatus(t, do("submit", "demo.echo", "1", "--follow"), 0, `"result":1`)
	wantStatus(t, do("submit", "demo.echo", "1"), 1, "no server answers")

	holder := serveIn(t, "--data", data)
	_ = holder
	wantStatus(t, do("run", "--", "true"), 1, "in use")
}

func TestMigrateMakesTheSchema(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	wantStatus(t, troupe(t, "", false, "", "serve", "--no-migrate", "--data", data, "--listen", "127.0.0.1:0"), 1, "schema")
	wantStatus(t, troupe(t, "", false, "", "migrate", "--data", data), 0, "up to date")
	if _, err := os.Stat(filepath.Join(data, "troupe.db")); err != nil {
		t.Error(err)
	}
}

func TestVersionAndHelp(t *testing.T) {
	wantStatus(t, troupe(t, "", false, "", "--version"), 0, "troupe ")
	wantStatus(t, troupe(t, "", false, ""), 0, "troupe serve")
	for _, name := range []string{"serve", "submit", "run", "watch", "ls", "show", "explain", "cancel", "retry", "rm", "batch", "queues", "workers", "nodes", "resources", "migrate", "completion"} {
		wantStatus(t, troupe(t, "", false, "", name, "--help"), 0, "Usage:")
	}
	wantStatus(t, troupe(t, "", false, "", "completion", "bash"), 0, "troupe")
}

func TestWhatATaskSaysCannotSteerTheTerminal(t *testing.T) {
	if got := safe("a\x1b[2Jb\x07c\u0085\n\td"); got != "a\uFFFD[2Jb\uFFFDc\uFFFD\n\td" {
		t.Errorf("%q", got)
	}
	if got := line("two\nlines\tand \x1b]0;title"); strings.ContainsAny(got, "\n\t\x1b") {
		t.Errorf("%q", got)
	}
	var out, errs tty
	p := &eventPrinter{out: &out, err: &errs}
	for _, e := range []transport.Event{
		{Type: "output", Data: json.RawMessage(`{"text":"x\u001b[31m"}`)},
		{Type: "output", Data: json.RawMessage(`{"base64":"G1szMW0="}`)},
		{Type: "log", Data: json.RawMessage(`{"level":"info","message":"\u001b[31m"}`)},
		{Type: "progress", Data: json.RawMessage(`{"fraction":0.5,"message":"\u001b[31m"}`)},
		{Type: "state", Data: json.RawMessage(`{"state":"scheduled","attempt":1,"error":{"code":"\u001b[31m","message":"\u001b[31m"}}`)},
	} {
		p.event(e)
	}
	if strings.Contains(out.String(), "\x1b") || strings.Contains(strings.ReplaceAll(errs.String(), "\r\x1b[K", ""), "\x1b") {
		t.Errorf("%q %q", out.String(), errs.String())
	}
}

func TestBoardForgetsTheOldest(t *testing.T) {
	b := &board{rows: map[string]*row{}, limit: 3, width: func() int { return 60 }, out: &tty{}}
	for i := range 10 {
		b.event(transport.Event{Task: strconv.Itoa(i), Type: "state", Data: json.RawMessage(`{"state":"running"}`)})
		b.draw()
	}
	if strings.Join(b.order, "") != "789" || b.lines != 3 {
		t.Errorf("%v %d", b.order, b.lines)
	}
}
