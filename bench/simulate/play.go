package simulate

import (
	"container/heap"
	"fmt"
	"time"
)

// scheduler decides which of the jobs that have come starts next.
type scheduler interface {
	// arrive tells of a job that waits from now on, and how long it is expected to run.
	arrive(j *Job, expected time.Duration, now time.Duration)
	// finish tells that one has ended.
	finish(j *Job, now time.Duration)
	// next starts a job; nil if none may start now.
	next(now time.Duration) *Job
}

// oracle says how long a job is expected to run, when it comes.
type oracle interface {
	expect(j *Job) time.Duration // 0: nobody knows
	ran(j *Job)                  // it has ended
}

// played is how it went.
type played struct {
	starts    []time.Duration // of each job
	decisions int
	took      time.Duration // by the clock on the wall: of all that the scheduler did
	worst     time.Duration // of one decision
}

// play runs jobs, which come in this order, on an empty machine. What ends at a
// moment ends before what comes at it, and then it is decided.
func play(jobs []Job, procs int, s scheduler, o oracle) (played, error) {
	p := played{starts: make([]time.Duration, len(jobs))}
	index := make(map[*Job]int, len(jobs))
	for i := range jobs {
		index[&jobs[i]] = i
	}
	var running ends
	free, started := procs, 0
	timed := func(f func()) time.Duration {
		began := time.Now()
		f()
		d := time.Since(began)
		p.took += d
		return d
	}
	for coming := 0; coming < len(jobs) || len(running) > 0; {
		var now time.Duration
		if len(running) > 0 && (coming == len(jobs) || running[0].at <= jobs[coming].Submit) {
			now = running[0].at
		} else {
			now = jobs[coming].Submit
		}
		for len(running) > 0 && running[0].at <= now {
			e, _ := heap.Pop(&running).(end)
			free += e.job.Procs
			o.ran(e.job)
			timed(func() { s.finish(e.job, now) })
		}
		for ; coming < len(jobs) && jobs[coming].Submit <= now; coming++ {
			j := &jobs[coming]
			expected := o.expect(j)
			timed(func() { s.arrive(j, expected, now) })
		}
		for {
			var j *Job
			p.worst = max(p.worst, timed(func() { j = s.next(now) }))
			p.decisions++
			if j == nil {
				break
			}
			if free -= j.Procs; free < 0 {
				return p, fmt.Errorf("job %d starts without room for it", j.Number)
			}
			p.starts[index[j]] = now
			started++
			heap.Push(&running, end{now + j.Run, j})
		}
	}
	if started != len(jobs) {
		return p, fmt.Errorf("%d of %d jobs were started", started, len(jobs))
	}
	return p, nil
}

type end struct {
	at  time.Duration
	job *Job
}

// ends is what runs, what ends first on top.
type ends []end

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (e *ends) Len() int { return len(*e) }

func (e *ends) Less(i, j int) bool {
	a, b := (*e)[i], (*e)[j]
	return a.at < b.at || a.at == b.at && a.job.Number < b.job.Number
}
func (e *ends) Swap(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }

func (e *ends) Push(x any) {
	v, _ := x.(end)
	*e = append(*e, v)
}

func (e *ends) Pop() any {
	last := len(*e) - 1
	v := (*e)[last]
	*e = (*e)[:last]
	return v
}
