package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/actors/wire"
	"github.com/troupe-run/troupe/runtime/task"
)

// What the node does for its callers. Reads go to the store, which is the
// truth; changes go to whoever speaks for the task.

// Submit stores checked specs. One answer each, in order; a task is on disk when
// its answer says so.
func (n *Node) Submit(ctx context.Context, subs []task.Submission) []task.Submitted {
	refusals, leave, err := n.enter(ctx, subs)
	if err != nil {
		results := make([]task.Submitted, len(subs))
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	if leave == nil {
		return n.submit(ctx, subs)
	}
	defer leave()
	results := make([]task.Submitted, len(subs))
	var taken []task.Submission
	for i, sub := range subs {
		if results[i].Err = refusals[i]; refusals[i] == nil {
			taken = append(taken, sub)
		}
	}
	if len(taken) > 0 {
		answers := n.submit(ctx, taken)
		for i := range results {
			if refusals[i] == nil {
				results[i], answers = answers[0], answers[1:]
			}
		}
	}
	if len(taken) < len(subs) {
		n.refused(ctx, subs, refusals, results)
	}
	return results
}

// refused answers submissions that are not taken: those that repeat an earlier one
// with the task that this made, as if there was room.
func (n *Node) refused(ctx context.Context, subs []task.Submission, refusals []error, results []task.Submitted) {
	var places []int
	var ms []task.Mutation
	for i, sub := range subs {
		if refusals[i] != nil && (sub.Named || sub.Request.Key != "" || sub.Spec.UniqueKey != "") {
			step := task.New(sub.Spec, n.now(), 0)
			places = append(places, i)
			ms = append(ms, task.Mutation{Op: task.Insert, Known: true, Task: step.Task, Events: step.Events, Request: sub.Request})
		}
	}
	if len(ms) > 0 {
		answer, err := ask[submitted](ctx, n, n.journal, submit{ms: ms})
		for i, result := range answer.results {
			reused := errors.Is(result.Err, task.ErrExists) || errors.Is(result.Err, task.ErrKeyReused)
			if err == nil && (result.Err == nil || reused) {
				results[places[i]], refusals[places[i]] = result, nil
			}
		}
	}
	for _, err := range refusals {
		switch {
		case errors.Is(err, task.ErrQueueFull):
			n.metrics.refused.WithLabelValues("queue_full").Inc()
		case errors.Is(err, task.ErrQuota):
			n.metrics.refused.WithLabelValues("quota").Inc()
		case err != nil:
			n.metrics.refused.WithLabelValues("deadline").Inc()
		}
	}
}

// submit stores what is taken.
func (n *Node) submit(ctx context.Context, subs []task.Submission) []task.Submitted {
	answer, err := ask[submitted](ctx, n, n.claimer, admit{subs: subs})
	if err != nil {
		if !errors.Is(err, task.ErrClosed) {
			err = fmt.Errorf("submit: %w", task.ErrUnknown)
		}
		results := make([]task.Submitted, len(subs))
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	return answer.results
}

// write stores what a caller asks for. Its error is the outcome's too; without an
// answer nobody knows what became of it.
func (n *Node) write(ctx context.Context, m task.Mutation) (task.Outcome, error) {
	answer, err := ask[wrote](ctx, n, n.journal, write{m: &m})
	if errors.Is(err, task.ErrUnavailable) {
		err = fmt.Errorf("no answer: %w", task.ErrUnknown)
	}
	if err != nil {
		return task.Outcome{}, err
	}
	return answer.outcome, answer.outcome.Err
}

// changeAttempts bounds how often a change of a task nobody holds is tried
// against others who change it.
const changeAttempts = 20

// change stores a decision about a task that nobody holds; decide is asked anew
// when the row moved in between.
func (n *Node) change(ctx context.Context, namespace string, id task.ID,
	decide func(task.Task) (task.Mutation, error),
) (task.Task, error) {
	for try := range changeAttempts {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * 2 * time.Millisecond):
			case <-ctx.Done():
				return task.Task{}, context.Cause(ctx)
			}
		}
		t, err := n.cfg.Store.Task(ctx, namespace, id)
		if err != nil {
			return task.Task{}, err
		}
		if t.Holder != 0 {
			return t, errHeld
		}
		m, err := decide(t)
		if err != nil {
			return t, err
		}
		answer, err := ask[wrote](ctx, n, n.journal, write{m: &m})
		switch {
		case err != nil:
			return t, err
		case answer.outcome.Err == nil:
			return m.Task, nil
		case !errors.Is(answer.outcome.Err, task.ErrStale):
			return t, answer.outcome.Err
		}
	}
	return task.Task{}, task.ErrStale
}

