package schedule

import (
	"container/heap"
	"math"
	"slices"
	"time"
)

// # By how much it takes
//
// In a queue with the policy shortest-area an entry may be passed by those that come
// later, for as long as its slack: the one goes first whose arrival and slack come to
// least. The slack goes by what the entry takes,
//
//	its expected run time × its share of the dominant resource ^ ¾
//
// and is up to 150 times that, so that small ones need not wait for great ones. The
// exponent is below one since wide entries, which find room seldom, would else be
// passed too often. But it is no more than patience times the longest that an entry
// of the queue would have waited of late had all gone by arrival, or eight times what
// the entry takes. So those that take most are all alike, go by arrival among
// themselves, and wait little longer than they would have anyway; and what comes to
// an idle queue and takes long is passed by what takes next to nothing.
//
// How long that is, is estimated when one comes: what it has waited elsewhere, and
// the work ahead of it, what waits and what runs, by how much of which resource and
// how long, over as much of the node as is in use while something waits; and less or
// more of it, as those that ended ran shorter or longer than expected. Of that time it
// forgets one second in ten.
//
// # By deadline
//
// An entry of a queue that goes by deadlines goes to the front once it has waited
// patience times as long as the work ahead of it takes. What it has waited elsewhere
// does not count. One of a queue with the policy shortest-area goes there after twice
// its slack, but only before those of a higher priority.
const (
	slackMost     = 150
	slackLeast    = 8
	width         = 0.75
	patience      = 1.15 // where the config does not say
	patienceLeast = 2    // in ageings, for who comes to an empty node
	forgets       = 0.1
)

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// lateness is the longest wait that going by arrival would have meant of late in a
// flow, and the bound of slacks that follows from it.
type lateness struct {
	longest time.Duration
	at      time.Time

	// These change in steps, since all groups change with them.
	most  time.Duration // slack
	truth float64       // of what was expected: how much of it there is
}

// note takes account of one that comes and would have waited for so long.
func (l *lateness) note(wait time.Duration, now time.Time) {
	if gone := now.Sub(l.at); gone > 0 {
		l.longest -= time.Duration(forgets * float64(gone))
		l.at = now
	}
	l.longest = max(l.longest, wait)
}

// filled is how much of the node is in use while something waits. It begins with a
// guess, and goes by the latest few days.
type filled struct{ time, used float64 }

const (
	filledGuess  = 0.8
	filledLeast  = 0.5
	filledWeight = 120     // in ageings
	filledMost   = 5 * 120 // of those
)

func (f *filled) share(ageing time.Duration) float64 {
	w := filledWeight * ageing.Seconds()
	return max(filledLeast, (f.used+filledGuess*w)/(f.time+w))
}

// truth is how long those that ended ran, and for how long they were expected to: by
// how much of the node. It begins as if a few had run as expected.
type truth struct{ expected, ran float64 }

func (r *truth) learn(expected, ran time.Duration, share float64, ageing time.Duration) {
	r.expected += expected.Seconds() * share
	r.ran += ran.Seconds() * share
	if r.expected+r.ran > filledMost*filledWeight*ageing.Seconds() {
		r.expected /= 2
		r.ran /= 2
	}
}

// ratio is by how much expectations are to be corrected.
func (r *truth) ratio(ageing time.Duration) float64 {
	w := filledWeight * ageing.Seconds() / 10
	return min(2, max(0.1, (r.ran+w)/(r.expected+w)))
}

// tick lets time pass in which nothing has changed.
func (c *Core) tick(now time.Time) {
	gone := now.Sub(c.clock).Seconds()
	if gone <= 0 {
		return
	}
	if c.lined > 0 && !c.clock.IsZero() {
		most := 0.0
		for _, p := range c.resources {
			if p.capacity > 0 {
				most = max(most, min(1, float64(p.used)/float64(p.capacity)))
			}
		}
		c.filled.time += gone
		c.filled.used += gone * most
		if c.filled.time > filledMost*filledWeight*c.ageing.Seconds() {
			c.filled.time /= 2
			c.filled.used /= 2
		}
	}
	c.clock = now
}

// slack is that of the entries of a group, in microseconds.
func (c *Core) slack(g *group) int64 {
	if g.flow.policy != ShortestArea {
		return 0
	}
	return g.flow.late.slack(g.takes, c.ageing)
}

// takes is what the entries of a group take, in seconds: all alike, so that the group
// stays in order.
func (c *Core) takes(g *group) float64 { return takes(g.length, c.shareOf(g.bench)) }

