package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// built is the troupe binary that all tests measure.
var built = sync.OnceValues(func() (string, error) {
	return build(context.Background(), testDir, io.Discard)
})

var testDir string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "lean" { // the harness starts itself as the bare server
		main()
		return
	}
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		panic(err)
	}
	testDir = dir
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

func troupe(t *testing.T) string {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// measured is a sheet as a program reads it.
type measured struct {
	What    string
	Figures []struct {
		Of, What, Unit string
		Value          struct{ Median, Min, Max float64 }
	}
	Delays []struct {
		Of, What string
		N        int
		Ms       map[string]struct{ Median float64 }
	}
}

// TestSubcommandsMeasure keeps the harness alive. It says nothing about speed.
func TestSubcommandsMeasure(t *testing.T) {
	for _, tt := range []struct {
		args  string
		wants []string // rows
	}{
		{"drain --tasks 300 --batch 100 --profile-for 100ms --cpuprofile DIR/cpu --trace DIR/trace", []string{
			"submitted while they run: ended", "held by a paused queue: ended, from its release on",
			"held by a paused queue: server's CPU a task ended",
		}},
		{"submit --tasks 60 --in-flight 1,8 --batch 20", []string{
			"one by one, 8 in flight: answer", "batches of 20, 1 in flight: accepted", "one stream of NDJSON: accepted",
		}},
		{"latency --rates 50 --lasts 300ms --sessions 3 --in-flight 2 --turns 2", []string{
			"50 a second: submit to start", "0.5 of the capacity: end to watcher, with its commit",
		}},
		{"backlog --waiting 0,200 --tasks 100 --probes 3", []string{
			"200 wait: ended, beside none", "200 wait: submit to start, of higher priority", "200 wait: killed and started, to a task's start",
		}},
		{"backlog --held-by resource --waiting 100 --tasks 50 --probes 2", []string{"100 wait: server's memory a waiting task"}},
		{"ws --sessions 4 --events 100 --lasts 1s", []string{
			"4, own tasks: output to watcher", "4, own tasks: server's CPU an event", "4, own tasks: server's memory an idle session",
			"4, one task: output to watcher", "bare: 4, one task: output to watcher", "bare: 4, own tasks: server's CPU an event",
		}},
		{"resume --watchers 12 --tasks 3 --chunks 12 --interval 200ms --kill-after 1s", []string{
			"12 watchers of 3 tasks: ready to caught up", "12 watchers of 3 tasks: restart to the last caught up",
		}},
		{"limits --lasts 20ms --trips 20 --store postgres", []string{
			"SQLite: rows, 1000 a commit", "PostgreSQL: rows, COPY of 1000", "loopback: WebSocket to a bare server, with JSON",
		}},
		{"drain --tasks 200 --batch 50 --store postgres", []string{"held by a paused queue: PostgreSQL's CPU a task ended"}},
	} {
		name, _, _ := strings.Cut(tt.args, " ")
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			dir := t.TempDir()
			args := strings.Fields(strings.ReplaceAll(tt.args, "DIR", dir) + " --json --plot " + dir + "/plot.svg")
			var out, said bytes.Buffer
			if err := run(ctx, append(args, "--binary", troupe(t)), &out, &said); err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			var got measured
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			var rows []string
			for _, f := range got.Figures {
				rows = append(rows, f.Of+": "+f.What)
			}
			for _, d := range got.Delays {
				rows = append(rows, d.Of+": "+d.What)
				if d.N < 1 || d.Ms["p99"].Median < d.Ms["p50"].Median {
					t.Errorf("%+v", d)
				}
			}
			for _, want := range tt.wants {
				if !slices.Contains(rows, want) {
					t.Errorf("no row %q in\n%s", want, strings.Join(rows, "\n"))
				}
			}
			wantXML(t, dir+"/plot.svg")
			for _, arg := range args {
				if file, ok := strings.CutPrefix(arg, dir); ok {
					if info, err := os.Stat(arg); err != nil || info.Size() == 0 {
						t.Errorf("%s is empty: %v", filepath.Base(file), err)
					}
				}
			}
		})
	}
}

// wantXML reads a drawing to its end.
func wantXML(t *testing.T, name string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(raw))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || bytes.Contains(raw, []byte("NaN")) || bytes.Contains(raw, []byte("Inf")) {
			t.Fatalf("%v\n%s", err, raw)
		}
	}
}

