package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// errLanes says that lanes are missing that tasks of a transaction are to wait in. They
// are made outside of it, so that it locks nothing of that table.
var errLanes = errors.New("lanes are missing")

// limits is what a transaction has locked of them, to be written back at its end.
type limits struct {
	task.Till
	ids map[task.LimitName]int64
}

const (
	makeLimits = `INSERT INTO troupe.limits (scope, namespace, name)
		SELECT u.* FROM unnest($1::bigint[], $2::text[], $3::text[]) AS u(scope, namespace, name) ORDER BY 1, 2, 3
		ON CONFLICT DO NOTHING`
	lockLimits = `SELECT FROM troupe.limits l JOIN unnest($1::bigint[], $2::text[], $3::text[]) AS u(scope, namespace, name)
		USING (scope, namespace, name) ORDER BY l.id FOR UPDATE OF l`
	limitColumns = `l.id, l.scope, l.namespace, l.name, coalesce(l.ceiling, -1), l.used, l.rate_count, l.rate_per,
		l.rate_burst, l.next, l.called, l.called_until, l.home,
		NOT EXISTS (SELECT FROM troupe.nodes n WHERE n.incarnation = l.home AND NOT n.gone), extract(epoch FROM clock_timestamp()) * 1000000`
	// readLimits is a statement of its own behind the lock: what those did whom we
	// waited for is seen by the next statement only.
	readLimits = "SELECT " + limitColumns + `, p.rank, p.needs
		FROM troupe.limits l JOIN unnest($1::bigint[], $2::text[], $3::text[]) AS u(scope, namespace, name)
			USING (scope, namespace, name)
		LEFT JOIN LATERAL (SELECT t.rank, t.needs FROM troupe.tasks_live t
			WHERE t.parked = l.id ORDER BY t.rank, t.n LIMIT 1) p ON true`
	saveLimits = `UPDATE troupe.limits l SET ceiling = CASE WHEN u.ceiling >= 0 THEN u.ceiling END, used = u.used,
			rate_count = u.rate_count, rate_per = u.rate_per, rate_burst = u.rate_burst, next = u.next,
			called = u.called, called_until = u.called_until, home = u.home,
			needs = (SELECT t.needs FROM troupe.tasks_live t WHERE t.parked = l.id ORDER BY t.rank, t.n LIMIT 1)
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
				$9::bigint[], $10::bigint[])
			AS u(id, ceiling, used, rate_count, rate_per, rate_burst, next, called, called_until, home) WHERE l.id = u.id`
)

