package storetest

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// model is what a store should be, said as plainly as can be: everything is a
// list, and every question looks at all of it.
type model struct {
	tasks    []*entry
	requests []*known
	queues   []task.Queue
	nodes    []task.Node
}

type entry struct {
	task.Task

	asked task.Spec
	log   []task.Event
	last  task.Cursor // of the newest event there ever was
}

type known struct {
	namespace string
	request   task.Request
	task      task.ID
}

func (m *model) find(match func(*entry) bool) *entry {
	if i := slices.IndexFunc(m.tasks, match); i >= 0 {
		return m.tasks[i]
	}
	return nil
}

func (m *model) byID(id task.ID) *entry {
	return m.find(func(e *entry) bool { return e.ID == id })
}

func (m *model) byKey(t task.Task) *entry {
	return m.find(func(e *entry) bool {
		return t.UniqueKey != "" && e.UniqueKey == t.UniqueKey && e.Kind == t.Kind && e.Namespace == t.Namespace &&
			!e.State.Terminal() && e.ID != t.ID
	})
}

func (m *model) apply(x task.Mutation) task.Outcome {
	switch x.Op {
	case task.Insert:
		return m.insert(x)
	case task.Save, task.Delete:
		return task.Outcome{Err: m.guarded(x)}
	case task.SetQueue:
		m.queues = slices.DeleteFunc(m.queues, func(q task.Queue) bool {
			return q.Name == x.Queue.Name && q.Namespace == x.Queue.Namespace
		})
		m.queues = append(m.queues, task.Queue{Namespace: x.Queue.Namespace, Name: x.Queue.Name, Paused: *x.Queue.Paused})
	default: // limits, schedules and signals have tests of their own
	}
	return task.Outcome{}
}

func (m *model) insert(x task.Mutation) task.Outcome {
	t := x.Task
	there := func(e *entry) task.Outcome {
		copied := e.Task
		return task.Outcome{Existing: &copied}
	}
	for _, k := range m.requests {
		if k.namespace != t.Namespace || k.request.Key != x.Request.Key || !t.Created.Before(k.request.Expires) {
			continue
		}
		if k.request.Hash != x.Request.Hash {
			return task.Outcome{Err: task.ErrKeyReused}
		}
		return there(m.byID(k.task))
	}
	var out task.Outcome
	at := t.ID
	if e := m.byID(t.ID); e != nil {
		if diff(e.asked, t.Spec) != "" {
			return task.Outcome{Err: task.ErrExists}
		}
		out = there(e)
	} else if e := m.byKey(t); e != nil {
		out, at = there(e), e.ID
	} else {
		m.tasks = append(m.tasks, &entry{Task: t, asked: t.Spec, log: x.Events, last: x.Events[len(x.Events)-1].Cursor})
	}
	if x.Request.Key != "" {
		m.requests = slices.DeleteFunc(m.requests, func(k *known) bool {
			return k.namespace == t.Namespace && k.request.Key == x.Request.Key
		})
		m.requests = append(m.requests, &known{t.Namespace, x.Request, at})
	}
	return out
}

func (m *model) guarded(x task.Mutation) error {
	e := m.byID(x.Task.ID)
	switch {
	case e == nil || e.Namespace != x.Task.Namespace:
		return task.ErrNotFound
	case e.Guard() != x.Guard || len(x.Events) > 0 && !e.last.Before(x.Events[0].Cursor):
		return task.ErrStale
	case x.Op == task.Delete:
		m.forget(e)
		return nil
	case x.Guard.State.Terminal() && !x.Task.State.Terminal() && m.byKey(e.Task) != nil:
		return task.ErrExists
	}
	checkpoint, start := e.Checkpoint, e.LogStart
	e.Task = x.Task
	e.LogStart = start
	if !x.Checkpoint {
		e.Checkpoint = checkpoint
	}
	for _, event := range x.Events {
		e.log, e.last = append(e.log, event), event.Cursor
	}
	return nil
}

// bytes is what is kept of a task.
func (e *entry) bytes() int64 {
	n := len(e.Payload) + len(e.Result) + len(e.Checkpoint)
	for _, event := range e.log {
		n += len(event.Data)
	}
	return int64(n)
}

func (m *model) forget(gone *entry) {
	m.tasks = slices.DeleteFunc(m.tasks, func(e *entry) bool { return e == gone })
	m.requests = slices.DeleteFunc(m.requests, func(k *known) bool { return k.task == gone.ID })
}

// ordered gives the tasks that match, in order, and as they arrived where that
// ties.
func (m *model) ordered(match func(task.Task) bool, order func(a, b task.Task) int) []*entry {
	var found []*entry
	for _, e := range m.tasks {
		if match(e.Task) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b *entry) int { return order(a.Task, b.Task) })
	return found
}

func byID(a, b task.Task) int { return bytes.Compare(a.ID[:], b.ID[:]) }

