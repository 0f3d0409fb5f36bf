package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// The part of the claimer that looks around: how things stand, what other nodes left
// behind or have changed, and who of them has nothing to do.

// pollEvery is the heartbeat behind all hints: whatever message was lost, the
// backlog and the other nodes are looked at again after this long.
func (n *Node) pollEvery() time.Duration {
	const usual = time.Second
	if n.lease.granted > 0 {
		return min(usual, n.lease.granted/3)
	}
	return usual
}

func (c *claimer) poll(ctx actor.Context) {
	c.rate += 0.5 * (float64(c.starts)/c.node.pollEvery().Seconds() - c.rate)
	c.stirs = c.stirs || c.starts > 0 || c.total > 0
	c.starts = 0
	c.lookDue(ctx)
	c.lookUnblocked(ctx)
	c.tend(ctx)
	c.backlog = min(c.backlog, noBacklog-1) // look once more, whatever was believed
	ctx.Send(c.node.scheduler, poll{})      // answered with recount, which claims
	c.pollAgain(ctx)
}

func (c *claimer) pollAgain(ctx actor.Context) {
	if c.node.stopped.Load() {
		return
	}
	self, root := ctx.Self(), c.node.root
	time.AfterFunc(c.node.pollEvery(), func() { root.Send(self, poll{}) })
}

// tend looks how the queues stand and, where there are others, after what they leave
// behind or have changed. A node alone at which nothing happens reads nothing.
func (c *claimer) tend(ctx actor.Context) {
	n := c.node
	alone := n.lease.granted == 0
	if c.tending || alone && !c.stirs {
		c.tendAgain = c.tending
		return
	}
	c.tending, c.tendAgain = true, false
	self, root, changes := ctx.Self(), n.root, n.settings.changes.Load()
	n.work(func(workCtx context.Context) {
		var err error
		if !alone {
			err = n.bury(workCtx)
		}
		var o task.Overview
		if err == nil {
			o, err = n.cfg.Store.Overview(workCtx, task.Scope{})
		}
		var tenants map[string]access.Tenant
		if err == nil {
			tenants, err = n.tenants(workCtx)
		}
		root.Send(self, tended{overview: o, tenants: tenants, changes: changes, err: err})
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
	waiting := map[queueName]bool{}
	for _, count := range msg.overview.Counts {
		if count.State == task.Queued {
			waiting[queueName{count.Namespace, count.Queue}] = true
		}
	}
	c.stirs = len(waiting) > 0
	ctx.Send(c.node.scheduler, paced{waiting: waiting})
	if line := c.node.cfg.Line; line != nil {
		line.Learn(msg.overview.Nodes)
		ctx.Send(c.node.peers, membership{nodes: msg.overview.Nodes})
	}
	if msg.changes == c.node.settings.changes.Load() { // else it is older than what we know
		c.node.learn(msg.overview)
		c.node.learnTenants(msg.tenants)
	}
	if c.tendAgain {
		c.tend(ctx)
	}
}

// atWork notes how much runs here, and lets the others know if that has changed much.
func (c *claimer) atWork(ctx actor.Context, running int) {
	c.running = running
	if c.starves && !c.free { // it may be long until the next claim says so
		c.starves = false
		ctx.Send(c.node.peers, starving{})
	}
	if change := max(running-c.told, c.told-running); c.node.others.Load() > 0 && change >= slack(c.told) {
		c.told = running
		ctx.Send(c.node.peers, working{running: running})
	}
}

// hunger hears how many other nodes have room and find no work.
func (c *claimer) hunger(ctx actor.Context, msg hunger) {
	again := c.places.hear(msg.nodes)
	c.knowHungry()
	if again > 0 {
		self, root := ctx.Self(), c.node.root
		time.AfterFunc(again, func() { root.Send(self, kindsChanged{}) })
	}
	c.share(ctx)
}

// knowHungry counts the nodes that look for such work as is done here.
func (c *claimer) knowHungry() {
	c.hungry = c.places.common()
	c.node.rivals.Store(int64(c.hungry))
}

// share gives back what waits here and could run elsewhere now: the least urgent
// of what this node will not start in a moment.
func (c *claimer) share(ctx actor.Context) {
	if c.hungry == 0 {
		return
	}
	if over := c.total - c.stuck - c.room(); over > 0 {
		ctx.Send(c.node.scheduler, shed{n: over})
	}
	if served := c.places.served(); c.stuck > 0 && len(served) > 0 {
		ctx.Send(c.node.scheduler, shedStuck{served: served})
	}
}
