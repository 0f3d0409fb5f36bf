package actors

import (
	"context"
	"math"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// How much this node holds. It takes what it expects to start within
// holdAhead; never less than holdLeast of a lane, lest it run dry between two
// claims, and never more than holdMost in all.
const (
	holdAhead = 250 * time.Millisecond
	holdLeast = 256
	holdMost  = 20000
	// calmly is how long is left between two looks of the same kind.
	calmly = 20 * time.Millisecond
	// holdHungry is what it takes at least while other nodes have nothing to do.
	holdHungry = 4
)

// pollEvery is the heartbeat behind all hints: whatever message was lost, the
// backlog and the other nodes are looked at again after this long.
func (n *Node) pollEvery() time.Duration {
	const usual = time.Second
	if n.lease.granted > 0 {
		return min(usual, n.lease.granted/3)
	}
	return usual
}

// claimer decides which tasks this node holds. It admits new ones, takes unheld
// ones as room appears, looks after those nobody holds whose time has come, and
// sends the least urgent back when a more urgent one needs the place.
//
// It counts what waits in each lane, so that tasks that cannot start (no GPU
// here, all licences in use) never take the place of others that can.
type claimer struct {
	node *Node

	lanes  map[task.Lane]*heldLane
	total  int     // waiting, in all lanes
	rate   float64 // starts a second, smoothed
	starts int     // since the last poll

	// Ranks from backlog on may be unheld in the store, in any lane.
	backlog int64

	claiming bool
	again    bool                // something came up while a claim was under way
	anew     bool                // and what that claim finds says nothing about it
	during   map[task.Lane]int64 // its lowest ranks

	tending    bool
	tendAgain  bool // something came up while it was looked around
	hungry     int  // other nodes that have room and find no work
	free       bool // there was room here when last counted
	lookingDue bool
	dueAgain   bool
	wakeGen    uint64
	wakeAt     time.Time
	closed     bool
}

// heldLane is what the claimer knows of one lane.
type heldLane struct {
	waiting int   // tasks of it that are held and wait
	worst   int64 // the highest rank that was taken; nothing that waits ranks higher
	left    int64 // ranks from here on may be unheld in the store
}

const (
	noBacklog  = math.MaxInt64
	allBacklog = math.MinInt64
)

func newClaimer(n *Node) actor.Producer {
	return func() actor.Actor {
		return &claimer{node: n, lanes: map[task.Lane]*heldLane{}, backlog: allBacklog, closed: n.draining.Load(), free: true}
	}
}

// Receive implements [actor.Actor].
func (c *claimer) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		c.pollAgain(ctx)
		c.claim(ctx)
		c.lookDue(ctx)
	case admit:
		c.admit(ctx, msg)
	case refused:
		for _, l := range msg.lane {
			c.count(l, -1)
		}
	case unheld:
		c.unheld(ctx, msg)
	case load:
		c.load(ctx, msg)
	case recount:
		for l := range c.lanes {
			c.count(l, -c.lanes[l].waiting)
		}
		for l, n := range msg.waiting {
			c.count(l, n)
		}
		c.free = msg.free
		c.share(ctx)
		c.claim(ctx)
	case claimed:
		c.claimed(ctx, msg)
	case dueFound:
		c.dueFound(ctx, msg)
	case wake:
		if msg.gen == c.wakeGen {
			c.wakeAt = time.Time{}
			c.lookDue(ctx)
			c.limitsMoved(ctx, limitsMoved{}) // what is due may be a rate
		}
	case poll:
		c.poll(ctx)
	case tended:
		c.tended(ctx, msg)
	case lookAround:
		c.tend(ctx)
	case hunger:
		c.hunger(ctx, msg)
	case limitsMoved:
		c.limitsMoved(ctx, msg)
	case kindsChanged:
		c.lookAnew(ctx)
	case stopClaiming:
		c.closed = true
		ctx.Send(c.node.scheduler, shed{n: -1})
		ctx.Respond(drained{})
	}
}

