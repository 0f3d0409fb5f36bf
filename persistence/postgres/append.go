package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/runtime/task"
)

// Writers implements [task.Store]. The server would take more at the same time; a node has two
// lines of writes.
func (s *Store) Writers() int { return 2 }

// Append implements [task.Store].
func (s *Store) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	if err := s.check(ctx, "append"); err != nil {
		return nil, err
	}
	if err := s.learnLanes(ctx, ms); err != nil {
		return nil, err
	}
	if areFresh(ms) {
		switch err := s.bear(ctx, ms); {
		case err == nil:
			return make([]task.Outcome, len(ms)), nil
		case !errors.Is(err, errTaken):
			return nil, err
		}
	}
	checks := make([]task.Outcome, len(ms))
	for i := range ms {
		checks[i].Err = ms[i].Check()
	}
	all := rounds(ms, checks)
	if len(all) == 0 {
		return checks, nil
	}
	names, simple := limitsOf(ms), areSimple(ms)
	var out []task.Outcome
	var missing []task.Lane
	write := func(within context.Context, t *tx) error {
		missing, out = nil, append([]task.Outcome(nil), checks...)
		t.simple = simple
		a := appending{tx: t, ms: ms, out: out, missing: &missing, grown: map[task.ID]int64{}}
		if err := a.lockLimits(within, names); err != nil {
			return err
		}
		for _, r := range all {
			if err := a.round(within, r); err != nil {
				return err
			}
		}
		return nil
	}
	err := s.write(ctx, "append", write)
	for try := 1; errors.Is(err, errLanes) && try < tries; try++ {
		if err = s.makeLanes(ctx, missing); err == nil {
			err = s.write(ctx, "append", write)
		}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// round is mutations, by index, of which none has to do with another: they may
// be written in any order, and so all inserts at once and all saves.
type round struct {
	inserts, saves, ends, starts, signals, others []int
}

// rounds puts each mutation into the first round behind those it has to come
// after. As a rule there is one.
func rounds(ms []task.Mutation, checks []task.Outcome) (all []round) {
	after := lineup{tasks: make(map[task.ID]int, len(ms))}
	signalled := map[task.ID]int{}
	floor := 0
	for i := range ms {
		if checks[i].Err != nil {
			continue
		}
		m := &ms[i]
		at := max(floor, after.of(m))
		if m.Op == task.PutSignal {
			// Those to one task are written together, in their order.
			if last, ok := signalled[m.Task.ID]; ok && last >= floor && last+1 == after.tasks[m.Task.ID] {
				at = last
			}
			signalled[m.Task.ID] = at
		}
		if m.Op == task.Insert {
			for _, id := range m.Task.DependsOn {
				at = max(at, after.tasks[id])
			}
		}
		if m.Op == task.Delete || m.Op >= task.SetQueue && m.Op != task.PutSignal || m.Guard.State.Terminal() {
			// It has to do with more than it says: all before it, then it, then
			// all behind it.
			at = max(at, len(all))
			floor = at + 1
		}
		for len(all) <= at {
			all = append(all, round{})
		}
		after.put(m, at+1)
		r := &all[at]
		switch {
		case m.Op == task.Insert:
			r.inserts = append(r.inserts, i)
		case m.Op == task.PutSignal:
			r.signals = append(r.signals, i)
		case m.Op != task.Save || m.Guard.State.Terminal():
			r.others = append(r.others, i)
		case len(m.Take) > 0:
			r.starts = append(r.starts, i)
		case m.Task.State.Terminal():
			r.ends = append(r.ends, i)
		default:
			r.saves = append(r.saves, i)
		}
	}
	return all
}

// lineup says into which round at the earliest a mutation may go that has to do with a
// task, a unique key or the key of a request.
type lineup struct {
	tasks    map[task.ID]int
	unique   map[namedKey]int
	requests map[requestKey]int
}

func uniqueOf(m *task.Mutation) namedKey {
	return namedKey{m.Task.Namespace, m.Task.Kind, m.Task.UniqueKey}
}

func (l *lineup) of(m *task.Mutation) int {
	at := l.tasks[m.Task.ID]
	if m.Task.UniqueKey != "" {
		at = max(at, l.unique[uniqueOf(m)])
	}
	if m.Op == task.Insert && m.Request.Key != "" {
		at = max(at, l.requests[requestOf(m)])
	}
	return at
}

func (l *lineup) put(m *task.Mutation, at int) {
	l.tasks[m.Task.ID] = at
	if m.Task.UniqueKey != "" {
		if l.unique == nil {
			l.unique = map[namedKey]int{}
		}
		l.unique[uniqueOf(m)] = at
	}
	if m.Op == task.Insert && m.Request.Key != "" {
		if l.requests == nil {
			l.requests = map[requestKey]int{}
		}
		l.requests[requestOf(m)] = at
	}
}

// appending is one Append in its transaction.
type appending struct {
	*tx

	ms      []task.Mutation
	out     []task.Outcome
	missing *[]task.Lane      // to be made before it is tried again
	grown   map[task.ID]int64 // by how many bytes the tasks saved last did
}

// round writes a round: one round trip, and one more for those that were not
// written, to say why.
func (a *appending) round(ctx context.Context, r round) error {
	inserts, err := a.requests(ctx, r.inserts)
	if err != nil {
		return err
	}
	if inserts, err = a.known(ctx, inserts); err != nil {
		return err
	}
	inserts, states, err := a.parents(ctx, inserts)
	if err != nil {
		return err
	}
	if inserts, err = a.callbacks(ctx, inserts); err != nil {
		return err
	}
	written := make(map[task.ID]bool, len(inserts)+len(r.saves)+len(r.ends))
	note := noteIn(written)
	var twice []task.ID
	b := a.batch()
	a.queueInserts(b, inserts, note, &twice)
	a.queueSaves(b, saveLive, r.saves, written)
	a.queueSaves(b, saveEnd, r.ends, written)
	if err := a.send(ctx, b); err != nil {
		return err
	}
	if err := a.inserted(ctx, inserts, written, twice); err != nil {
		return err
	}
	if err := a.depend(ctx, inserts, written, states); err != nil {
		return err
	}
	if err := a.uncalled(ctx, inserts); err != nil {
		return err
	}
	if err := a.saved(ctx, slices.Concat(r.saves, r.ends), written); err != nil {
		return err
	}
	if err := a.starts(ctx, r.starts); err != nil {
		return err
	}
	if err := a.signals(ctx, r.signals); err != nil {
		return err
	}
	for _, i := range r.others {
		if err := a.other(ctx, i); err != nil {
			return fmt.Errorf("task %s: %w", a.ms[i].Task.ID, err)
		}
	}
	return nil
}

// noteIn gives a reader that notes the ids of rows.
func noteIn(written map[task.ID]bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var id task.ID
		if err := rows.Scan((*[16]byte)(&id)); err != nil {
			return err
		}
		written[id] = true
		return nil
	}
}

// other makes a mutation that is too rare to be made in bulk.
func (a *appending) other(ctx context.Context, i int) (err error) {
	m := &a.ms[i]
	switch m.Op {
	case task.Insert, task.PutSignal:
	case task.Save:
		a.out[i].Err, err = a.reopen(ctx, m)
	case task.Delete:
		a.out[i].Err, err = a.remove(ctx, m)
	case task.SetQueue:
		err = a.setQueue(ctx, m.Queue)
	case task.SetPool:
		err = a.setPool(ctx, m.Pool)
	case task.SetKind:
		err = a.setKind(ctx, m.Kind)
	case task.SetSchedule, task.DropSchedule, task.Fire:
		err = a.schedule(ctx, i)
	}
	return err
}
