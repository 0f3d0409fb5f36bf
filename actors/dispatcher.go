package actors

import (
	"runtime"
	"sync"
)

// turns is after how many mailboxes a goroutine steps back; a few take as long as it does.
const turns = 8

// perCore is how many mailboxes are run at once for each processor.
const perCore = 2

// dispatcher runs mailboxes in a few goroutines. Actors do not block, so more
// would not get more done; they would only stand in the Go scheduler's queue
// before the goroutines of the requests, whose answers everybody waits for. For
// the same reason they step back after a few mailboxes, and the actors that all
// requests pass through come before those of single tasks. Under a thousand
// requests at once the three together halve the time of an answer.
type dispatcher struct {
	mu      sync.Mutex
	more    sync.Cond
	shared  class // of the node: journal, scheduler, claimer, sessions
	own     class // of one task: task and worker actors
	stopped bool
}

// class is an [actor.Dispatcher] of mailboxes that are run in the order in
// which they got something to do.
type class struct {
	*dispatcher
	due queue[func()]
}

func newDispatcher() *dispatcher {
	d := &dispatcher{}
	d.more.L = &d.mu
	d.shared.dispatcher, d.own.dispatcher = d, d
	for range perCore * runtime.GOMAXPROCS(0) {
		go d.serve()
	}
	return d
}

// Schedule implements [actor.Dispatcher].
func (c *class) Schedule(run func()) {
	c.mu.Lock()
	c.due.push(run)
	c.mu.Unlock()
	c.more.Signal()
}

// Throughput implements [actor.Dispatcher]; our mailbox does not ask.
func (c *class) Throughput() int { return 300 }

func (d *dispatcher) serve() {
	for turn := 1; ; turn++ {
		run, ok := d.next()
		if !ok {
			return
		}
		if run(); turn%turns == 0 {
			runtime.Gosched()
		}
	}
}

// next waits for a mailbox to run; not ok once stopped, with nothing left.
func (d *dispatcher) next() (run func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if run, ok = d.shared.due.pop(); ok {
			return run, true
		}
		if run, ok = d.own.due.pop(); ok || d.stopped {
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
