package actors

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// admission is where new tasks are counted before they are taken: of queues and
// namespaces with a bound, and of tasks with a deadline they may not meet. Others
// pass by it.
type admission struct {
	most int // of tasks that wait in a queue whose settings name no bound; 0: none

	mu    sync.Mutex
	doors map[queueName]*door // that of a whole namespace under the empty name
}

const (
	// lookEvery is how long the store is believed, but for a refusal: that rests on
	// what the store says after the caller came.
	lookEvery = 100 * time.Millisecond
	mostDoors = 1000 // that are kept while nobody comes
	// sweptWithin is when to come again for bytes: how soon tasks are deleted is not known.
	sweptWithin = time.Minute
)

func newAdmission(most int) *admission {
	return &admission{most: most, doors: map[queueName]*door{}}
}

func (a *admission) visit(name queueName) *door {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.doors[name]
	if d == nil {
		if len(a.doors) >= mostDoors {
			maps.DeleteFunc(a.doors, func(_ queueName, d *door) bool { return d.visitors == 0 })
		}
		d = &door{turn: make(chan struct{}, 1)}
		a.doors[name] = d
	}
	d.visitors++
	return d
}

func (a *admission) part(d *door) {
	a.mu.Lock()
	d.visitors--
	a.mu.Unlock()
}

// entrance is one call's tasks before the doors of their queues.
type entrance struct {
	node    *Node
	subs    []task.Submission
	weighs  []burden
	errs    []error
	by      []*door // that is the reason for an error
	doors   map[queueName]*door
	nodes   int64
	arrived time.Time
	fresh   bool // the store was asked for this call
	known   *forecasts
}