var errHeld = errors.New("held by a node")

// Cancel ends a task, and returns when that is on disk.
func (n *Node) Cancel(ctx context.Context, namespace string, id task.ID, reason string) (task.Task, error) {
	why, asked := task.ErrUnavailable, false // asked: of a node whose answer is not known
	for began := time.Now(); time.Since(began) < cancelWithin; {
		answer, err := ask[any](ctx, n, n.holder, forTask{id: id, msg: cancel{namespace: namespace, reason: reason}})
		if err != nil {
			return task.Task{}, err
		}
		if c, ok := answer.(cancelled); ok && !errors.Is(c.err, task.ErrStale) {
			return c.task, c.err
		}
		t, err := n.change(ctx, namespace, id, func(t task.Task) (task.Mutation, error) {
			step, err := t.Cancel(n.now(), reason)
			return step.Mutation(), err
		})
		if asked && errors.Is(err, task.ErrTerminal) && t.State == task.Cancelled {
			return t, nil // by us
		}
		if !errors.Is(err, errHeld) {
			if err == nil {
				n.counters.ended[task.Cancelled].Add(1)
			}
			return t, err
		}
		wait := 5 * time.Millisecond // held, but its actor is not there yet
		if t.Holder != n.incarnation {
			t, err = n.cancelThere(ctx, t, reason)
			switch {
			case errors.Is(err, task.ErrUnreachable):
				why, asked = err, true
			case asked && errors.Is(err, task.ErrTerminal): // the store says by what
			case !errors.Is(err, task.ErrStale) && !errors.Is(err, task.ErrUnavailable):
				return t, err
			}
			wait = 100 * time.Millisecond // it goes to somebody else, or its node dies
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return task.Task{}, context.Cause(ctx)
		}
	}
	return task.Task{}, why
}

// cancelWithin is how long a cancel is tried for a task that is on its way from one
// node to another, or held by one that cannot be reached.
const cancelWithin = 8 * time.Second

// cancelThere has another node cancel a task it holds: only the holder knows
// what watchers have seen of an attempt, and the end must come behind that.
func (n *Node) cancelThere(ctx context.Context, t task.Task, reason string) (task.Task, error) {
	_, err := n.call(ctx, t.Holder, func(token uint64) any {
		return wire.Cancel{Token: token, Task: t.ID, Namespace: t.Namespace, Reason: reason}
	})
	if err != nil {
		return t, err
	}
	return n.cfg.Store.Task(ctx, t.Namespace, t.ID)
}

// call asks something of another node and waits for the answer.
func (n *Node) call(ctx context.Context, to task.Incarnation, message func(token uint64) any) (wire.Answer, error) {
	answer, err := ask[farAnswer](ctx, n, n.peers, farAsk{to: to, message: message})
	if err != nil {
		return wire.Answer{}, err
	}
	return answer.answer, wire.ErrorOf(answer.answer.Err)
}

// cancelFor cancels a task that is held here, for another node.
func (n *Node) cancelFor(ctx context.Context, m wire.Cancel) (wire.Answer, error) {
	answer, err := ask[any](ctx, n, n.holder, forTask{id: m.Task, msg: cancel{namespace: m.Namespace, reason: m.Reason}})
	if err != nil {
		return wire.Answer{}, err
	}
	if c, ok := answer.(cancelled); ok {
		return wire.Answer{}, c.err
	}
	return wire.Answer{}, task.ErrStale // not held here any more
}

