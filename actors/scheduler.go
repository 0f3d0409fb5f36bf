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
	node     *Node
	core     *schedule.Core
	times    *schedule.Learner // how long tasks of each kind have run here
	tasks    map[task.ID]ticket
	paces    *pacer
	breakers map[queueName]*breaker // of kinds that have failed
	delta    map[task.Lane]int      // waiting that came and went since the claimer was told
	begun    int
	freed    bool // room was given back since, for others
	released bool // tokens were, which have not been given out again

	reporting bool // it is about to be told

	remotes map[string]*remoteWorker // workers elsewhere, as the core knows them
	served  map[queueName]bool       // kinds they serve
}

// ticket is what the scheduler knows of a task besides its entry in the core.
type ticket struct {
	pid    *actor.PID
	rests  bool // instead: the holder is to hear what is for it
	lane   task.Lane
	entry  schedule.Entry
	worker string // where it runs, if elsewhere
}

func newScheduler(n *Node) actor.Producer {
	return func() actor.Actor {
		times := schedule.NewLearner()
		s := &scheduler{
			node: n, core: schedule.New(schedule.Config{Ageing: task.Ageing, Times: times}), times: times, paces: newPacer(), breakers: map[queueName]*breaker{},
			tasks: map[task.ID]ticket{}, delta: map[task.Lane]int{}, remotes: map[string]*remoteWorker{}, served: map[queueName]bool{},
		}
		for name, amount := range n.cfg.Capacity {
			s.core.SetCapacity(name, int64(amount))
		}
		for namespace := range n.weighted() {
			s.core.SetTenantWeight(namespace, n.weight(namespace))
		}
		for name, q := range n.queuesSet() {
			s.set(name, q)
		}
		for _, r := range n.remotesNow() {
			s.recall(r)
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
		s.ready(msg)
		s.dispatch(ctx)
	case readies:
		for _, one := range msg.all {
			s.ready(one)
		}
		s.dispatch(ctx)
	case busy:
		s.busy(msg)
	case withdraw:
		s.withdraw(ctx, msg.id)
	case release:
		s.release(ctx, msg)
	case queueChanged:
		s.queueChanged(ctx, msg)
	case kindChanged:
		s.kindChanged(ctx, msg.kind)
	case tenantChanged:
		s.core.SetTenantWeight(msg.namespace, s.node.weight(msg.namespace))
		s.dispatch(ctx)
	case halfOpen:
		s.halfOpen(ctx, msg)
	case shed:
		s.shed(ctx, msg.n)
	case shedStuck:
		s.shedStuck(ctx, msg.served)
	case remoteChanged:
		s.remoteChanged(ctx, msg.id)
	case kindServed:
		s.replace(ctx, func(l task.Lane) bool { return l.Kind == msg.kind && s.core.Serves(l.Namespace, l.Kind) })
		s.dispatch(ctx)
	case paced:
		s.paces.observe(msg.waiting, s.node.isPaused)
	case forecast:
		ctx.Respond(s.forecast(msg))
	case explain:
		ctx.Respond(s.explain(msg.id))
	case gauges:
		ctx.Respond(gauged{gauges: s.core.Resources(), waiting: s.core.Waiting() + len(s.asideAll()), running: s.core.Running(), tripped: s.tripped()})
	case changed:
		s.changed(ctx)
	case poll:
		s.recount(ctx)
	}
}

func (s *scheduler) ready(msg ready) {
	id := task.ID(msg.entry.ID)
	if _, known := s.tasks[id]; known {
		return // a census and the task itself both said so
	}
	s.tasks[id] = ticket{pid: msg.pid, rests: msg.rests, lane: msg.where, entry: msg.entry}
	if !s.setAside(id, kindOf(msg.where)) {
		s.add(id)
	}
	if msg.again {
		s.delta[msg.where]++
	}
}

func (s *scheduler) busy(msg busy) {
	if _, known := s.tasks[task.ID(msg.entry.ID)]; !known {
		s.core.Restore(s.expect(s.placed(msg.entry, msg.where)), s.node.now())
		s.tasks[task.ID(msg.entry.ID)] = ticket{pid: msg.pid, lane: msg.where, worker: msg.entry.Worker}
		s.freeOf(msg.entry.Worker)
	}
}

// expect says how long an entry will run, by how long others of its kind did: on
// average, since that is what orders them best, and what work adds up to.
func (s *scheduler) expect(e schedule.Entry) schedule.Entry {
	e.Expected = s.times.Mean(e.Namespace, e.Kind)
	return e
}

// dispatch starts everything that can start now.
func (s *scheduler) dispatch(ctx actor.Context) {
	s.released = false
	var resting []start // that have no actor yet
	for {
		entry, ok := s.core.Next(s.node.now())
		if !ok {
			break
		}
		t := s.tasks[task.ID(entry.ID)]
		s.delta[t.lane]--
		s.begun++
		s.paces.started[queueName{t.lane.Namespace, t.lane.Queue}]++
		s.started(task.ID(entry.ID), kindOf(t.lane))
		if entry.Worker != "" {
			t.worker = entry.Worker
			s.tasks[task.ID(entry.ID)] = t
			s.freeOf(t.worker)
		}
		if begin := (start{id: task.ID(entry.ID), worker: entry.Worker}); t.rests {
			resting = append(resting, begin)
		} else {
			ctx.Send(t.pid, begin)
		}
	}
	if len(resting) > 0 {
		ctx.Send(s.node.holder, starts{resting})
	}
	s.report(ctx)
}

// report sees to it that what was given back goes to who waits, and that the claimer
// hears of what has changed: once, behind all that has come here by now.
func (s *scheduler) report(ctx actor.Context) {
	if (len(s.delta) > 0 || s.freed || s.released) && !s.reporting {
		s.reporting = true
		ctx.Send(ctx.Self(), changed{})
	}
}

// changed starts what can start now, and tells the claimer, one message however much it was.
func (s *scheduler) changed(ctx actor.Context) {
	if s.released {
		s.dispatch(ctx)
	}
	s.reporting = false
	if len(s.delta) == 0 && !s.freed {
		return
	}
	s.freed = false
	ctx.Send(s.node.claimer, load{delta: s.delta, started: s.begun, running: s.core.Running(), stuck: s.core.Waiting() - s.core.Contending(), free: s.free()})
	s.delta, s.begun = map[task.Lane]int{}, 0
	s.node.metrics.waiting.Set(float64(s.core.Waiting()))
	s.node.metrics.running.Set(float64(s.core.Running()))
}

// recount tells the claimer how things stand, whatever it believes.
func (s *scheduler) recount(ctx actor.Context) {
	waiting := map[task.Lane]int{}
	if s.core.Waiting() > 0 || len(s.breakers) > 0 {
		for id, t := range s.tasks {
			if s.stands(id) {
				waiting[t.lane]++
			}
		}
	}
	s.delta = map[task.Lane]int{}
	ctx.Send(s.node.claimer, recount{waiting: waiting, running: s.core.Running(), stuck: s.core.Waiting() - s.core.Contending(), free: s.free()})
}

// free says whether a task that asks for nothing special could start now, and nobody
// waits for what it would take.
func (s *scheduler) free() bool {
	if s.core.Contending() > 0 {
		return false
	}
	for _, g := range s.core.Resources() {
		if g.Name == task.SlotResource {
			return g.Used+1000 <= g.Capacity
		}
	}
	return true
}

func (s *scheduler) withdraw(ctx actor.Context, id task.ID) {
	aside := s.isAside(id)
	if aside {
		delete(s.breakers[kindOf(s.tasks[id].lane)].aside, id)
	}
	if aside || s.core.Remove(schedule.ID(id)) {
		s.delta[s.tasks[id].lane]--
		kind := kindOf(s.tasks[id].lane)
		delete(s.tasks, id)
		s.report(ctx)
		if b := s.breakers[kind]; !aside && b != nil && b.circuit.Lets(s.node.now()) {
			s.comeBack(b, 1) // it may have been the one that was let
			s.dispatch(ctx)
		}
	}
}

func (s *scheduler) release(ctx actor.Context, msg release) {
	t, known := s.tasks[msg.id]
	if msg.took > 0 {
		s.times.Ran(t.lane.Namespace, t.lane.Kind, msg.took)
	}
	if known && !s.stands(msg.id) {
		s.judge(ctx, msg.id, kindOf(t.lane), msg.verdict)
	}
	if s.core.Release(schedule.ID(msg.id), s.node.now()) {
		delete(s.tasks, msg.id)
		s.freeOf(t.worker)
		s.freed, s.released = s.core.Contending() == 0 && s.node.others.Load() > 0, true
		s.report(ctx)
		if r := s.node.remote(t.worker); r != nil && r.free.Load() > 0 && s.node.others.Load() > 0 {
			ctx.Send(s.node.claimer, workerFree{}) // what it serves may be left to others
		}
	}
}

// set has the core go by a queue's settings.
func (s *scheduler) set(name queueName, q task.Queue) {
	s.core.SetPaused(name.namespace, name.name, q.Paused)
	s.core.SetWeight(name.namespace, name.name, q.Share())
	s.core.SetPolicy(name.namespace, name.name, schedule.Policy(q.Policy))
}

// queueChanged takes new settings. What waits here of a paused queue goes back,
// so that it does not take the place of what could run.
func (s *scheduler) queueChanged(ctx actor.Context, msg queueChanged) {
	s.set(msg.name, msg.to)
	if msg.to.Paused {
		for id, t := range s.tasks {
			if t.lane.Namespace == msg.name.namespace && t.lane.Queue == msg.name.name && s.stands(id) {
				s.giveBack(ctx, id, t)
			}
		}
	}
	s.dispatch(ctx)
}

// giveBack has a task go that waits.
func (s *scheduler) giveBack(ctx actor.Context, id task.ID, t ticket) {
	if t.rests {
		ctx.Send(s.node.holder, forTask{id: id, msg: giveBack{}})
	} else {
		ctx.Send(t.pid, giveBack{})
	}
}

// shed gives the least urgent waiting tasks back; a negative n means all.
func (s *scheduler) shed(ctx actor.Context, n int) {
	least := s.asideAll()
	if n < 0 {
		n = s.core.Waiting() + len(least)
	}
	least = least[:min(n, len(least))]
	for _, entry := range s.core.Least(n - len(least)) {
		least = append(least, task.ID(entry.ID))
	}
	for _, id := range least {
		t := s.tasks[id]
		s.withdraw(ctx, id)
		s.giveBack(ctx, id, t)
	}
}

func (s *scheduler) explain(id task.ID) explained {
	if s.isAside(id) {
		_, until := s.breakers[kindOf(s.tasks[id].lane)].circuit.Tripped()
		return explained{reason: schedule.Reason{Code: task.WaitsForBreaker}, until: until, found: true}
	}
	reason, found := s.core.Explain(schedule.ID(id), s.node.now())
	return explained{reason: reason, found: found}
}
