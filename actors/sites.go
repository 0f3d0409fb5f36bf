package actors

import (
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// The part of the scheduler that knows of workers elsewhere. What a task may run on is
// decided when it comes to wait, and anew when the kinds that are served change.

// add has a task wait for its turn.
func (s *scheduler) add(id task.ID) {
	t := s.tasks[id]
	_ = s.core.Add(s.expect(s.placed(t.entry, t.lane))) // it is not there
}

// placed says of an entry where it may run.
func (s *scheduler) placed(e schedule.Entry, l task.Lane) schedule.Entry {
	if !s.core.Serves(e.Namespace, e.Kind) && e.Worker == "" {
		return e
	}
	site := &schedule.Site{
		Needs: withSlot(e.Demand), Asks: string(l.Affinity.Require) + "\n" + string(l.Affinity.Prefer),
		Only: !s.runsHere(l), Home: l.Affinity.Prefer != "" && l.Affinity.Prefer.Matches(s.node.cfg.Labels),
	}
	if l.Affinity.Require != "" {
		site.Require = l.Affinity.Require
	}
	if l.Affinity.Prefer != "" {
		site.Prefer = l.Affinity.Prefer
	}
	if e.Site = site; site.Only {
		e.Demand = nil
	}
	return e
}

func (s *scheduler) runsHere(l task.Lane) bool {
	return s.node.handler(l.Kind) != nil && l.Affinity.Require.Matches(s.node.cfg.Labels)
}

// withSlot is a demand for at least one slot: a worker runs no more attempts than it
// has slots, whatever they are worth to its node.
func withSlot(d schedule.Demand) schedule.Demand {
	at, found := slices.BinarySearchFunc(d, schedule.Slots, func(a schedule.Amount, name string) int {
		switch {
		case a.Name < name:
			return -1
		case a.Name > name:
			return 1
		default:
			return 0
		}
	})
	d = slices.Clone(d)
	if !found {
		return slices.Insert(d, at, schedule.Amount{Name: schedule.Slots, Milli: 1000})
	}
	d[at].Milli = max(d[at].Milli, 1000)
	return d
}

// setRemote has the core know of a worker as it is now.
func (s *scheduler) setRemote(r *remoteWorker) {
	capacity := make(map[string]int64, len(r.reg.Resources))
	for name, amount := range r.reg.Resources {
		capacity[name] = int64(amount)
	}
	s.core.SetWorker(schedule.Worker{
		ID: r.id, Namespace: r.reg.Namespace, Kinds: r.reg.Kinds, Labels: r.reg.Labels,
		Capacity: schedule.NewDemand(capacity), Closed: r.is() != task.WorkerConnected,
	})
	s.freeOf(r.id)
}

// recall has a new instance know a worker, and what it runs: that is asked for, too,
// but others that wait may be heard first, and its slots are no more than they are.
func (s *scheduler) recall(r *remoteWorker) {
	s.remotes[r.id] = r
	for _, k := range s.servedBy(r.id) {
		s.served[k] = true
	}
	s.setRemote(r)
	for _, t := range r.desk.rows() {
		s.core.Restore(s.expect(s.placed(s.node.entry(t, r.id), t.Lane())), s.node.now())
	}
	s.freeOf(r.id)
}

// freeOf notes how many slots of a worker are free.
func (s *scheduler) freeOf(id string) {
	r := s.node.remote(id)
	if r == nil {
		return
	}
	free := int64(0)
	if r.is() == task.WorkerConnected {
		free = int64(r.reg.Resources[task.SlotResource]) - s.core.Load(id, schedule.Slots)
	}
	r.free.Store(free)
}

// remoteChanged takes a worker as it is in the roster now. If kinds are served that
// were not, or are not any more, what waits of them is placed anew.
func (s *scheduler) remoteChanged(ctx actor.Context, id string) {
	r := s.node.remote(id)
	before := s.servedBy(id)
	if r == nil {
		s.core.RemoveWorker(id)
		delete(s.remotes, id)
	} else {
		s.setRemote(r)
		s.remotes[id] = r
	}
	changed := map[queueName]bool{}
	for _, kind := range slices.Concat(before, s.servedBy(id)) {
		if is := s.core.Serves(kind.namespace, kind.name); is != s.served[kind] {
			changed[kind] = true
			if s.served[kind] = is; !is {
				delete(s.served, kind)
			}
		}
	}
	if len(changed) > 0 {
		s.replace(ctx, func(l task.Lane) bool { return changed[kindOf(l)] })
	}
	s.dispatch(ctx)
}

func (s *scheduler) servedBy(id string) (kinds []queueName) {
	r := s.remotes[id]
	if r == nil {
		return nil
	}
	for _, k := range r.reg.Kinds {
		kinds = append(kinds, queueName{r.reg.Namespace, k})
	}
	return kinds
}

// replace places anew what waits in some lanes. What nobody here runs any more is
// given back.
func (s *scheduler) replace(ctx actor.Context, which func(task.Lane) bool) {
	for id, t := range s.tasks {
		if !which(t.lane) || !s.core.IsWaiting(schedule.ID(id)) {
			continue
		}
		if !s.core.Serves(t.lane.Namespace, t.lane.Kind) && !s.runsHere(t.lane) {
			s.withdraw(ctx, id) // before its actor can be gone
			s.giveBack(ctx, id, t)
			continue
		}
		s.core.Remove(schedule.ID(id))
		s.add(id)
	}
}

// shedStuck gives back what waits for workers here that have no room, where other nodes
// have workers for it.
func (s *scheduler) shedStuck(ctx actor.Context, served []task.Served) {
	for id, t := range s.tasks {
		if s.core.Stuck(schedule.ID(id)) && slices.ContainsFunc(served, func(o task.Served) bool { return o.Takes(t.lane) }) {
			s.withdraw(ctx, id)
			s.giveBack(ctx, id, t)
		}
	}
}
