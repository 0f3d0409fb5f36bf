package sqlite

import (
	"context"
	"time"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// limit is a limit as this transaction has it. It is written back at its end.
type limit struct {
	task.Limit
	id int64
}

const (
	makeLimit    = "INSERT INTO limits (scope, namespace, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
	limitColumns = "id, ifnull(ceiling, -1), used, rate_count, rate_per, rate_burst, next, called, called_until, home, home NOT IN (SELECT incarnation FROM nodes WHERE left = 0)"
	findLimit    = "SELECT " + limitColumns + ` FROM limits WHERE scope = ? AND namespace = ? AND name = ?`
	saveLimit    = `UPDATE limits SET ceiling = iif(?2 < 0, NULL, ?2), used = ?3, rate_count = ?4, rate_per = ?5, rate_burst = ?6,
		next = ?7, called = ?8, called_until = ?9, home = ?10 WHERE id = ?1`
	firstParked = `SELECT rank, needs FROM tasks INDEXED BY parked WHERE parked = ? ORDER BY rank, n LIMIT 1`
	park        = `UPDATE tasks SET holder = 0, lane = NULL, rank = ?, wake_at = ?, parked = ?, needs = ?, called = 0 WHERE id = ?`
)

// limit finds a limit, or makes it.
func (t *tx) limit(ctx context.Context, name task.LimitName) (*limit, error) {
	if l, ok := t.limits[name]; ok {
		return l, nil
	}
	l, err := t.findLimit(ctx, name)
	if l == nil && err == nil {
		if _, err = t.conn.exec(ctx, makeLimit, int64(name.Scope), name.Namespace, name.Name); err == nil {
			l, err = t.findLimit(ctx, name)
		}
	}
	if err != nil {
		return nil, err
	}
	if t.limits == nil {
		t.limits = map[task.LimitName]*limit{}
	}
	t.limits[name] = l
	return l, t.refresh(ctx, l)
}

func (t *tx) findLimit(ctx context.Context, name task.LimitName) (l *limit, err error) {
	err = t.conn.query(ctx, findLimit, []any{int64(name.Scope), name.Namespace, name.Name}, func(r row) error {
		l = &limit{id: r.int(0)}
		l.Limit = limitOf(r, 1)
		return nil
	})
	return l, err
}

// limitOf reads a limit from the column at on.
func limitOf(r row, at int) task.Limit {
	l := *task.NewLimit()
	l.Ceiling, l.Used = task.Quantity(r.int(at)), task.Quantity(r.int(at+1))
	l.Rate = rateOf(r, at+2)
	l.Next, l.Called, l.CalledUntil = codec.Micros(r.int(at+5)), task.Quantity(r.int(at+6)), codec.Micros(r.int(at+7))
	l.Home, l.Alone = task.Incarnation(r.int(at+8)), r.int(at+9) != 0
	return l
}

func rateOf(r row, at int) task.Rate {
	return task.Rate{Count: int(r.int(at)), Per: time.Duration(r.int(at+1)) * time.Microsecond, Burst: int(r.int(at + 2))}
}

// refresh looks who is first of those parked on a limit.
func (t *tx) refresh(ctx context.Context, l *limit) error {
	l.First, l.Needs = task.NobodyParked, 0
	return t.conn.query(ctx, firstParked, []any{l.id}, func(r row) error {
		l.First, l.Needs = r.int(0), task.Quantity(r.int(1))
		return nil
	})
}

func (t *tx) till(ctx context.Context, tokens []task.Token) (*task.Till, error) {
	till := &task.Till{Now: time.Now(), Limits: map[task.LimitName]*task.Limit{}}
	for _, k := range tokens {
		l, err := t.limit(ctx, k.Limit)
		if err != nil {
			return nil, err
		}
		till.Limits[k.Limit] = &l.Limit
	}
	return till, nil
}

// takes takes what a save asks for, or parks its task.
func (t *tx) takes(ctx context.Context, m *task.Mutation) (out task.Outcome, err error) {
	if _, out.Err, err = t.guarded(ctx, m); out.Err != nil || err != nil {
		return out, err
	}
	till, err := t.till(ctx, m.Take)
	if err != nil {
		return out, err
	}
	short, inVain, ok := till.Take(m.Ask())
	if ok {
		return out, nil
	}
	if short.Limit.Scope == task.OfSticky {
		bound := m.Task.Bind(short.Home, till.Now)
		return task.Outcome{Err: task.ErrParked, Limit: short.Limit, Bound: short.Home}, t.bind(ctx, &bound)
	}
	before := m.Task
	before.State, before.Holder = task.Queued, 0
	var wake any
	if at := before.WakeAt(); !at.IsZero() {
		wake = at.UnixMicro()
	}
	on := t.limits[short.Limit].id
	if inVain {
		on = -on
	}
	_, err = t.conn.exec(ctx, park, m.Task.Rank(), wake, on, int64(short.Amount), m.Task.ID[:])
	return task.Outcome{Err: task.ErrParked, Limit: short.Limit}, err
}

const bind = `UPDATE tasks SET holder = 0, lane = ?, rank = ?, wake_at = ?, bound = ?, bound_until = ?, parked = NULL,
	needs = NULL, called = 0 WHERE id = ?`

// bind has a task wait for the node that has its sticky key.
func (t *tx) bind(ctx context.Context, k *task.Task) error {
	lane, rank, wake, err := t.waits(ctx, k)
	if err != nil {
		return err
	}
	_, err = t.conn.exec(ctx, bind, lane, rank, wake, int64(k.Bound), k.BoundUntil.UnixMicro(), k.ID[:])
	return err
}

// gives gives back what a save says that its task had, or makes way for those
// parked behind it.
func (t *tx) gives(ctx context.Context, tokens []task.Token) error {
	till, err := t.till(ctx, tokens)
	if err != nil {
		return err
	}
	till.Give(tokens)
	for _, k := range tokens {
		if k.Amount == 0 {
			if err := t.refresh(ctx, t.limits[k.Limit]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) storeLimits(ctx context.Context) error {
	for _, l := range t.limits {
		if _, err := t.conn.exec(ctx, saveLimit, l.id, int64(l.Ceiling), int64(l.Used), int64(l.Rate.Count), l.Rate.Per.Microseconds(),
			int64(l.Rate.Burst), l.Next.UnixMicro(), int64(l.Called), l.CalledUntil.UnixMicro(), int64(l.Home)); err != nil {
			return err
		}
	}
	return nil
}

const (
	// waitedFor lists the limits that somebody is parked on.
	waitedFor = `WITH RECURSIVE some(id) AS (
			SELECT min(parked) FROM tasks INDEXED BY parked WHERE parked > 0
			UNION ALL SELECT (SELECT min(parked) FROM tasks INDEXED BY parked WHERE parked > some.id) FROM some WHERE some.id IS NOT NULL) `
	// openLimits leaves out those without room. Of rates there may be one for each
	// of many keys.
	openLimits = waitedFor + `SELECT scope, namespace, name FROM some JOIN limits USING (id)
		WHERE (ceiling IS NULL OR used < ceiling) AND (rate_count = 0 OR next <= ?1 + rate_per / rate_count * (
			iif(rate_burst > 0, rate_burst, max(1, rate_count * 100000 / rate_per)) - 1))`
	parkedRows = "SELECT " + columns + ", needs FROM tasks INDEXED BY parked WHERE parked = ? ORDER BY rank, n LIMIT ?"
	unpark     = "UPDATE tasks SET lane = ?, parked = NULL, needs = NULL, called = 1 WHERE id = ?"
)

// call lets parked tasks try again for which there is room now.
func (t *tx) call(ctx context.Context) error {
	var names []task.LimitName
	now := time.Now()
	err := t.conn.query(ctx, openLimits, []any{now.UnixMicro()}, func(r row) error {
		names = append(names, task.LimitName{Scope: task.LimitScope(r.int(0) & 15), Namespace: r.text(1), Name: r.text(2)})
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		l, err := t.limit(ctx, name)
		if err != nil {
			return err
		}
		var parked []task.Task
		var asks []task.Quantity
		err = t.conn.query(ctx, parkedRows, []any{l.id, int64(l.Reach(now))}, func(r row) error {
			k, err := decode(r)
			parked, asks = append(parked, k), append(asks, task.Quantity(r.int(len(r)-1)))
			return err
		})
		if err != nil {
			return err
		}
		parked = parked[:l.Call(now, asks)]
		for i := range parked {
			k := &parked[i]
			k.Parked = nil
			lane, _, _, err := t.waits(ctx, k)
			if err != nil {
				return err
			}
			if _, err := t.conn.exec(ctx, unpark, lane, k.ID[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

const rates = waitedFor + "SELECT " + limitColumns + " FROM some JOIN limits USING (id) WHERE rate_count > 0"

// opens is when a rate lets the next parked task go; zero: none does.
func opens(ctx context.Context, c *conn) (at time.Time, err error) {
	now := time.Now()
	err = c.query(ctx, rates, nil, func(r row) error {
		l := limitOf(r, 1)
		l.First = 0 // somebody
		if opens := l.Opens(now); at.IsZero() || opens.Before(at) {
			at = opens
		}
		return nil
	})
	return at, err
}

func (t *tx) setPool(ctx context.Context, c task.PoolChange) error {
	ceiling := task.Quantity(-1)
	if c.Capacity != nil {
		ceiling = *c.Capacity
	}
	return t.change(ctx, task.LimitName{Scope: task.OfPool, Name: c.Name}, ceiling, task.Rate{})
}

// change sets a limit. Who asked for more than there was is asked again.
func (t *tx) change(ctx context.Context, name task.LimitName, ceiling task.Quantity, rate task.Rate) error {
	l, err := t.limit(ctx, name)
	if err != nil {
		return err
	}
	l.Change(ceiling, rate)
	if _, err := t.conn.exec(ctx, "UPDATE tasks SET parked = ?1 WHERE parked = -?1", l.id); err != nil {
		return err
	}
	return t.refresh(ctx, l)
}

const (
	poolRows   = "SELECT name, ceiling, used FROM limits WHERE scope = 1 AND ceiling IS NOT NULL ORDER BY name"
	unusedKeys = `DELETE FROM limits WHERE id IN (SELECT id FROM limits l WHERE (scope IN (3, 5) AND used = 0 OR (scope = 7 OR scope = 8 AND used = 0) AND next <= ?)
		AND NOT EXISTS (SELECT 1 FROM tasks INDEXED BY parked WHERE parked = l.id)
		AND NOT EXISTS (SELECT 1 FROM tasks INDEXED BY parked WHERE parked = -l.id) LIMIT ?)`
)

func readPools(ctx context.Context, c *conn) ([]task.Pool, error) {
	var pools []task.Pool
	err := c.query(ctx, poolRows, nil, func(r row) error {
		pools = append(pools, task.Pool{Name: r.text(0), Capacity: task.Quantity(r.int(1)), Used: task.Quantity(r.int(2))})
		return nil
	})
	return pools, err
}
