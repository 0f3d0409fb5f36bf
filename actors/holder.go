package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// holder knows every task this node holds, and is the parent of their actors. One
// that only waits for its turn has none yet, so that a node can hold many: its actor
// is made when it starts, or when somebody speaks to it. It is a registry: a message
// leaves its map whole, so after a panic it goes on (see supervision.go).
type holder struct {
	node    *Node
	tasks   map[task.ID]heldTask
	next    map[task.ID]*task.Task // taken again before the actor that let it go is gone
	spare   []*actor.PID           // actors that speak for nobody
	leavers []*actor.PID           // wait until no task is held
}

// heldTask is an actor or, of one that nobody has spoken to yet, its row.
type heldTask struct {
	pid *actor.PID
	row *task.Task
}

func newHolder(n *Node) actor.Producer {
	return func() actor.Actor {
		return &holder{node: n, tasks: map[task.ID]heldTask{}, next: map[task.ID]*task.Task{}}
	}
}

// Receive implements [actor.Actor].
func (h *holder) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case hold:
		h.hold(ctx, msg)
	case forTask:
		h.forward(ctx, msg)
	case starts:
		for _, t := range msg.tasks {
			h.start(ctx, t)
		}
	case gone:
		h.gone(ctx, msg)
	case census:
		h.census(ctx)
	case drain:
		h.drain(ctx, msg)
	case held:
		ctx.Respond(len(h.tasks))
	}
}

func (h *holder) hold(ctx actor.Context, msg hold) {
	waiting := make([]ready, 0, len(msg.tasks))
	for _, t := range msg.tasks {
		if _, known := h.tasks[t.ID]; known {
			h.next[t.ID] = t
			continue
		}
		if !h.rests(t) {
			h.speak(ctx, role{task: t})
			continue
		}
		h.tasks[t.ID] = heldTask{row: t}
		waiting = append(waiting, h.ready(t))
	}
	if len(waiting) > 0 {
		ctx.Send(h.node.scheduler, readies{waiting})
	}
	h.node.metrics.held.Set(float64(len(h.tasks)))
}

// rests says whether all a task does for now is wait for its turn.
func (h *holder) rests(t *task.Task) bool {
	return t.State == task.Queued && t.Deadline.IsZero() && (t.Called || !h.node.isFull(h.node.wants(*t)))
}

func (h *holder) ready(t *task.Task) ready {
	return ready{entry: h.node.entry(*t, ""), where: t.Lane(), rests: true}
}

// keepSpare is how many actors are kept that speak for nobody. To make one for each task
// and to stop it is a tenth of what a short task costs.
const keepSpare = 1024

// speak gives a task an actor.
func (h *holder) speak(ctx actor.Context, r role) (pid *actor.PID) {
	if last := len(h.spare) - 1; last >= 0 {
		pid = h.spare[last]
		h.spare = h.spare[:last]
		ctx.Send(pid, adopt{r})
	} else {
		pid = ctx.Spawn(h.node.ownProps(newTaskActor(h.node, r)))
	}
	h.tasks[r.task.ID] = heldTask{pid: pid}
	return pid
}

// start has a task start: the scheduler has given it its tokens.
func (h *holder) start(ctx actor.Context, msg start) {
	t, ok := h.tasks[msg.id]
	switch {
	case !ok:
		ctx.Send(h.node.scheduler, release{id: msg.id})
	case t.pid != nil:
		ctx.Send(t.pid, msg)
	default:
		h.speak(ctx, role{task: t.row, queued: true, start: &msg})
	}
}

func (h *holder) forward(ctx actor.Context, msg forTask) {
	t, ok := h.tasks[msg.id]
	if _, back := msg.msg.(giveBack); back && ok && t.pid == nil {
		h.release(ctx, t.row)
		return
	}
	if ok {
		if t.pid == nil {
			t.pid = h.speak(ctx, role{task: t.row, queued: true})
		}
		ctx.RequestWithCustomSender(t.pid, msg.msg, ctx.Sender())
		return
	}
	answer := notHeld{}
	if w, ok := msg.msg.(watch); ok {
		answer.gen = w.gen
	}
	if ctx.Sender() != nil {
		ctx.Respond(answer)
	}
}

// release gives a task back that nobody has spoken to. Should the write come to
// nothing, it was not held any more.
func (h *holder) release(ctx actor.Context, t *task.Task) {
	delete(h.tasks, t.ID)
	ctx.Send(h.node.scheduler, withdraw{id: t.ID})
	ctx.Send(h.node.journal, write{m: new(t.Release().Mutation())})
	h.node.metrics.held.Set(float64(len(h.tasks)))
}

func (h *holder) gone(ctx actor.Context, msg gone) {
	t, ok := h.tasks[msg.id]
	if !ok || !t.pid.Equal(msg.pid) {
		return // it has said so before
	}
	delete(h.tasks, msg.id)
	if len(h.spare) < keepSpare {
		h.spare = append(h.spare, msg.pid)
	} else {
		// Behind everything that was passed on to it: stopping it would drop that.
		ctx.Send(msg.pid, leave{})
	}
	if t, again := h.next[msg.id]; again {
		delete(h.next, msg.id)
		h.speak(ctx, role{task: t})
	}
	h.node.metrics.held.Set(float64(len(h.tasks)))
	h.answerDrain(ctx)
}

// census has all tasks say what they are to a scheduler that has lost its memory.
func (h *holder) census(ctx actor.Context) {
	var waiting []ready
	for _, t := range h.tasks {
		if t.pid != nil {
			ctx.Send(t.pid, census{})
		} else {
			waiting = append(waiting, h.ready(t.row))
		}
	}
	if len(waiting) > 0 {
		ctx.Send(h.node.scheduler, readies{waiting})
	}
}

func (h *holder) drain(ctx actor.Context, msg drain) {
	h.leavers = append(h.leavers, ctx.Sender())
	for _, t := range h.tasks {
		switch {
		case t.pid == nil:
			h.release(ctx, t.row)
		case msg.hard:
			ctx.Send(t.pid, expel{})
		default:
			ctx.Send(t.pid, giveBack{})
		}
	}
	h.answerDrain(ctx)
}

func (h *holder) answerDrain(ctx actor.Context) {
	if len(h.tasks) > 0 {
		return
	}
	for _, pid := range h.leavers {
		ctx.Send(pid, drained{})
	}
	h.leavers = nil
}
