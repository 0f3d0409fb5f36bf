package postgres

import (
	"context"

	"github.com/troupe-run/troupe/runtime/task"
)

// WhileLocked runs f while a task's row is locked.
func (s *Store) WhileLocked(ctx context.Context, id task.ID, f func()) {
	_ = s.write(ctx, "lock", func(within context.Context, t *tx) error {
		if err := t.exec(within, "SELECT FROM troupe.tasks WHERE id = $1 FOR UPDATE", uuid(id)); err != nil {
			return err
		}
		f()
		return nil
	})
}
