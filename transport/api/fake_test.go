package api

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// epoch is when everything happens in these tests.
var epoch = time.Date(2026, 11, 5, 12, 0, 0, 123456000, time.UTC)

// fake keeps tasks in a map and moves them by the core's own rules, when a test
// says so. A function that is set answers instead of the method of its name.
type fake struct {
	enqueue func([]task.Submission) []task.Submitted
	follow  func(context.Context, task.Topic, *task.Cursor) iter.Seq2[*task.Frame, error]
	read    func() error // before each read of a task
	ready   error
	explain *task.Waiting
	signal  error // of PutSignal
	signals []task.Signal

	mu       sync.Mutex
	tasks    map[task.ID]task.Task
	logs     map[task.ID][]task.Event
	requests map[string]task.Submission
	ids      map[string]task.ID // by idempotency key
	queues   map[string]task.Queue
	pools    map[string]task.Quantity
	kinds    []task.Kind
	timed    []task.Schedule // by name
	changed  chan struct{}   // closed at every change
	batches  [][]task.Submission
}

func newFake() *fake {
	return &fake{
		tasks: make(map[task.ID]task.Task), logs: make(map[task.ID][]task.Event),
		requests: make(map[string]task.Submission), ids: make(map[string]task.ID),
		queues: make(map[string]task.Queue), pools: make(map[string]task.Quantity), changed: make(chan struct{}),
	}
}

// id is the n-th id that the fake gives.
func id(n int) task.ID {
	return task.ID{0x01, 0x93, 6: 0x70, 8: 0x80, 14: byte(n >> 8), 15: byte(n)}
}

// CheckDependencies implements [api.Tasks].
func (*fake) CheckDependencies(_ context.Context, specs []task.Spec) (int, error) {
	_, err := task.InOrder(specs)
	return -1, err
}

func (f *fake) Enqueue(_ context.Context, subs []task.Submission) []task.Submitted {
	if f.enqueue != nil {
		return f.enqueue(subs)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, slices.Clone(subs))
	out := make([]task.Submitted, len(subs))
	for i, sub := range subs {
		out[i] = f.insert(sub)
	}
	return out
}

func (f *fake) insert(sub task.Submission) task.Submitted {
	if key := sub.Request.Key; key != "" {
		if before, ok := f.requests[key]; ok {
			if before.Request.Hash != sub.Request.Hash {
				return task.Submitted{Err: task.ErrKeyReused}
			}
			return task.Submitted{Task: f.tasks[f.ids[key]]}
		}
	}
	now := time.Now()
	spec, err := task.Limits{}.Check(sub.Spec, now)
	if err != nil {
		return task.Submitted{Err: err}
	}
	if spec.ID.IsZero() {
		spec.ID = id(len(f.tasks) + 1)
	}
	if t, ok := f.tasks[spec.ID]; ok {
		if t.Kind != spec.Kind {
			return task.Submitted{Err: task.ErrExists}
		}
		return task.Submitted{Task: t}
	}
	if !spec.RunAt.After(now) {
		spec.RunAt = time.Time{}
	}
	now = epoch.Add(time.Duration(len(f.tasks)) * time.Second)
	step := task.New(spec, now, 1)
	f.keep(step)
	if key := sub.Request.Key; key != "" {
		f.requests[key], f.ids[key] = sub, spec.ID
	}
	return task.Submitted{Task: step.Task, Created: true}
}

func (f *fake) keep(s task.Step) {
	f.tasks[s.Task.ID] = s.Task
	f.logs[s.Task.ID] = append(f.logs[s.Task.ID], s.Events...)
	close(f.changed)
	f.changed = make(chan struct{})
}

// add puts a new task into the fake.
func (f *fake) add(spec task.Spec) {
	done := f.Enqueue(context.Background(), []task.Submission{{Spec: spec}})
	if done[0].Err != nil {
		panic(done[0].Err)
	}
}

// move applies a step of the core to a task.
func (f *fake) move(id task.ID, by func(task.Task) (task.Step, error)) (task.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tasks[id]
	if !ok {
		return task.Task{}, task.ErrNotFound
	}
	step, err := by(t)
	if err != nil {
		return task.Task{}, err
	}
	f.keep(step)
	return step.Task, nil
}

