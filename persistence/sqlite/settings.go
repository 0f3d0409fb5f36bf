package sqlite

import (
	"context"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

func (t *tx) setQueue(ctx context.Context, c task.QueueChange) error {
	q := task.Queue{Namespace: c.Namespace, Name: c.Name}
	if err := t.conn.query(ctx, "SELECT paused, settings FROM queues WHERE namespace = ? AND name = ?",
		[]any{c.Namespace, c.Name}, func(r row) error {
			q.Paused = r.int(0) != 0
			return codec.DecodeQueue(r.blob(1), &q)
		}); err != nil {
		return err
	}
	q = c.Of(q)
	if _, err := t.conn.exec(ctx, "INSERT OR REPLACE INTO queues (namespace, name, paused, settings) VALUES (?, ?, ?, ?)",
		q.Namespace, q.Name, number(q.Paused), codec.Queue(q)); err != nil {
		return err
	}
	if c.Concurrency != nil {
		name := task.LimitName{Scope: task.OfQueue, Namespace: c.Namespace, Name: c.Name}
		if err := t.change(ctx, name, task.CeilingOf(*c.Concurrency), task.Rate{}); err != nil {
			return err
		}
	}
	if c.Paces() {
		name := task.LimitName{Scope: task.OfRate, Namespace: c.Namespace, Name: c.Name}
		l, err := t.limit(ctx, name)
		if err != nil {
			return err
		}
		if err := t.change(ctx, name, -1, c.RateOf(l.Rate)); err != nil {
			return err
		}
	}
	t.then = append(t.then, func() {
		if q.Paused {
			t.paused[queueName{c.Namespace, c.Name}] = true
		} else {
			delete(t.paused, queueName{c.Namespace, c.Name})
		}
	})
	return nil
}

func (t *tx) setKind(ctx context.Context, c task.KindChange) error {
	k := task.Kind{Namespace: c.Namespace, Name: c.Name}
	if err := t.conn.query(ctx, "SELECT settings FROM kinds WHERE namespace = ? AND name = ?",
		[]any{c.Namespace, c.Name}, func(r row) error { return codec.DecodeKind(r.blob(0), &k) }); err != nil {
		return err
	}
	k = c.Of(k)
	if _, err := t.conn.exec(ctx, "INSERT OR REPLACE INTO kinds (namespace, name, settings) VALUES (?, ?, ?)",
		k.Namespace, k.Name, codec.Kind(k)); err != nil {
		return err
	}
	if c.Concurrency == nil {
		return nil
	}
	name := task.LimitName{Scope: task.OfKind, Namespace: c.Namespace, Name: c.Name}
	return t.change(ctx, name, task.CeilingOf(*c.Concurrency), task.Rate{})
}

const kindRows = `SELECT k.namespace, k.name, k.settings, ifnull(c.ceiling, 0) FROM kinds k
	LEFT JOIN limits c ON (c.scope, c.namespace, c.name) = (6, k.namespace, k.name)
	WHERE ?1 = '' OR k.namespace = ?1 ORDER BY 1, 2`

func readKinds(ctx context.Context, c *conn, namespace string) (kinds []task.Kind, err error) {
	err = c.query(ctx, kindRows, []any{namespace}, func(r row) error {
		k := task.Kind{Namespace: r.text(0), Name: r.text(1), Concurrency: int(r.int(3) / 1000)}
		err := codec.DecodeKind(r.blob(2), &k)
		kinds = append(kinds, k)
		return err
	})
	return kinds, err
}
