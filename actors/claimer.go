package actors

import (
	"context"
	"math"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// How much this node holds. It claims what it expects to start within
// holdAhead; never less than holdLeast of a lane, lest it run dry between two
// claims, and never more than holdMost in all. A node alone takes new tasks up to
// that, if their payloads are no larger than holdSmall: each that goes by way of the
// backlog is written once more and read.
const (
	holdAhead = 250 * time.Millisecond
	holdLeast = 256
	holdMost  = 20000
	holdSmall = 4 << 10
	holdShare = 4 // see hasRoom
	// calmly is how long is left between two looks of the same kind.
	calmly = 20 * time.Millisecond
	// holdHungry is what it takes at least while other nodes have nothing to do.
	holdHungry = 4
)

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
	freeing    bool // a look at tasks whose dependencies have ended is under way
	freeAgain  bool
	due, freed moves // of tasks that were found
	wakeGen    uint64
	wakeAt     time.Time
	closed     bool
	places     places
	running    int  // attempts, when last counted
	stuck      int  // of total: no worker elsewhere has room for them
	told       int  // of that, the other nodes
	starves    bool // they were told that there is room here and no work
	stirs      bool // something has started or waited of late
}

// heldLane is what the claimer knows of one lane.
type heldLane struct {
	waiting int   // tasks of it that are held and wait
	worst   int64 // the highest rank that was taken; nothing that waits ranks higher
	left    int64 // ranks from here on may be unheld in the store
	deep    bool  // perhaps more of them than the next claim takes
}

const (
	noBacklog  = math.MaxInt64
	allBacklog = math.MinInt64
)

func newClaimer(n *Node) actor.Producer {
	return func() actor.Actor {
		return &claimer{
			node: n, lanes: map[task.Lane]*heldLane{}, backlog: allBacklog, closed: n.draining.Load(), free: true, places: newPlaces(n),
			due: moves{token: n.tokens.Add(1)}, freed: moves{token: n.tokens.Add(1)},
		}
	}
}

// Receive implements [actor.Actor].
func (c *claimer) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		c.pollAgain(ctx)
		c.claim(ctx)
		c.lookDue(ctx)
		c.lookUnblocked(ctx)
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
		c.free, c.stuck = msg.free, msg.stuck
		c.atWork(ctx, msg.running)
		c.share(ctx)
		c.claim(ctx)
	case claimed:
		c.claimed(ctx, msg)
	case dueFound:
		c.dueFound(ctx, msg)
	case settled:
		c.lookUnblocked(ctx)
	case wrote:
		c.moved(ctx, msg)
	case freeFound:
		c.freeFound(ctx, msg)
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
	case workerFree:
		c.lookAnew(ctx)
	case lookAround:
		c.tend(ctx)
	case hunger:
		c.hunger(ctx, msg)
	case limitsMoved:
		c.limitsMoved(ctx, msg)
	case hinted:
		if c.hungry > 0 && c.places.ahead(c.running+c.total) {
			self, root := ctx.Self(), c.node.root
			time.AfterFunc(calmly, func() { root.Send(self, kindsChanged{}) })
			return // whoever runs less may have it first
		}
		c.lookAnew(ctx)
	case kindsChanged:
		c.knowHungry()
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
func (c *claimer) took(t *task.Task) {
	l := t.Lane()
	c.count(l, 1)
	h := c.lane(l)
	h.worst = max(h.worst, t.Rank())
}

// room is how many waiting tasks of one lane this node wants.
func (c *claimer) room() int {
	least := holdLeast
	switch {
	case c.hungry > 0 && !c.free:
		least = 0 // here they would wait for somebody to end
	case c.hungry > 0:
		least = holdHungry
	}
	return min(holdMost/2, max(least, int(c.rate*holdAhead.Seconds())))
}

// hasRoom says whether one more new task may wait here. Where this node is alone, a
// lane may have a few times as many as there is room left for others, so that there
// always is some (dynamic thresholds: Choudhury and Hahne 1998).
func (c *claimer) hasRoom(t *task.Task) bool {
	room := c.room()
	if c.node.others.Load() == 0 && len(t.Payload) <= holdSmall {
		room = max(room, holdShare*(holdMost-c.total))
	}
	waiting := 0
	if h := c.lanes[t.Lane()]; h != nil {
		waiting = h.waiting
	}
	return waiting < room && c.total < holdMost
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
		if !c.spreads(ctx, &step.Task) && c.wants(&step.Task) {
			if !c.hasRoom(&step.Task) {
				over++
			}
			step.Task.Holder = c.node.incarnation
			c.took(&step.Task)
		}
		ms[i] = task.Mutation{Op: task.Insert, Task: step.Task, Events: step.Events, Request: sub.Request, Fresh: !sub.Named}
	}
	ctx.RequestWithCustomSender(c.node.journal, submit{ms: ms}, ctx.Sender())
	if over > 0 {
		ctx.Send(c.node.scheduler, shed{n: over})
	}
}