func (f *fake) start(id task.ID) {
	f.must(id, func(t task.Task) (task.Step, error) { return t.Start(epoch, "n1", "w1") })
}

func (f *fake) succeed(id task.ID, result string) {
	f.must(id, func(t task.Task) (task.Step, error) { return t.Succeed(epoch, json.RawMessage(result)) })
}

func (f *fake) fail(id task.ID) {
	f.must(id, func(t task.Task) (task.Step, error) {
		return t.Fail(epoch, task.Failure{Code: "boom", Message: "no luck"}, 0)
	})
}

func (f *fake) say(id task.ID, data string) {
	f.must(id, func(t task.Task) (task.Step, error) {
		t, e := t.Say(epoch, task.EventOutput, json.RawMessage(data))
		return task.Step{Task: t, Events: []task.Event{e}}, nil
	})
}

// trim forgets the first events of a log, as retention does.
func (f *fake) trim(id task.ID, events int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[id] = f.logs[id][events:]
	t := f.tasks[id]
	t.LogStart = f.logs[id][0].Cursor
	f.tasks[id] = t
}

func (f *fake) must(id task.ID, by func(task.Task) (task.Step, error)) {
	if _, err := f.move(id, by); err != nil {
		panic(err)
	}
}

func (f *fake) Task(_ context.Context, _ string, id task.ID) (task.Task, error) {
	if f.read != nil {
		if err := f.read(); err != nil {
			return task.Task{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tasks[id]
	if !ok {
		return task.Task{}, task.ErrNotFound
	}
	return t, nil
}

func (f *fake) Tasks(_ context.Context, filter task.Filter) ([]task.Task, task.Place, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []task.Task
	for _, t := range f.tasks {
		behind := filter.After.IsZero() || t.Created.Before(filter.After.Created)
		if filter.Match(t) && behind {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b task.Task) int { return b.Created.Compare(a.Created) })
	if len(list) <= filter.Limit {
		return list, task.Place{}, nil
	}
	last := list[filter.Limit-1]
	return list[:filter.Limit], task.Place{Created: last.Created, ID: last.ID}, nil
}

func (f *fake) Events(_ context.Context, _ string, id task.ID, after task.Cursor, limit int) ([]task.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tasks[id].Cursor.Before(after) {
		return nil, task.ErrCursorAhead
	}
	var page []task.Event
	for _, e := range f.logs[id] {
		if after.Before(e.Cursor) && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

func (f *fake) Follow(ctx context.Context, topic task.Topic, after *task.Cursor) iter.Seq2[*task.Frame, error] {
	if f.follow != nil {
		return f.follow(ctx, topic, after)
	}
	return func(yield func(*task.Frame, error) bool) {
		var from task.Cursor
		if after != nil {
			from = *after
		}
		t, err := f.Task(ctx, topic.Namespace, topic.Task)
		if err == nil && t.Cursor.Before(from) {
			err = task.ErrCursorAhead
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if !yield(&task.Frame{Kind: task.Subscribed, Task: &t}, nil) {
			return
		}
		if from.Before(t.LogStart) && !t.LogStart.Follows(from) && !yield(&task.Frame{Kind: task.Gap, First: t.LogStart}, nil) {
			return
		}
		for {
			f.mu.Lock()
			changed := f.changed
			f.mu.Unlock()
			events, _ := f.Events(ctx, topic.Namespace, topic.Task, from, 1000)
			for _, e := range events {
				from = e.Cursor
				if !yield(&task.Frame{Kind: task.Happened, Event: e}, nil) {
					return
				}
				if _, over := e.Ended(); over {
					yield(&task.Frame{Kind: task.Ended}, nil)
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *fake) Wait(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		t, err := f.Task(context.WithoutCancel(ctx), namespace, id)
		if err != nil || t.State.Terminal() {
			return t, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

func (f *fake) Cancel(_ context.Context, _ string, id task.ID, reason string) (task.Task, error) {
	return f.move(id, func(t task.Task) (task.Step, error) { return t.Cancel(epoch, reason) })
}

func (f *fake) CancelBatch(ctx context.Context, namespace string, batch task.ID) (int, error) {
	tasks, _, _ := f.Tasks(ctx, task.Filter{Namespace: namespace, BatchID: batch, Limit: 1000})
	n := 0
	for _, t := range tasks {
		if _, err := f.Cancel(ctx, namespace, t.ID, ""); err == nil {
			n++
		}
	}
	return n, nil
}

func (f *fake) Rerun(_ context.Context, _ string, id task.ID) (task.Task, error) {
	return f.move(id, func(t task.Task) (task.Step, error) { return t.Rerun(epoch) })
}

func (f *fake) Delete(ctx context.Context, namespace string, id task.ID) error {
	t, err := f.Task(ctx, namespace, id)
	if err != nil {
		return err
	}
	if !t.State.Terminal() {
		return task.ErrNotTerminal
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tasks, id)
	return nil
}

func (f *fake) Explain(ctx context.Context, namespace string, id task.ID) (task.Explanation, error) {
	t, err := f.Task(ctx, namespace, id)
	return task.Explanation{Task: t, Waiting: f.explain, Message: "It waits."}, err
}

func (f *fake) Overview(_ context.Context, scope task.Scope) (task.Overview, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := task.Overview{Nodes: []task.Node{{
		Incarnation: 3, Name: "n1", Address: "127.0.0.1:8080", Labels: map[string]string{"os": "linux", "zone": "a"}, Started: epoch, Seen: epoch.Add(time.Minute),
	}}}
	for _, q := range f.queues {
		o.Queues = append(o.Queues, q)
	}
	o.Kinds = f.kinds
	for name, capacity := range f.pools {
		o.Pools = append(o.Pools, task.Pool{Name: name, Capacity: capacity, Used: 1000})
	}
	for _, t := range f.tasks {
		if !scope.Batch.IsZero() && scope.Batch == t.AfterBatch {
			o.Callback = t.ID
		}
		if scope.Batch.IsZero() || scope.Batch == t.BatchID {
			o.Counts = append(o.Counts, task.Count{Queue: t.Queue, State: t.State, Tasks: 1})
		}
	}
	return o, nil
}

func (f *fake) SetPool(_ context.Context, c task.PoolChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pools, c.Name)
	if c.Capacity != nil {
		f.pools[c.Name] = *c.Capacity
	}
	return task.CheckPool(c)
}

func (f *fake) SetQueue(_ context.Context, c task.QueueChange) (task.Queue, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := c.Of(f.queues[c.Name])
	f.queues[c.Name] = q
	return q, task.CheckQueue(c)
}

func (f *fake) SetKind(_ context.Context, c task.KindChange) (task.Kind, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.kinds, func(k task.Kind) bool { return k.Name == c.Name })
	if i < 0 {
		i, f.kinds = len(f.kinds), append(f.kinds, task.Kind{})
	}
	f.kinds[i] = c.Of(f.kinds[i])
	return f.kinds[i], task.CheckKind(c)
}

func (f *fake) DrainWorker(_ context.Context, _, id string) error {
	if id == "w1" {
		return nil
	}
	return task.ErrNoWorker
}

func (f *fake) Workers(context.Context, string) ([]task.Worker, error) {
	return []task.Worker{{ID: "w1", Name: "n1", Node: "n1", Labels: map[string]string{"zone": "a"}, Slots: 8000, Running: 2, Since: epoch, State: task.WorkerConnected}}, nil
}

func (f *fake) Resources(context.Context) ([]task.Gauge, error) {
	return []task.Gauge{
		{Node: "n2", Name: "slots", Capacity: 8000, Used: 1000},
		{Node: "n1", Name: "slots", Capacity: 8000, Used: 2000},
		{Node: "n1", Name: "memory", Capacity: 1 << 30 * 1000},
	}, nil
}

func (f *fake) Stats(ctx context.Context, namespace string) (task.Stats, error) {
	o, err := f.Overview(ctx, task.Scope{Namespace: namespace})
	return task.Stats{
		Overview: o, Submitted: 5, Started: 4, Ended: map[task.State]uint64{task.Succeeded: 3},
		Retried: 1, Held: 2, Waiting: 1, Running: 1, Watchers: 7, Since: epoch,
	}, err
}

// Tenant implements [api.Tasks].
func (*fake) Tenant(namespace string) access.Tenant {
	return access.Tenant{Namespace: namespace, Queued: 100}
}

// TenantsChanged implements [api.Tasks].
func (*fake) TenantsChanged(context.Context) error { return nil }

// Usage implements [api.Tasks].
func (*fake) Usage(context.Context, string) (access.Usage, error) {
	return access.Usage{Queued: 7, Running: 2}, nil
}

func (f *fake) Ready(context.Context) error { return f.ready }

func (f *fake) PutSignal(_ context.Context, _ string, id task.ID, s task.Signal) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tasks[id]
	switch {
	case f.signal != nil:
		return f.signal
	case !ok:
		return task.ErrNotFound
	case t.State.Terminal():
		return task.ErrTerminal
	}
	f.signals = append(f.signals, s)
	return nil
}

// at is where a schedule is, or would be.
func (f *fake) at(name string) (int, bool) {
	return slices.BinarySearchFunc(f.timed, name, func(s task.Schedule, name string) int { return strings.Compare(s.Name, name) })
}

func (f *fake) AddSchedule(_ context.Context, s task.Schedule) (task.Schedule, error) {
	i, there := f.at(s.Name)
	if there {
		return s, task.ErrScheduled
	}
	s, err := task.Limits{}.CheckSchedule(s, epoch)
	if err != nil {
		return s, err
	}
	s.Created, s.Next = epoch, epoch.Add(time.Hour)
	f.timed = slices.Insert(f.timed, i, s)
	return s, nil
}

func (f *fake) SetSchedule(ctx context.Context, s task.Schedule) (task.Schedule, bool, error) {
	i, there := f.at(s.Name)
	if there {
		f.timed = slices.Delete(f.timed, i, i+1)
	}
	s, err := f.AddSchedule(ctx, s)
	return s, !there, err
}

func (f *fake) ChangeSchedule(_ context.Context, _, name string, change func(*task.Schedule) error) (task.Schedule, error) {
	i, there := f.at(name)
	if !there {
		return task.Schedule{}, task.ErrNoSchedule
	}
	s := f.timed[i]
	err := change(&s)
	if err == nil {
		s, err = task.Limits{}.CheckSchedule(s, epoch)
	}
	if err == nil {
		f.timed[i] = s
	}
	return s, err
}

func (f *fake) DropSchedule(_ context.Context, _, name string) error {
	i, there := f.at(name)
	if !there {
		return task.ErrNoSchedule
	}
	f.timed = slices.Delete(f.timed, i, i+1)
	return nil
}

func (f *fake) Schedule(_ context.Context, _, name string) (task.Schedule, error) {
	i, there := f.at(name)
	if !there {
		return task.Schedule{}, task.ErrNoSchedule
	}
	return f.timed[i], nil
}

func (f *fake) Schedules(_ context.Context, p task.ScheduleFilter) ([]task.Schedule, error) {
	i, there := f.at(p.After)
	if there {
		i++
	}
	return f.timed[i:min(len(f.timed), i+p.Limit)], nil
}

func (f *fake) Ticks(s task.Schedule, count int) (ticks []time.Time, err error) {
	for i := range count {
		ticks = append(ticks, s.Next.Add(time.Duration(i)*time.Hour))
	}
	return ticks, nil
}

func (f *fake) Trigger(ctx context.Context, _, name string) (task.Task, error) {
	s, err := f.Schedule(ctx, "", name)
	if err != nil {
		return task.Task{}, err
	}
	s.LastTask, s.Last, s.Fired = id(7), epoch, 1
	i, _ := f.at(name)
	f.timed[i] = s
	_, spec := s.Fire(epoch)
	spec.ID = id(7)
	return task.New(spec, epoch, 0).Task, nil
}
