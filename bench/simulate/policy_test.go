package simulate

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var windows = flag.Int("windows", 0, "windows of the public workloads to play, which are not part of the project")

func compareFile(t *testing.T, file string, o Options) map[string]Row {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w, err := ReadSWF(f)
	if err != nil {
		t.Fatal(err)
	}
	o.Length = 1024
	r, err := Compare(t.Context(), w, o)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]Row{}
	for _, row := range r.Rows {
		rows[row.Policy] = row
	}
	return rows
}

// Small entries need not wait for great ones, and these do not wait much longer than
// they would if all went by arrival: not if the estimates are right, nor if they are
// wrong or nothing but what has been learned.
func TestShortestAreaIsWorthIt(t *testing.T) {
	for e, most := range map[Estimates]float64{Exact: 0.4, Wrong: 0.5, None: 0.7} {
		rows := compareFile(t, "testdata/lublin_load105.swf", Options{Policies: []string{"shortest-area"}, Estimates: e, Sample: 8, Seed: 14})
		r := rows["shortest-area"]
		t.Logf("%s: %.3f of fcfs, worst wait %.2f of it", e, r.Ratio, r.WaitRatio)
		if r.Ratio > most || r.WaitRatio > 1.5 {
			t.Errorf("%s: %.3f of fcfs, worst wait %.2f of it", e, r.Ratio, r.WaitRatio)
		}
	}
}

// What the scheduler of RLScheduler (Zhang et al. 2020) had learned came to 0.249 and
// 0.480 of first come, first served on these.
func TestShortestAreaOnPublicWorkloads(t *testing.T) {
	if *windows == 0 {
		return // the workloads are not part of the project
	}
	for file, learned := range map[string]float64{"lublin_256.swf": 0.249, "lublin_256_new2": 0.480} {
		file = filepath.Join("..", "..", "..", "shared", "data", file)
		o := Options{Policies: Policies(), Sample: *windows, Seed: 1}
		bounded := compareFile(t, file, o)["shortest-area"]
		if bounded.Ratio > learned || bounded.WaitRatio > 1.5 {
			t.Errorf("%s: %.3f of fcfs, worst wait %.2f of it", file, bounded.Ratio, bounded.WaitRatio)
		}
		o.Patience = 100
		rows := compareFile(t, file, o)
		for _, h := range []string{"sjf", "wfp3", "unicep", "f1"} {
			if rows["shortest-area"].Slowdown > rows[h].Slowdown {
				t.Errorf("%s: with all patience %.2f, but %s %.2f", file, rows["shortest-area"].Slowdown, h, rows[h].Slowdown)
			}
		}
	}
}
