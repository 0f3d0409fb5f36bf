package task

import "time"

// Pace is how fast the tasks of a queue start, learned while some of them waited: a
// queue that could start more than come says nothing of how many it could start.
type Pace struct {
	starts float64       // of late
	over   time.Duration // the time they took

	seen    time.Time // when it was last observed; zero: what comes says nothing yet
	waiting bool      // then
	learned time.Time
}

// What counts is about the last five seconds, or the last twenty starts if they took
// longer; and nothing, once nobody has waited for a minute.
const (
	paceSpan    = 5 * time.Second
	paceStarts  = 20
	paceForgets = time.Minute
)

// Observe notes how many have started since it was last called, and whether some
// wait now.
func (p *Pace) Observe(now time.Time, started int, waiting bool) {
	lasted := now.Sub(p.seen)
	waited := p.waiting && waiting
	first := p.seen.IsZero() || lasted <= 0
	p.seen, p.waiting = now, waiting
	if first {
		return
	}
	if now.Sub(p.learned) > paceForgets {
		p.starts, p.over = 0, 0
	}
	per, known := p.each()
	faster := known && started > 0 && lasted/time.Duration(started) < per
	if !waited && !faster {
		return
	}
	if waited {
		p.learned = now
	}
	p.starts += float64(started)
	p.over += lasted
	if p.over > paceSpan && p.starts > paceStarts {
		keep := max(paceSpan.Seconds()/p.over.Seconds(), paceStarts/p.starts)
		p.starts *= keep
		p.over = time.Duration(keep * float64(p.over))
	}
}

// Pause says that what happens until the next call of Observe teaches nothing.
func (p *Pace) Pause() { p.seen = time.Time{} }

// Forgotten says that nothing is known any more.
func (p *Pace) Forgotten(now time.Time) bool {
	return p.starts == 0 || now.Sub(p.learned) > paceForgets
}

// each is how long one start takes.
func (p *Pace) each() (time.Duration, bool) {
	if p.starts <= 0 {
		return 0, false
	}
	return time.Duration(float64(p.over) / p.starts), true
}

// Wait is how long so many tasks take to start; ok is false where nothing is known.
func (p *Pace) Wait(now time.Time, tasks int64) (wait time.Duration, ok bool) {
	const longest = 365 * 24 * time.Hour
	switch {
	case tasks <= 0:
		return 0, true
	case p.Forgotten(now):
		return 0, false
	}
	wait = longest
	if all := float64(p.over) / p.starts * float64(tasks); all < float64(longest) {
		wait = time.Duration(all)
	}
	return wait, true
}

// Forecast is what is expected of a task that is submitted now.
type Forecast struct {
	Start time.Time // when its first attempt starts
	End   time.Time
}

// Expect is the forecast for s where so many tasks of its queue wait, of which the
// last starts after wait, and one of its kind runs for so long. A priority is a head
// start, as in [Task.Rank]: it spares as much of the wait.
func Expect(s Spec, now time.Time, wait, run time.Duration) Forecast {
	start := now.Add(max(0, wait-time.Duration(max(0, s.Priority))*Ageing))
	if s.RunAt.After(now) {
		start = s.RunAt // who waits then is not known
	}
	return Forecast{Start: start, End: start.Add(run)}
}

// Misses says that a task is expected to end behind its deadline.
func (f Forecast) Misses(deadline time.Time) bool { return !deadline.IsZero() && f.End.After(deadline) }