// limitsOf lists the limits that mutations are about.
func limitsOf(ms []task.Mutation) []task.LimitName {
	names := map[task.LimitName]bool{}
	for i := range ms {
		m := &ms[i]
		for _, tokens := range [][]task.Token{m.Take, m.Give} {
			for _, k := range tokens {
				names[k.Limit] = true
			}
		}
		switch m.Op {
		case task.SetPool:
			names[task.LimitName{Scope: task.OfPool, Name: m.Pool.Name}] = true
		case task.SetQueue:
			names[task.LimitName{Scope: task.OfQueue, Namespace: m.Queue.Namespace, Name: m.Queue.Name}] = m.Queue.Concurrency != nil
			names[task.LimitName{Scope: task.OfRate, Namespace: m.Queue.Namespace, Name: m.Queue.Name}] = m.Queue.Paces()
		case task.SetKind:
			names[task.LimitName{Scope: task.OfKind, Namespace: m.Kind.Namespace, Name: m.Kind.Name}] = m.Kind.Concurrency != nil
		default:
		}
	}
	all := make([]task.LimitName, 0, len(names))
	for name, wanted := range names {
		if wanted {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, task.LimitName.Compare)
	return all
}

// lockLimits locks limits, making those there are not, and reads how they stand.
func (t *tx) lockLimits(ctx context.Context, names []task.LimitName) error {
	if len(names) == 0 {
		return nil
	}
	scopes, namespaces, texts := make([]int64, len(names)), make([]string, len(names)), make([]string, len(names))
	for i, n := range names {
		scopes[i], namespaces[i], texts[i] = int64(n.Scope), n.Namespace, n.Name
	}
	b := t.batch()
	b.Queue(makeLimits, scopes, namespaces, texts)
	b.Queue(lockLimits, scopes, namespaces, texts)
	each(b.Queue(readLimits, scopes, namespaces, texts), func(r pgx.Rows) error {
		var rank, needs pgtype.Int8
		l, err := t.limit(r, &rank, &needs)
		if err == nil && rank.Valid {
			l.First, l.Needs = rank.Int64, task.Quantity(needs.Int64)
		}
		return err
	})
	if err := t.send(ctx, b); err != nil {
		return err
	}
	if len(t.limits.ids) < len(names) {
		return errAgain // one was forgotten before it was locked
	}
	return nil
}

// limit reads a row of limitColumns into what the transaction has locked.
func (t *tx) limit(r pgx.Rows, more ...any) (*task.Limit, error) {
	var id, ceiling, used, count, per, burst, next, called, until, home int64
	var alone bool
	var scope int16
	var now float64
	var name task.LimitName
	if err := r.Scan(append([]any{
		&id, &scope, &name.Namespace, &name.Name, &ceiling, &used, &count, &per, &burst, &next, &called, &until, &home, &alone, &now,
	}, more...)...); err != nil {
		return nil, err
	}
	name.Scope = task.LimitScope(scope & 15)
	l := task.NewLimit()
	l.Ceiling, l.Used = task.Quantity(ceiling), task.Quantity(used)
	l.Rate = task.Rate{Count: int(count), Per: time.Duration(per) * time.Microsecond, Burst: int(burst)}
	l.Next, l.Called, l.CalledUntil = codec.Micros(next), task.Quantity(called), codec.Micros(until)
	l.Home, l.Alone = task.Incarnation(home), alone
	if t.limits == nil {
		t.limits = &limits{Till: task.Till{Limits: map[task.LimitName]*task.Limit{}}, ids: map[task.LimitName]int64{}}
	}
	t.limits.Now = codec.Micros(int64(now))
	t.limits.Limits[name], t.limits.ids[name] = l, id
	return l, nil
}

// storeLimits writes back what was locked.
func (t *tx) storeLimits(b *pgx.Batch) {
	if t.limits == nil {
		return
	}
	var id, ceiling, used, count, per, burst, next, called, until, home []int64
	for name, l := range t.limits.Limits {
		id, ceiling, used = append(id, t.limits.ids[name]), append(ceiling, int64(l.Ceiling)), append(used, int64(l.Used))
		count, per, burst = append(count, int64(l.Rate.Count)), append(per, l.Rate.Per.Microseconds()), append(burst, int64(l.Rate.Burst))
		next, called, until = append(next, l.Next.UnixMicro()), append(called, int64(l.Called)), append(until, l.CalledUntil.UnixMicro())
		home = append(home, int64(l.Home))
	}
	b.Queue(saveLimits, id, ceiling, used, count, per, burst, next, called, until, home)
}

const park = `WITH u AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
		$6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
	AS u(id, namespace, of_holder, of_attempt, of_state, first, lane, parked, needs, home, rank, wake_at, bound, bound_until))
	UPDATE troupe.tasks_live t SET holder = 0, lane = nullif(u.lane, 0), parked = nullif(u.parked, 0), needs = nullif(u.needs, 0),
		home = nullif(u.home, 0), rank = u.rank, wake_at = nullif(u.wake_at, 0), called = false,
		bound = nullif(u.bound, 0), bound_until = nullif(u.bound_until, 0)` + guarded

// starts saves what takes of limits, and parks or binds what cannot have it. Which is which
// is decided on how the limits stand, behind all that this round gives back.
func (a *appending) starts(ctx context.Context, which []int) error {
	if len(which) == 0 {
		return nil
	}
	var granted, parked []int
	short := map[int]shortage{}
	for _, i := range which {
		token, inVain, ok := a.limits.Take(a.ms[i].Ask())
		if ok {
			granted = append(granted, i)
			continue
		}
		parked = append(parked, i)
		if token.Limit.Scope == task.OfSticky {
			bound := a.ms[i].Task.Bind(token.Home, a.limits.Now)
			if a.store.waits(&bound).lane == 0 {
				*a.missing = append(*a.missing, bound.Lane())
			}
			short[i] = shortage{Token: token, bound: bound}
			continue
		}
		on := a.limits.ids[token.Limit]
		if inVain {
			on = -on
		}
		short[i] = shortage{Token: token, on: on}
	}
	if len(*a.missing) > 0 {
		return errLanes
	}
	written := make(map[task.ID]bool, len(which))
	note := noteIn(written)
	b := a.batch()
	a.queueSaves(b, saveLive, granted, written)
	a.queueParks(b, parked, short, note)
	if err := a.send(ctx, b); err != nil {
		return err
	}
	refused := granted
	for _, i := range granted {
		if !written[a.ms[i].Task.ID] && a.ms[i].Task.State == task.Running {
			a.limits.Give(a.ms[i].Task.Tokens)
		}
	}
	for _, i := range parked {
		if written[a.ms[i].Task.ID] {
			a.out[i] = task.Outcome{Err: task.ErrParked, Limit: short[i].Limit, Bound: short[i].bound.Bound}
		} else {
			refused = append(refused, i)
		}
	}
	return a.saved(ctx, refused, written)
}

// shortage is what a task could not have, and what stands in its row for it.
type shortage struct {
	task.Token
	on    int64
	bound task.Task // instead, of a sticky key
}

func (a *appending) queueParks(b *pgx.Batch, which []int, short map[int]shortage, note func(pgx.Rows) error) {
	if len(which) == 0 {
		return
	}
	n := len(which)
	which = a.byTask(which)
	id, namespace := make([]pgtype.UUID, n), make([]string, n)
	ints := make([]int64, 12*n)
	column := func(c int) []int64 { return ints[c*n : (c+1)*n : (c+1)*n] }
	ofHolder, ofAttempt, ofState, first := column(0), column(1), column(2), column(3)
	parked, amount, home, rank, wake := column(4), column(5), column(6), column(7), column(8)
	lane, bound, until := column(9), column(10), column(11)
	for at, i := range which {
		m := &a.ms[i]
		before := m.Task
		before.State, before.Holder = task.Queued, 0
		w := a.store.waits(&before)
		id[at], namespace[at] = uuid(m.Task.ID), m.Task.Namespace
		ofHolder[at], ofAttempt[at], ofState[at] = int64(m.Guard.Holder), int64(m.Guard.Attempt), int64(m.Guard.State)
		first[at] = firstOf(m.Events)
		if to := short[i].bound; to.Bound != 0 {
			w = a.store.waits(&to)
			lane[at], rank[at], wake[at] = w.lane, w.rank, w.wake
			bound[at], until[at] = int64(to.Bound), to.BoundUntil.UnixMicro()
			continue
		}
		parked[at], amount[at] = short[i].on, int64(short[i].Amount)
		home[at], rank[at], wake[at] = w.lane, w.rank, w.wake
	}
	each(b.Queue(park, id, namespace, ofHolder, ofAttempt, ofState, first, lane, parked, amount, home, rank, wake, bound, until), note)
}

const (
	// openLimits leaves out rates that let nobody go now: there may be one for each
	// of many keys.
	openLimits = "SELECT " + limitColumns + ` FROM troupe.limits l
		WHERE needs IS NOT NULL AND (ceiling IS NULL OR used + needs <= ceiling) AND (rate_count = 0
			OR next <= extract(epoch FROM clock_timestamp()) * 1000000 + rate_per / rate_count * (
				CASE WHEN rate_burst > 0 THEN rate_burst ELSE greatest(1, rate_count * 100000 / rate_per) END - 1))
		ORDER BY id LIMIT 100`
	lockOpen    = openLimits + " FOR UPDATE SKIP LOCKED"
	firstParked = "SELECT id, needs FROM troupe.tasks_live WHERE parked = $1 ORDER BY rank, n LIMIT $2"
	unpark      = `UPDATE troupe.tasks_live SET lane = home, parked = NULL, needs = NULL, home = NULL, called = true
		WHERE id = ANY($1::uuid[]) AND parked IS NOT NULL`
)

// call lets parked tasks try again for which there is room now. Limits that
// somebody has locked are left to the next call.
func (s *Store) call(ctx context.Context) error {
	return s.write(ctx, "call parked tasks", func(within context.Context, t *tx) error {
		if err := t.query(within, lockOpen, nil, func(r pgx.Rows) error {
			_, err := t.limit(r)
			return err
		}); err != nil || t.limits == nil {
			return err
		}
		parked := map[task.LimitName][]pgtype.UUID{}
		asks := map[task.LimitName][]task.Quantity{}
		b := t.batch()
		for name, l := range t.limits.Limits {
			each(b.Queue(firstParked, t.limits.ids[name], l.Reach(t.limits.Now)), func(r pgx.Rows) error {
				var id pgtype.UUID
				var needs int64
				err := r.Scan(&id, &needs)
				parked[name], asks[name] = append(parked[name], id), append(asks[name], task.Quantity(needs))
				return err
			})
		}
		if err := t.send(within, b); err != nil {
			return err
		}
		var called []pgtype.UUID
		for name, l := range t.limits.Limits {
			called = append(called, parked[name][:l.Call(t.limits.Now, asks[name])]...)
		}
		slices.SortFunc(called, func(a, b pgtype.UUID) int { return slices.Compare(a.Bytes[:], b.Bytes[:]) })
		return t.exec(within, unpark, called)
	})
}

const rates = "SELECT " + limitColumns + " FROM troupe.limits l WHERE l.rate_count > 0 AND l.needs IS NOT NULL"

// opens reads when a rate lets the next parked task go, which moves next forward.
func (t *tx) opens(b *pgx.Batch, next *time.Time) {
	each(b.Queue(rates), func(r pgx.Rows) error {
		l, err := t.limit(r)
		if err != nil {
			return err
		}
		l.First = 0 // somebody
		if at := l.Opens(t.limits.Now); next.IsZero() || at.Before(*next) {
			*next = at
		}
		return nil
	})
}

// change sets a limit, which is locked. Who asked for more than there was is asked
// again.
func (t *tx) change(b *pgx.Batch, name task.LimitName, ceiling task.Quantity, rate task.Rate) {
	t.limits.Limits[name].Change(ceiling, rate)
	b.Queue("UPDATE troupe.tasks_live SET parked = -parked WHERE parked = $1", -t.limits.ids[name])
}

func (a *appending) setPool(ctx context.Context, c task.PoolChange) error {
	ceiling := task.Quantity(-1)
	if c.Capacity != nil {
		ceiling = *c.Capacity
	}
	b := a.batch()
	a.change(b, task.LimitName{Scope: task.OfPool, Name: c.Name}, ceiling, task.Rate{})
	return a.send(ctx, b)
}

const (
	readPools = "SELECT name, ceiling, used FROM troupe.limits WHERE scope = 1 AND ceiling IS NOT NULL"
	// unusedKeys leaves alone what somebody is taking of just now.
	unusedKeys = `DELETE FROM troupe.limits WHERE id IN (SELECT id FROM troupe.limits l
		WHERE (scope IN (3, 5) AND used = 0 OR (scope = 7 OR scope = 8 AND used = 0) AND next <= extract(epoch FROM clock_timestamp()) * 1000000)
			AND needs IS NULL
			AND NOT EXISTS (SELECT FROM troupe.tasks_live t WHERE t.parked IN (l.id, -l.id))
		LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1`
)
