package actors

import (
	"context"
	"fmt"
	"slices"

	"github.com/troupe-run/troupe/actors/wire"
	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// Why a task is not running, whoever holds it.

// explainFor says why a task that is held here does not run, for another node.
func (n *Node) explainFor(ctx context.Context, m wire.Explain) (wire.Answer, error) {
	t, err := n.cfg.Store.Task(ctx, m.Namespace, m.Task)
	if err != nil {
		return wire.Answer{}, err
	}
	if t.Holder != n.incarnation {
		return wire.Answer{}, task.ErrStale
	}
	w, err := n.Explain(ctx, t)
	return wire.Answer{Waiting: w}, err
}

// Explain says why a task is not running; the Waiting is nil where it is, or
// has ended.
func (n *Node) Explain(ctx context.Context, t task.Task) (*task.Waiting, error) {
	switch {
	case t.State.Terminal(), t.State == task.Running:
		return nil, nil
	case t.State == task.Scheduled:
		return &task.Waiting{Reason: task.WaitsForTime, Until: t.RunAt}, nil
	case t.State == task.Blocked && t.Awaits != "":
		return &task.Waiting{Reason: task.WaitsForSignal, Signal: t.Awaits, Until: t.RunAt}, nil
	case t.State == task.Blocked:
		return n.blocked(ctx, t)
	case t.Holder != 0 && t.Holder != n.incarnation && n.others.Load() > 0:
		answer, err := n.call(ctx, t.Holder, func(token uint64) any {
			return wire.Explain{Token: token, Task: t.ID, Namespace: t.Namespace}
		})
		if err == nil {
			return answer.Waiting, nil
		}
		return &task.Waiting{Reason: task.WaitsInBacklog}, nil // about to move, or its node is gone
	case t.Parked != nil:
		return waitingFor(t), nil
	case t.Bound != 0 && t.Bound != n.incarnation:
		return n.boundElsewhere(ctx, t)
	case !t.Affinity.Require.Matches(n.cfg.Labels) && !n.sends(t.Lane(), nil, false):
		return n.misplaced(ctx, t)
	case n.draining.Load():
		return &task.Waiting{Reason: task.WaitsForNode}, nil
	case n.handler(t.Kind) == nil && !n.sends(t.Lane(), nil, false):
		return n.unserved(ctx, t)
	case n.isPaused(t.Namespace, t.Queue):
		return &task.Waiting{Reason: task.WaitsPaused}, nil
	}
	answer, err := ask[explained](ctx, n, n.scheduler, explain{id: t.ID})
	if err != nil {
		return nil, err
	}
	if answer.found {
		return waitingOf(answer), nil
	}
	if t.Holder == n.incarnation {
		return &task.Waiting{Reason: task.WaitsForItsWorker}, nil
	}
	if n.handler(t.Kind) == nil {
		workers, err := n.Workers(ctx, t.Namespace)
		if err != nil {
			return nil, err
		}
		return n.awaitsWorkers(ctx, t, workers)
	}
	gauges, err := n.Resources(ctx)
	if err != nil {
		return nil, err
	}
	return n.backlogged(t, gauges), nil
}

// blocked explains a task that waits for others.
func (n *Node) blocked(ctx context.Context, t task.Task) (*task.Waiting, error) {
	if !t.AfterBatch.IsZero() {
		_, live, err := n.batchCounts(ctx, t.Namespace, t.AfterBatch)
		return &task.Waiting{Reason: task.WaitsForBatch, Pending: int(live)}, err
	}
	states, err := n.cfg.Store.States(ctx, t.Namespace, t.DependsOn)
	if err != nil {
		return nil, fmt.Errorf("read what task %s depends on: %w", t.ID, err)
	}
	const shown = 10
	w := &task.Waiting{Reason: task.WaitsForOthers}
	for _, id := range t.DependsOn {
		state, there := states[id]
		if !there || state.Terminal() {
			continue
		}
		if w.Pending++; len(w.Tasks) < shown {
			w.Tasks = append(w.Tasks, id)
		}
	}
	return w, nil
}

// unserved explains a task that nobody here runs, nor a worker of this node.
func (n *Node) unserved(ctx context.Context, t task.Task) (*task.Waiting, error) {
	workers, err := n.Workers(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	workers = slices.DeleteFunc(workers, func(w task.Worker) bool { return !slices.Contains(w.Kinds, t.Kind) })
	switch {
	case len(workers) == 0:
		return &task.Waiting{Reason: task.WaitsForHandler}, nil
	case !slices.ContainsFunc(workers, func(w task.Worker) bool { return t.Affinity.Require.Matches(w.Labels) }):
		return &task.Waiting{Reason: task.WaitsForPlacement, Require: t.Affinity.Require}, nil
	default:
		return n.awaitsWorkers(ctx, t, workers)
	}
}

// awaitsWorkers explains a task that no node holds and that workers run: it is behind
// others, unless all these have their slots taken, or none has what it needs.
func (n *Node) awaitsWorkers(ctx context.Context, t task.Task, workers []task.Worker) (*task.Waiting, error) {
	workers = slices.DeleteFunc(workers, func(w task.Worker) bool {
		return !slices.Contains(w.Kinds, t.Kind) || !t.Affinity.Require.Matches(w.Labels)
	})
	gauges, err := n.Resources(ctx)
	if err != nil {
		return nil, err
	}
	slots, free := 0, false
	for _, w := range workers {
		slots += int(w.Slots / 1000)
		free = free || w.State == task.WorkerConnected && w.Running < int(w.Slots/1000)
	}
	for name, needed := range t.Resources {
		if most, known := mostOf(name, workers, gauges); needed > most && (known || !n.isPool(name)) {
			return &task.Waiting{Reason: task.WaitsForever, Resource: name, Needed: needed, Free: most}, nil
		}
	}
	if free {
		return &task.Waiting{Reason: task.WaitsInBacklog}, nil
	}
	return &task.Waiting{Reason: task.WaitsForWorkers, Slots: slots}, nil
}

// mostOf is how much there is of a resource for what one of some workers runs: its own,
// or where it has nothing of it, that of its node.
func mostOf(resource string, workers []task.Worker, gauges []task.Gauge) (most task.Quantity, known bool) {
	for _, w := range workers {
		if own, has := w.Resources[resource]; has {
			most, known = max(most, own), true
			continue
		}
		for _, g := range gauges {
			if g.Node == w.Node && g.Name == resource {
				most, known = max(most, g.Capacity), true
			}
		}
	}
	return most, known
}

// misplaced explains a task that only other nodes may hold.
func (n *Node) misplaced(ctx context.Context, t task.Task) (*task.Waiting, error) {
	o, err := n.cfg.Store.Overview(ctx, task.Scope{})
	if err != nil {
		return nil, fmt.Errorf("look for nodes for task %s: %w", t.ID, err)
	}
	if slices.ContainsFunc(o.Nodes, func(other task.Node) bool { return !other.Left && t.Affinity.Require.Matches(other.Labels) }) {
		return &task.Waiting{Reason: task.WaitsInBacklog}, nil // what is more, they know
	}
	workers, err := n.Workers(ctx, t.Namespace)
	if slices.ContainsFunc(workers, func(w task.Worker) bool {
		return w.Namespace != "" && slices.Contains(w.Kinds, t.Kind) && t.Affinity.Require.Matches(w.Labels)
	}) {
		return n.awaitsWorkers(ctx, t, workers)
	}
	return &task.Waiting{Reason: task.WaitsForPlacement, Require: t.Affinity.Require}, err
}

// batchCounts counts a batch's tasks by state, and those that have not ended.
func (n *Node) batchCounts(ctx context.Context, namespace string, batch task.ID) (counts []task.Count, live int64, err error) {
	o, err := n.cfg.Store.Overview(ctx, task.Scope{Namespace: namespace, Batch: batch})
	if err != nil {
		return nil, 0, fmt.Errorf("count batch %s: %w", batch, err)
	}
	for _, c := range o.Counts {
		if !c.State.Terminal() {
			live += c.Tasks
		}
	}
	return o.Counts, live, nil
}

// boundElsewhere explains a task that waits for the node that has its sticky key.
func (n *Node) boundElsewhere(ctx context.Context, t task.Task) (*task.Waiting, error) {
	o, err := n.cfg.Store.Overview(ctx, task.Scope{})
	if err != nil {
		return nil, fmt.Errorf("look for the node of task %s: %w", t.ID, err)
	}
	at := slices.IndexFunc(o.Nodes, func(other task.Node) bool { return other.Incarnation == t.Bound && !other.Left })
	if at < 0 {
		return &task.Waiting{Reason: task.WaitsInBacklog}, nil // any node has it next
	}
	return &task.Waiting{Reason: task.WaitsForSticky, Node: o.Nodes[at].Name}, nil
}

// waitingFor explains a task that is parked.
func waitingFor(t task.Task) *task.Waiting {
	p := t.Parked
	w := &task.Waiting{Reason: task.WaitsForLimit, Limit: p.Limit, Most: p.Most}
	switch p.Limit.Scope {
	case task.OfQueue, task.OfKey, task.OfKind, task.OfSticky, task.OfNamespace:
	case task.OfRate, task.OfKeyRate:
		w.Reason = task.WaitsForRate
	case task.OfCache:
		return &task.Waiting{Reason: task.WaitsForResult}
	case task.OfPool:
		w.Reason, w.Resource = task.WaitsForResource, p.Limit.Name
		w.Needed, w.Free = t.Resources[p.Limit.Name], max(0, p.Most-p.Used)
		if w.Needed > p.Most {
			w.Reason, w.Free = task.WaitsForever, p.Most
		}
	}
	return w
}

func waitingOf(e explained) *task.Waiting {
	r := e.reason
	w := &task.Waiting{Reason: r.Code, Position: r.Position, ExpectedStart: r.Expected, Until: e.until}
	if r.Code == schedule.Unplaced {
		w.Slots = int(r.Capacity / 1000)
	}
	if r.Resource != "" {
		w.Resource, w.Needed, w.Free = r.Resource, task.Quantity(r.Needed), task.Quantity(r.Free)
	}
	return w
}

// backlogged explains a task no node holds.
func (n *Node) backlogged(t task.Task, gauges []task.Gauge) *task.Waiting {
	capacity := map[string]task.Quantity{}
	for _, g := range gauges {
		capacity[g.Name] = max(capacity[g.Name], g.Capacity)
	}
	for name, needed := range t.Resources {
		if needed > capacity[name] && (capacity[name] > 0 || !n.isPool(name)) {
			return &task.Waiting{Reason: task.WaitsForever, Resource: name, Needed: needed, Free: capacity[name]}
		}
	}
	return &task.Waiting{Reason: task.WaitsInBacklog}
}
