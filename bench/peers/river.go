package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// riverSettings are those that its documentation names for throughput.
type riverSettings struct {
	workers int
	tune    func(*river.Config)
	conns   int32 // 0: as many as the pool would have
}

// riverDefault is River as its documentation begins: 100 workers, at most ten fetches a
// second. riverTuned has the least time between fetches that it allows, and as many
// workers as Troupe has slots; the pool has room for all that fetch and complete.
var (
	riverDefault = riverSettings{workers: 100, tune: func(*river.Config) {}}
	riverTuned   = riverSettings{workers: 1000, conns: 20, tune: func(c *river.Config) {
		c.FetchCooldown, c.FetchPollInterval = river.FetchCooldownMin, river.FetchPollIntervalMin
	}}
)

type riverArgs job

func (riverArgs) Kind() string { return "job" }

// riverQueue is River in this process. Jobs come in by Insert, or in a batch by
// InsertManyFast, its fastest way.
type riverQueue[tx any] struct {
	client *river.Client[tx]
	count  func(ctx context.Context) (int, error)
	db     func() error // closes it
}

const riverEnded = "SELECT count(*) FROM river_job WHERE state = 'completed'"

func openRiverPostgres(set riverSettings) func(context.Context, place, *ledger) (queue, error) {
	return func(ctx context.Context, at place, l *ledger) (queue, error) {
		config, err := pgxpool.ParseConfig(at.Postgres)
		if err != nil {
			return nil, err
		}
		if set.conns > 0 {
			config.MaxConns = set.conns
		}
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		q := &riverQueue[pgx.Tx]{
			count: func(ctx context.Context) (n int, err error) { return n, pool.QueryRow(ctx, riverEnded).Scan(&n) },
			db:    func() error { pool.Close(); return nil },
		}
		return q, q.open(ctx, riverpgxv5.New(pool), set, l)
	}
}

// openRiverSQLite follows River's guide: one connection, since it says that it would
// stumble over its own locks otherwise; a WAL that is synced with every commit.
func openRiverSQLite(set riverSettings) func(context.Context, place, *ledger) (queue, error) {
	return func(ctx context.Context, at place, l *ledger) (queue, error) {
		db, err := sql.Open("sqlite", sqliteURL(filepath.Join(at.Dir, "river.db")))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		q := &riverQueue[*sql.Tx]{
			count: func(ctx context.Context) (n int, err error) { return n, db.QueryRowContext(ctx, riverEnded).Scan(&n) },
			db:    db.Close,
		}
		return q, q.open(ctx, riversqlite.New(db), set, l)
	}
}

func (q *riverQueue[tx]) open(ctx context.Context, driver riverdriver.Driver[tx], set riverSettings, l *ledger) error {
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, j *river.Job[riverArgs]) error {
		l.run(j.Args.N)
		return nil
	}))
	config := &river.Config{
		Logger: quiet, Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: set.workers}},
	}
	set.tune(config)
	if q.client, err = river.NewClient(driver, config); err != nil {
		return err
	}
	return q.client.Start(context.WithoutCancel(ctx))
}

func (q *riverQueue[tx]) submit(ctx context.Context, jobs []job) error {
	if len(jobs) == 1 {
		_, err := q.client.Insert(ctx, riverArgs(jobs[0]), nil)
		return err
	}
	many := make([]river.InsertManyParams, len(jobs))
	for i, j := range jobs {
		many[i].Args = riverArgs(j)
	}
	_, err := q.client.InsertManyFast(ctx, many)
	return err
}

func (q *riverQueue[tx]) ended(ctx context.Context) (int, error) { return q.count(ctx) }

func (q *riverQueue[tx]) close(ctx context.Context) error {
	return errors.Join(q.client.Stop(ctx), q.db())
}
