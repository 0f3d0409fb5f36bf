package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// holder knows the actor of every task this node holds, and is their parent. It
// is a registry: a message leaves its map whole, so after a panic it goes on
// (see supervision.go).
type holder struct {
	node    *Node
	tasks   map[task.ID]*actor.PID
	next    map[task.ID]task.Task // taken again before the actor that let it go is gone
	leavers []*actor.PID          // wait until no task is held
}

// Receive implements [actor.Actor].
func (h *holder) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case hold:
		h.hold(ctx, msg)
	case forTask:
		h.forward(ctx, msg)
	case gone:
		h.gone(ctx, msg)
	case census:
		for _, pid := range h.tasks {
			ctx.Send(pid, census{})
		}
	case drain:
		h.drain(ctx, msg)
	case held:
		ctx.Respond(len(h.tasks))
	}
}

func (h *holder) hold(ctx actor.Context, msg hold) {
	for _, t := range msg.tasks {
		if _, known := h.tasks[t.ID]; known {
			h.next[t.ID] = t
			continue
		}
		h.spawn(ctx, t)
	}
	h.node.metrics.held.Set(float64(len(h.tasks)))
}

func (h *holder) spawn(ctx actor.Context, t task.Task) {
	h.tasks[t.ID] = ctx.Spawn(h.node.ownProps(newTaskActor(h.node, t)))
}

func (h *holder) forward(ctx actor.Context, msg forTask) {
	if pid, ok := h.tasks[msg.id]; ok {
		ctx.RequestWithCustomSender(pid, msg.msg, ctx.Sender())
		return
	}
	answer := notHeld{}
	if w, ok := msg.msg.(watch); ok {
		answer.gen = w.gen
	}
	ctx.Respond(answer)
}

func (h *holder) gone(ctx actor.Context, msg gone) {
	if pid, ok := h.tasks[msg.id]; ok && pid.Equal(msg.pid) {
		delete(h.tasks, msg.id)
		if t, again := h.next[msg.id]; again {
			delete(h.next, msg.id)
			h.spawn(ctx, t)
		}
	}
	// Behind everything that was passed on to it: stopping it would drop that.
	ctx.Send(msg.pid, leave{})
	h.node.metrics.held.Set(float64(len(h.tasks)))
	h.answerDrain(ctx)
}

func (h *holder) drain(ctx actor.Context, msg drain) {
	h.leavers = append(h.leavers, ctx.Sender())
	for _, pid := range h.tasks {
		if msg.hard {
			ctx.Send(pid, expel{})
		} else {
			ctx.Send(pid, giveBack{})
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
