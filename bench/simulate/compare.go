package simulate

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Options say what is compared.
type Options struct {
	Policies  []string
	Estimates Estimates
	Sample    int // windows
	Length    int // jobs of each; 0: all there are
	Seed      uint64
	Patience  float64 // of Troupe's policies; 0: what a node has
}

// Policies are the names of all that can be compared, ours last.
func Policies() []string {
	return append([]string{"fcfs", "sjf", "wfp3", "unicep", "f1"}, "priority-fifo", "shortest-area", "deadline")
}

// baseline is what others are compared with.
const baseline = "fcfs"

// Compare plays random windows of a workload, each on an empty machine, by each of
// the policies.
func Compare(ctx context.Context, w Workload, o Options) (*Report, error) {
	names := slices.Clone(o.Policies)
	for _, n := range names {
		if !slices.Contains(Policies(), n) {
			return nil, fmt.Errorf("policy %q is not known: there are %s", n, strings.Join(Policies(), ", "))
		}
	}
	if !slices.Contains(names, baseline) {
		names = slices.Insert(names, 0, baseline)
	}
	if len(w.Jobs) == 0 {
		return nil, fmt.Errorf("no job of %s can be played", w.Name)
	}
	r := &Report{
		Workload: w.Name, Procs: w.Procs, Jobs: len(w.Jobs), LeftOut: w.LeftOut,
		Sample: o.Sample, Length: o.length(w), Seed: o.Seed, Estimates: o.Estimates,
	}
	figures := map[string][]Figures{}
	for _, jobs := range Windows(w, o) {
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p, err := Play(jobs, w.Procs, name, o)
			if err != nil {
				return nil, fmt.Errorf("%s, window from job %d on: %w", name, jobs[0].Number, err)
			}
			figures[name] = append(figures[name], p.Figures)
		}
	}
	for _, name := range names {
		r.Rows = append(r.Rows, summarise(name, figures[name], figures[baseline]))
	}
	return r, nil
}

// Windows are the ones that are compared: so many jobs in a row, drawn at random.
func Windows(w Workload, o Options) [][]Job {
	length := o.length(w)
	draw := rand.New(rand.NewPCG(o.Seed, 0)) //nolint:gosec // to be drawn again
	windows := make([][]Job, o.Sample)
	for n := range windows {
		from := draw.IntN(len(w.Jobs) - length + 1)
		windows[n] = w.Jobs[from : from+length]
	}
	return windows
}

func (o *Options) length(w Workload) int { return min(cmp.Or(o.Length, len(w.Jobs)), len(w.Jobs)) }

// Run is how one window went.
type Run struct {
	Jobs    []Job
	Starts  []time.Duration
	Figures Figures
}

// Play plays jobs on an empty machine.
func Play(jobs []Job, procs int, policy string, o Options) (Run, error) {
	knows := o.Estimates.oracle(o.Seed ^ jobs[0].Number<<32)
	var s scheduler
	if h := heuristics[policy]; h != nil {
		s = newPlain(h, procs, knows)
	} else {
		s = newTroupe(policies[policy], procs, o.Patience, knows)
	}
	p, err := play(jobs, procs, s, knows)
	if err != nil {
		return Run{}, err
	}
	return Run{Jobs: jobs, Starts: p.starts, Figures: measure(jobs, procs, p)}, nil
}
