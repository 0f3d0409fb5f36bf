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
		{"ws --sessions 4 --events 100 --lasts 1s", []string{
			"4 sessions, own tasks: output to watcher", "4 sessions, own tasks: server's CPU an event",
		}},
	} {
		name, _, _ := strings.Cut(tt.args, " ")
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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
				if file := strings.TrimPrefix(arg, dir); file != arg {
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
		nil, {"nothing"}, {"drain", "--store", "redis"}, {"drain", "--turns", "0"}, {"ws", "--sessions", "1,many"}, {"drain", "--nothing"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, &out); err == nil {
			t.Errorf("%v was taken", args)
		}
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
