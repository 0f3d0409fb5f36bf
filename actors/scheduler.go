package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// scheduler owns the ready queues and the resource tokens of this node. What
// runs next is decided by package schedule; here its answers become messages.
// After a crash it asks the tasks for what they are and begins anew.
type scheduler struct {
	node  *Node
	core  *schedule.Core
	tasks map[task.ID]ticket
	delta map[task.Lane]int // waiting that came and went since the claimer was told
	begun int
	freed bool // room was given back since
}

// ticket is what the scheduler knows of a task besides its entry in the core.
type ticket struct {
	pid  *actor.PID
	lane task.Lane
}

func newScheduler(n *Node) actor.Producer {
	return func() actor.Actor {
		s := &scheduler{
			node: n, core: schedule.New(schedule.Config{Ageing: task.Ageing}),
			tasks: map[task.ID]ticket{}, delta: map[task.Lane]int{},
		}
		for name, amount := range n.cfg.Capacity {
			s.core.SetCapacity(name, int64(amount))
		}
		for _, q := range n.pausedQueues() {
			s.core.SetPaused(q.namespace, q.name, true)
		}
		return s
	}
}

// Receive implements [actor.Actor].
func (s *scheduler) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		ctx.Send(s.node.holder, census{})
	case ready:
		s.ready(ctx, msg)
	case busy:
		s.busy(msg)
	case withdraw:
		s.withdraw(ctx, msg.id)
	case release:
		s.release(ctx, msg.id)
	case pause:
		s.pause(ctx, msg)
	case shed:
		s.shed(ctx, msg.n)
	case explain:
		reason, found := s.core.Explain(schedule.ID(msg.id), s.node.now())
		ctx.Respond(explained{reason: reason, found: found})
	case gauges:
		ctx.Respond(gauged{gauges: s.core.Resources(), waiting: s.core.Waiting(), running: s.core.Running()})
	case poll:
		s.recount(ctx)
	}
}

func (s *scheduler) ready(ctx actor.Context, msg ready) {
	if err := s.core.Add(msg.entry); err != nil {
		return // known already: a census and the task itself both said so
	}
	s.tasks[task.ID(msg.entry.ID)] = ticket{pid: msg.pid, lane: msg.where}
	if msg.again {
		s.delta[msg.where]++
	}
	s.dispatch(ctx)
}

func (s *scheduler) busy(msg busy) {
	if _, known := s.tasks[task.ID(msg.entry.ID)]; !known {
		s.core.Restore(msg.entry)
		s.tasks[task.ID(msg.entry.ID)] = ticket{pid: msg.pid}
	}
}

// dispatch starts everything that can start now.
func (s *scheduler) dispatch(ctx actor.Context) {
	for {
		entry, ok := s.core.Next(s.node.now())
		if !ok {
			break
		}
		t := s.tasks[task.ID(entry.ID)]
		s.delta[t.lane]--
		s.begun++
		ctx.Send(t.pid, start{})
	}
	s.report(ctx)
}

// report tells the claimer what has changed, one message however much it was.
func (s *scheduler) report(ctx actor.Context) {
	if len(s.delta) == 0 && !s.freed {
		return
	}
	s.freed = false
	ctx.Send(s.node.claimer, load{delta: s.delta, started: s.begun, free: s.free()})
	s.delta, s.begun = map[task.Lane]int{}, 0
	s.node.metrics.waiting.Set(float64(s.core.Waiting()))
	s.node.metrics.running.Set(float64(s.core.Running()))
}

// recount tells the claimer how things stand, whatever it believes.
func (s *scheduler) recount(ctx actor.Context) {
	waiting := map[task.Lane]int{}
	if s.core.Waiting() > 0 {
		for id, t := range s.tasks {
			if s.core.IsWaiting(schedule.ID(id)) {
				waiting[t.lane]++
			}
		}
	}
	s.delta = map[task.Lane]int{}
	ctx.Send(s.node.claimer, recount{waiting: waiting, free: s.free()})
}

// free says whether a task that asks for nothing special could start now.
func (s *scheduler) free() bool {
	for _, g := range s.core.Resources() {
		if g.Name == task.SlotResource {
			return g.Used+1000 <= g.Capacity
		}
	}
	return true
}

func (s *scheduler) withdraw(ctx actor.Context, id task.ID) {
	if s.core.Remove(schedule.ID(id)) {
		s.delta[s.tasks[id].lane]--
		delete(s.tasks, id)
		s.report(ctx)
	}
}

func (s *scheduler) release(ctx actor.Context, id task.ID) {
	if s.core.Release(schedule.ID(id)) {
		delete(s.tasks, id)
		s.freed = s.core.Waiting() == 0 && s.node.others.Load() > 0
		s.dispatch(ctx)
	}
}

// pause stops or resumes a queue. What waits here of a paused queue goes back,
// so that it does not take the place of what could run.
func (s *scheduler) pause(ctx actor.Context, msg pause) {
	s.core.SetPaused(msg.queue.namespace, msg.queue.name, msg.paused)
	if msg.paused {
		for id, t := range s.tasks {
			if t.lane.Namespace == msg.queue.namespace && t.lane.Queue == msg.queue.name && s.core.IsWaiting(schedule.ID(id)) {
				ctx.Send(t.pid, giveBack{})
			}
		}
	}
	s.dispatch(ctx)
}

// shed gives the least urgent waiting tasks back; a negative n means all.
func (s *scheduler) shed(ctx actor.Context, n int) {
	if n < 0 {
		n = s.core.Waiting()
	}
	for _, entry := range s.core.Least(n) {
		id := task.ID(entry.ID)
		pid := s.tasks[id].pid
		s.withdraw(ctx, id)
		ctx.Send(pid, giveBack{})
	}
}
