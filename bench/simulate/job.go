package simulate

import "time"

// Job is one job of a workload.
type Job struct {
	Number uint64        // unique in the workload
	Submit time.Duration // since the workload's beginning
	Run    time.Duration // how long it runs; the schedulers are not told
	Procs  int
	Asked  time.Duration // for how long its user asked; 0: the workload does not say
	User   int           // -1: unknown
	Kind   int           // what program it runs; -1: unknown
}

// Workload is jobs in the order in which they come.
type Workload struct {
	Name    string
	Procs   int // of the machine it is made for; 0: unknown
	Jobs    []Job
	LeftOut int // jobs that never ran, or that cannot run on the machine
}

// On is the workload for a machine of so many processors: without the jobs that are wider than that.
func (w *Workload) On(procs int) Workload {
	on := Workload{Name: w.Name, Procs: procs}
	on.Jobs = make([]Job, 0, len(w.Jobs))
	for _, j := range w.Jobs {
		if j.Procs <= procs {
			on.Jobs = append(on.Jobs, j)
		}
	}
	on.LeftOut = w.LeftOut + len(w.Jobs) - len(on.Jobs)
	return on
}
