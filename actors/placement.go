package actors

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// preferFor is for how long tasks are left to a node they prefer after it was last
// known to have room and nothing to do. So while it is only just at work, it still
// gets them, and when it is full, others wait no longer than this.
const preferFor = 500 * time.Millisecond

// places is what the claimer knows of where tasks may go.
type places struct {
	node   *Node
	rivals map[task.Incarnation]rival
	// unfit are lanes that a claim has found with tasks that ask for more than this
	// node has. It goes by what they demand, as what counts of it may change.
	unfit   map[task.Lane]bool
	demands map[string]task.Resources // read from their texts
	aside   map[task.Lane]time.Time   // lanes of which others get what is new, until then
}

// rival is another node that has room and finds no work, or had until just now.
type rival struct {
	task.Rival
	until time.Time // zero: it still has
}

// asideFor is for how long a node claims nothing of a lane whose new tasks it has just
// left to others, which run less.
const asideFor = 200 * time.Millisecond

// slack is how much more than another a node may run before it is more.
func slack(running int) int { return max(4, running/4) }

// mostUnfit bounds what is remembered of lanes; then some are found out anew.
const mostUnfit = 10_000

func newPlaces(n *Node) places {
	return places{
		node: n, rivals: map[task.Incarnation]rival{}, unfit: map[task.Lane]bool{}, demands: map[string]task.Resources{},
		aside: map[task.Lane]time.Time{},
	}
}

// claim is what a claim of this node says of placement.
func (p *places) claim() task.Claim {
	q := task.Claim{Holder: p.node.incarnation, Labels: p.node.cfg.Labels}
	if len(p.rivals) == 0 {
		return q
	}
	q.Packed = p.node.packed()
	now := time.Now()
	for i, r := range p.rivals {
		if !r.until.IsZero() && now.After(r.until) {
			delete(p.rivals, i)
			continue
		}
		r.Before = i < p.node.incarnation
		q.Rivals = append(q.Rivals, r.Rival)
	}
	return q
}

// take says whether this node may take tasks of a lane. Of another node that they are
// bound to it is not known whether it lives.
func (p *places) take(l task.Lane) bool {
	plain := l.Affinity == (task.Affinity{}) && l.Bound == 0 && (len(p.rivals) == 0 || !p.packs(l))
	return (plain || p.claim().May(l, func(task.Incarnation) bool { return true })) && p.fits(l)
}

// yields says whether new tasks of a lane are for another node that has nothing to do
// and runs less than so much.
func (p *places) yields(l task.Lane, load int) bool {
	if len(p.rivals) == 0 || p.packs(l) {
		return false
	}
	preferred := l.Affinity.Prefer.Matches(p.node.cfg.Labels)
	for _, r := range p.rivals {
		if r.until.IsZero() && r.Running+slack(r.Running) < load && r.Takes(l) &&
			(!preferred || l.Affinity.Prefer.Matches(r.Labels)) && p.fitsIn(l, r.Capacity) {
			return true
		}
	}
	return false
}

// ahead says whether some node that has nothing to do runs less than so much.
func (p *places) ahead(load int) bool {
	for _, r := range p.rivals {
		if r.until.IsZero() && r.Running+slack(r.Running) < load {
			return true
		}
	}
	return false
}

func (p *places) packs(l task.Lane) bool {
	return p.node.queue(l.Namespace, l.Queue).Placement == task.PlacementPack
}

// putAside has others claim of a lane for a while; false: they do already.
func (p *places) putAside(l task.Lane) bool {
	if p.isAside(l) {
		return false
	}
	p.aside[l] = time.Now().Add(asideFor)
	return true
}

func (p *places) isAside(l task.Lane) bool {
	until, there := p.aside[l]
	if there && !time.Now().Before(until) {
		delete(p.aside, l)
		return false
	}
	return there
}

// common counts the nodes that have nothing to do and could run some of what this one can.
func (p *places) common() (n int) {
	own, served := p.node.kindNames(), p.node.served(false)
	for _, r := range p.rivals {
		if r.until.IsZero() && (slices.ContainsFunc(own, func(kind string) bool { return slices.Contains(r.Kinds, kind) }) ||
			slices.ContainsFunc(served, r.serves)) {
			n++
		}
	}
	return n
}

// fits says whether one task of a lane could run here if nothing else did. What of
// its demand only the cluster has is the cluster's matter.
func (p *places) fits(l task.Lane) bool { return p.fitsIn(l, p.node.cfg.Capacity) }

// sends says whether workers elsewhere run tasks of a lane, or with now: have a slot
// free for them.
func (p *places) sends(l task.Lane, now bool) bool {
	return (l.Bound == 0 || l.Bound == p.node.incarnation) && p.node.sends(l, p.demand(l), now)
}

// served is what workers of other nodes serve that have room and find no work.
func (p *places) served() (all []task.Served) {
	for _, r := range p.rivals {
		if r.until.IsZero() {
			all = append(all, r.Served...)
		}
	}
	return all
}

// serves says whether workers of the other node do some of what those here do.
func (r rival) serves(own task.Served) bool {
	return slices.ContainsFunc(r.Served, func(o task.Served) bool {
		return o.Namespace == own.Namespace && slices.ContainsFunc(o.Kinds, func(k string) bool { return slices.Contains(own.Kinds, k) })
	})
}

func (p *places) fitsIn(l task.Lane, capacity task.Resources) bool {
	for name, amount := range p.demand(l) {
		here, has := capacity[name]
		if amount > here && (has || !p.node.isPool(name)) {
			return false
		}
	}
	return true
}

func (p *places) demand(l task.Lane) task.Resources {
	demand, known := p.demands[l.Demand]
	if !known {
		if len(p.demands) == mostUnfit {
			clear(p.demands)
		}
		demand = task.ReadResources(l.Demand)
		p.demands[l.Demand] = demand
	}
	return demand
}

// runs says whether tasks of a lane that a claim got can run here at all: here, or on
// workers elsewhere.
func (p *places) runs(l task.Lane) bool {
	return p.node.handler(l.Kind) != nil && l.Affinity.Require.Matches(p.node.cfg.Labels) && p.fits(l) || p.sends(l, false)
}

// leave gives those tasks back that a claim got and that can never run here, and
// remembers to leave their lanes to others. The rest stand in the same slice.
func (p *places) leave(ctx actor.Context, claimed []task.Task) (rest []task.Task) {
	rest = claimed[:0]
	for _, t := range claimed {
		l := t.Lane()
		if p.runs(l) {
			rest = append(rest, t)
			continue
		}
		if len(p.unfit) == mostUnfit {
			clear(p.unfit)
		}
		p.unfit[l] = true
		ctx.Send(p.node.journal, write{m: new(t.Release().Mutation())})
	}
	return rest
}

// left lists the lanes that are left to others because they do not fit.
func (p *places) left() (lanes []task.Lane) {
	for l := range p.unfit {
		if p.runs(l) {
			delete(p.unfit, l)
			continue
		}
		lanes = append(lanes, l)
	}
	return lanes
}

// hear learns which other nodes have room and find no work; again says when to look
// for what was left to those that have not any more, zero: there are none.
func (p *places) hear(hungry map[task.Incarnation]task.Rival) (again time.Duration) {
	now := time.Now()
	for i, r := range hungry {
		p.rivals[i] = rival{Rival: r}
	}
	for i, r := range p.rivals {
		if _, still := hungry[i]; !still && r.until.IsZero() {
			r.until = now.Add(preferFor)
			p.rivals[i] = r
			again = preferFor + calmly
		}
	}
	return again
}
