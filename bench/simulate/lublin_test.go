package simulate

import (
	"math"
	"slices"
	"testing"
	"time"
)

func generate(t *testing.T, m Model) Workload {
	t.Helper()
	w, err := Generate(m)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestGenerateIsTheModel(t *testing.T) {
	w := generate(t, Model{Jobs: 20_000, Procs: 128, Seed: 1})
	serial, power, short, night, day := 0, 0, 0, 0, 0
	for i, j := range w.Jobs {
		if j.Procs < 1 || j.Procs > 128 || j.Run < time.Second || j.Run > 163_000*time.Second || j.Number != uint64(i)+1 {
			t.Fatalf("job %+v", j)
		}
		if i > 0 && j.Submit < w.Jobs[i-1].Submit {
			t.Fatalf("job %d comes before the one before it", j.Number)
		}
		switch {
		case j.Procs == 1:
			serial++
		case j.Procs&(j.Procs-1) == 0:
			power++
		}
		if j.Run < 100*time.Second {
			short++
		}
		switch hour := int(j.Submit.Hours()) % 24; {
		case hour >= 2 && hour < 6:
			night++
		case hour >= 10 && hour < 14:
			day++
		}
	}
	n := float64(len(w.Jobs))
	between := func(what string, got, low, high float64) {
		if got < low || got > high {
			t.Errorf("%s is %.3f, want %.3f to %.3f", what, got, low, high)
		}
	}
	// Of batch jobs 0.29 are serial and 0.67 a power of two, of interactive ones 0.15
	// and 0.63; a few of any size happen to be one or the other.
	between("share of serial jobs", float64(serial)/n, 0.15, 0.30)
	between("share of powers of two", float64(power)/n, 0.6, 0.8)
	between("share of jobs under 100 s", float64(short)/n, 0.4, 0.8)
	between("jobs of the night to those of the day", float64(night)/float64(day), 0.02, 0.6)
}

func TestGenerateGivesSomethingToLearn(t *testing.T) {
	w := generate(t, Model{Jobs: 10_000, Procs: 256, Users: 5, Kinds: 4, Seed: 2})
	logs := map[[2]int][]float64{}
	var all []float64
	counts := map[int]int{}
	for _, j := range w.Jobs {
		log := math.Log(j.Run.Seconds())
		logs[[2]int{j.User, j.Kind}] = append(logs[[2]int{j.User, j.Kind}], log)
		all = append(all, log)
		counts[j.User]++
	}
	if len(counts) != 5 || len(logs) < 15 || counts[1] < 2*counts[5] {
		t.Errorf("%d users, %d kinds, %v jobs", len(counts), len(logs), counts)
	}
	deviation := func(v []float64) (sum float64) {
		slices.Sort(v)
		for _, x := range v {
			sum += math.Abs(x - v[len(v)/2])
		}
		return sum
	}
	within := 0.0
	for _, v := range logs {
		within += deviation(v)
	}
	if within > 0.5*deviation(all) {
		t.Errorf("jobs differ by %.0f within their kinds, by %.0f in all", within, deviation(all))
	}
}

func TestGenerateToALoad(t *testing.T) {
	w := generate(t, Model{Jobs: 2000, Procs: 64, Load: 0.8, Seed: 3})
	work := 0.0
	for _, j := range w.Jobs {
		work += float64(j.Procs) * j.Run.Seconds()
	}
	span := w.Jobs[len(w.Jobs)-1].Submit - w.Jobs[0].Submit
	if load := work / 64 / span.Seconds(); math.Abs(load-0.8) > 0.01 {
		t.Errorf("load is %.3f", load)
	}
	again := generate(t, Model{Jobs: 2000, Procs: 64, Load: 0.8, Seed: 3})
	if !slices.Equal(w.Jobs, again.Jobs) {
		t.Error("the same seed made other jobs")
	}
	other := generate(t, Model{Jobs: 2000, Procs: 64, Load: 0.8, Seed: 4})
	if slices.Equal(w.Jobs, other.Jobs) {
		t.Error("another seed made the same jobs")
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, m := range []Model{{Procs: 4}, {Jobs: 1, Procs: 1}, {Jobs: 1, Procs: 4, Load: -1}, {Jobs: 1, Procs: 4, Users: -1}} {
		if _, err := Generate(m); err == nil {
			t.Errorf("%+v was accepted", m)
		}
	}
	if w := generate(t, Model{Jobs: 100, Procs: 2}); w.Jobs[99].Procs > 2 {
		t.Errorf("job %+v on two processors", w.Jobs[99])
	}
}
