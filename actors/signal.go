package actors

import (
	"context"
	"errors"
	"slices"

	"github.com/troupe-run/troupe/runtime/task"
)

// Signal keeps a signal for a task, whoever holds it, and returns when it is on disk.
// The task is moved on by whoever hears of it, if it waits for that.
func (n *Node) Signal(ctx context.Context, namespace string, id task.ID, s task.Signal) error {
	if n.stopped.Load() || n.isLost() {
		return n.closed()
	}
	s.At = n.now()
	m := task.Mutation{Op: task.PutSignal, Task: task.Task{Spec: task.Spec{ID: id, Namespace: namespace}}, Signal: s}
	_, err := n.write(ctx, m)
	return err
}

// signalKept says whether a signal is there. One that is not may have been taken.
func signalKept(ctx context.Context, s task.Store, m task.Mutation) (bool, error) {
	there, err := s.Signals(ctx, m.Task.Namespace, m.Task.ID, m.Signal.Name, task.MaxSignals)
	if errors.Is(err, task.ErrNotFound) {
		return false, nil
	}
	return slices.ContainsFunc(there, func(o task.Signal) bool { return o.ID == m.Signal.ID }), err
}
