package actors

import (
	"runtime"
	"sync"
)

// perCore is how many mailboxes are run at once for each processor.
const perCore = 2

// dispatcher is an [actor.Dispatcher] that runs mailboxes in a few goroutines,
// first come, first served. Actors do not block, so more would not get more
// done; they would stand in the Go scheduler's queue before the goroutines of
// the requests, whose answers everybody waits for. With a goroutine for every
// runnable mailbox, answers under load took half as long again.
type dispatcher struct {
	mu      sync.Mutex
	more    sync.Cond
	due     queue[func()]
	stopped bool
}

func newDispatcher() *dispatcher {
	d := &dispatcher{}
	d.more.L = &d.mu
	for range perCore * runtime.GOMAXPROCS(0) {
		go d.serve()
	}
	return d
}

// Schedule implements [actor.Dispatcher].
func (d *dispatcher) Schedule(run func()) {
	d.mu.Lock()
	d.due.push(run)
	d.mu.Unlock()
	d.more.Signal()
}

// Throughput implements [actor.Dispatcher]; our mailbox does not ask.
func (d *dispatcher) Throughput() int { return 300 }

func (d *dispatcher) serve() {
	for {
		run, ok := d.next()
		if !ok {
			return
		}
		run()
	}
}

// next waits for a mailbox to run; not ok once stopped, with nothing left.
func (d *dispatcher) next() (run func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if run, ok = d.due.pop(); ok || d.stopped {
			return run, ok
		}
		d.more.Wait()
	}
}

// stop ends the goroutines once nothing is left to run.
func (d *dispatcher) stop() {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	d.more.Broadcast()
}