func upTo(limit int, found []*entry) []task.Task {
	var tasks []task.Task
	for _, e := range found[:min(limit, len(found))] {
		tasks = append(tasks, e.Task)
	}
	return tasks
}

func (m *model) paused(t task.Task) bool {
	return slices.Contains(m.queues, task.Queue{Namespace: t.Namespace, Name: t.Queue, Paused: true})
}

func (m *model) claim(q task.Claim) []task.Task {
	open := m.ordered(func(t task.Task) bool {
		return t.Holder == 0 && t.State == task.Queued && !m.paused(t) &&
			!slices.Contains(q.Full, t.Lane()) && q.Takes(t.Lane(), nil) && (q.Above == nil || t.Rank() < *q.Above)
	}, func(a, b task.Task) int { return cmp.Compare(a.Rank(), b.Rank()) })
	for _, e := range open[:min(q.Limit, len(open))] {
		e.Task = e.Take(q.Holder).Task
	}
	return upTo(q.Limit, open)
}

func (m *model) due(now time.Time, limit int) ([]task.Task, time.Time) {
	waiting := m.ordered(func(t task.Task) bool { return t.Holder == 0 && !t.WakeAt().IsZero() },
		func(a, b task.Task) int { return a.WakeAt().Compare(b.WakeAt()) })
	n := 0
	for n < min(limit, len(waiting)) && !waiting[n].WakeAt().After(now) {
		n++
	}
	if n == len(waiting) {
		return upTo(n, waiting), time.Time{}
	}
	return upTo(n, waiting), waiting[n].WakeAt()
}

func (m *model) orphans(limit int) []task.Task {
	return upTo(limit, m.ordered(func(t task.Task) bool {
		return t.Holder != 0 && !slices.ContainsFunc(m.nodes, func(n task.Node) bool { return n.Incarnation == t.Holder && !n.Left })
	}, byID))
}

func (m *model) list(f task.Filter) []task.Task {
	found := m.ordered(f.Match, func(a, b task.Task) int { return cmp.Or(a.Created.Compare(b.Created), byID(a, b)) })
	slices.Reverse(found)
	return upTo(len(found), found)
}

func (m *model) overview(scope task.Scope) task.Overview {
	var o task.Overview
	byPlace := m.ordered(func(t task.Task) bool {
		return (scope.Namespace == "" || t.Namespace == scope.Namespace) && (scope.Batch.IsZero() || t.BatchID == scope.Batch)
	}, func(a, b task.Task) int {
		if !scope.Batch.IsZero() {
			a.Queue, b.Queue = "", ""
		}
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
	})
	for _, e := range byPlace {
		c := task.Count{Namespace: e.Namespace, Queue: e.Queue, State: e.State}
		if !scope.Batch.IsZero() {
			c.Queue = ""
		}
		n := len(o.Counts)
		if n > 0 {
			c.Tasks = o.Counts[n-1].Tasks
		}
		if n > 0 && o.Counts[n-1] == c {
			o.Counts[n-1].Tasks++
			continue
		}
		c.Tasks = 1
		o.Counts = append(o.Counts, c)
	}
	if !scope.Batch.IsZero() {
		return o
	}
	o.Nodes = m.nodes
	for _, e := range byPlace {
		if n := len(o.Volumes); n == 0 || o.Volumes[n-1].Namespace != e.Namespace {
			o.Volumes = append(o.Volumes, task.Volume{Namespace: e.Namespace})
		}
		o.Volumes[len(o.Volumes)-1].Bytes += e.bytes()
	}
	for _, q := range m.queues {
		if scope.Namespace == "" || scope.Namespace == q.Namespace {
			o.Queues = append(o.Queues, q)
		}
	}
	for _, c := range o.Counts {
		same := func(q task.Queue) bool { return q.Namespace == c.Namespace && q.Name == c.Queue }
		if !slices.ContainsFunc(o.Queues, same) {
			o.Queues = append(o.Queues, task.Queue{Namespace: c.Namespace, Name: c.Queue})
		}
	}
	slices.SortFunc(o.Queues, func(a, b task.Queue) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return o
}

// sweep is Sweep without a bound.
func (m *model) sweep(r task.Retention) int {
	gone := 0
	for _, e := range slices.Clone(m.tasks) {
		if !e.State.Terminal() {
			continue
		}
		if keep, named := r.Keep[e.State]; named && !r.Now.Before(e.Finished.Add(keep)) {
			m.forget(e)
			gone++
		} else if r.KeepEvents > 0 && !r.Now.Before(e.Finished.Add(r.KeepEvents)) && len(e.log) > 1 {
			e.log = e.log[len(e.log)-1:]
			e.LogStart = e.log[0].Cursor
		}
	}
	m.requests = slices.DeleteFunc(m.requests, func(k *known) bool { return !r.Now.Before(k.request.Expires) })
	m.nodes = slices.DeleteFunc(m.nodes, func(n task.Node) bool { return n.Left && n.Seen.Before(r.Now.Add(-24*time.Hour)) })
	return gone
}
