package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// The part of the claimer that moves on what nobody holds when its time has come, or
// what it waited for.

// moves is writes that move on what nobody holds. Until all are answered it is not
// looked for again: it would only be found again, and the journal have twice as
// much to do.
type moves struct {
	token uint64 // of all of them
	open  int
}

func (c *claimer) move(ctx actor.Context, of *moves, s task.Step) {
	of.open++
	ctx.Request(c.node.journal, write{m: new(s.Mutation()), token: of.token})
}

// moved looks again once all that was found is stored, if there may be more.
func (c *claimer) moved(ctx actor.Context, msg wrote) {
	switch msg.token {
	case c.due.token:
		if c.due.open--; c.due.open == 0 && c.dueAgain {
			c.lookDue(ctx)
		}
	case c.freed.token:
		if c.freed.open--; c.freed.open == 0 && c.freeAgain {
			c.lookUnblocked(ctx)
		}
	}
}

// lookDue reads which unheld tasks have come due or passed their deadline.
func (c *claimer) lookDue(ctx actor.Context) {
	if c.closed {
		return
	}
	if c.lookingDue || c.due.open > 0 {
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
		if err != nil {
			step, err = t.Unbind(now)
		}
		if err == nil {
			c.move(ctx, &c.due, step)
		}
	}
	if next := msg.next; !next.IsZero() && !next.After(now) {
		msg.next = now.Add(calmly) // a rate that is open is claimed from, but not all the time
	}
	c.wakeBy(ctx, msg.next)
	c.dueAgain = c.dueAgain || msg.full
	if c.dueAgain && c.due.open == 0 {
		c.wakeBy(ctx, now.Add(calmly))
	}
}

// lookUnblocked reads which tasks wait no more for others.
func (c *claimer) lookUnblocked(ctx actor.Context) {
	if c.closed {
		return
	}
	if c.freeing || c.freed.open > 0 {
		c.freeAgain = true
		return
	}
	const most = 1000
	c.freeing, c.freeAgain = true, false
	self, root := ctx.Self(), c.node.root
	c.node.work(func(workCtx context.Context) {
		tasks, err := c.node.cfg.Store.Unblocked(workCtx, most)
		root.Send(self, freeFound{tasks: tasks, full: len(tasks) == most, err: err})
	})
}

// freeFound moves them on, which other nodes may do as well: the guard lets one.
func (c *claimer) freeFound(ctx actor.Context, msg freeFound) {
	c.freeing = false
	if msg.err != nil {
		if c.node.life.Err() == nil {
			c.node.log.Warn("cannot look for tasks whose dependencies have ended", "error", msg.err)
		}
		return
	}
	now := c.node.now()
	for _, u := range msg.tasks {
		if step, err := u.Step(now); err == nil {
			c.move(ctx, &c.freed, step)
		}
	}
	c.freeAgain = c.freeAgain || msg.full
	if c.freeAgain && c.freed.open == 0 {
		self, root := ctx.Self(), c.node.root
		time.AfterFunc(calmly, func() { root.Send(self, settled{}) })
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