// lane finds what is known of a lane.
func (c *claimer) lane(l task.Lane) *heldLane {
	h := c.lanes[l]
	if h == nil {
		h = &heldLane{worst: allBacklog, left: noBacklog}
		c.lanes[l] = h
	}
	return h
}

func (c *claimer) count(l task.Lane, n int) {
	h := c.lane(l)
	now := max(0, h.waiting+n)
	c.total += now - h.waiting
	h.waiting = now
	if now == 0 {
		h.worst = allBacklog
		if h.left == noBacklog {
			delete(c.lanes, l)
		}
	}
}

// took notes a task that is held now.
func (c *claimer) took(t task.Task) {
	c.count(t.Lane(), 1)
	h := c.lane(t.Lane())
	h.worst = max(h.worst, t.Rank())
}

// room is how many waiting tasks of one lane this node wants.
func (c *claimer) room() int {
	least := holdLeast
	if c.hungry > 0 {
		least = holdHungry
	}
	return min(holdMost/2, max(least, int(c.rate*holdAhead.Seconds())))
}

// admit gives each new task to this node or to the backlog, and passes all to
// the journal, which answers whoever asked.
func (c *claimer) admit(ctx actor.Context, msg admit) {
	if c.closed {
		results := make([]task.Submitted, len(msg.subs))
		for i := range results {
			results[i].Err = task.ErrClosed
		}
		ctx.Respond(submitted{results: results})
		return
	}
	now := c.node.now()
	ms := make([]task.Mutation, len(msg.subs))
	over := 0
	for i, sub := range msg.subs {
		step := task.New(sub.Spec, now, 0)
		if c.wants(step.Task) {
			step.Task.Holder = c.node.incarnation
			c.took(step.Task)
			if c.lane(step.Task.Lane()).waiting > c.room() || c.total > holdMost {
				over++
			}
		}
		ms[i] = task.Mutation{Op: task.Insert, Task: step.Task, Events: step.Events, Request: sub.Request}
	}
	ctx.RequestWithCustomSender(c.node.journal, submit{ms: ms}, ctx.Sender())
	if over > 0 {
		ctx.Send(c.node.scheduler, shed{n: over})
	}
}

// wants says whether a new task should be held at once. It may not pass one in
// the backlog that ranks before it; and where the node has enough, it must rank
// before one that is held, which then goes back in its stead.
func (c *claimer) wants(t task.Task) bool {
	l := t.Lane()
	if t.State != task.Queued || t.Rank() >= c.backlog || !c.runs(l) {
		return false
	}
	h := c.lanes[l]
	switch {
	case h == nil:
		return c.total < holdMost
	case t.Rank() >= h.left:
		return false
	default:
		return h.waiting < c.room() && c.total < holdMost || t.Rank() < h.worst
	}
}

// runs says whether tasks of this lane can run here at all just now.
func (c *claimer) runs(l task.Lane) bool {
	return c.node.handler(l.Kind) != nil && !c.node.isPaused(l.Namespace, l.Queue)
}

// full says that more of this lane is not wanted before some have started.
func (c *claimer) full(h *heldLane) bool { return h.waiting > c.room()/2 }

func (c *claimer) unheld(ctx actor.Context, msg unheld) {
	for l, head := range msg.heads {
		if !c.runs(l) {
			continue
		}
		h := c.lane(l)
		h.left = min(h.left, head)
		if c.claiming {
			if earlier, ok := c.during[l]; !ok || head < earlier {
				c.during[l] = head
			}
		}
	}
	c.claim(ctx)
	c.wakeBy(ctx, msg.wake)
}

func (c *claimer) load(ctx actor.Context, msg load) {
	c.starts += msg.started
	c.free = msg.free
	if c.free && c.total == 0 && c.node.others.Load() > 0 {
		c.backlog = min(c.backlog, noBacklog-1) // others may have something for us
	}
	for l, n := range msg.delta {
		c.count(l, n)
	}
	c.claim(ctx)
}

