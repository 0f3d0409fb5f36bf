package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const threeJobs = `; MaxProcs: 4
1 0 -1 100 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1
2 1 -1 100 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1
3 2 -1 1 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1
`

func writeTrace(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "trace.swf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestScheduleComparesPolicies(t *testing.T) {
	trace := writeTrace(t, threeJobs)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"schedule", "--trace", trace, "--policy", "sjf,shortest-area", "--json"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Workload string
		Procs    int
		Policies []struct {
			Policy string
			Ratio  float64 `json:"slowdown_to_fcfs"`
		}
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Workload != "trace.swf" || r.Procs != 4 || len(r.Policies) != 3 || r.Policies[1].Policy != "sjf" || r.Policies[1].Ratio >= 1 {
		t.Errorf("%+v", r)
	}
	out.Reset()
	if err := run(t.Context(), []string{"schedule", "--trace", trace, "--sample", "1"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	svg := filepath.Join(t.TempDir(), "window.svg")
	if err := run(t.Context(), []string{"schedule", "--trace", trace, "--sample", "1", "--svg", svg}, &out, &out); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(svg); err != nil || !bytes.Contains(b, []byte("deadline on trace.swf")) {
		t.Errorf("drew %s, %v", b, err)
	}
	if !strings.Contains(out.String(), "unicep") {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestScheduleRefuses(t *testing.T) {
	trace := writeTrace(t, threeJobs)
	for _, args := range [][]string{
		{"--trace", filepath.Join(t.TempDir(), "none.swf")},
		{"--trace", writeTrace(t, "nonsense\n")},
		{"--trace", writeTrace(t, strings.Replace(threeJobs, "; MaxProcs: 4", ";", 1))}, // of what machine?
		{"--trace", trace, "--sample", "0"},
		{"--trace", trace, "--policy", "best"},
		{"--trace", trace, "--estimates", "perfect"},
		{"--trace", trace, "--svg", filepath.Join(trace, "below")},
		{"--what"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append([]string{"schedule"}, args...), &out, &out); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestScheduleMakesAWorkload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "made.swf")
	var out, again bytes.Buffer
	made := []string{"schedule", "--jobs", "300", "--procs", "64", "--load", "0.9", "--seed", "7"}
	if err := run(t.Context(), append(made, "--write", file), &out, &out); err != nil {
		t.Fatal(err)
	}
	play := []string{"--sample", "2", "--length", "100", "--policy", "shortest-area", "--estimates", "none"}
	if err := run(t.Context(), append(made, append(play, "--json")...), &out, &out); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), append([]string{"schedule", "--trace", file, "--seed", "7", "--json"}, play...), &again, &again); err != nil {
		t.Fatal(err)
	}
	slowdown := func(b []byte) float64 {
		var r struct {
			Policies []struct {
				Slowdown float64 `json:"mean_bounded_slowdown"`
			}
		}
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		return r.Policies[1].Slowdown
	}
	if a, b := slowdown(out.Bytes()), slowdown(again.Bytes()); a != b || a < 1 {
		t.Errorf("made: %v, read again: %v", a, b)
	}
	if err := run(t.Context(), append(made, "--write", filepath.Join(file, "none")), &out, &out); err == nil {
		t.Error("wrote below a file")
	}
}
