package simulate

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/troupe-run/troupe/runtime/schedule"
)

// policies are Troupe's own.
var policies = map[string]schedule.Policy{
	"priority-fifo": schedule.PriorityFIFO,
	"shortest-area": schedule.ShortestArea,
	"deadline":      schedule.Deadline,
}

// slack gives jobs a deadline, of which the workloads know nothing: so many times
// as long as they are expected to run, after they came.
const slack = 10

// troupe plays the scheduler of a Troupe node. All jobs wait in one queue.
type troupe struct {
	core *schedule.Core
	jobs map[schedule.ID]*Job
}

const (
	namespace = "simulated"
	queue     = "jobs"
	resource  = "procs"
	ageing    = 30 * time.Second // as in package task
)

// epoch is when workloads begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// newTroupe makes a node of so many processors.
func newTroupe(p schedule.Policy, procs int, patience float64, o oracle) *troupe {
	cfg := schedule.Config{Ageing: ageing, Patience: patience}
	if l, learns := o.(*learned); learns {
		cfg.Times = l.times
	}
	t := &troupe{core: schedule.New(cfg), jobs: map[schedule.ID]*Job{}}
	t.core.SetCapacity(resource, int64(procs)*1000)
	t.core.SetPolicy(namespace, queue, p)
	return t
}

// kind names what is learned together.
func (j *Job) kind() string { return strconv.Itoa(j.User) + "." + strconv.Itoa(j.Kind) }

func (j *Job) id() (id schedule.ID) {
	binary.BigEndian.PutUint64(id[8:], j.Number)
	return id
}

func (t *troupe) arrive(j *Job, expected, now time.Duration) {
	e := schedule.Entry{
		ID: j.id(), Namespace: namespace, Queue: queue, Kind: j.kind(), Since: epoch.Add(now), Expected: expected,
		Demand: schedule.Demand{{Name: resource, Milli: int64(j.Procs) * 1000}},
	}
	if expected > 0 {
		e.Deadline = e.Since.Add(slack * expected)
	}
	t.jobs[e.ID] = j
	if err := t.core.Add(e); err != nil {
		panic("simulate: a job came twice") // numbers are given by the workload's order
	}
}

func (t *troupe) finish(j *Job, now time.Duration) { t.core.Release(j.id(), epoch.Add(now)) }

func (t *troupe) next(now time.Duration) *Job {
	e, ok := t.core.Next(epoch.Add(now))
	if !ok {
		return nil
	}
	return t.jobs[e.ID]
}
