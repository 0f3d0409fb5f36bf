package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/troupe-run/troupe/runtime/task"
)

// writer is the one connection that writes, and what it knows by heart.
type writer struct {
	file   string
	conn   *conn // nil: must be dialled
	lanes  lanes
	paused map[queueName]bool
	live   task.Incarnation // the node that lives, or 0
	edges  bool             // some task waits for another, perhaps
	calls  bool             // some task waits for a batch, perhaps
}

type queueName struct{ namespace, name string }

// dial connects, and reads what a writer knows by heart.
func (w *writer) dial(ctx context.Context) error {
	c, err := dial(ctx, w.file, writing)
	if err != nil {
		return err
	}
	w.conn = c
	if err := w.load(ctx); err != nil {
		return errors.Join(err, w.close())
	}
	return nil
}

func (w *writer) load(ctx context.Context) error {
	w.lanes, w.paused, w.live = newLanes(), map[queueName]bool{}, 0
	lanes := w.conn.query(ctx, "SELECT id, namespace, queue, kind, demand FROM lanes", nil, func(r row) error {
		w.lanes.add(r.int(0), task.Lane{Namespace: r.text(1), Queue: r.text(2), Kind: r.text(3)}.WithTerms(r.text(4)))
		return nil
	})
	queues := w.conn.query(ctx, "SELECT namespace, name FROM queues WHERE paused <> 0", nil, func(r row) error {
		w.paused[queueName{r.text(0), r.text(1)}] = true
		return nil
	})
	nodes := w.conn.query(ctx, "SELECT max(incarnation) FROM nodes WHERE left = 0", nil, func(r row) error {
		w.live = task.Incarnation(r.int(0))
		return nil
	})
	edges := w.conn.query(ctx, anyEdges, nil, func(r row) error {
		w.edges = r.int(0) != 0
		return nil
	})
	calls := w.conn.query(ctx, anyCallbacks, nil, func(r row) error {
		w.calls = r.int(0) != 0
		return nil
	})
	return errors.Join(lanes, queues, nodes, edges, calls)
}

// close gives the connection up; the next to write dials a new one and forgets
// what this one knew.
func (w *writer) close() error {
	if w.conn == nil {
		return nil
	}
	err := w.conn.close()
	w.conn = nil
	return err
}

// tx is a transaction under way. It lives within one call.
type tx struct {
	*writer
	counts map[count]int64
	growth map[string]int64 // of the bytes kept, by namespace
	limits map[task.LimitName]*limit
	made   []*lane  // forgotten again if this is rolled back
	then   []func() // what the writer knows once this is committed
}

// write runs f in a transaction, and commits it if f and ctx let it. Statements
// do not watch ctx: each is short, so it is looked at between them and before
// the commit, and a commit under way is always seen to its end.
func (s *Store) write(ctx context.Context, what string, f func(*tx) error) error {
	w, err := s.takeWriter(ctx, what)
	if err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended { // f panicked, or the connection cannot be trusted
			_ = w.close()
		}
		s.writer <- w
	}()
	if w.conn == nil {
		if err := w.dial(ctx); err != nil {
			return translate(what, err)
		}
	}
	if _, err := w.conn.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		ended = ctx.Err() == nil // else it may have begun
		return translate(what, err)
	}
	within := context.WithoutCancel(ctx)
	t := &tx{writer: w}
	if err = f(t); err == nil {
		err = errors.Join(t.storeCounts(within), t.storeVolumes(within), t.storeLimits(within))
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		if _, err = w.conn.exec(within, "COMMIT"); doubtful(err) {
			return fmt.Errorf("%s: %w: %w", what, task.ErrUnknown, err)
		}
	}
	if err != nil {
		for _, l := range t.made {
			w.lanes.drop(l)
		}
		ended = w.rollback(within)
		return translate(what, err)
	}
	ended = true
	for _, learn := range t.then {
		learn()
	}
	return nil
}