// enter says of each new task why it is not taken, if so. What is taken counts until
// leave is called; where there is nothing to count, both are nil.
func (n *Node) enter(ctx context.Context, subs []task.Submission) (errs []error, leave func(), err error) {
	e := entrance{node: n, subs: subs, nodes: n.others.Load() + 1, arrived: time.Now()}
	for _, sub := range subs {
		for _, name := range e.counted(sub) {
			if e.doors == nil {
				e.doors = map[queueName]*door{}
			}
			if e.doors[name] == nil {
				e.doors[name] = n.admission.visit(name)
			}
		}
	}
	if e.doors == nil {
		return nil, nil, nil
	}
	for _, sub := range subs {
		e.weighs = append(e.weighs, n.burdenOf(sub))
	}
	letIn := map[*door]burden{}
	leave = func() {
		for _, d := range e.doors {
			if l := letIn[d]; l.tasks > 0 {
				d.underWay(l.negative())
			}
			n.admission.part(d)
		}
	}
	names := slices.SortedFunc(maps.Keys(e.doors), func(a, b queueName) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	for i, name := range names { // all callers in the same order
		select {
		case e.doors[name].turn <- struct{}{}:
		case <-ctx.Done():
			for _, name := range names[:i] {
				<-e.doors[name].turn
			}
			leave()
			return nil, nil, context.Cause(ctx)
		}
	}
	e.decide(ctx)
	for i, sub := range subs {
		if e.errs[i] == nil {
			for _, d := range e.passed(sub) {
				letIn[d] = letIn[d].plus(e.weighs[i])
			}
		}
	}
	for _, d := range e.doors {
		if l := letIn[d]; l.tasks > 0 {
			d.came = d.came.plus(l)
			d.underWay(l)
		}
		<-d.turn
	}
	return e.errs, leave, nil
}

func (e *entrance) most(name queueName) int64 {
	return int64(cmp.Or(e.node.queue(name.namespace, name.name).MaxQueued, e.node.admission.most))
}

func queueOf(s task.Spec) queueName { return queueName{s.Namespace, s.Queue} }

// wholeOf names the door of a whole namespace.
func wholeOf(s task.Spec) queueName { return queueName{namespace: s.Namespace} }

// counted names the doors at which a task is counted.
func (e *entrance) counted(sub task.Submission) (names []queueName) {
	if t := e.node.Tenant(sub.Spec.Namespace); t.Queued > 0 || t.Bytes > 0 {
		names = append(names, wholeOf(sub.Spec))
	}
	if name := queueOf(sub.Spec); e.most(name) > 0 || e.hurries(sub) {
		names = append(names, name)
	}
	return names
}

// passed lists the doors a task goes through.
func (e *entrance) passed(sub task.Submission) (doors []*door) {
	for _, name := range []queueName{wholeOf(sub.Spec), queueOf(sub.Spec)} {
		if d := e.doors[name]; d != nil {
			doors = append(doors, d)
		}
	}
	return doors
}

// hurries says that a task has a deadline which it has to be able to meet, and that
// something can be said of that.
func (e *entrance) hurries(sub task.Submission) bool {
	return !sub.Late && !sub.Spec.Deadline.IsZero() && len(sub.Spec.DependsOn) == 0
}

// decide fills errs. Who is let in is so by what was read a moment ago; who is
// refused, by what the store says now that nothing is under way.
func (e *entrance) decide(ctx context.Context) {
	for _, d := range e.doors {
		if e.arrived.Sub(d.looked) > lookEvery && !e.look(ctx) {
			e.errs = make([]error, len(e.subs)) // a store that cannot be read refuses by itself
			return
		}
	}
	for {
		e.judge(ctx)
		again := false
		for i, err := range e.errs {
			if err == nil {
				continue
			}
			d := e.by[i]
			stale := !e.fresh && !d.looked.After(e.arrived)
			if again = again || stale || !errors.Is(err, task.ErrTooLate) && d.calmed(ctx); again {
				break
			}
		}
		if !again || !e.look(ctx) {
			return
		}
	}
}

// look reads how the queues stand.
func (e *entrance) look(ctx context.Context) bool {
	e.fresh = true
	began := time.Now()
	before := map[*door]burden{}
	namespace := ""
	for name, d := range e.doors {
		d.mu.Lock()
		before[d] = d.coming
		d.mu.Unlock()
		namespace = name.namespace
	}
	o, err := e.node.cfg.Store.Overview(ctx, task.Scope{Namespace: namespace})
	if err != nil {
		return false
	}
	for _, d := range e.doors {
		d.looked, d.stood, d.queued, d.before, d.came = began, burden{}, 0, before[d], burden{}
	}
	for _, c := range o.Counts {
		if c.State == task.Running || c.State.Terminal() {
			continue
		}
		for _, name := range []queueName{{c.Namespace, c.Queue}, {namespace: c.Namespace}} {
			if d := e.doors[name]; d != nil {
				if d.stood.tasks += c.Tasks; c.State == task.Queued {
					d.queued += c.Tasks
				}
			}
		}
	}
	for _, v := range o.Volumes {
		if d := e.doors[queueName{namespace: v.Namespace}]; d != nil {
			d.stood.bytes = v.Bytes
		}
	}
	return true
}

// bound is one that a task meets at a door.
type bound struct {
	at   queueName
	most int64
	of   func(burden) int64
	full func(over int64) error
}

// bounds lists those a task meets, the widest first.
func (e *entrance) bounds(ctx context.Context, s task.Spec) (all []bound) {
	name := queueOf(s)
	t := e.node.Tenant(s.Namespace)
	if t.Queued > 0 {
		all = append(all, bound{wholeOf(s), int64(t.Queued), burden.ofTasks, func(over int64) error {
			return &task.QuotaError{Quota: task.QuotaQueued, Most: int64(t.Queued), After: e.after(ctx, name, over)}
		}})
	}
	if t.Bytes > 0 {
		all = append(all, bound{wholeOf(s), t.Bytes, burden.ofBytes, func(int64) error {
			return &task.QuotaError{Quota: task.QuotaBytes, Most: t.Bytes, After: sweptWithin}
		}})
	}
	if most := e.most(name); most > 0 {
		all = append(all, bound{name, most, burden.ofTasks, func(over int64) error {
			return &task.FullError{Queue: name.name, After: e.after(ctx, name, over)}
		}})
	}
	return all
}

// judge fills errs from what is known.
func (e *entrance) judge(ctx context.Context) {
	e.errs, e.by = make([]error, len(e.subs)), make([]*door, len(e.subs))
	mine := map[*door]burden{}
	asked := map[*door]burden{} // together
	for i, sub := range e.subs {
		if sub.Together {
			for _, d := range e.passed(sub) {
				asked[d] = asked[d].plus(e.weighs[i])
			}
		}
	}
	together := -1
	for i, sub := range e.subs {
		for _, b := range e.bounds(ctx, sub.Spec) {
			d := e.doors[b.at]
			if d == nil {
				continue // it was no bound when the doors were chosen
			}
			room := d.room(b.most, e.nodes, b.of)
			if all := b.of(asked[d]); all > room && all <= d.room(b.most, 1, b.of) {
				room = all // more than its part, but it cannot be had in parts
			}
			if over := b.of(mine[d].plus(e.weighs[i])) - room; over > 0 && e.errs[i] == nil {
				e.errs[i], e.by[i] = b.full(over), d
			}
		}
		if d := e.doors[queueOf(sub.Spec)]; e.errs[i] == nil && d != nil && e.hurries(sub) {
			e.errs[i], e.by[i] = e.late(ctx, sub.Spec, d.queued+d.before.tasks+d.came.tasks+mine[d].tasks), d
		}
		if e.errs[i] == nil {
			for _, d := range e.passed(sub) {
				mine[d] = mine[d].plus(e.weighs[i])
			}
		} else if sub.Together && together < 0 {
			together = i
		}
	}
	for i, sub := range e.subs {
		if sub.Together && together >= 0 {
			e.errs[i], e.by[i] = e.errs[together], e.by[together]
		}
	}
}

// late says why a task that so many stand before cannot meet its deadline, if so. In
// a queue that is paused or not in order of age nobody can tell who stands before it.
func (e *entrance) late(ctx context.Context, s task.Spec, ahead int64) error {
	q := e.node.queue(s.Namespace, s.Queue)
	if q.Paused {
		return nil
	}
	if q.Policy != "" && q.Policy != task.PolicyFIFO {
		ahead = 0
	}
	wait := e.wait(ctx, queueName{s.Namespace, s.Queue}, ahead)
	now := e.node.now()
	f := task.Expect(s, now, wait, e.forecasts(ctx).runs[queueName{s.Namespace, s.Kind}])
	if !f.Misses(s.Deadline) {
		return nil
	}
	return &task.LateError{Start: f.Start, After: comeAgain(min(f.End.Sub(s.Deadline), f.Start.Sub(now)))}
}

// after is when so many will have started.
func (e *entrance) after(ctx context.Context, name queueName, tasks int64) time.Duration {
	return comeAgain(e.wait(ctx, name, tasks))
}

// comeAgain is when to try again what is expected to take so long.
func comeAgain(wait time.Duration) time.Duration {
	return min(max(wait, time.Second), time.Minute)
}

// wait is how long so many tasks of a queue take to start, if other nodes are as
// fast; none where nothing is known.
func (e *entrance) wait(ctx context.Context, name queueName, tasks int64) time.Duration {
	pace := e.forecasts(ctx).paces[name]
	wait, _ := pace.Wait(time.Now(), int64(math.Ceil(float64(tasks)/float64(e.nodes))))
	return wait
}

// forecasts is what the scheduler has learned of these queues and kinds; where it
// does not answer, nothing.
func (e *entrance) forecasts(ctx context.Context) *forecasts {
	if e.known != nil {
		return e.known
	}
	msg := forecast{kinds: map[queueName]bool{}}
	for _, sub := range e.subs {
		if name := queueOf(sub.Spec); !slices.Contains(msg.queues, name) {
			msg.queues = append(msg.queues, name)
		}
		msg.kinds[queueName{sub.Spec.Namespace, sub.Spec.Kind}] = true
	}
	within, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	answer, _ := ask[forecasts](within, e.node, e.node.scheduler, msg)
	e.known = &answer
	return e.known
}
