package simulate

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// jobs makes a workload of submit, run and processors.
func jobs(of ...[3]int) []Job {
	out := make([]Job, len(of))
	for i, j := range of {
		out[i] = Job{
			Number: uint64(i) + 1, Submit: time.Duration(j[0]) * time.Second, Run: time.Duration(j[1]) * time.Second,
			Procs: j[2], User: -1, Kind: -1,
		}
	}
	return out
}

func startsOf(tb testing.TB, jobs []Job, procs int, policy string, e Estimates) []int {
	tb.Helper()
	r, err := Play(jobs, procs, policy, Options{Estimates: e})
	if err != nil {
		tb.Fatal(err)
	}
	out := make([]int, len(r.Starts))
	for i, s := range r.Starts {
		out[i] = int(s / time.Second)
	}
	return out
}

func TestStartsByHand(t *testing.T) {
	tests := []struct {
		name   string
		policy string
		jobs   []Job
		want   []int
	}{
		// The second waits for all four; what follows it ends before that, or does not.
		{"easy: what ends in time goes first", "fcfs", jobs([3]int{0, 10, 2}, [3]int{1, 5, 4}, [3]int{2, 8, 2}, [3]int{3, 9, 2}), []int{0, 10, 2, 15}},
		// The second leaves one processor over when its turn comes.
		{"easy: what takes what is left goes first", "fcfs", jobs([3]int{0, 10, 2}, [3]int{1, 5, 3}, [3]int{2, 50, 1}, [3]int{3, 50, 1}), []int{0, 10, 2, 15}},
		{"sjf", "sjf", jobs([3]int{0, 10, 4}, [3]int{1, 5, 4}, [3]int{2, 1, 4}), []int{0, 11, 10}},
		// (9÷50)³×4 is less than (8÷10)³×1, and (9÷50) over 2 than (8÷10) over next to nothing.
		{"wfp3", "wfp3", jobs([3]int{0, 10, 4}, [3]int{1, 50, 4}, [3]int{2, 10, 1}), []int{0, 20, 10}},
		{"unicep", "unicep", jobs([3]int{0, 10, 4}, [3]int{1, 50, 4}, [3]int{2, 10, 1}), []int{0, 20, 10}},
		// log₁₀ asked × processors is 6.8 and 1; 870 × log₁₀ submit is 4,164 and 4,165.
		{"f1", "f1", jobs([3]int{61_000, 100, 4}, [3]int{61_050, 50, 4}, [3]int{61_060, 10, 1}), []int{61_000, 61_110, 61_100}},
		// On one processor of 64 it may be passed by what comes in a time of 150 ÷ 64^¾ of its runs.
		{"shortest-area", "shortest-area", jobs([3]int{0, 100, 64}, [3]int{1, 10, 64}, [3]int{3, 2, 1}), []int{0, 102, 100}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := startsOf(t, tt.jobs, max(4, tt.jobs[0].Procs), tt.policy, Exact); !slices.Equal(got, tt.want) {
				t.Errorf("starts %v, want %v", got, tt.want)
			}
		})
	}
}

// Two ways of saying first come, first served with EASY backfilling: the plain one
// here, and that of the scheduler. Run times are powers of two, since the scheduler
// takes those for equal that are less than a tenth apart.
func TestPriorityFIFOIsFirstComeFirstServed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		procs := rapid.IntRange(1, 16).Draw(t, "procs")
		workload := make([]Job, rapid.IntRange(1, 60).Draw(t, "jobs"))
		var now time.Duration
		for i := range workload {
			now += time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * time.Second
			workload[i] = Job{
				Number: uint64(i) + 1, Submit: now, Run: time.Second << rapid.IntRange(0, 7).Draw(t, "run"),
				Procs: rapid.IntRange(1, procs).Draw(t, "procs"), User: -1, Kind: -1,
			}
		}
		want, err := Play(workload, procs, "fcfs", Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Play(workload, procs, "priority-fifo", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Starts, want.Starts) {
			t.Fatalf("starts at\n%v, want\n%v", got.Starts, want.Starts)
		}
	})
}

func TestMeasure(t *testing.T) {
	// The second runs 2 s, which count as 10, and waits for 18 s.
	run, err := Play(jobs([3]int{100, 20, 4}, [3]int{102, 2, 2}), 4, "fcfs", Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := run.Figures
	got := fmt.Sprintf("%.2f %.2f %.2f %.4f", f.Slowdown, f.Wait, f.WorstWait, f.Utilisation)
	if want := fmt.Sprintf("%.2f %.2f %.2f %.4f", (1+2.0)/2, 9.0, 18.0, 84.0/88); got != want {
		t.Errorf("slowdown, wait, worst wait, utilisation %s, want %s", got, want)
	}
	if f.decisions != 6 || f.worst <= 0 || f.took < f.worst {
		t.Errorf("%d decisions in %v, %v at worst", f.decisions, f.took, f.worst)
	}
}

// A scheduler that breaks the rules is found out.
func TestPlayTrustsNobody(t *testing.T) {
	two := jobs([3]int{0, 10, 3}, [3]int{0, 10, 3})
	if _, err := play(two, 4, &reckless{}, Exact.oracle(1)); err == nil {
		t.Error("two jobs of three processors ran on four")
	}
	if _, err := play(two, 4, &reckless{lazy: true}, Exact.oracle(1)); err == nil {
		t.Error("a job was never started, and nobody said so")
	}
}

type reckless struct {
	lazy  bool
	queue []*Job
}

func (r *reckless) arrive(j *Job, _, _ time.Duration) { r.queue = append(r.queue, j) }
func (r *reckless) finish(_ *Job, _ time.Duration)    {}
func (r *reckless) next(_ time.Duration) (first *Job) {
	if r.lazy || len(r.queue) == 0 {
		return nil
	}
	first, r.queue = r.queue[0], r.queue[1:]
	return first
}