// rollback says whether the connection has no transaction left. SQLite rolls back
// by itself what a full disk stopped, and then has nothing to roll back; but
// that a transaction can begin and end proves that none is open.
func (w *writer) rollback(ctx context.Context) bool {
	if _, err := w.conn.exec(ctx, "ROLLBACK"); err == nil {
		return true
	}
	_, begins := w.conn.exec(ctx, "BEGIN IMMEDIATE")
	_, ends := w.conn.exec(ctx, "ROLLBACK")
	return begins == nil && ends == nil
}

func (s *Store) takeWriter(ctx context.Context, what string) (*writer, error) {
	select {
	case <-s.closed:
		return nil, fmt.Errorf("%s: %w", what, task.ErrClosed)
	default:
	}
	select {
	case <-s.closed:
		return nil, fmt.Errorf("%s: %w", what, task.ErrClosed)
	case <-ctx.Done():
		return nil, translate(what, ctx.Err())
	case w := <-s.writer:
		return w, nil
	}
}

// count is one number kept: tasks of a queue, or of a batch, in a state.
type count struct {
	namespace, queue string
	batch            task.ID
	state            task.State
}

// moved keeps the counts right for a task that went from one state to another;
// the state 0 is not to be there.
func (t *tx) moved(namespace, queue string, batch task.ID, from, to task.State) {
	if t.counts == nil {
		t.counts = map[count]int64{}
	}
	if from == to {
		return
	}
	add := func(state task.State, n int64) {
		if state == 0 {
			return
		}
		t.counts[count{namespace: namespace, queue: queue, state: state}] += n
		if !batch.IsZero() {
			t.counts[count{namespace: namespace, batch: batch, state: state}] += n
		}
	}
	add(from, -1)
	add(to, 1)
}

const (
	addCount = `INSERT INTO counts (namespace, queue, state, n) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT DO UPDATE SET n = n + excluded.n`
	dropCount     = "DELETE FROM counts WHERE namespace = ?1 AND queue = ?2 AND state = ?3 AND n = 0"
	addBatchCount = `INSERT INTO batch_counts (namespace, batch, state, n) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT DO UPDATE SET n = n + excluded.n`
	dropBatchCount = "DELETE FROM batch_counts WHERE namespace = ?1 AND batch = ?2 AND state = ?3 AND n = 0"
)

func (t *tx) storeCounts(ctx context.Context) error {
	for c, n := range t.counts {
		if n == 0 {
			continue
		}
		add, drop, of := addCount, dropCount, any(c.queue)
		if !c.batch.IsZero() {
			add, drop, of = addBatchCount, dropBatchCount, any(c.batch[:])
		}
		if _, err := t.conn.exec(ctx, add, c.namespace, of, int64(c.state), n); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if _, err := t.conn.exec(ctx, drop, c.namespace, of, int64(c.state)); err != nil {
			return err
		}
	}
	return nil
}

// grew notes that more is kept of a namespace, or less.
func (t *tx) grew(namespace string, bytes int64) {
	if t.growth == nil {
		t.growth = map[string]int64{}
	}
	t.growth[namespace] += bytes
}

const (
	addVolume  = "INSERT INTO volumes (namespace, bytes) VALUES (?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes"
	dropVolume = "DELETE FROM volumes WHERE namespace = ? AND bytes = 0"
	volumeRows = "SELECT namespace, bytes FROM volumes WHERE ?1 = '' OR namespace = ?1 ORDER BY namespace"
)

func (t *tx) storeVolumes(ctx context.Context) error {
	for namespace, bytes := range t.growth {
		if bytes == 0 {
			continue
		}
		if _, err := t.conn.exec(ctx, addVolume, namespace, bytes); err != nil {
			return err
		}
		if bytes > 0 {
			continue
		}
		if _, err := t.conn.exec(ctx, dropVolume, namespace); err != nil {
			return err
		}
	}
	return nil
}
