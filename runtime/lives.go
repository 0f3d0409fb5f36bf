package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/troupe-run/troupe/actors"
)

// lives is a node through all its lives. One that has lost its lease, because the
// store or the process stood still for too long, has given up all it held; the
// next begins under a new incarnation as soon as the store answers.
type lives struct {
	log    *slog.Logger
	closed context.Context //nolint:containedctx // ends with end
	stop   context.CancelFunc
	over   chan struct{} // closed when no life will follow any more

	mu  sync.RWMutex
	now *actors.Node
}

// Between two tries to begin anew.
const (
	reviveFirst = 100 * time.Millisecond
	reviveLast  = 5 * time.Second
)

func newLives(log *slog.Logger) *lives {
	l := &lives{log: log, over: make(chan struct{})}
	l.closed, l.stop = context.WithCancel(context.Background())
	return l
}

// begin starts to look after the first life.
func (l *lives) begin(n *actors.Node) {
	l.now = n
	go l.watch()
}

// end sees to it that no further life begins.
func (l *lives) end() {
	l.stop()
	<-l.over
}

func (l *lives) node() *actors.Node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now
}

// handle makes h the handler of a kind, in this life and those to come.
func (l *lives) handle(kind string, h actors.Handler) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.now.Handle(kind, h)
}

func (l *lives) watch() {
	defer close(l.over)
	for {
		n := l.node()
		select {
		case <-n.Lost():
		case <-l.closed.Done():
			return
		}
		if err := n.Stop(l.closed); err != nil {
			l.log.Error("the lost node does not stop", "error", err)
		}
		if !l.revive(n) {
			return
		}
	}
}

// revive begins the next life, trying until it succeeds or none is wanted.
func (l *lives) revive(lost *actors.Node) bool {
	for wait := reviveFirst; ; wait = min(2*wait, reviveLast) {
		next, err := lost.Next(l.closed)
		if err == nil {
			l.mu.Lock()
			next.Adopt(lost)
			l.now = next
			l.mu.Unlock()
			l.log.Info("the node goes on", "incarnation", int64(next.Incarnation()))
			return true
		}
		if l.closed.Err() != nil {
			return false
		}
		l.log.Warn("cannot begin anew", "error", err)
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-l.closed.Done():
			pause.Stop()
			return false
		}
	}
}