// Rerun starts a failed or cancelled task anew.
func (n *Node) Rerun(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	t, err := n.change(ctx, namespace, id, func(t task.Task) (task.Mutation, error) {
		step, err := t.Rerun(n.now())
		return step.Mutation(), err
	})
	if errors.Is(err, errHeld) {
		err = task.ErrNotTerminal
	}
	return t, err
}

// Delete forgets a task that has ended.
func (n *Node) Delete(ctx context.Context, namespace string, id task.ID) error {
	_, err := n.change(ctx, namespace, id, func(t task.Task) (task.Mutation, error) {
		if !t.State.Terminal() {
			return task.Mutation{}, task.ErrNotTerminal
		}
		return task.Mutation{Op: task.Delete, Task: t, Guard: t.Guard()}, nil
	})
	if errors.Is(err, errHeld) {
		err = task.ErrNotTerminal
	}
	return err
}

// Resources gauges the resources of all nodes that answer.
func (n *Node) Resources(ctx context.Context) ([]task.Gauge, error) {
	own, err := n.gauge(ctx)
	for _, r := range n.reports(ctx) {
		own = append(own, r.Gauges...)
	}
	return own, err
}

// Workers lists what runs tasks of a namespace on all nodes that answer.
func (n *Node) Workers(ctx context.Context, namespace string) ([]task.Worker, error) {
	own, err := n.ownWorkers(ctx)
	for _, r := range n.reports(ctx) {
		own = append(own, r.Workers...)
	}
	return slices.DeleteFunc(own, func(w task.Worker) bool { return w.Namespace != "" && w.Namespace != namespace }), err
}

// DrainWorker has a worker elsewhere take no more, whichever node it is connected to.
func (n *Node) DrainWorker(ctx context.Context, namespace, id string) error {
	err := n.drainHere(ctx, namespace, id)
	if !errors.Is(err, task.ErrNoWorker) || n.others.Load() == 0 {
		return err
	}
	within, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	members, err := ask[[]task.Incarnation](within, n, n.peers, whoIsThere{})
	if err != nil {
		return err
	}
	done := together(within, n, members, func(ctx context.Context, to task.Incarnation) (wire.Answer, error) {
		return n.call(ctx, to, func(token uint64) any { return wire.DrainWorker{Token: token, Namespace: namespace, Worker: id} })
	})
	if len(done) == 0 {
		return task.ErrNoWorker
	}
	return nil
}

// drainHere has a worker that is connected to this node take no more.
func (n *Node) drainHere(ctx context.Context, namespace, id string) error {
	r := n.remote(id)
	if r == nil || r.reg.Namespace != namespace {
		return task.ErrNoWorker
	}
	_, err := ask[drained](ctx, n, r.actor, drainRemote{reason: "asked to drain", tell: true})
	return err
}

// gauge gauges this node's resources.
func (n *Node) gauge(ctx context.Context) ([]task.Gauge, error) {
	answer, err := ask[gauged](ctx, n, n.scheduler, gauges{})
	if err != nil {
		return nil, fmt.Errorf("gauge resources: %w", err)
	}
	out := make([]task.Gauge, len(answer.gauges))
	for i, g := range answer.gauges {
		out[i] = task.Gauge{Node: n.cfg.Name, Name: g.Name, Capacity: task.Quantity(g.Capacity), Used: task.Quantity(g.Used)}
	}
	return out, nil
}

// ownWorkers lists what runs tasks here: the local handlers, as one worker, and those
// elsewhere that are connected.
func (n *Node) ownWorkers(ctx context.Context) ([]task.Worker, error) {
	answer, err := ask[gauged](ctx, n, n.scheduler, gauges{})
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	local := task.Worker{
		ID: fmt.Sprintf("%s-%d-local", n.cfg.Name, n.incarnation), Name: "local", Node: n.cfg.Name,
		Labels: n.cfg.Labels, Kinds: n.kindNames(), Slots: n.cfg.Capacity[task.SlotResource], Running: answer.running, Since: n.since,
		Tripped: answer.tripped, State: task.WorkerConnected,
	}
	if n.draining.Load() {
		local.State = task.WorkerDraining
	}
	all := []task.Worker{local}
	for _, r := range n.remotesNow() {
		w := r.view(n.cfg.Name)
		all[0].Running = max(0, all[0].Running-w.Running)
		all = append(all, w)
	}
	return all, nil
}

