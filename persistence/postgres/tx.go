package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/troupe-run/troupe/runtime/task"
)

// tries is how often a transaction is started over before its caller hears of it.
const tries = 5

// tx is a transaction under way. It lives within one call, on one connection.
type tx struct {
	store  *Store
	conn   *pgxpool.Conn
	begin  string
	begun  bool
	simple bool    // each of its statements goes by keys, whatever is in the tables
	fresh  bool    // a key that is taken is no reason to start over
	writer *writer // of a transaction that writes
	counts map[count]int64
	growth map[string]int64   // of the bytes kept, by namespace
	limits *limits            // nil: none are locked
	last   []func(*pgx.Batch) // goes out with the commit
	room   int                // that the columns of the next batch take
	// results is what tasks that succeeded leave to others.
	results map[cached]*task.Task
}

// abandoned is how long the server waits for the next of a transaction's
// statements, which as a rule comes at once.
const abandoned = 2 * time.Second

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// settings are those of every transaction. A plan that is kept was made for tables
// as they were then, mostly empty, and scans them when they are full; and compiling
// a statement takes longer than any of ours runs. Where all go by keys, plans are kept
// that do, and cannot do otherwise: to plan is half of what a short transaction costs.
const settings = `SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true),
	set_config('plan_cache_mode', $3, true), set_config('enable_seqscan', $4, true), set_config('enable_hashjoin', $4, true),
	set_config('enable_mergejoin', $4, true), set_config('jit', 'off', true)`

// batch starts a round trip; what is queued in it goes out with send.
func (t *tx) batch() *pgx.Batch {
	b := &pgx.Batch{}
	if t.begun {
		return b
	}
	t.begun = true
	b.Queue(t.begin)
	// What is cut off in the middle of a transaction must not go on for long, nor
	// keep its locks: others wait for them who take over what a dead node held.
	plans, scans := "force_custom_plan", "on"
	if t.simple {
		plans, scans = "force_generic_plan", "off"
	}
	b.Queue(settings, milliseconds(t.store.patience), milliseconds(min(t.store.patience, abandoned)), plans, scans)
	return b
}

// send sends a batch and sees to its answers.
func (t *tx) send(ctx context.Context, b *pgx.Batch) error {
	if t.room > 0 {
		t.conn.Conn().PgConn().Frontend().Send(room(t.room + headRoom))
		t.room = 0
	}
	return t.conn.SendBatch(ctx, b).Close()
}

// query sends one statement and gives each row of its answer to f.
func (t *tx) query(ctx context.Context, text string, args []any, f func(pgx.Rows) error) error {
	b := t.batch()
	each(b.Queue(text, args...), f)
	return t.send(ctx, b)
}

// exec sends one statement whose answer does not matter.
func (t *tx) exec(ctx context.Context, text string, args ...any) error {
	b := t.batch()
	b.Queue(text, args...)
	return t.send(ctx, b)
}

// each gives every row of an answer to f.
func each(q *pgx.QueuedQuery, f func(pgx.Rows) error) {
	q.Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := f(rows); err != nil {
				rows.Close()
				return err
			}
		}
		return rows.Err()
	})
}

// parting is how long a call goes on that nobody waits for any more.
const parting = time.Second

// bound gives a call its deadline. The caller's own end is looked at before and
// between: what goes to the server is seen to its end, if that is near. It may
// never come, where the network swallows it, and a node that lost its lease is
// not to wait for it before it begins anew.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(s.patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	within, end := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	forget := context.AfterFunc(ctx, func() {
		last := time.NewTimer(parting)
		defer last.Stop()
		select {
		case <-last.C:
			end()
		case <-within.Done():
		}
	})
	return within, func() {
		forget()
		end()
	}
}

func (s *Store) check(ctx context.Context, what string) error {
	if s.closed.Load() {
		return fmt.Errorf("%s: %w", what, task.ErrClosed)
	}
	return translate(what, ctx.Err())
}

// read runs f in a transaction that sees one moment and writes nothing.
func (s *Store) read(ctx context.Context, what string, f func(context.Context, *tx) error) error {
	return s.again(ctx, what, func(within context.Context) error {
		return s.transact(within, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", func(t *tx) error {
			if err := f(within, t); err != nil {
				return err
			}
			return t.exec(within, "COMMIT")
		})
	})
}

// write runs f in a transaction, and commits it if f and ctx let it.
func (s *Store) write(ctx context.Context, what string, f func(context.Context, *tx) error) error {
	return s.again(ctx, what, func(within context.Context) error {
		w, err := s.takeWriter(within)
		if err != nil {
			return err
		}
		defer s.returnWriter(w)
		return s.transact(within, "BEGIN", func(t *tx) error {
			t.writer = w
			err := f(within, t)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			return t.commit(ctx, within)
		})
	})
}

// again runs a call once more where it found a broken connection or was
// overtaken, and nothing of it can have been kept.
func (s *Store) again(ctx context.Context, what string, call func(within context.Context) error) error {
	if err := s.check(ctx, what); err != nil {
		return err
	}
	within, cancel := s.bound(ctx)
	defer cancel()
	for try := 1; ; try++ {
		err := call(within)
		switch {
		case err == nil, errors.Is(err, task.ErrNotFound), errors.Is(err, task.ErrStale):
			return err
		case errors.Is(err, task.ErrUnknown):
			return fmt.Errorf("%s: %w", what, err)
		case misprepared(err):
			s.unprepare(ctx)
		}
		if try == tries || ctx.Err() != nil || within.Err() != nil || !overtaken(err) && !severed(err) && !misprepared(err) {
			return translate(what, err)
		}
		pause := time.NewTimer(rand.N(time.Duration(try) * 10 * time.Millisecond)) //nolint:gosec // spread, not a secret
		select {
		case <-pause.C:
		case <-within.Done():
			pause.Stop()
		}
	}
}

// transact runs f with a connection. A connection on which a transaction may
// still be open is not used again.
func (s *Store) transact(ctx context.Context, begin string, f func(*tx) error) error {
	conn, err := s.pool.Load().Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // a pool drops what is broken, or in a transaction
	t := &tx{store: s, conn: conn, begin: begin}
	if err = f(t); err != nil && t.begun && !conn.Conn().IsClosed() {
		if _, rolling := conn.Exec(ctx, "ROLLBACK"); rolling != nil {
			_ = conn.Conn().Close(ctx)
		}
	}
	return err
}

// commit ends the transaction. If the connection breaks meanwhile, the server is
// asked what became of it, for as long as the caller will wait.
func (t *tx) commit(ctx, within context.Context) error {
	if !t.begun && len(t.last) == 0 {
		return nil
	}
	b := t.batch()
	// First, so that who asks for its fate waits for it: a server that has all of this goes
	// on to the commit, whether or not anybody is there to hear of it.
	t.writer.sign(b)
	t.storeLimits(b)
	t.storeResults(b)
	for _, f := range t.last {
		f(b)
	}
	t.storeCounts(b)
	t.storeVolumes(b)
	b.Queue("COMMIT")
	err := t.send(within, b)
	switch {
	case t.fresh && sqlState(err) == "23505":
		return errTaken // not overtaken: it would be so again
	case err == nil || !severed(err) && within.Err() == nil:
		return err
	}
	return t.store.fate(ctx, t.writer, err)
}