// claim takes unheld tasks if there may be some and there is room for them.
func (c *claimer) claim(ctx actor.Context) {
	eased := false
	for _, h := range c.lanes {
		eased = eased || h.left != noBacklog && !c.full(h)
	}
	if c.closed || c.backlog == noBacklog && !eased {
		return
	}
	if c.claiming {
		c.again = true
		return
	}
	room := c.room()
	var full []task.Lane
	waiting := 0
	for l, h := range c.lanes {
		if c.full(h) {
			full = append(full, l)
		} else {
			waiting += h.waiting
		}
	}
	limit := min(room-waiting, holdMost-c.total)
	kinds := c.node.kindNames()
	if limit < room/4 || len(kinds) == 0 {
		return
	}
	c.claiming, c.again, c.during = true, false, map[task.Lane]int64{}
	q := task.Claim{Holder: c.node.incarnation, Kinds: kinds, Limit: limit, Full: full}
	self, root := ctx.Self(), c.node.root
	c.node.work(func(workCtx context.Context) {
		tasks, err := c.node.cfg.Store.Claim(workCtx, q)
		root.Send(self, claimed{tasks: tasks, q: q, err: err})
	})
}

func (c *claimer) claimed(ctx actor.Context, msg claimed) {
	c.claiming = false
	if msg.err != nil {
		c.node.log.Warn("cannot claim tasks", "error", msg.err)
		return // the next poll tries again
	}
	c.learn(msg)
	if c.anew {
		c.backlog, c.anew = allBacklog, false
	}
	if c.node.others.Load() > 0 {
		starves := starving{}
		if len(msg.tasks) == 0 && c.total == 0 && c.free {
			starves.kinds = msg.q.Kinds
		}
		ctx.Send(c.node.peers, starves)
	}
	for _, t := range msg.tasks {
		c.took(t)
	}
	if len(msg.tasks) > 0 {
		ctx.Send(c.node.holder, hold{tasks: msg.tasks})
	}
	if c.again || len(msg.tasks) > 0 {
		c.claim(ctx)
	}
}

// learn notes what a claim says of the backlog: a lane that was looked at has
// none left, but for what came meanwhile or lies behind the last one taken; one
// that was left out has what is behind those taken before.
func (c *claimer) learn(msg claimed) {
	leftOut := map[task.Lane]bool{}
	for _, l := range msg.q.Full {
		leftOut[l] = true
		h := c.lane(l)
		h.left = min(h.left, max(h.worst, allBacklog+1))
	}
	c.backlog = noBacklog
	if last := len(msg.tasks) - 1; last+1 == msg.q.Limit {
		c.backlog = msg.tasks[last].Rank()
	}
	for l, h := range c.lanes {
		if leftOut[l] {
			continue
		}
		h.left = noBacklog
		if head, ok := c.during[l]; ok {
			h.left = head
		}
		c.count(l, 0)
	}
}

// limitsMoved claims what a limit may have room for: parked tasks are called by
// whoever claims next.
func (c *claimer) limitsMoved(ctx actor.Context, msg limitsMoved) {
	c.lookAnew(ctx)
	if msg.timed {
		c.lookDue(ctx)
	}
}

// lookAnew claims, whatever was believed of the backlog.
func (c *claimer) lookAnew(ctx actor.Context) {
	c.backlog, c.anew = allBacklog, c.claiming
	c.claim(ctx)
}

// lookDue reads which unheld tasks have come due or passed their deadline.
func (c *claimer) lookDue(ctx actor.Context) {
	if c.closed {
		return
	}
	if c.lookingDue {
		c.dueAgain = true
		return
	}
	const most = 1000
	c.lookingDue, c.dueAgain = true, false
	self, root := ctx.Self(), c.node.root
	c.node.work(func(workCtx context.Context) {
		tasks, next, err := c.node.cfg.Store.Due(workCtx, c.node.now(), most)
		root.Send(self, dueFound{tasks: tasks, next: next, full: len(tasks) == most, err: err})
	})
}

