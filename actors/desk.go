package actors

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// desk is where the attempts of one worker elsewhere are kept while they are under way.
// Their goroutines come and go at it, the worker's connection asks it for them, and the
// worker's actor says who the connection is. It is locked for that, and nothing is done
// under the lock that could block.
type desk struct {
	node   *Node
	worker string

	mu      sync.Mutex
	link    task.WorkerLink // nil: there is none
	open    bool            // the worker has been told that it is registered
	errands map[attemptKey]*errand
	over    *task.Failure // why nothing runs here any more
	idle    func()        // called when nothing runs any more
}

// errand is an attempt that a worker elsewhere runs.
type errand struct {
	desk  *desk
	ref   task.AttemptRef
	row   task.Task
	steps []task.Memo
	calls chan errandCall // waits for who sends while many are on their way
	done  chan struct{}   // closed when nothing is taken any more
	lost  chan struct{}   // closed when the worker is
	given time.Time       // when it was last sent to the worker; under the desk's lock
	cut   string          // why it is to stop; under the desk's lock
	heard bool            // the worker has it; under the desk's lock
}

// errandCall is a call on its way to its answer.
type errandCall struct {
	call   task.WorkerCall
	answer func(task.WorkerAnswer, error)
}

// mostCalls is how many calls may wait for an attempt before its worker is not read.
const mostCalls = 16

// run is the [Handler] of an attempt that goes to the worker.
func (d *desk) run(ctx context.Context, job *Job) (json.RawMessage, error) {
	steps, err := job.done(ctx)
	if err != nil {
		return nil, err
	}
	key := attemptKey{job.Task.ID, job.Task.Attempt}
	e := &errand{
		desk: d, row: *job.Task, steps: steps, calls: make(chan errandCall, mostCalls),
		ref:  task.AttemptRef{Task: key.id, Attempt: key.attempt, Token: d.node.token(key, d.worker)},
		done: make(chan struct{}), lost: make(chan struct{}),
	}
	if f := d.begin(key, e); f != nil {
		return nil, f
	}
	defer d.end(key, e)
	return e.serve(ctx, job)
}

// begin keeps an attempt and sends it to the worker.
func (d *desk) begin(key attemptKey, e *errand) *task.Failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		return d.over
	}
	d.errands[key] = e
	d.give(e)
	return nil
}

// give sends an attempt to the worker, if it is there. Else it is sent when it comes
// back. The lock is held.
func (d *desk) give(e *errand) {
	if d.open {
		e.given = time.Now()
		d.link.Run(task.Assignment{AttemptRef: e.ref, Row: e.row, Lease: d.node.workerLease(), Steps: e.steps})
	}
}

// end forgets an attempt. Calls that had not been come to are too late.
func (d *desk) end(key attemptKey, e *errand) {
	close(e.done)
	e.drop()
	d.mu.Lock()
	delete(d.errands, key)
	idle := d.idle
	if len(d.errands) > 0 {
		idle = nil
	}
	d.mu.Unlock()
	if idle != nil {
		idle()
	}
}

// drop answers the calls that nobody comes to any more.
func (e *errand) drop() {
	for {
		select {
		case c := <-e.calls:
			c.answer(task.WorkerAnswer{}, task.ErrStale)
		default:
			return
		}
	}
}

// call hands a call to the attempt that a token names.
func (d *desk) call(link task.WorkerLink, token string, c errandCall) {
	key, genuine := d.node.readToken(token, d.worker)
	d.mu.Lock()
	e := d.errands[key]
	if !genuine || d.link != link {
		e = nil
	}
	if e != nil {
		e.heard = true
	}
	d.mu.Unlock()
	if e == nil {
		c.answer(task.WorkerAnswer{}, task.ErrStale)
		return
	}
	select {
	case e.calls <- c:
	case <-e.done:
		c.answer(task.WorkerAnswer{}, task.ErrStale)
		return
	}
	select {
	case <-e.done:
		e.drop() // it may have ended just before the call came in
	default:
	}
}

// attach has a connection speak for the worker. With resumed it is one that comes back:
// known says which attempts it has, nil that it does not say. The others are sent anew,
// and left out of what it is told to have.
func (d *desk) attach(link task.WorkerLink, resumed bool, known []string) (own []task.AttemptRef, before task.WorkerLink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.link, d.open = d.link, link, false
	if before != nil {
		d.reached(before)
	}
	if !resumed {
		return nil, before
	}
	for _, e := range d.errands {
		has := e.heard
		if known != nil {
			has = slices.Contains(known, e.ref.Token)
		}
		if has {
			own = append(own, e.ref)
		}
	}
	return own, before
}