// reportFor tells another node what there is here.
func (n *Node) reportFor(ctx context.Context) (wire.Answer, error) {
	gauges, err1 := n.gauge(ctx)
	workers, err2 := n.ownWorkers(ctx)
	stats, err3 := n.ownStats(ctx)
	return wire.Answer{Gauges: gauges, Workers: workers, Stats: stats}, errors.Join(err1, err2, err3)
}

// reports asks all other nodes what there is; who does not answer soon is left out.
func (n *Node) reports(ctx context.Context) (all []wire.Answer) {
	if n.others.Load() == 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	members, err := ask[[]task.Incarnation](within, n, n.peers, whoIsThere{})
	if err != nil {
		return nil
	}
	return together(within, n, members, func(ctx context.Context, to task.Incarnation) (wire.Answer, error) {
		return n.call(ctx, to, func(token uint64) any { return wire.Report{Token: token} })
	})
}

// Stats counts what has been done on all nodes that answer, each since its start.
func (n *Node) Stats(ctx context.Context) (task.Stats, error) {
	all, err := n.ownStats(ctx)
	for _, r := range n.reports(ctx) {
		all = all.Plus(r.Stats)
	}
	return all, err
}

// ownStats counts what this node has done.
func (n *Node) ownStats(ctx context.Context) (task.Stats, error) {
	answer, err := ask[gauged](ctx, n, n.scheduler, gauges{})
	if err != nil {
		return task.Stats{}, fmt.Errorf("count: %w", err)
	}
	heldNow, err := ask[int](ctx, n, n.holder, held{})
	if err != nil {
		return task.Stats{}, fmt.Errorf("count: %w", err)
	}
	s := task.Stats{
		Submitted: n.counters.submitted.Load(), Started: n.counters.started.Load(), Retried: n.counters.retried.Load(),
		Ended: map[task.State]uint64{}, Held: heldNow, Waiting: answer.waiting, Running: answer.running,
		Watchers: int(n.sessionCount.Load()), Since: n.since,
	}
	for _, state := range task.States() {
		if state.Terminal() {
			s.Ended[state] = n.counters.ended[state].Load()
		}
	}
	return s, nil
}

// Incarnation is the number of this node's life.
func (n *Node) Incarnation() task.Incarnation { return n.incarnation }

// Ready says whether the node takes work: nil, or why not.
func (n *Node) Ready() error {
	if n.draining.Load() || n.stopped.Load() || n.isLost() {
		return n.closed()
	}
	return nil
}

// Session is one watcher, see [task.Session].
type Session struct {
	node *Node
	pid  *actor.PID
}

// OpenSession begins a watcher's session, which puts its frames into out.
func (n *Node) OpenSession(namespace string, out task.Outbox) *Session {
	pid, err := ask[*actor.PID](n.life, n, n.sessions, openSession{namespace: namespace, out: out})
	if err != nil {
		out.Offer(&task.Frame{Kind: task.Goodbye})
	}
	return &Session{node: n, pid: pid}
}

func (s *Session) send(msg any) {
	if s.pid != nil {
		s.node.root.Send(s.pid, msg)
	}
}

// Subscribe implements [task.Session].
func (s *Session) Subscribe(t task.Topic, after *task.Cursor, tag any) {
	s.send(subscribe{topic: t, after: after, tag: tag})
}

// Unsubscribe implements [task.Session].
func (s *Session) Unsubscribe(topic string) { s.send(unsubscribe{topic: topic}) }

// Drained implements [task.Session].
func (s *Session) Drained() { s.send(outboxEmpty{}) }

// Close implements [task.Session].
func (s *Session) Close() { s.send(closeSession{}) }
