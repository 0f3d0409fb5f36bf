package actors

import (
	"context"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// burden is what is counted at a door.
type burden struct{ tasks, bytes int64 }

// burdenOf is what a task adds. Bytes are only counted where somebody bounds them.
func (n *Node) burdenOf(sub task.Submission) burden {
	b := burden{tasks: 1}
	if n.Tenant(sub.Spec.Namespace).Bytes > 0 {
		step := task.New(sub.Spec, n.now(), 0)
		m := task.Mutation{Op: task.Insert, Task: step.Task, Events: step.Events}
		b.bytes = m.Bytes()
	}
	return b
}

func (b burden) plus(c burden) burden {
	return burden{tasks: b.tasks + c.tasks, bytes: b.bytes + c.bytes}
}

func (b burden) negative() burden { return burden{tasks: -b.tasks, bytes: -b.bytes} }

func (b burden) ofTasks() int64 { return b.tasks }

func (b burden) ofBytes() int64 { return b.bytes }

// door is where tasks come into a queue, or into a namespace. Who has the turn
// decides, one caller at a time; the fields behind it are theirs.
type door struct {
	visitors int // guarded by the admission

	turn   chan struct{}
	looked time.Time // when the store was last asked; what it said then:
	stood  burden    // tasks that are scheduled, blocked or queued; of a namespace, all bytes that are kept
	queued int64     // of these tasks
	before burden    // let in before that, and perhaps not counted
	came   burden    // let in since

	mu     sync.Mutex
	coming burden        // let in, and not known to be on disk or refused
	calm   chan struct{} // closed once none is; nil: nobody waits for it
}

// underWay notes that so much more is on its way to the disk, or less.
func (d *door) underWay(b burden) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.coming = d.coming.plus(b); d.coming.tasks == 0 && d.calm != nil {
		close(d.calm)
		d.calm = nil
	}
}

// calmed waits until nothing that was let in is under way, and says whether it had to.
func (d *door) calmed(ctx context.Context) bool {
	d.mu.Lock()
	if d.coming.tasks == 0 {
		d.mu.Unlock()
		return false
	}
	if d.calm == nil {
		d.calm = make(chan struct{})
	}
	calm := d.calm
	d.mu.Unlock()
	select {
	case <-calm:
		return true
	case <-ctx.Done():
		return false
	}
}

// room is how much is taken before the store is looked at again. What other nodes let
// in meanwhile is not known, so each takes its part of what is left.
func (d *door) room(most, nodes int64, of func(burden) int64) int64 {
	left := most - of(d.stood) - of(d.before)
	if nodes > 1 {
		left = max(min(left, 1), left/nodes)
	}
	return left - of(d.came)
}