// begun lets attempts come over a connection, and first what the worker does not have.
func (d *desk) begun(link task.WorkerLink, own []task.AttemptRef) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != link || d.open {
		return
	}
	d.open = true
	for _, e := range d.errands {
		if !slices.Contains(own, e.ref) {
			e.heard = false
			d.give(e)
		}
		if e.cut != "" {
			link.Cancel(e.ref, e.cut)
		}
	}
}

// reached notes which attempts have come to the worker by a connection that is over.
// The lock is held.
func (d *desk) reached(link task.WorkerLink) {
	read := link.Reached()
	for _, e := range d.errands {
		e.heard = e.heard || !e.given.IsZero() && e.given.Before(read)
	}
}

// detach takes a connection away, if it is still the worker's.
func (d *desk) detach(link task.WorkerLink) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != link {
		return false
	}
	d.link, d.open = nil, false
	d.reached(link)
	return true
}

// lose ends all attempts, and lets none begin.
func (d *desk) lose(why *task.Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		return
	}
	d.over = why
	for e := range maps.Values(d.errands) {
		close(e.lost)
	}
}

func (d *desk) running() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.errands)
}

// rows are the tasks whose attempts run here.
func (d *desk) rows() []task.Task {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := make([]task.Task, 0, len(d.errands))
	for _, e := range d.errands {
		rows = append(rows, e.row)
	}
	return rows
}

func (d *desk) connected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link != nil
}

// tell says something to the worker, if it is there.
func (d *desk) tell(say func(task.WorkerLink)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open {
		say(d.link)
	}
}

// shout says it also to one that has not been told yet that it is registered.
func (d *desk) shout(say func(task.WorkerLink)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != nil {
		say(d.link)
	}
}

// stop tells the worker that an attempt is to stop.
func (d *desk) stop(e *errand, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.cut = reason; d.open {
		d.link.Cancel(e.ref, reason)
	}
}

// serve does what the worker says until the attempt is over, and for a while after it
// was cut off: the worker may tell how it ends.
func (e *errand) serve(ctx context.Context, job *Job) (json.RawMessage, error) {
	cut := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case c := <-e.calls:
			if over, result, err := e.take(ctx, job, c); over {
				return result, err
			}
		case <-e.lost:
			return nil, e.desk.over
		case <-cut:
			cut = nil
			late = time.After(e.cutOff(context.Cause(ctx)))
		case <-late:
			return nil, context.Cause(ctx)
		}
	}
}

// cutOff tells the worker to stop, and says how long its end is waited for.
func (e *errand) cutOff(cause error) (grace time.Duration) {
	grace = graceAfterTimeout
	reason := "lost"
	switch {
	case errors.Is(cause, ErrCancelled):
		reason = "cancelled"
	case errors.Is(cause, ErrTimeout):
		reason = "timeout"
	case errors.Is(cause, ErrDeadline):
		reason = "deadline"
	case errors.Is(cause, ErrDrained):
		reason, grace = "drained", handBackWithin/2
	default:
		grace = 0 // nobody could keep its end
	}
	e.desk.stop(e, reason)
	return grace
}

// take does one call; over says that it ends the attempt.
func (e *errand) take(ctx context.Context, job *Job, c errandCall) (over bool, result json.RawMessage, err error) {
	var answer task.WorkerAnswer
	switch call := c.call.(type) {
	case task.Succeed:
		job.settled = func(err error) { c.answer(answer, err) }
		if bad := job.fits(call.Result); bad != nil {
			c.answer(answer, bad) // it may still say something smaller
			job.settled = nil
			return false, nil, nil
		}
		return true, call.Result, nil
	case task.FailWith:
		job.settled = func(err error) { c.answer(answer, err) }
		return true, nil, &call.Failure
	case task.SleepFor:
		err = job.sleepAs(ctx, call.Name, call.For)
		answer.Woken = err == nil
	case task.AwaitSignal:
		answer.Signal, err = job.waitAs(ctx, call)
		answer.Got = err == nil
		if errors.Is(err, ErrNoSignal) {
			answer.TimedOut, err = true, nil
		}
	default:
		err = job.tell(ctx, call)
	}
	if s, suspends := errors.AsType[*Suspended](err); suspends {
		answer = task.WorkerAnswer{Suspended: true}
		job.settled = func(err error) { c.answer(answer, err) }
		return true, nil, s
	}
	if err != nil && (ctx.Err() != nil || isOver(err)) {
		err = task.ErrStale
	}
	c.answer(answer, err)
	return false, nil, nil
}

// isOver says whether an error of a job is that its attempt is over.
func isOver(err error) bool {
	return slices.ContainsFunc([]error{ErrCancelled, ErrTimeout, ErrDeadline, ErrDrained, ErrLost, errOver}, func(why error) bool {
		return errors.Is(err, why)
	})
}
