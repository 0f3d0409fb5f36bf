package memory

import (
	"bytes"
	"context"
	"slices"

	"github.com/troupe-run/troupe/runtime/task"
)

// remember sees to what a task that was saved remembers, and says whether a signal
// is there that it waits for now.
func (r *row) remember(m task.Mutation) (signalled bool) {
	for _, memo := range m.Memos {
		memo.At = micro(memo.At)
		r.memos = append(r.memos, memo)
		r.signals = slices.DeleteFunc(r.signals, func(s task.Signal) bool { return s.ID == memo.Signal })
	}
	if m.Forget || m.Task.State.Terminal() {
		r.memos, r.signals = nil, nil
	}
	return r.signalled()
}

func (r *row) signalled() bool {
	return r.task.State == task.Blocked && slices.ContainsFunc(r.signals, func(s task.Signal) bool { return s.Name == r.task.Awaits })
}

func (s *Store) putSignal(m task.Mutation) task.Outcome {
	r, ok := s.tasks[m.Task.ID]
	switch {
	case !ok || r.task.Namespace != m.Task.Namespace:
		return task.Outcome{Err: task.ErrNotFound}
	case r.task.State.Terminal():
		return task.Outcome{Err: task.ErrTerminal}
	}
	for _, old := range r.signals {
		if old.ID == m.Signal.ID {
			return again(old.Name == m.Signal.Name && bytes.Equal(old.Data, m.Signal.Data))
		}
	}
	for _, old := range r.memos {
		if old.Signal == m.Signal.ID {
			return again(bytes.Equal(old.Data, m.Signal.Data))
		}
	}
	if len(r.signals) >= task.MaxSignals {
		return task.Outcome{Err: task.ErrTooManySignals}
	}
	signal := m.Signal
	signal.At = micro(signal.At)
	r.signals = append(r.signals, signal)
	return task.Outcome{Settles: r.task.State == task.Blocked && r.task.Awaits == signal.Name}
}

// again is the outcome of a signal that was kept before.
func again(same bool) task.Outcome {
	if same {
		return task.Outcome{}
	}
	return task.Outcome{Err: task.ErrKeyReused}
}

// Memos implements [task.Store].
func (s *Store) Memos(ctx context.Context, namespace string, id task.ID) ([]task.Memo, error) {
	var memos []task.Memo
	err := s.do(ctx, "Memos", nil, func() error {
		r, ok := s.tasks[id]
		if !ok || r.task.Namespace != namespace {
			return task.ErrNotFound
		}
		memos = slices.Clone(r.memos)
		return nil
	})
	return memos, err
}

// Signals implements [task.Store].
func (s *Store) Signals(ctx context.Context, namespace string, id task.ID, name string, limit int) ([]task.Signal, error) {
	var signals []task.Signal
	err := s.do(ctx, "Signals", nil, func() error {
		r, ok := s.tasks[id]
		if !ok || r.task.Namespace != namespace {
			return task.ErrNotFound
		}
		for _, one := range r.signals {
			if one.Name == name && len(signals) < limit {
				signals = append(signals, one)
			}
		}
		return nil
	})
	return signals, err
}
