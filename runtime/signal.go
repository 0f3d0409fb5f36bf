package runtime

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
)

// Signal tells a task something, any payload that encodes to JSON. It returns once
// that is on disk; the task takes it when it waits for one of this name, whoever
// runs it then.
func (r *Runtime) Signal(ctx context.Context, namespace string, id task.ID, name string, payload any) error {
	raw, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("signal task %s: encode payload: %w", id, err)
	}
	return r.PutSignal(ctx, namespace, id, task.Signal{Name: name, Data: raw})
}

// PutSignal is Signal for a payload that is JSON already. A signal with an id is
// kept once, however often it is sent, as long as the task has not ended.
func (r *Runtime) PutSignal(ctx context.Context, namespace string, id task.ID, s task.Signal) error {
	s, err := r.limits.CheckSignal(s)
	if err == nil {
		if s.ID.IsZero() {
			s.ID = task.ID(uuid.Must(uuid.NewV7()))
		}
		err = r.node().Signal(ctx, namespace, id, s)
	}
	if err != nil {
		return fmt.Errorf("signal task %s: %w", id, err)
	}
	return nil
}
