package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/runtime/task"
)

// A claim looks at the heads of the lanes in which somebody waits, so whoever
// else waits, and however many, costs nothing. It looks without a lock, at a few
// more than it wants, and then takes those that nobody else is taking.
const (
	heads = `WITH RECURSIVE waiting AS (
			(SELECT lane FROM troupe.tasks_live WHERE lane IS NOT NULL ORDER BY lane LIMIT 1)
			UNION ALL
			SELECT (SELECT t.lane FROM troupe.tasks_live t WHERE t.lane > w.lane ORDER BY t.lane LIMIT 1)
			FROM waiting w WHERE w.lane IS NOT NULL),
		open AS MATERIALIZED (SELECT l.id FROM waiting w JOIN troupe.lanes l ON l.id = w.lane
			WHERE l.id <> ALL($2::bigint[]) AND NOT EXISTS (
				SELECT FROM troupe.queues q WHERE q.namespace = l.namespace AND q.name = l.queue AND q.paused)
			AND (l.kind = ANY($1::text[]) AND (strpos(l.demand, E'\n') = 0 AND l.queue <> ALL($8::text[]) OR ` + may + `)
				OR ` + served + `))
		SELECT o.id, h.rank, h.n, h.id FROM open o CROSS JOIN LATERAL (
			SELECT t.rank, t.n, t.id FROM troupe.tasks_live t WHERE t.lane = o.id AND t.rank < $3
			ORDER BY t.rank, t.n LIMIT $4) h`
	// may is what [task.Claim.May] says of the lane l whose terms are more than a demand:
	// of whom it is bound to, and of what it requires and prefers.
	may = `(` + unbound + `
		AND troupe.matches(split_part(l.demand, E'\n', 2), $6::jsonb)
		AND NOT EXISTS (SELECT FROM jsonb_array_elements($7::jsonb) r,
				troupe.matches(split_part(l.demand, E'\n', 3), $6::jsonb) preferred,
				troupe.matches(split_part(l.demand, E'\n', 3), r -> 'labels') other
			WHERE r -> 'kinds' ? l.kind AND troupe.matches(split_part(l.demand, E'\n', 2), r -> 'labels')
				AND (other AND NOT preferred OR other = preferred AND (r -> 'before')::boolean
					AND (l.namespace, l.queue) IN (SELECT * FROM unnest($9::text[], $8::text[])))))`
	unbound = `NOT EXISTS (SELECT FROM troupe.nodes n WHERE NOT n.gone AND n.incarnation <> $5
			AND n.incarnation = nullif(split_part(l.demand, E'\n', 4), '')::bigint)`
	// served is what [task.Served.Takes] says.
	served = `EXISTS (SELECT FROM jsonb_array_elements($10::jsonb) s WHERE s ->> 'namespace' = l.namespace AND s -> 'kinds' ? l.kind
			AND troupe.matches(split_part(l.demand, E'\n', 2), s -> 'labels')) AND ` + unbound
	take = `UPDATE troupe.tasks_live t SET holder = $1, lane = NULL, rank = NULL, wake_at = NULL, bound = NULL, bound_until = NULL
		FROM (SELECT c.id, c.rank, c.n FROM troupe.tasks_live c WHERE c.id = ANY($2::uuid[]) AND c.lane IS NOT NULL
			ORDER BY c.rank, c.n LIMIT $3 FOR UPDATE SKIP LOCKED) c
		WHERE t.id = c.id RETURNING ` + columns + `, c.rank, c.n`
)

// waiter is a task that could be taken.
type waiter struct {
	lane, rank, n int64
	id            pgtype.UUID
}

func (w waiter) compare(x waiter) int {
	return cmp.Or(cmp.Compare(w.rank, x.rank), cmp.Compare(w.n, x.n))
}

