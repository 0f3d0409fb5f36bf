package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// How often what may be forgotten is looked for, and how much goes at a time.
const (
	sweepEvery = 30 * time.Second
	sweepBatch = 500
)

// sweeper forgets what the retention says may be forgotten, a little at a time
// so that the writer is never held up for long.
type sweeper struct {
	node *Node
	busy bool
}

type (
	sweep struct{}
	swept struct {
		tasks int
		err   error
	}
)

// Receive implements [actor.Actor].
func (s *sweeper) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		s.again(ctx, sweepEvery)
	case sweep:
		s.sweep(ctx)
	case swept:
		s.busy = false
		switch {
		case msg.err != nil:
			s.node.log.Warn("cannot sweep", "error", msg.err)
			s.again(ctx, sweepEvery)
		case msg.tasks == sweepBatch:
			s.again(ctx, 100*time.Millisecond)
		default:
			s.again(ctx, sweepEvery)
		}
	}
}

func (s *sweeper) sweep(ctx actor.Context) {
	if s.busy || s.node.stopped.Load() {
		return
	}
	s.busy = true
	r := s.node.cfg.Retention
	r.Now = s.node.now()
	self, n := ctx.Self(), s.node
	n.work(func(workCtx context.Context) {
		tasks, err := n.cfg.Store.Sweep(workCtx, r, sweepBatch)
		n.root.Send(self, swept{tasks: tasks, err: err})
	})
}

func (s *sweeper) again(ctx actor.Context, wait time.Duration) {
	self, root := ctx.Self(), s.node.root
	time.AfterFunc(wait, func() { root.Send(self, sweep{}) })
}
