package postgres

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/runtime/task"
)

// lanes is what is known of the table of that name, which only grows: a lane
// keeps its number for ever.
type lanes struct {
	known sync.Map // task.Lane → int64
}

// waiting is where an unheld task waits: the columns lane, rank and wake_at.
// Zero stands for NULL; rank counts only where there is a lane.
type waiting struct{ lane, rank, wake int64 }

func (s *Store) waits(k *task.Task) (w waiting) {
	if k.Holder != 0 {
		return w
	}
	if at := k.WakeAt(); !at.IsZero() {
		w.wake = at.UnixMicro()
	}
	if k.State == task.Queued {
		id, _ := s.lanes.known.Load(k.Lane())
		w.lane, _ = id.(int64)
		w.rank = k.Rank()
	}
	return w
}

const (
	makeLanes = `INSERT INTO troupe.lanes (namespace, queue, kind, demand)
		SELECT DISTINCT u.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(namespace, queue, kind, demand)
		ORDER BY 1, 2, 3, 4 ON CONFLICT DO NOTHING`
	findLanes = `SELECT l.id, l.namespace, l.queue, l.kind, l.demand FROM troupe.lanes l
		JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(namespace, queue, kind, demand)
		USING (namespace, queue, kind, demand)`
)

// learnLanes makes the lanes that tasks of a batch wait in, where they are new.
// It does so in a transaction of its own: a lane may be there for nothing.
func (s *Store) learnLanes(ctx context.Context, ms []task.Mutation) error {
	var missing []task.Lane
	for i := range ms {
		k := &ms[i].Task
		waits := k.Holder == 0 && k.State == task.Queued || len(ms[i].Take) > 0 // or may have to
		if (ms[i].Inserts() || ms[i].Op == task.Save) && waits {
			if _, ok := s.lanes.known.Load(k.Lane()); !ok {
				missing = append(missing, k.Lane())
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.makeLanes(ctx, missing)
}

func (s *Store) makeLanes(ctx context.Context, missing []task.Lane) error {
	return s.write(ctx, "learn lanes", func(within context.Context, t *tx) error {
		namespaces, queues, kinds, demands := laneColumns(missing)
		b := t.batch()
		b.Queue(makeLanes, namespaces, queues, kinds, demands)
		each(b.Queue(findLanes, namespaces, queues, kinds, demands), s.knowLane)
		return t.send(within, b)
	})
}

func (s *Store) knowLane(r pgx.Rows) error {
	var id int64
	var l task.Lane
	var terms string
	if err := r.Scan(&id, &l.Namespace, &l.Queue, &l.Kind, &terms); err != nil {
		return err
	}
	s.lanes.known.Store(l.WithTerms(terms), id)
	return nil
}

// laneIDs gives the numbers of lanes; one that nobody ever waited in has none.
func (s *Store) laneIDs(ctx context.Context, of []task.Lane) ([]int64, error) {
	look := func() (ids []int64, missing []task.Lane) {
		ids = []int64{}
		for _, l := range of {
			if id, ok := s.lanes.known.Load(l); ok {
				ids = append(ids, id.(int64))
			} else {
				missing = append(missing, l)
			}
		}
		return ids, missing
	}
	ids, missing := look()
	if len(missing) == 0 {
		return ids, nil
	}
	err := s.read(ctx, "find lanes", func(within context.Context, t *tx) error {
		namespaces, queues, kinds, demands := laneColumns(missing)
		return t.query(within, findLanes, []any{namespaces, queues, kinds, demands}, s.knowLane)
	})
	ids, _ = look()
	return ids, err
}

func laneColumns(all []task.Lane) (namespaces, queues, kinds, demands []string) {
	for _, l := range all {
		namespaces, queues = append(namespaces, l.Namespace), append(queues, l.Queue)
		kinds, demands = append(kinds, l.Kind), append(demands, l.Terms())
	}
	return namespaces, queues, kinds, demands
}
