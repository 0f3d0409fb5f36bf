package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// The goroutines of this package, beside the dispatcher's and those of timers,
// are started here and nowhere else: what may block is done away from the
// actors and comes back to them as a message.

// crew is goroutines that are used again, for what may block. A new goroutine
// begins with a small stack, and a transaction lets it grow a few times.
type crew struct {
	jobs chan func() // handed over only if somebody waits for it
	done chan struct{}
}

func newCrew() *crew { return &crew{jobs: make(chan func()), done: make(chan struct{})} }

// restAfter is how long one of the crew waits for its next job before it goes.
const restAfter = time.Second

// do runs a job at once, in a new goroutine where none waits for one.
func (c *crew) do(job func()) {
	select {
	case c.jobs <- job:
	default:
		go c.serve(job)
	}
}

func (c *crew) serve(job func()) {
	rest := time.NewTimer(restAfter)
	defer rest.Stop()
	for {
		job()
		rest.Reset(restAfter)
		select {
		case job = <-c.jobs:
		case <-rest.C:
			return
		case <-c.done:
			return
		}
	}
}

// stop sends the waiting ones home.
func (c *crew) stop() { close(c.done) }

// work runs fn in a goroutine. Its context ends when the node is torn down,
// which waits for fn.
func (n *Node) work(fn func(context.Context)) {
	n.running.Add(1)
	n.crew.do(func() {
		defer n.running.Done()
		fn(n.life)
	})
}

// attempt runs a handler in a goroutine. Nobody can make it return, so nobody
// waits for it: its context ends with the attempt or the node, and what it says
// afterwards reaches no one. To hand an attempt to a worker elsewhere takes more stack
// than a new goroutine has.
func (n *Node) attempt(away bool, fn func()) {
	if away {
		n.crew.do(fn)
		return
	}
	go fn()
}

// askTimeout bounds how long a caller waits for an actor's answer.
const askTimeout = 30 * time.Second

// ask sends a request to an actor and waits for its answer. A caller that has
// gone away is not noticed before the answer, which is near: actors do not
// block.
func ask[T any](ctx context.Context, n *Node, to *actor.PID, msg any) (T, error) {
	var zero T
	wait := askTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Millisecond, time.Until(deadline)))
	}
	future := n.root.RequestFuture(to, msg, wait)
	n.asking.Store(future, nil)
	defer n.asking.Delete(future)
	if n.stopped.Load() { // or was, before it could see that we ask
		return zero, n.closed()
	}
	answer, err := future.Result()
	if err != nil {
		if ctx.Err() != nil {
			return zero, context.Cause(ctx)
		}
		return zero, task.ErrUnavailable
	}
	typed, ok := answer.(T)
	if !ok {
		if _, gone := answer.(abandoned); gone {
			return zero, task.ErrUnavailable
		}
		return zero, task.ErrStale // such as notHeld, where the caller wants a task
	}
	return typed, nil
}

// closed says why the node does nothing any more: one that lost its lease is back
// in a moment.
func (n *Node) closed() error {
	if n.isLost() {
		return task.ErrUnavailable
	}
	return task.ErrClosed
}

// abandoned is the answer to what was asked of actors that have stopped: they
// drop what they had not come to.
type abandoned struct{}

// abandon answers all who still wait.
func (n *Node) abandon() {
	n.asking.Range(func(future, _ any) bool {
		n.root.Send(future.(*actor.Future).PID(), abandoned{}) //nolint:forcetypeassert // nothing else is in there
		return true
	})
}

// together does something for each of many at once, and gives what came of those
// for which it went well.
func together[T, R any](ctx context.Context, n *Node, all []T, do func(context.Context, T) (R, error)) []R {
	type result struct {
		of  R
		err error
	}
	results := make(chan result, len(all)) // so that nobody waits to say it
	for _, one := range all {
		n.work(func(context.Context) {
			r, err := do(ctx, one)
			results <- result{r, err}
		})
	}
	var good []R
	for range all {
		select {
		case r := <-results:
			if r.err == nil {
				good = append(good, r.of)
			}
		case <-ctx.Done():
			return good
		}
	}
	return good
}

// bury ends the attempts and the holds of dead nodes, in bounded batches.
func (n *Node) bury(ctx context.Context) error {
	const most = 1000
	freed := 0
	defer func() {
		if freed > 0 {
			n.metrics.buried.Add(float64(freed))
			n.log.Info("freed tasks of a node that died", "tasks", freed)
		}
	}()
	for {
		orphans, err := n.cfg.Store.Orphans(ctx, most)
		if err != nil || len(orphans) == 0 {
			return err
		}
		ms := make([]task.Mutation, len(orphans))
		for i, t := range orphans {
			ms[i] = t.Lost(n.now(), task.CodeNodeLost, chance(), n.cfg.Limits.Crashes).Mutation()
		}
		outcomes, err := n.cfg.Store.Append(ctx, ms)
		if err != nil {
			return err
		}
		before := freed
		for _, out := range outcomes {
			if out.Err == nil {
				freed++
			}
		}
		if freed == before {
			return nil // somebody else buries them
		}
	}
}
