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
	makeLimit = "INSERT INTO limits (scope, namespace, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
	findLimit = `SELECT id, ifnull(ceiling, -1), used, rate_count, rate_per, next, called, called_until
		FROM limits WHERE scope = ? AND namespace = ? AND name = ?`
	saveLimit = `UPDATE limits SET ceiling = iif(?2 < 0, NULL, ?2), used = ?3, rate_count = ?4, rate_per = ?5, next = ?6,
		called = ?7, called_until = ?8 WHERE id = ?1`
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
	l.Rate = task.Rate{Count: int(r.int(at + 2)), Per: time.Duration(r.int(at+3)) * time.Microsecond}
	l.Next, l.Called, l.CalledUntil = codec.Micros(r.int(at+4)), task.Quantity(r.int(at+5)), codec.Micros(r.int(at+6))
	return l
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
func (t *tx) takes(ctx context.Context, m task.Mutation) (out task.Outcome, err error) {
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
			l.Next.UnixMicro(), int64(l.Called), l.CalledUntil.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

const (
	// waitedFor lists the limits that somebody is parked on.
	waitedFor = `WITH RECURSIVE some(id) AS (
			SELECT min(parked) FROM tasks INDEXED BY parked WHERE parked > 0
			UNION ALL SELECT (SELECT min(parked) FROM tasks INDEXED BY parked WHERE parked > some.id) FROM some WHERE some.id IS NOT NULL)
		SELECT scope, namespace, name FROM some JOIN limits USING (id)
			WHERE ceiling IS NULL OR used < ceiling`
	parkedRows = "SELECT " + columns + ", needs FROM tasks INDEXED BY parked WHERE parked = ? ORDER BY rank, n LIMIT ?"
	unpark     = "UPDATE tasks SET lane = ?, parked = NULL, needs = NULL, called = 1 WHERE id = ?"
)

// call lets parked tasks try again for which there is room now.
func (t *tx) call(ctx context.Context) error {
	var names []task.LimitName
	err := t.conn.query(ctx, waitedFor, nil, func(r row) error {
		names = append(names, task.LimitName{Scope: task.LimitScope(r.int(0) & 7), Namespace: r.text(1), Name: r.text(2)})
		return nil
	})
	if err != nil {
		return err
	}
	now := time.Now()
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
		for _, k := range parked[:l.Call(now, asks)] {
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

const rates = `SELECT id, ifnull(ceiling, -1), used, rate_count, rate_per, next, called, called_until FROM limits WHERE rate_count > 0`

// opens is when a rate lets the next parked task go; zero: none does.
func opens(ctx context.Context, c *conn) (at time.Time, err error) {
	now := time.Now()
	var found []limit
	if err := c.query(ctx, rates, nil, func(r row) error {
		found = append(found, limit{id: r.int(0), Limit: limitOf(r, 1)})
		return nil
	}); err != nil {
		return time.Time{}, err
	}
	for _, l := range found {
		if err := c.query(ctx, firstParked, []any{l.id}, func(r row) error {
			l.First = r.int(0)
			return nil
		}); err != nil {
			return time.Time{}, err
		}
		if opens := l.Opens(now); !opens.IsZero() && (at.IsZero() || opens.Before(at)) {
			at = opens
		}
	}
	return at, nil
}

func (t *tx) setQueue(ctx context.Context, c task.QueueChange) error {
	if _, err := t.conn.exec(ctx, "INSERT INTO queues (namespace, name, paused) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
		c.Namespace, c.Name); err != nil {
		return err
	}
	if c.Concurrency != nil {
		name := task.LimitName{Scope: task.OfQueue, Namespace: c.Namespace, Name: c.Name}
		if err := t.change(ctx, name, task.CeilingOf(*c.Concurrency), task.Rate{}); err != nil {
			return err
		}
	}
	if c.Rate != nil {
		if err := t.change(ctx, task.LimitName{Scope: task.OfRate, Namespace: c.Namespace, Name: c.Name}, -1, *c.Rate); err != nil {
			return err
		}
	}
	if c.Paused == nil {
		return nil
	}
	t.then = append(t.then, func() {
		if *c.Paused {
			t.paused[queueName{c.Namespace, c.Name}] = true
		} else {
			delete(t.paused, queueName{c.Namespace, c.Name})
		}
	})
	_, err := t.conn.exec(ctx, "UPDATE queues SET paused = ? WHERE namespace = ? AND name = ?", number(*c.Paused), c.Namespace, c.Name)
	return err
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
	unusedKeys = `DELETE FROM limits WHERE id IN (SELECT id FROM limits l WHERE scope IN (3, 5) AND used = 0
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
