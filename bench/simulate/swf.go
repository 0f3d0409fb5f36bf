package simulate

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The fields of a line of the Standard Workload Format (Chapin et al. 1999), of
// which there are 18. -1 stands for what is not known.
const (
	swfNumber    = 0
	swfSubmit    = 1
	swfRun       = 3
	swfProcs     = 4 // that it got
	swfAskedFor  = 7 // processors
	swfAskedTime = 8
	swfUser      = 11
	swfKind      = 13
	swfFields    = 18
)

// ReadSWF reads a workload in the Standard Workload Format. Jobs without a run time
// or a number of processors never ran: they are counted and left out.
func ReadSWF(r io.Reader) (Workload, error) {
	var w Workload
	known := map[uint64]bool{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if comment, is := strings.CutPrefix(line, ";"); is {
			w.header(comment)
			continue
		}
		if line == "" {
			continue
		}
		j, err := parseJob(line)
		if err != nil {
			return Workload{}, fmt.Errorf("line %d: %w", n, err)
		}
		if known[j.Number] {
			return Workload{}, fmt.Errorf("line %d: there is a job %d already", n, j.Number)
		}
		known[j.Number] = true
		if j.Run <= 0 || j.Procs <= 0 {
			w.LeftOut++
			continue
		}
		w.Jobs = append(w.Jobs, j)
	}
	if err := lines.Err(); err != nil {
		return Workload{}, fmt.Errorf("read the workload: %w", err)
	}
	slices.SortStableFunc(w.Jobs, func(a, b Job) int { return cmp.Compare(a.Submit, b.Submit) })
	return w, nil
}

// header takes from a comment how large the machine is.
func (w *Workload) header(comment string) {
	name, value, _ := strings.Cut(comment, ":")
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n <= 0 {
		return
	}
	switch strings.TrimSpace(name) {
	case "MaxProcs":
		w.Procs = n
	case "MaxNodes":
		w.Procs = cmp.Or(w.Procs, n)
	}
}

func parseJob(line string) (Job, error) {
	fields := strings.Fields(line)
	if len(fields) != swfFields {
		return Job{}, fmt.Errorf("%d fields, want %d", len(fields), swfFields)
	}
	var v [swfFields]float64
	for i, f := range fields {
		var err error
		if v[i], err = strconv.ParseFloat(f, 64); err != nil || math.IsNaN(v[i]) || math.Abs(v[i]) > 1e9 {
			return Job{}, fmt.Errorf("field %d is %q, want a number of a believable size", i+1, f)
		}
	}
	if v[swfNumber] < 0 {
		return Job{}, fmt.Errorf("field 1: there is no job %v", v[swfNumber])
	}
	if v[swfSubmit] < 0 {
		return Job{}, fmt.Errorf("field %d: the job comes %v s before the beginning", swfSubmit+1, -v[swfSubmit])
	}
	if most := max(v[swfRun], v[swfAskedTime]); most > 1e8 {
		return Job{}, fmt.Errorf("the job takes %v s, which is years", most)
	}
	procs := v[swfProcs]
	if procs <= 0 {
		procs = v[swfAskedFor]
	}
	return Job{
		Number: uint64(v[swfNumber]), Submit: secs(v[swfSubmit]), Run: secs(max(0, v[swfRun])), Procs: int(max(0, procs)),
		Asked: secs(max(0, v[swfAskedTime])), User: int(v[swfUser]), Kind: int(v[swfKind]),
	}, nil
}

func secs(s float64) time.Duration {
	return time.Duration(math.Round(s*1000)) * time.Millisecond
}

// WriteSWF writes a workload as [ReadSWF] reads it, in whole seconds.
func WriteSWF(out io.Writer, w Workload) error {
	b := bufio.NewWriter(out)
	fmt.Fprintf(b, "; Version: 2.2\n; MaxJobs: %d\n; MaxProcs: %d\n; Note: %s\n", len(w.Jobs), w.Procs, w.Name)
	for _, j := range w.Jobs {
		asked := -1
		if j.Asked > 0 {
			asked = int(math.Ceil(j.Asked.Seconds()))
		}
		fmt.Fprintf(b, "%d %d -1 %d %d -1 -1 %d %d -1 1 %d -1 %d 1 -1 -1 -1\n",
			j.Number, int(j.Submit.Seconds()), max(1, int(math.Round(j.Run.Seconds()))), j.Procs, j.Procs, asked, j.User, j.Kind)
	}
	return b.Flush()
}
