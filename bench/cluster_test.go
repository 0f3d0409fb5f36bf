package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestClusterIsMeasured keeps the harness alive. It says nothing about speed.
func TestClusterIsMeasured(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out, said bytes.Buffer
	args := "cluster --binary " + troupe(t) + " --nodes 1,2 --tasks 1501 --turns 1 --callers 6 --probes 5 --streams 3 --limits 1 --json"
	err := run(ctx, strings.Fields(args), &out, &said)
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	type figure struct{ Median, Min, Max float64 }
	type latency struct{ P50, P99 figure }
	var r struct {
		Rows    figure `json:"bare_rows_per_second"`
		Commits figure `json:"bare_commits_per_second"`
		Sizes   []struct {
			Nodes    int
			Batches  map[string]json.RawMessage
			OneByOne map[string]json.RawMessage `json:"one_by_one"`
			OneNode  latency                    `json:"submit_to_end_at_one_node_ms"`
			AnyNode  latency                    `json:"submit_to_end_at_any_node_ms"`
			Watcher  latency                    `json:"event_to_watcher_ms"`
		}
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if r.Rows.Median <= r.Commits.Median || r.Commits.Median <= 0 || len(r.Sizes) != 2 || r.Sizes[1].Nodes != 2 {
		t.Fatalf("got %s", out.String())
	}
	for _, s := range r.Sizes {
		for _, l := range []latency{s.OneNode, s.AnyNode, s.Watcher} {
			if l.P50.Median <= 0 || l.P99.Median < l.P50.Median {
				t.Errorf("%d nodes: a latency of %+v", s.Nodes, l)
			}
		}
		for _, load := range []map[string]json.RawMessage{s.Batches, s.OneByOne} {
			for _, name := range []string{
				"ended_per_second", "nodes_cpu_us_per_task", "postgresql_cpu_us_per_task",
				"cores_busy", "commits_per_second", "wal_bytes_per_task",
			} {
				var f figure
				if err := json.Unmarshal(load[name], &f); err != nil || f.Median <= 0 {
					t.Errorf("%d nodes: %s is %s", s.Nodes, name, load[name])
				}
			}
			var waits []wait
			if err := json.Unmarshal(load["waits"], &waits); err != nil || len(waits) == 0 || len(waits) > 3 {
				t.Errorf("%d nodes: waits are %s", s.Nodes, load["waits"])
			}
		}
	}
}

func TestFigureIsMedianAndSpread(t *testing.T) {
	f := figure{5, 1, 3}
	if got := f.text(0); got != "3 (1–5)" {
		t.Errorf("odd: %s", got)
	}
	f = append(f, 4)
	if got := f.text(1); got != "3.5 (1.0–5.0)" {
		t.Errorf("even: %s", got)
	}
}

func TestWaitsAreRankedByShare(t *testing.T) {
	got := mostFrequent(map[string]int{"CPU": 5, "IO WALSync": 10, "Lock tuple": 1, "LWLock WALWrite": 4})
	want := []wait{{"IO WALSync", 0.5}, {"CPU", 0.25}, {"LWLock WALWrite", 0.2}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
