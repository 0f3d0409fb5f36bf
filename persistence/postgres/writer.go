package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	googleuuid "github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// writer signs one transaction after the other, so that it can be found out
// whether the last was kept.
type writer struct {
	id   pgtype.UUID
	next int64
	used time.Time
}

// takeWriter gives a writer that nobody else has. There are as many as there
// were ever transactions at once.
func (s *Store) takeWriter(ctx context.Context) (*writer, error) {
	select {
	case w := <-s.writers:
		if now := time.Now(); now.Sub(w.used) < remembered/2 { // else its row may be swept away
			w.next, w.used = w.next+1, now
			return w, nil
		}
	default:
	}
	w := &writer{id: pgtype.UUID{Bytes: googleuuid.New(), Valid: true}, next: 1, used: time.Now()}
	// Committed before it is used: a row that cannot be seen tells nothing.
	_, err := s.pool.Load().Exec(ctx, "INSERT INTO troupe.writers (id, last, used) VALUES ($1, 0, clock_timestamp())", w.id)
	return w, err
}

func (s *Store) returnWriter(w *writer) {
	if !w.id.Valid {
		return
	}
	select {
	case s.writers <- w:
	default:
	}
}

const signWriter = "UPDATE troupe.writers SET last = $2, used = clock_timestamp() WHERE id = $1"

// sign has the transaction leave its mark.
func (w *writer) sign(b *pgx.Batch) {
	b.Queue(signWriter, w.id, w.next)
}

// fate finds out what became of a writer's transaction whose commit was not
// answered: nil if it was kept. It asks until it knows or ctx ends.
func (s *Store) fate(ctx context.Context, w *writer, cause error) error {
	s.log.WarnContext(ctx, "the connection broke at a commit; reading back what became of it", "error", cause)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		last, err := s.lastOf(ctx, w)
		switch {
		case err == nil && last == w.next:
			return nil
		case err == nil:
			return fmt.Errorf("the connection broke before the commit: %w", cause)
		case !passing(err):
			return fmt.Errorf("%w: %w", task.ErrUnknown, errors.Join(cause, err))
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			w.id.Valid = false // whoever is next must not mistake it for its own
			return fmt.Errorf("%w: %w", task.ErrUnknown, cause)
		}
	}
}

// lastOf reads the last transaction of a writer that was committed. One that is
// still at it has the row locked, and is waited for.
func (s *Store) lastOf(ctx context.Context, w *writer) (last int64, err error) {
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	err = s.pool.Load().QueryRow(within, "SELECT last FROM troupe.writers WHERE id = $1 FOR UPDATE", w.id).Scan(&last)
	return last, err
}
