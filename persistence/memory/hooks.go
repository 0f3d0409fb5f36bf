package memory

import (
	"context"
	"fmt"

	"github.com/troupe-run/troupe/runtime/task"
)

// Hooks let a test play what befalls a store. They are given the name of the
// method called and, for Append, what it was given; they run without a lock, so
// they may call the store, and may block to play a slow disk.
type Hooks struct {
	// Before runs first. Its error is the call's, and nothing was done.
	Before func(call string, ms []task.Mutation) error
	// After runs last. Its error is the call's, though all was done.
	After func(call string, ms []task.Mutation) error
}

// Hook sets the hooks; zero hooks take them away.
func (s *Store) Hook(h Hooks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = h
}

// do runs one call on the data, between the hooks. A caller without patience
// left gets what a durable store would say: nothing was kept.
func (s *Store) do(ctx context.Context, call string, ms []task.Mutation, f func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", call, task.ErrUnavailable, err)
	}
	s.mu.Lock()
	h := s.hooks
	s.mu.Unlock()
	if h.Before != nil {
		if err := h.Before(call, ms); err != nil {
			return err
		}
	}
	if err := s.locked(f); err != nil {
		return err
	}
	if h.After != nil {
		return h.After(call, ms)
	}
	return nil
}

func (s *Store) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}