// dueFound moves tasks on whose time has come. The writes are guarded by nobody
// holding them, so it does no harm if somebody else does so too.
func (c *claimer) dueFound(ctx actor.Context, msg dueFound) {
	c.lookingDue = false
	if msg.err != nil {
		c.node.log.Warn("cannot look for due tasks", "error", msg.err)
		return
	}
	now := c.node.now()
	for _, t := range msg.tasks {
		step, err := t.Expire(now)
		if err != nil {
			step, err = t.Due(now)
		}
		if err == nil {
			ctx.Send(c.node.journal, write{m: step.Mutation()})
		}
	}
	if next := msg.next; !next.IsZero() && !next.After(now) {
		msg.next = now.Add(calmly) // a rate that is open is claimed from, but not all the time
	}
	c.wakeBy(ctx, msg.next)
	if len(msg.tasks) > 0 && msg.full || c.dueAgain {
		// Those just found must be stored before they are looked for again.
		c.wakeBy(ctx, now.Add(calmly))
	}
}

// wakeBy sees to it that due tasks are looked for no later than at.
func (c *claimer) wakeBy(ctx actor.Context, at time.Time) {
	if at.IsZero() || !c.wakeAt.IsZero() && !at.Before(c.wakeAt) {
		return
	}
	c.wakeAt = at
	c.wakeGen++
	gen, self, root := c.wakeGen, ctx.Self(), c.node.root
	wait := max(0, c.node.until(at))
	if wait > c.node.pollEvery() {
		c.wakeAt = time.Time{} // a poll comes first and learns it again
		return
	}
	time.AfterFunc(wait, func() { root.Send(self, wake{gen: gen}) })
}

func (c *claimer) poll(ctx actor.Context) {
	c.rate += 0.5 * (float64(c.starts)/c.node.pollEvery().Seconds() - c.rate)
	c.starts = 0
	c.lookDue(ctx)
	c.tend(ctx)
	c.backlog = min(c.backlog, noBacklog-1) // look once more, whatever was believed
	ctx.Send(c.node.scheduler, poll{})      // answered with recount, which claims
	c.pollAgain(ctx)
}

// tend looks after what other nodes leave behind or have changed, where there
// are others.
func (c *claimer) tend(ctx actor.Context) {
	n := c.node
	if n.lease.granted == 0 || c.tending {
		c.tendAgain = c.tending
		return
	}
	c.tending, c.tendAgain = true, false
	self, root, changes := ctx.Self(), n.root, n.settings.changes.Load()
	n.work(func(workCtx context.Context) {
		err := n.bury(workCtx)
		var o task.Overview
		if err == nil {
			o, err = n.cfg.Store.Overview(workCtx, task.Scope{})
		}
		root.Send(self, tended{overview: o, changes: changes, err: err})
	})
}

func (c *claimer) tended(ctx actor.Context, msg tended) {
	c.tending = false
	if msg.err != nil {
		if c.node.life.Err() == nil {
			c.node.log.Warn("cannot look after the other nodes", "error", msg.err)
		}
		return
	}
	if line := c.node.cfg.Line; line != nil {
		line.Learn(msg.overview.Nodes)
		ctx.Send(c.node.peers, membership{nodes: msg.overview.Nodes})
	}
	if msg.changes == c.node.settings.changes.Load() { // else it is older than what we know
		c.node.learn(msg.overview)
	}
	if c.tendAgain {
		c.tend(ctx)
	}
}

// hunger hears how many other nodes have room and find no work.
func (c *claimer) hunger(ctx actor.Context, msg hunger) {
	c.hungry = msg.nodes
	c.share(ctx)
}

// share gives back what waits here and could run elsewhere now: the least urgent
// of what this node will not start in a moment.
func (c *claimer) share(ctx actor.Context) {
	if over := c.total - c.room(); c.hungry > 0 && over > 0 {
		ctx.Send(c.node.scheduler, shed{n: over})
	}
}

func (c *claimer) pollAgain(ctx actor.Context) {
	if c.node.stopped.Load() {
		return
	}
	self, root := ctx.Self(), c.node.root
	time.AfterFunc(c.node.pollEvery(), func() { root.Send(self, poll{}) })
}