func takes(length int, share float64) float64 {
	return math.Exp2(float64(length)/8) / 1000 * math.Pow(share, width)
}

func (l *lateness) slack(takes float64, ageing time.Duration) int64 {
	takes *= l.truth
	return int64(min(slackMost*takes, max(slackLeast*takes, l.bound(ageing).Seconds())) * 1e6)
}

func (l *lateness) bound(ageing time.Duration) time.Duration {
	return max(l.most, patienceLeast*ageing)
}

// grow fits the slacks of a flow to how late it is.
func (c *Core) grow(f *flow) {
	l, most, truth := &f.late, time.Duration(c.patience*float64(f.late.longest)), c.truth.ratio(c.ageing)
	if most < l.most*8/9 || most > l.most*9/8 || truth < l.truth*8/9 || truth > l.truth*9/8 {
		l.most, l.truth = most, truth
		if f.policy == ShortestArea {
			c.loosen(f)
		}
	}
}

// loosen gives all groups of a flow the slack that they have now.
func (c *Core) loosen(f *flow) {
	for g := range f.groups {
		g.slack = c.slack(g)
	}
	heap.Init(&f.turns)
}

// expectWork counts a waiting item as work to be done, and says when it goes to
// the front.
func (c *Core) expectWork(i *item) {
	now := c.since(i)
	wait := float64(c.workAhead(i.Demand, now)) / c.filled.share(c.ageing) * c.truth.ratio(c.ageing)
	i.flow.late.note(now.Sub(i.Since)+time.Duration(wait), now)
	c.grow(i.flow)
	c.promise(i)
	c.ahead(i, 1)
}

// since is when an item came here, if that is now.
func (c *Core) since(i *item) time.Time {
	if c.clock.After(i.Since) {
		return c.clock
	}
	return i.Since
}

// ahead adds an item to the work that waits, or takes it away.
func (c *Core) ahead(i *item, sign float64) {
	for _, a := range i.Demand {
		c.pool(a.Name).ahead += sign * float64(a.Milli) * i.expected().Seconds()
	}
}

func (c *Core) forgetWork(i *item) {
	for _, a := range i.Demand {
		p := c.pool(a.Name)
		p.ahead -= float64(a.Milli) * i.expected().Seconds()
		if c.waiting == 0 {
			p.ahead = 0 // and no rounding is carried on
		}
	}
}

// workAhead is for how long what waits and runs keeps the resources of a demand
// busy.
func (c *Core) workAhead(d Demand, now time.Time) time.Duration {
	most := 0.0
	for _, a := range d {
		p := c.pool(a.Name)
		if p.capacity <= 0 {
			continue
		}
		left := max(0, p.ending-float64(p.used)*seconds(now))
		most = max(most, (max(0, p.ahead)+left)/float64(p.capacity))
	}
	return time.Duration(min(most, maxAhead.Seconds()) * float64(time.Second))
}

const maxAhead = 365 * 24 * time.Hour

// promise says when an item goes to the front of its queue.
func (c *Core) promise(i *item) {
	f := i.flow
	if i.timed >= 0 {
		heap.Remove(&f.timed, i.timed)
	}
	switch f.policy {
	case PriorityFIFO:
		return
	case ShortestArea: // see settleIn
	default:
		i.wait = max(time.Duration(c.patience*float64(c.workAhead(i.Demand, c.since(i)))), patienceLeast*c.ageing)
	}
	c.fresh = append(c.fresh, i)
}

// settleIn has the patience of those that came since the last time begin now.
func (c *Core) settleIn(now time.Time) {
	for _, i := range c.fresh {
		f := i.flow
		if i.group == nil || i.timed >= 0 || f.policy == PriorityFIFO {
			continue
		}
		if len(f.timed) == 0 && !slices.Contains(c.timed, f) {
			c.timed = append(c.timed, f)
		}
		if f.policy == ShortestArea {
			i.wait = 2 * max(time.Duration(i.group.slack)*time.Microsecond, f.late.bound(c.ageing))
		}
		i.promote = now.Add(i.wait)
		heap.Push(&f.timed, i)
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
}

// promote moves entries to the front whose time has come.
func (f *flow) promote(c *Core, now time.Time) {
	if f.policy == ShortestArea && len(f.rights) < 2 {
		return // nobody waits for one of a higher priority
	}
	for len(f.timed) > 0 && !f.timed[0].promote.After(now) {
		i, _ := heap.Pop(&f.timed).(*item)
		i.order.level, i.order.key = inFront, 0
		heap.Fix(i.group, i.at)
		c.settle(i.group)
	}
}
