package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// defaultLease is for how long a node may be silent that does not say.
const defaultLease = 10 * time.Second

const (
	join = `INSERT INTO troupe.nodes (name, address, started, seen, expires, gone, peer, details)
		SELECT $1, $2, $3, now.at, now.at + make_interval(secs => $4), $5, $6, $7 FROM (SELECT clock_timestamp() AS at) now
		RETURNING incarnation, seen`
	// renew does not bring back a lease that has ended: others may have acted on it.
	renew = `UPDATE troupe.nodes SET name = $1, address = $2, started = $3, seen = now.at,
			expires = now.at + make_interval(secs => $4), gone = $5, peer = $6, details = $7
		FROM (SELECT clock_timestamp() AS at) now
		WHERE incarnation = $8 AND NOT gone AND expires > now.at RETURNING incarnation, seen`
)

// Renew implements [task.Store]. Times are the database's: Seen comes back as
// its clock says.
func (s *Store) Renew(ctx context.Context, n task.Node) (task.Node, error) {
	lease := cmp.Or(n.Lease, defaultLease)
	// A renewal that takes longer than what it is for is worth nothing.
	ctx, cancel := context.WithTimeout(ctx, max(lease, parting))
	defer cancel()
	found, asked := false, n.Incarnation // it may be tried again, and then joins again
	err := s.write(ctx, "renew node", func(within context.Context, t *tx) error {
		found = false
		text, args := join, []any{n.Name, n.Address, n.Started.UnixMicro(), lease.Seconds(), n.Left, n.Peer, codec.Node(n)}
		if asked != 0 {
			text, args = renew, append(args, int64(asked))
		}
		return t.query(within, text, args, func(r pgx.Rows) error {
			found = true
			var incarnation int64
			err := r.Scan(&incarnation, &n.Seen)
			n.Incarnation = task.Incarnation(incarnation)
			return err
		})
	})
	switch {
	case err != nil:
		return task.Node{}, err
	case !found:
		return task.Node{}, fmt.Errorf("renew node %d: %w", asked, task.ErrStale)
	}
	n.Lease = lease
	n.Started, n.Seen = codec.Micros(n.Started.UnixMicro()), n.Seen.UTC()
	return n, nil
}

const (
	buryNodes = "UPDATE troupe.nodes SET gone = true WHERE NOT gone AND expires <= clock_timestamp()"
	orphans   = `WITH RECURSIVE holders AS (
			(SELECT holder FROM troupe.tasks_live WHERE holder > 0 ORDER BY holder LIMIT 1)
			UNION ALL
			SELECT (SELECT t.holder FROM troupe.tasks_live t WHERE t.holder > 0 AND t.holder > h.holder ORDER BY t.holder LIMIT 1)
			FROM holders h WHERE h.holder IS NOT NULL),
		dead AS MATERIALIZED (SELECT h.holder FROM holders h
			WHERE h.holder IS NOT NULL AND NOT EXISTS (SELECT FROM troupe.nodes n WHERE n.incarnation = h.holder AND NOT n.gone))
		SELECT ` + columns + ` FROM dead CROSS JOIN LATERAL (
			SELECT * FROM troupe.tasks_live l WHERE l.holder = dead.holder AND l.holder > 0 ORDER BY l.id LIMIT $1) t
		ORDER BY t.id LIMIT $1`
)

// Orphans implements [task.Store]. Nodes whose lease has ended are buried first,
// so that they cannot renew it while others take their tasks over.
func (s *Store) Orphans(ctx context.Context, limit int) ([]task.Task, error) {
	var found []task.Task
	err := s.write(ctx, "list orphans", func(within context.Context, t *tx) error {
		found = nil
		b := t.batch()
		b.Queue(buryNodes)
		each(b.Queue(orphans, max(limit, 0)), func(r pgx.Rows) error {
			k, _, err := decode(r)
			found = append(found, k)
			return err
		})
		return t.send(within, b)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
