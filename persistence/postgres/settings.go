package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// A row of settings is made, then locked, then written: of two who change it at
// once none takes back what the other did.
const (
	makeQueue = "INSERT INTO troupe.queues (namespace, name, paused) VALUES ($1, $2, false) ON CONFLICT DO NOTHING"
	lockQueue = "SELECT paused, settings FROM troupe.queues WHERE namespace = $1 AND name = $2 FOR UPDATE"
	saveQueue = "UPDATE troupe.queues SET paused = $3, settings = $4 WHERE namespace = $1 AND name = $2"
	makeKind  = "INSERT INTO troupe.kinds (namespace, name, settings) VALUES ($1, $2, '') ON CONFLICT DO NOTHING"
	lockKind  = "SELECT settings FROM troupe.kinds WHERE namespace = $1 AND name = $2 FOR UPDATE"
	saveKind  = "UPDATE troupe.kinds SET settings = $3 WHERE namespace = $1 AND name = $2"
)

func (a *appending) setQueue(ctx context.Context, c task.QueueChange) error {
	q := task.Queue{Namespace: c.Namespace, Name: c.Name}
	b := a.batch()
	b.Queue(makeQueue, c.Namespace, c.Name)
	each(b.Queue(lockQueue, c.Namespace, c.Name), func(r pgx.Rows) error {
		var settings []byte
		if err := r.Scan(&q.Paused, &settings); err != nil {
			return err
		}
		return codec.DecodeQueue(settings, &q)
	})
	if err := a.send(ctx, b); err != nil {
		return err
	}
	q = c.Of(q)
	b = a.batch()
	b.Queue(saveQueue, q.Namespace, q.Name, q.Paused, codec.Queue(q))
	if c.Concurrency != nil {
		name := task.LimitName{Scope: task.OfQueue, Namespace: c.Namespace, Name: c.Name}
		a.change(b, name, task.CeilingOf(*c.Concurrency), task.Rate{})
	}
	if c.Paces() {
		name := task.LimitName{Scope: task.OfRate, Namespace: c.Namespace, Name: c.Name}
		a.change(b, name, -1, c.RateOf(a.limits.Limits[name].Rate))
	}
	return a.send(ctx, b)
}

func (a *appending) setKind(ctx context.Context, c task.KindChange) error {
	k := task.Kind{Namespace: c.Namespace, Name: c.Name}
	b := a.batch()
	b.Queue(makeKind, c.Namespace, c.Name)
	each(b.Queue(lockKind, c.Namespace, c.Name), func(r pgx.Rows) error {
		var settings []byte
		if err := r.Scan(&settings); err != nil {
			return err
		}
		return codec.DecodeKind(settings, &k)
	})
	if err := a.send(ctx, b); err != nil {
		return err
	}
	b = a.batch()
	b.Queue(saveKind, c.Namespace, c.Name, codec.Kind(c.Of(k)))
	if c.Concurrency != nil {
		name := task.LimitName{Scope: task.OfKind, Namespace: c.Namespace, Name: c.Name}
		a.change(b, name, task.CeilingOf(*c.Concurrency), task.Rate{})
	}
	return a.send(ctx, b)
}

const (
	readQueues = `SELECT q.namespace, q.name, q.paused, q.settings, coalesce(c.ceiling, 0), coalesce(r.rate_count, 0),
			coalesce(r.rate_per, 0), coalesce(r.rate_burst, 0)
		FROM troupe.queues q
		LEFT JOIN troupe.limits c ON (c.scope, c.namespace, c.name) = (2, q.namespace, q.name)
		LEFT JOIN troupe.limits r ON (r.scope, r.namespace, r.name) = (4, q.namespace, q.name)
		WHERE $1 = '' OR q.namespace = $1`
	readKinds = `SELECT k.namespace, k.name, k.settings, coalesce(c.ceiling, 0) FROM troupe.kinds k
		LEFT JOIN troupe.limits c ON (c.scope, c.namespace, c.name) = (6, k.namespace, k.name)
		WHERE $1 = '' OR k.namespace = $1`
)

func (t *tx) queueSettings(b *pgx.Batch, namespace string, o *task.Overview) {
	each(b.Queue(readQueues, namespace), func(r pgx.Rows) error {
		var q task.Queue
		var settings []byte
		var concurrency, count, per, burst int64
		if err := r.Scan(&q.Namespace, &q.Name, &q.Paused, &settings, &concurrency, &count, &per, &burst); err != nil {
			return err
		}
		q.Concurrency = int(concurrency / 1000)
		q.Rate = task.Rate{Count: int(count), Per: time.Duration(per) * time.Microsecond, Burst: int(burst)}
		err := codec.DecodeQueue(settings, &q)
		o.Queues = append(o.Queues, q)
		return err
	})
	each(b.Queue(readKinds, namespace), func(r pgx.Rows) error {
		var k task.Kind
		var settings []byte
		var concurrency int64
		if err := r.Scan(&k.Namespace, &k.Name, &settings, &concurrency); err != nil {
			return err
		}
		k.Concurrency = int(concurrency / 1000)
		err := codec.DecodeKind(settings, &k)
		o.Kinds = append(o.Kinds, k)
		return err
	})
}
