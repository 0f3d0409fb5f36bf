package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/schedule"
)

// score is how far back a job stands: that with the lowest goes first. Where the
// literature gives the score by which the highest goes first it is turned round.
type score func(w *waiting, now time.Duration) float64

// heuristics are those of the literature. They know of a job when it came, how many
// processors it wants and for how long its user asked; for how long it really runs
// they do not know.
var heuristics = map[string]score{
	// First come, first served.
	"fcfs": func(w *waiting, _ time.Duration) float64 { return w.job.Submit.Seconds() },
	// Shortest job first.
	"sjf": func(w *waiting, _ time.Duration) float64 { return w.asked },
	// Of a project at Argonne (Tang et al. 2009): (waited ÷ asked)³ × processors.
	"wfp3": func(w *waiting, now time.Duration) float64 {
		return -math.Pow((now-w.job.Submit).Seconds()/w.asked, 3) * float64(w.job.Procs)
	},
	// Of the same: waited ÷ (log₂ processors × asked). The logarithm of one is 0, which
	// puts the jobs on one processor before all others.
	"unicep": func(w *waiting, now time.Duration) float64 {
		return -(now - w.job.Submit).Seconds() / (max(math.Log2(float64(w.job.Procs)), 1e-9) * w.asked)
	},
	// Learned from simulations (Carastan-Santos and de Camargo 2017):
	// log₁₀ asked × processors + 870 × log₁₀ when it came.
	"f1": func(w *waiting, _ time.Duration) float64 {
		return math.Log10(w.asked)*float64(w.job.Procs) + 870*math.Log10(max(w.job.Submit.Seconds(), 0.1))
	},
}

type waiting struct {
	job      *Job
	expected time.Duration
	guessed  bool    // nothing was known when it came
	asked    float64 // seconds
	score    float64
}

// plain starts jobs by a heuristic, with EASY backfilling (Lifka 1995): the first in
// order is promised the moment at which, if all end as asked, there is room for it.
// Others start before it, in the same order, if they end by then or leave enough.
type plain struct {
	score   score
	knows   oracle
	free    int
	queue   []*waiting
	running []taken // by expected end
	sorted  bool
	at      time.Duration // when it was sorted
}

type taken struct {
	job          *Job
	started, end time.Duration
}

func newPlain(s score, procs int, o oracle) *plain { return &plain{score: s, free: procs, knows: o} }

func (p *plain) arrive(j *Job, expected, _ time.Duration) {
	w := &waiting{job: j, guessed: expected == 0, expected: max(cmp.Or(expected, schedule.Guess), time.Millisecond)}
	w.asked = w.expected.Seconds()
	p.queue = append(p.queue, w)
	p.sorted = false
}

func (p *plain) finish(j *Job, _ time.Duration) {
	p.free += j.Procs
	p.running = slices.DeleteFunc(p.running, func(t taken) bool { return t.job == j })
}

func (p *plain) next(now time.Duration) *Job {
	if len(p.queue) == 0 {
		return nil
	}
	p.sort(now)
	p.prolong(now)
	if p.queue[0].job.Procs <= p.free {
		return p.start(0, now)
	}
	shadow, extra := p.reserve(p.queue[0].job.Procs)
	for i, w := range p.queue[1:] {
		if n := w.job.Procs; n <= p.free && (now+w.expected <= shadow || n <= extra) {
			return p.start(i+1, now)
		}
	}
	return nil
}

func (p *plain) sort(now time.Duration) {
	if p.sorted && p.at == now {
		return
	}
	for _, w := range p.queue {
		w.score = p.score(w, now)
	}
	slices.SortStableFunc(p.queue, func(a, b *waiting) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.job.Submit, b.job.Submit), cmp.Compare(a.job.Number, b.job.Number))
	})
	p.sorted, p.at = true, now
}

// prolong expects of what runs longer than expected that it runs twice as long.
func (p *plain) prolong(now time.Duration) {
	for len(p.running) > 0 && p.running[0].end <= now {
		t := p.running[0]
		p.running = slices.Delete(p.running, 0, 1)
		for t.end <= now {
			t.end += t.end - t.started
		}
		p.insert(t)
	}
}

func (p *plain) insert(t taken) {
	at, _ := slices.BinarySearchFunc(p.running, t, func(a, b taken) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.job.Number, b.job.Number))
	})
	p.running = slices.Insert(p.running, at, t)
}

// reserve says when there is room for so many, and what is left over then.
func (p *plain) reserve(procs int) (shadow time.Duration, extra int) {
	extra = p.free - procs
	for _, t := range p.running {
		if extra >= 0 && t.end > shadow {
			break
		}
		shadow = t.end
		extra += t.job.Procs
	}
	return shadow, extra
}

func (p *plain) start(i int, now time.Duration) *Job {
	w := p.queue[i]
	p.queue = slices.Delete(p.queue, i, i+1)
	p.free -= w.job.Procs
	if w.guessed {
		w.expected = cmp.Or(p.knows.expect(w.job), w.expected) // by now perhaps
	}
	p.insert(taken{job: w.job, started: now, end: now + w.expected})
	return w.job
}
