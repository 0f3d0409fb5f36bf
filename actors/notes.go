package actors

import (
	"context"
	"sync"
)

// notes lets a handler wait until what it wants remembered is on disk. The handler's
// goroutines speak and wait, the task's actor says how far it has come.
type notes struct {
	mu     sync.Mutex
	spoken int
	stored int
	moved  chan struct{} // closed and replaced when something changes; nil while nobody waits
	ended  error
}

// speak hands one over, and gives its number.
func (n *notes) speak(say func()) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spoken++
	say() // under the lock, so that they arrive in the order of their numbers
	return n.spoken
}

// await waits until the one of a number is stored.
func (n *notes) await(ctx context.Context, number int) error {
	for {
		n.mu.Lock()
		if n.stored >= number || n.ended != nil {
			defer n.mu.Unlock()
			if n.stored >= number {
				return nil
			}
			return n.ended
		}
		if n.moved == nil {
			n.moved = make(chan struct{})
		}
		moved := n.moved
		n.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// store says that all up to a number are stored.
func (n *notes) store(number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if number > n.stored {
		n.stored = number
		n.wake()
	}
}

// end says that the attempt is over, and nothing is stored any more.
func (n *notes) end(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended == nil {
		n.ended = err
	}
	n.wake()
}

func (n *notes) wake() {
	if n.moved != nil {
		close(n.moved)
		n.moved = nil
	}
}