// Claim implements [task.Store].
func (s *Store) Claim(ctx context.Context, q task.Claim) ([]task.Task, error) {
	if err := s.check(ctx, "claim"); err != nil {
		return nil, err
	}
	if q.Limit <= 0 || q.Nobody() {
		return nil, nil
	}
	full, err := s.laneIDs(ctx, q.Full)
	if err != nil {
		return nil, err
	}
	var tasks []task.Task
	called := false
	for missed := 0; len(tasks) < q.Limit && missed < tries; {
		want := q.Limit - len(tasks)
		next, more, room, err := s.heads(ctx, q, full, want)
		if err == nil && room && !called {
			called = true
			if err = s.call(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			return tasks, giveUp(tasks, err)
		}
		if len(next) == 0 {
			break
		}
		taken, err := s.take(ctx, q.Holder, next, want)
		if err != nil {
			return tasks, giveUp(tasks, err)
		}
		tasks = append(tasks, taken...)
		if len(taken) == 0 {
			missed++ // others took them all
		} else if !more && len(taken) == len(next) {
			break
		}
	}
	return tasks, nil
}

// giveUp keeps quiet about an error behind tasks that were taken already.
func giveUp(taken []task.Task, err error) error {
	if len(taken) > 0 {
		return nil
	}
	return err
}

// heads gives tasks that could be taken, lowest first, and none that stands
// behind one that was not looked at; more says that there may be such, room that
// parked ones may be called.
func (s *Store) heads(ctx context.Context, q task.Claim, full []int64, want int) (next []waiter, more, room bool, err error) {
	below := int64(math.MaxInt64)
	if q.Above != nil {
		below = *q.Above
	}
	// A few more than wanted, for those that others take first.
	deep := max(16, min(2*want, 4*want/int(max(1, s.open.Load()))))
	perLane := map[int64][]waiter{}
	labels, rivals, served, err := placementOf(q)
	namespaces, queues := make([]string, len(q.Packed)), make([]string, len(q.Packed))
	for i, p := range q.Packed {
		namespaces[i], queues[i] = p.Namespace, p.Name
	}
	if err != nil {
		return nil, false, false, err
	}
	err = s.read(ctx, "look for tasks to claim", func(within context.Context, t *tx) error {
		clear(perLane)
		room = false
		b := t.batch()
		each(b.Queue(heads, append([]string{}, q.Kinds...), full, below, deep, int64(q.Holder), labels, rivals, queues, namespaces, served), func(r pgx.Rows) error {
			var w waiter
			err := r.Scan(&w.lane, &w.rank, &w.n, &w.id)
			perLane[w.lane] = append(perLane[w.lane], w)
			return err
		})
		each(b.Queue(openLimits), func(r pgx.Rows) error {
			l, err := t.limit(r)
			room = room || err == nil && l.Reach(t.limits.Now) > 0
			return err
		})
		return t.send(within, b)
	})
	if err != nil {
		return nil, false, false, err
	}
	s.open.Store(int64(len(perLane)))
	edge := waiter{rank: math.MaxInt64, n: math.MaxInt64}
	for _, lane := range perLane {
		next = append(next, lane...)
		if last := lane[len(lane)-1]; len(lane) == deep && last.compare(edge) < 0 {
			edge, more = last, true
		}
	}
	slices.SortFunc(next, waiter.compare)
	seen, found := slices.BinarySearchFunc(next, edge, waiter.compare)
	if found {
		seen++
	}
	more = more || seen > 2*want
	return next[:min(seen, 2*want)], more, room, nil
}

// placementOf gives what a claim says of nodes as JSON.
func placementOf(q task.Claim) (labels, rivals, served string, err error) {
	l, err1 := json.Marshal(q.Labels)
	r, err2 := json.Marshal(append([]task.Rival{}, q.Rivals...))
	s, err3 := json.Marshal(append([]task.Served{}, q.Served...))
	return string(l), string(r), string(s), errors.Join(err1, err2, err3)
}

// take makes holder the holder of up to want tasks, lowest first.
func (s *Store) take(ctx context.Context, holder task.Incarnation, next []waiter, want int) ([]task.Task, error) {
	ids := make([]pgtype.UUID, len(next))
	for i, w := range next {
		ids[i] = w.id
	}
	type placed struct {
		task.Task

		at waiter
	}
	var taken []placed
	err := s.write(ctx, "claim", func(within context.Context, t *tx) error {
		taken = nil
		return t.query(within, take, []any{int64(holder), ids, want}, func(r pgx.Rows) (err error) {
			var p placed
			p.Task, _, err = decode(r, &p.at.rank, &p.at.n)
			taken = append(taken, p)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(taken, func(a, b placed) int { return a.at.compare(b.at) })
	tasks := make([]task.Task, len(taken))
	for i, p := range taken {
		tasks[i] = p.Task
	}
	return tasks, nil
}
