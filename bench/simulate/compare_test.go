package simulate

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

func TestCompare(t *testing.T) {
	w := Workload{Name: "small", Procs: 4}
	for i := range 200 {
		w.Jobs = append(w.Jobs, Job{
			Number: uint64(i), Submit: time.Duration(i) * 10 * time.Second, Run: time.Duration(1+i*i%97) * time.Second, Procs: 1 + i%4, User: i % 3, Kind: i % 2,
		})
	}
	for _, e := range []Estimates{Exact, Wrong, None, Asked} {
		r, err := Compare(t.Context(), w, Options{Policies: Policies(), Estimates: e, Sample: 3, Length: 50, Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Compare(t.Context(), w, Options{Policies: []string{"f1"}, Estimates: e, Sample: 3, Length: 50, Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Rows) != len(Policies()) || len(again.Rows) != 2 || again.Rows[0].Policy != "fcfs" {
			t.Fatalf("%d and %d rows", len(r.Rows), len(again.Rows))
		}
		for _, row := range r.Rows {
			if row.Slowdown < 1 || row.Utilisation <= 0 || row.Utilisation > 1 || row.RatioLow > row.RatioHigh || row.WaitRatioMax < row.WaitRatio {
				t.Errorf("%s: %+v", e, row)
			}
			if row.Policy == "f1" && row.Slowdown != again.Rows[1].Slowdown {
				t.Errorf("%s: the same windows gave %v and %v", e, row.Slowdown, again.Rows[1].Slowdown)
			}
		}
		var b bytes.Buffer
		if err := r.Print(&b); err != nil || !strings.Contains(b.String(), "shortest-area") {
			t.Errorf("printed %q, %v", b.String(), err)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	w := Workload{Procs: 1, Jobs: jobs([3]int{0, 1, 1})}
	if _, err := Compare(t.Context(), w, Options{Policies: []string{"best"}, Sample: 1}); err == nil || !strings.Contains(err.Error(), "sjf") {
		t.Errorf("an unknown policy: %v", err)
	}
	if _, err := Compare(t.Context(), Workload{}, Options{Sample: 1}); err == nil {
		t.Error("a workload without jobs was compared")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Compare(ctx, w, Options{Sample: 1}); err == nil {
		t.Error("went on after it was cancelled")
	}
	if _, err := ParseEstimates("guess"); err == nil {
		t.Error("unknown estimates")
	}
}

func TestWindows(t *testing.T) {
	w := Workload{Procs: 4, Jobs: jobs([3]int{0, 1, 1}, [3]int{1, 1, 1}, [3]int{2, 1, 1})}
	seen := map[uint64]bool{}
	for _, jobs := range Windows(w, Options{Sample: 50, Length: 2}) {
		if len(jobs) != 2 || jobs[1].Number != jobs[0].Number+1 {
			t.Fatalf("%+v", jobs)
		}
		seen[jobs[0].Number] = true
	}
	if len(seen) != 2 {
		t.Errorf("windows begin at %v", seen)
	}
	if all := Windows(w, Options{Sample: 1, Length: 9}); len(all[0]) != 3 {
		t.Errorf("of three jobs: %+v", all)
	}
}