// wants says whether a new task should be held at once. It may not pass one in
// the backlog that ranks before it; and where the node has enough, it must rank
// before one that is held, which then goes back in its stead.
func (c *claimer) wants(t *task.Task) bool {
	l := t.Lane()
	if t.State != task.Queued || t.Rank() >= c.backlog || !c.runs(l) {
		return false
	}
	h := c.lanes[l]
	if h == nil {
		return c.hasRoom(t)
	}
	// What is claimed in a moment is not passed for long. If new ones had to go behind it
	// there would be something to claim for as long as any come, and all went that way.
	behind := t.Rank() >= h.left && (h.deep || c.full(h) || c.node.others.Load() > 0 || c.claimable() == 0)
	return !behind && (c.hasRoom(t) || t.Rank() < h.worst)
}

// spreads says that a new task goes into the backlog, for a node that has nothing to do
// and runs less than this one.
func (c *claimer) spreads(ctx actor.Context, t *task.Task) bool {
	l := t.Lane()
	if t.State != task.Queued || t.StickyKey != "" || !c.places.yields(l, c.running+c.total) || !c.runs(l) {
		return false
	}
	if c.places.putAside(l) {
		self, root := ctx.Self(), c.node.root
		time.AfterFunc(asideFor+calmly, func() { root.Send(self, kindsChanged{}) })
	}
	return true
}

// runs says whether tasks of this lane can run here at all just now.
func (c *claimer) runs(l task.Lane) bool {
	return !c.node.isPaused(l.Namespace, l.Queue) && (c.node.handler(l.Kind) != nil && c.places.take(l) || c.places.sends(l, c.hungry > 0))
}

// full says that more of this lane is not wanted before some have started.
func (c *claimer) full(h *heldLane) bool { return h.waiting > c.room()/2 }

func (c *claimer) unheld(ctx actor.Context, msg unheld) {
	for l, head := range msg.heads {
		if !c.runs(l) || c.places.isAside(l) {
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
	c.free, c.stuck = msg.free, msg.stuck
	c.atWork(ctx, msg.running)
	if c.free && c.total <= c.stuck && c.node.others.Load() > 0 {
		c.backlog = min(c.backlog, noBacklog-1) // others may have something for us
	}
	for l, n := range msg.delta {
		c.count(l, n)
	}
	c.claim(ctx)
}

// leavesOut says whether a claim takes nothing of a lane.
func (c *claimer) leavesOut(l task.Lane, h *heldLane) bool { return c.full(h) || c.places.isAside(l) }

// claimable is how many tasks a claim would take now; few are not worth one.
func (c *claimer) claimable() int {
	room, waiting := c.room(), 0
	for l, h := range c.lanes {
		if !c.leavesOut(l, h) {
			waiting += h.waiting
		}
	}
	limit := min(room-waiting, holdMost-c.total)
	if limit < max(1, room/4) {
		return 0
	}
	return limit
}

// claim takes unheld tasks if there may be some and there is room for them.
func (c *claimer) claim(ctx actor.Context) {
	eased := false
	for l, h := range c.lanes {
		eased = eased || h.left != noBacklog && !c.full(h) && !c.places.isAside(l)
	}
	if c.closed || c.backlog == noBacklog && !eased {
		return
	}
	if c.claiming {
		c.again = true
		return
	}
	q := c.places.claim()
	q.Kinds, q.Served = c.node.kindNames(), c.node.served(c.hungry > 0)
	if q.Limit = c.claimable(); q.Limit == 0 || q.Nobody() {
		return
	}
	q.Full = c.places.left()
	for l, h := range c.lanes {
		if c.leavesOut(l, h) {
			q.Full = append(q.Full, l)
		}
	}
	c.claiming, c.again, c.during = true, false, map[task.Lane]int64{}
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
	found := len(msg.tasks) // also those that are of no use here
	msg.tasks = c.places.leave(ctx, msg.tasks)
	if c.anew {
		c.backlog, c.anew = allBacklog, false
	}
	if c.node.others.Load() > 0 {
		starves := starving{}
		if len(msg.tasks) == 0 && c.total <= c.stuck && c.free {
			starves.kinds, starves.served = msg.q.Kinds, c.node.served(true)
		}
		ctx.Send(c.node.peers, starves)
		c.starves = len(starves.kinds)+len(starves.served) > 0
	}
	held := make([]*task.Task, len(msg.tasks))
	for i := range msg.tasks {
		c.took(&msg.tasks[i])
		held[i] = new(msg.tasks[i]) // one by one, so that the last of them does not keep all in memory
	}
	if len(held) > 0 {
		ctx.Send(c.node.holder, hold{tasks: held})
	}
	if c.again || found > 0 {
		c.claim(ctx)
	}
}

// learn notes what a claim says of the backlog: a lane that was looked at has
// none left, but for what came meanwhile or lies behind the last one taken; one
// that was left out may have what is behind those taken before, if it was believed to
// have any, or anybody but this node could have put it there.
func (c *claimer) learn(msg claimed) {
	leftOut := map[task.Lane]bool{}
	believed := c.backlog < noBacklog-1
	for _, l := range msg.q.Full {
		if !c.places.fits(l) {
			continue
		}
		leftOut[l] = true
		if h := c.lane(l); believed || h.left != noBacklog || c.node.others.Load() > 0 {
			h.left, h.deep = min(h.left, max(h.worst, allBacklog+1)), true
		}
	}
	c.backlog = noBacklog
	last := len(msg.tasks) - 1
	deep := last+1 == msg.q.Limit
	if deep {
		c.backlog = msg.tasks[last].Rank()
	}
	for l, h := range c.lanes {
		if leftOut[l] {
			continue
		}
		h.left, h.deep = noBacklog, deep
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
