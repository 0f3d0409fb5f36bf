package actors

import (
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// How soon a crashed actor is restarted: at once the first time, then after
// twice as long each time, until it has been quiet for a while.
const (
	restartFirst = 10 * time.Millisecond
	restartMost  = 10 * time.Second
	restartQuiet = time.Minute
)

// supervisor is the one strategy of the whole tree: one for one. Most children
// are restarted with a fresh state that they rebuild; see doc.go for from what.
// Registries are resumed instead: their state is a map that each message leaves
// whole, and restarting one would stop all its children.
type supervisor struct {
	log      *slog.Logger
	registry func(*actor.PID) bool // nil: no child is one
}

// HandleFailure implements [actor.SupervisorStrategy].
func (s supervisor) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID,
	rs *actor.RestartStatistics, _, _ any,
) {
	if s.registry != nil && s.registry(child) {
		s.log.Warn("resuming actor", "actor", child.GetId())
		parent.ResumeChildren(child)
		return
	}
	rs.Fail()
	failures := rs.NumberOfFailures(restartQuiet)
	wait := restartDelay(failures, rand.Float64()) //nolint:gosec // spread, not a secret
	s.log.Warn("restarting actor", "actor", child.GetId(), "failures", failures, "wait", wait)
	if wait == 0 {
		parent.RestartChildren(child)
		return
	}
	// Only sends a system message, which any goroutine may do.
	time.AfterFunc(wait, func() { parent.RestartChildren(child) })
}

// restartDelay is the wait before a restart after so many failures in the last
// while, spread by chance over its upper half.
func restartDelay(failures int, chance float64) time.Duration {
	if failures <= 1 {
		return 0
	}
	wait := restartMost
	if shift := failures - 2; shift < 20 {
		wait = min(restartMost, restartFirst<<shift)
	}
	return wait/2 + time.Duration(chance*float64(wait/2))
}

// guarded wraps an actor for two things the library leaves open while one
// stops. A panic must not stop it from stopping: it would come back to life, or
// leave its parent waiting for ever. And nothing more may reach it: it might
// spawn a child that nobody stops.
type guarded struct {
	actor.Actor
	log      *slog.Logger
	stopping bool
}

// Receive implements [actor.Actor].
func (g *guarded) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Stopping, *actor.Stopped, *actor.Restarting:
		if _, ok := ctx.Message().(*actor.Stopping); ok {
			g.stopping = true
		}
		defer func() {
			if r := recover(); r != nil {
				g.log.Error("actor panicked while stopping", "actor", ctx.Self().GetId(), "panic", r, "stack", string(debug.Stack()))
			}
		}()
	default:
		if g.stopping {
			if ctx.Sender() != nil {
				ctx.Respond(&actor.DeadLetterResponse{Target: ctx.Self()})
			}
			return
		}
	}
	g.Actor.Receive(ctx)
}

// props makes the recipe for an actor of this node. produce is called again at
// every restart.
func (n *Node) props(produce actor.Producer, strategy supervisor) *actor.Props {
	return n.recipe(&n.dispatcher.shared, produce, strategy)
}

// ownProps makes the recipe for an actor of a single task.
func (n *Node) ownProps(produce actor.Producer) *actor.Props {
	return n.recipe(&n.dispatcher.own, produce, supervisor{log: n.log})
}

func (n *Node) recipe(turn *class, produce actor.Producer, strategy supervisor) *actor.Props {
	return actor.PropsFromProducer(
		func() actor.Actor { return &guarded{Actor: produce(), log: n.log} },
		actor.WithDispatcher(turn),
		actor.WithMailbox(newMailbox(n.log, n.metrics.panics.Inc)),
		actor.WithSupervisor(strategy),
	)
}
