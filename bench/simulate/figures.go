package simulate

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Figures are how a window went. Times are in seconds.
type Figures struct {
	Slowdown    float64 `json:"mean_bounded_slowdown"`
	Wait        float64 `json:"mean_wait"`
	WorstWait   float64 `json:"worst_wait"`
	Utilisation float64 `json:"utilisation"`

	decisions int
	took      time.Duration
	worst     time.Duration
}

// threshold keeps jobs that are over in no time from counting too much: 10 s since
// Feitelson et al. 1997.
const threshold = 10 * time.Second

// slowdown is by what factor a job took longer than it ran.
func slowdown(wait, run time.Duration) float64 {
	return max(1, (wait+run).Seconds()/max(run, threshold).Seconds())
}

func measure(jobs []Job, procs int, p played) Figures {
	f := Figures{decisions: p.decisions, took: p.took, worst: p.worst}
	work, last := 0.0, time.Duration(0)
	for i, j := range jobs {
		wait := p.starts[i] - j.Submit
		f.Slowdown += slowdown(wait, j.Run)
		f.Wait += wait.Seconds()
		f.WorstWait = max(f.WorstWait, wait.Seconds())
		work += float64(j.Procs) * j.Run.Seconds()
		last = max(last, p.starts[i]+j.Run)
	}
	n := float64(len(jobs))
	f.Slowdown /= n
	f.Wait /= n
	f.Utilisation = work / (float64(procs) * (last - jobs[0].Submit).Seconds())
	return f
}

// Report compares policies over the same windows.
type Report struct {
	Workload  string    `json:"workload"`
	Procs     int       `json:"procs"`
	Jobs      int       `json:"jobs"`
	LeftOut   int       `json:"left_out"`
	Sample    int       `json:"sample"`
	Length    int       `json:"length"`
	Seed      uint64    `json:"seed"`
	Estimates Estimates `json:"estimates"`
	Rows      []Row     `json:"policies"`
}

// Row is one policy: means over the windows.
type Row struct {
	Policy string `json:"policy"`
	Figures
	Ratio        float64 `json:"slowdown_to_fcfs"`         // of the means
	RatioMedian  float64 `json:"slowdown_to_fcfs_median"`  // of the windows
	RatioLow     float64 `json:"slowdown_to_fcfs_p10"`     // a tenth of the windows is below
	RatioHigh    float64 `json:"slowdown_to_fcfs_p90"`     // and a tenth above
	SlowdownSD   float64 `json:"slowdown_sd"`              // over the windows
	WaitRatio    float64 `json:"worst_wait_to_fcfs_mean"`  // of the windows
	WaitRatioMax float64 `json:"worst_wait_to_fcfs_worst"` // the worst window
	PerSecond    float64 `json:"decisions_per_second"`
	WorstTook    float64 `json:"worst_decision_us"`
}

func summarise(policy string, all, base []Figures) Row {
	r := Row{Policy: policy}
	n := float64(len(all))
	var ratios, waits []float64
	var took time.Duration
	decisions, first := 0, 0.0
	for i, f := range all {
		r.Slowdown += f.Slowdown / n
		r.Wait += f.Wait / n
		r.WorstWait += f.WorstWait / n
		r.Utilisation += f.Utilisation / n
		first += base[i].Slowdown / n
		ratios = append(ratios, f.Slowdown/base[i].Slowdown)
		waits = append(waits, ratio(f.WorstWait, base[i].WorstWait))
		decisions += f.decisions
		took += f.took
		r.WorstTook = max(r.WorstTook, float64(f.worst.Nanoseconds())/1000)
	}
	for i, f := range all {
		r.SlowdownSD += (f.Slowdown - r.Slowdown) * (f.Slowdown - r.Slowdown) / n
		r.WaitRatio += waits[i] / n
		r.WaitRatioMax = max(r.WaitRatioMax, waits[i])
	}
	r.SlowdownSD = math.Sqrt(r.SlowdownSD)
	r.Ratio = r.Slowdown / first
	slices.Sort(ratios)
	at := func(q float64) float64 { return ratios[min(len(ratios)-1, int(q*n))] }
	r.RatioLow, r.RatioMedian, r.RatioHigh = at(0.1), at(0.5), at(0.9)
	r.PerSecond = float64(decisions) / max(took.Seconds(), 1e-9)
	return r
}

// ratio is of waits, of which both may be none at all.
func ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / max(b, 1)
}

// Print prints a report for people.
func (r *Report) Print(out io.Writer) error {
	fmt.Fprintf(out, "%s: %d jobs (%d left out), %d processors; %d windows of %d jobs, seed %d, estimates %s\n\n",
		r.Workload, r.Jobs, r.LeftOut, r.Procs, r.Sample, r.Length, r.Seed, r.Estimates)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tbounded slowdown\t±\tto fcfs\tp10\tmedian\tp90\tmean wait s\tworst wait s\tto fcfs\tat worst\tutilisation\tdecisions/s\tworst µs\t")
	for _, p := range r.Rows {
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f\t%.0f\t%.2f\t%.2f\t%.3f\t%.0f\t%.0f\t\n",
			p.Policy, p.Slowdown, p.SlowdownSD, p.Ratio, p.RatioLow, p.RatioMedian, p.RatioHigh,
			p.Wait, p.WorstWait, p.WaitRatio, p.WaitRatioMax, p.Utilisation, p.PerSecond, p.WorstTook)
	}
	return t.Flush()
}
