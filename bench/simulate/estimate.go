package simulate

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/troupe-run/troupe/runtime/schedule"
)

// Estimates are where the schedulers have from how long a job will run.
type Estimates string

// Where from.
const (
	Exact Estimates = "exact" // it is the run time
	Wrong Estimates = "wrong" // the run time × a factor from 1 to 10, as people ask for
	None  Estimates = "none"  // nobody says: what has been learned from jobs that ended
	Asked Estimates = "asked" // what the workload says, the run time where it does not
)

// ParseEstimates knows the word for each.
func ParseEstimates(s string) (Estimates, error) {
	switch e := Estimates(s); e {
	case Exact, Wrong, None, Asked:
		return e, nil
	default:
		return "", fmt.Errorf("estimates %q are not known: there are %s, %s, %s, %s", s, Exact, Wrong, None, Asked)
	}
}

const factor = 10 // at most

// oracle is a new one. All schedulers get the same answers for a job from oracles of
// the same seed, but for what they learn: that depends on what has ended by then.
func (e Estimates) oracle(seed uint64) oracle {
	switch e {
	case None:
		return &learned{schedule.NewLearner()}
	case Wrong:
		return told(func(j *Job) time.Duration {
			r := rand.New(rand.NewPCG(seed, j.Number)) //nolint:gosec // the same in whatever order
			return time.Duration(float64(j.Run) * (1 + (factor-1)*r.Float64()))
		})
	case Asked:
		return told(func(j *Job) time.Duration {
			if j.Asked > 0 {
				return j.Asked
			}
			return j.Run
		})
	default:
		return told(func(j *Job) time.Duration { return j.Run })
	}
}

type told func(*Job) time.Duration

func (t told) expect(j *Job) time.Duration { return t(j) }
func (told) ran(*Job)                      {}

// learned asks Troupe's learner, which begins without any knowledge.
type learned struct{ times *schedule.Learner }

func (l *learned) expect(j *Job) time.Duration {
	return l.times.Mean(namespace, j.kind())
}

func (l *learned) ran(j *Job) { l.times.Ran(namespace, j.kind(), j.Run) }