func TestSubcommandsRefuse(t *testing.T) {
	for _, args := range [][]string{
		{"submit", "--tasks", "0"},
		{"latency", "--rates", "0", "--share", "0"},
		{"backlog", "--held-by", "magic"},
		{"ws", "--events", "0"},
		{"resume", "--chunks", "0"},
		{"limits", "--trips", "0"},
		{"all", "--nothing"},
		{"lean", "--listen", "nowhere"},
		nil,
		{"nothing"},
		{"drain", "--store", "redis"},
		{"drain", "--turns", "0"},
		{"drain", "--nothing"},
		{"ws", "--sessions", "1,many"},
	} {
		var out bytes.Buffer
		if len(args) > 0 && args[0] != "all" && args[0] != "lean" {
			args = append(args, "--binary", "none")
		}
		if err := run(t.Context(), args, &out, &out); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestAllIsOfTheSubcommands(t *testing.T) {
	for _, line := range short {
		words := strings.Fields(line)
		sub, ok := subcommandOf(words[0])
		if !ok {
			t.Fatalf("there is no %s", words[0])
		}
		var c common
		flags := flag.NewFlagSet(sub.name, flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		c.bind(flags)
		sub.bind(flags)
		if err := flags.Parse(words[1:]); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestFollowersNoticeGapsAndRepeats(t *testing.T) {
	at := func(cursor string) (m message) {
		m.Method, m.Params.Event.Cursor = "event", cursor
		return m
	}
	for cursors, fine := range map[string]bool{
		"0.1 1.1 1.2 2.1 2.2": true,
		"0.1 0.2 1.1":         true,
		"0.1 1.1 1.3":         false,
		"0.1 1.1 1.1":         false,
		"0.1 1.2":             false,
		"1.1 1.2 2.1 1.3":     false,
	} {
		f, ok := &follower{}, true
		for cursor := range strings.FieldsSeq(cursors) {
			ok = ok && f.saw(at(cursor)) == nil
		}
		if ok != fine {
			t.Errorf("%s: %v", cursors, ok)
		}
	}
	if (&follower{}).saw(message{Method: "gap"}) == nil {
		t.Error("a gap was taken")
	}
}

func TestFilesAreAllowedOrTheLimitIsSaid(t *testing.T) {
	if err := allowFiles(16); err != nil {
		t.Error(err)
	}
	if err := allowFiles(1 << 40); err == nil || !strings.Contains(err.Error(), "ulimit") {
		t.Errorf("a trillion: %v", err)
	}
}

func TestSheetHasMedianLeastAndMost(t *testing.T) {
	s := &sheet{What: "drain", Store: "sqlite", Turns: 3}
	for _, v := range []float64{300, 100, 200} {
		s.add("all", "ended", "/s", v)
		s.add("all", "memory & more", "MiB", 0)
		ds := make([]time.Duration, 100)
		for i := range ds {
			ds[99-i] = time.Duration(i+1) * time.Millisecond
		}
		s.addDelays("all", "start", ds)
	}
	s.addDelays("none", "start", nil)
	var text bytes.Buffer
	if err := s.Print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"200 (100–300) /s", "51.00 (51.00–51.00)", "100.00 (100.00–100.00)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	file := filepath.Join(t.TempDir(), "plot.svg")
	if err := create(file, s.draw); err != nil {
		t.Fatal(err)
	}
	wantXML(t, file)
}

func TestSpreadIsOfSortedDelays(t *testing.T) {
	if got := spreadOf(nil); got != (spread{}) {
		t.Errorf("of nothing: %+v", got)
	}
	got := spreadOf([]time.Duration{3 * time.Millisecond, time.Millisecond, 2 * time.Millisecond})
	if want := (spread{N: 3, P50: 2, P95: 3, P99: 3, Max: 3}); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestStreamsShareTheRate(t *testing.T) {
	o := watching{rate: 5000, lasts: 10 * time.Second}
	for sessions, want := range map[int]stream{
		500:    {chunks: 100, interval: 100 * time.Millisecond},
		10_000: {chunks: 5, interval: 2 * time.Second},
	} {
		if got := o.stream(sessions); got != want {
			t.Errorf("%d sessions: %+v", sessions, got)
		}
	}
}

func TestListsAreOfNumbers(t *testing.T) {
	list := []int{1}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("in-flight", "", listOf(&list))
	if err := flags.Parse([]string{"--in-flight", "16,64"}); err != nil || !slices.Equal(list, []int{16, 64}) {
		t.Errorf("%v, %v", list, err)
	}
	if err := flags.Parse([]string{"--in-flight", "-1"}); err == nil {
		t.Error("-1 was taken")
	}
}
