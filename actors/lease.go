package actors

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// seenEvery is how often a node that needs no lease says that it lives.
const seenEvery = 5 * time.Second

// renewWithin bounds one renewal where no lease does.
const renewWithin = 10 * time.Second

// lease is the node's right to hold tasks. The store counts it by its own clock,
// from when a renewal reached it; we count by ours, which never jumps, from
// before it was sent, and a tenth less, for clocks that do not run alike. So we
// have stopped before anybody else takes our tasks for free.
type lease struct {
	granted time.Duration // 0: it never ends
	fuse    *time.Timer   // fences the node
	once    sync.Once
	lost    chan struct{} // closed when the node is fenced
	offset  atomic.Int64  // nanoseconds the store's clock is ahead of ours
}

// now is the time by the store's clock, as far as we know it. What is compared
// with what other nodes wrote, or will be, is told by it.
func (n *Node) now() time.Time { return time.Now().Add(time.Duration(n.lease.offset.Load())) }

// Now is the time by the clock of the store.
func (n *Node) Now() time.Time { return n.now() }

// until is how long it is to a time of the store's clock.
func (n *Node) until(t time.Time) time.Duration { return t.Sub(n.now()) }

// join takes a new incarnation and its lease.
func (n *Node) join(ctx context.Context) error {
	sent := time.Now()
	row, err := n.cfg.Store.Renew(ctx, n.row())
	if err != nil {
		return err
	}
	n.incarnation, n.lease.granted = row.Incarnation, row.Lease
	n.learnClock(sent, row.Seen)
	if row.Lease > 0 {
		n.lease.fuse = time.AfterFunc(n.left(sent), func() { n.fence("its lease ran out") })
	}
	return nil
}

// left is how long the node may go on after a renewal sent then.
func (n *Node) left(sent time.Time) time.Duration {
	return n.lease.granted - n.lease.granted/10 - time.Since(sent)
}

// learnClock compares the store's clock with ours. What the answer says lies
// between the question and now; less than that is not known.
func (n *Node) learnClock(sent time.Time, seen time.Time) {
	if n.lease.granted == 0 {
		return // the store goes by our clock
	}
	back := time.Now()
	doubt := back.Sub(sent) / 2
	offset := seen.Sub(sent.Add(doubt))
	if d := offset - time.Duration(n.lease.offset.Load()); d > doubt || d < -doubt {
		n.lease.offset.Store(int64(offset))
	}
}

// keep renews the lease, or where there is none the node's row, until the node
// stops or has lost it.
func (n *Node) keep(ctx context.Context) {
	every := seenEvery
	if n.lease.granted > 0 {
		every = n.lease.granted / 3
	}
	for wait := every; ; {
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		err := n.renew(ctx)
		wait = every
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.Is(err, task.ErrStale):
			n.fence("others have buried it")
		default:
			n.log.Warn("cannot renew the node's row", "error", err)
			wait = every / 4
		}
	}
}

func (n *Node) renew(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	sent := time.Now()
	row, err := n.cfg.Store.Renew(within, n.row())
	if err != nil {
		return err
	}
	n.learnClock(sent, row.Seen)
	// A fuse that has burnt down stays so: what it did is not taken back.
	if n.lease.fuse != nil && n.lease.fuse.Stop() {
		n.lease.fuse.Reset(n.left(sent))
	}
	return nil
}

// fence ends everything this node does: others may have its tasks now. It is
// not brought back; see [Node.Next].
func (n *Node) fence(why string) {
	n.lease.once.Do(func() {
		if n.life.Err() != nil {
			return // stopping anyway
		}
		n.log.Error("the node gives up what it holds", "incarnation", int64(n.incarnation), "because", why)
		n.metrics.fenced.Inc()
		n.end()
		close(n.lease.lost)
	})
}

// Lost is closed when the node had to give up all it holds. It does nothing any
// more; who runs it stops it, and starts the next.
func (n *Node) Lost() <-chan struct{} { return n.lease.lost }

func (n *Node) isLost() bool {
	select {
	case <-n.lease.lost:
		return true
	default:
		return false
	}
}

// Next starts the life after this one, which was lost and has been stopped: a new
// incarnation with new actors. It has no handlers yet; see [Node.Adopt].
func (n *Node) Next(ctx context.Context) (*Node, error) { return launch(ctx, n.cfg, n.metrics) }

// Adopt takes over the handlers of an earlier life.
func (n *Node) Adopt(before *Node) {
	before.mu.RLock()
	defer before.mu.RUnlock()
	for kind, h := range before.handlers {
		n.Handle(kind, h)
	}
}
