package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// remembered is for how long a node that is gone stays in the overview.
const remembered = 24 * time.Hour

// Overview implements [task.Store].
func (s *Store) Overview(ctx context.Context, scope task.Scope) (task.Overview, error) {
	var o task.Overview
	err := s.do(ctx, "Overview", nil, func() error {
		s.bury()
		within := func(namespace string) bool { return scope.Namespace == "" || scope.Namespace == namespace }
		counts := map[task.Count]int64{}
		volumes := map[string]int64{}
		queues := map[named]task.Queue{}
		for _, r := range s.tasks {
			t := r.task
			if !within(t.Namespace) || !scope.Batch.IsZero() && scope.Batch != t.BatchID {
				continue
			}
			c := task.Count{Namespace: t.Namespace, State: t.State}
			if scope.Batch.IsZero() {
				c.Queue = t.Queue
				queues[named{t.Namespace, t.Queue}] = task.Queue{Namespace: t.Namespace, Name: t.Queue}
			}
			counts[c]++
			volumes[t.Namespace] += r.bytes()
		}
		for c, n := range counts {
			c.Tasks = n
			o.Counts = append(o.Counts, c)
		}
		slices.SortFunc(o.Counts, func(a, b task.Count) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
		})
		if !scope.Batch.IsZero() {
			if c := s.callback(scope.Namespace, scope.Batch); c != nil {
				o.Callback = c.task.ID
			}
			return nil
		}
		for namespace, bytes := range volumes {
			if bytes > 0 {
				o.Volumes = append(o.Volumes, task.Volume{Namespace: namespace, Bytes: bytes})
			}
		}
		slices.SortFunc(o.Volumes, func(a, b task.Volume) int { return cmp.Compare(a.Namespace, b.Namespace) })
		for key, q := range s.queues {
			if within(key.namespace) {
				queues[key] = q
			}
		}
		for key, k := range s.kinds {
			if within(key.namespace) {
				o.Kinds = append(o.Kinds, k)
			}
		}
		slices.SortFunc(o.Kinds, func(a, b task.Kind) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		o.Pools = s.pools()
		o.Queues = slices.SortedFunc(maps.Values(queues), func(a, b task.Queue) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		o.Nodes = slices.SortedFunc(maps.Values(s.nodes), func(a, b task.Node) int {
			return cmp.Compare(a.Incarnation, b.Incarnation)
		})
		return nil
	})
	if err != nil {
		return task.Overview{}, err
	}
	return o, nil
}

// Sweep implements [task.Store].
func (s *Store) Sweep(ctx context.Context, r task.Retention, limit int) (int, error) {
	gone := 0
	err := s.do(ctx, "Sweep", nil, func() error {
		ended := s.where(func(t task.Task) bool { return t.State.Terminal() },
			func(a, b task.Task) int { return a.Finished.Compare(b.Finished) })
		for _, row := range ended {
			t := row.task
			keep, named := r.Keep[t.State]
			switch {
			case named && gone < limit && !t.Finished.After(r.Now.Add(-keep)):
				s.forget(t.ID)
				gone++
			case r.KeepEvents > 0 && !t.Finished.After(r.Now.Add(-r.KeepEvents)):
				row.trim()
			}
		}
		s.forgetLimits()
		maps.DeleteFunc(s.requests, func(_ named, q request) bool { return !q.expires.After(r.Now) })
		maps.DeleteFunc(s.results, func(_ cached, kept result) bool { return !kept.expires.After(r.Now) })
		maps.DeleteFunc(s.nodes, func(_ task.Incarnation, n task.Node) bool {
			return n.Left && n.Seen.Before(r.Now.Add(-remembered))
		})
		s.accounts.sweep(r.Now, limit)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return gone, nil
}

// trim keeps of the log its last event, the terminal one.
func (r *row) trim() {
	if n := len(r.events); n > 1 {
		r.events = r.events[n-1:]
		r.task.LogStart = r.events[0].Cursor
	}
}
