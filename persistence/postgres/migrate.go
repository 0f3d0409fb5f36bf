package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// migrating is the key of the advisory lock that lets one node migrate at a time.
	migrating    = 0x7472_6f75_7065 // "troupe"
	migrateAgain = 50 * time.Millisecond
	// lockNotAvailable is what a statement ends with that waits longer than lock_timeout.
	lockNotAvailable = "55P03"
)

// migrate sees to it that we can work with the schema. One that is older than we
// know is brought up to date or, unless that may be, refused. One that is newer
// is used as it is unless it says that it is too new: so nodes of two versions
// can work on it while one takes the other's place.
func migrate(ctx context.Context, config *pgx.ConnConfig, log *slog.Logger, may bool) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return migrateBy(ctx, config, files, log, may)
}

func migrateBy(ctx context.Context, config *pgx.ConnConfig, files fs.FS, log *slog.Logger, may bool) (err error) {
	config = config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler may give each statement another session
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSlog(log), goose.WithDisableGlobalRegistry(true), goose.WithTableName("troupe.migrations"))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	sources := provider.ListSources()
	known := sources[len(sources)-1].Version
	current, err := fits(ctx, db, log, known)
	switch {
	case err != nil || current >= known:
		return err
	case !may && current == 0:
		return fmt.Errorf("%w: there is none; run troupe migrate", ErrSchema)
	case !may:
		return fmt.Errorf("%w: it has version %d, this troupe needs %d; run troupe migrate", ErrSchema, current, known)
	}
	unlock, err := lockSchema(ctx, config)
	if err != nil {
		return fmt.Errorf("lock the schema: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	// Another may have done it meanwhile, and more than we know.
	if current, err = fits(ctx, db, log, known); err != nil || current >= known {
		return err
	}
	if _, err := db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS troupe"); err != nil {
		return fmt.Errorf("make the schema troupe: %w", err)
	}
	if err := up(ctx, log, provider); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	log.InfoContext(ctx, "schema migrated", "from", current, "to", known)
	return nil
}

// fits gives the version of the schema, 0 where there is none, and an error if
// it is too new for who knows no version after known.
func fits(ctx context.Context, db *sql.DB, log *slog.Logger, known int64) (current int64, err error) {
	var there bool
	err = db.QueryRowContext(ctx, "SELECT to_regclass('troupe.migrations') IS NOT NULL").Scan(&there)
	if err == nil && there {
		err = db.QueryRowContext(ctx, "SELECT max(version_id) FROM troupe.migrations").Scan(&current)
	}
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if current <= known {
		return current, nil
	}
	var least int64
	if err := db.QueryRowContext(ctx, "SELECT least FROM troupe.compatibility").Scan(&least); err != nil {
		return 0, fmt.Errorf("read who may use the schema: %w", err)
	}
	if least > known {
		return 0, fmt.Errorf("%w: it has version %d and asks for a troupe that knows %d, this one knows none after %d; use a newer troupe",
			ErrSchema, current, least, known)
	}
	log.InfoContext(ctx, "the schema is newer than this troupe, which may use it", "version", current, "known", known, "least", least)
	return current, nil
}

// lockSchema keeps others from migrating. It asks again and again: who waits in
// the server has a snapshot, for whose end an index that is made concurrently
// waits in turn.
func lockSchema(ctx context.Context, config *pgx.ConnConfig) (unlock func() error, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	unlock = func() error { return conn.Close(context.WithoutCancel(ctx)) }
	for {
		// A lock of a transaction, not of a session, which a pooler would not keep.
		locked, err := tryLock(ctx, conn)
		if err != nil {
			return nil, errors.Join(err, unlock())
		}
		if locked {
			return unlock, nil
		}
		pause := time.NewTimer(migrateAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, errors.Join(ctx.Err(), unlock())
		}
	}
}

// tryLock leaves its transaction open if it got the lock.
func tryLock(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	if _, err := tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		return false, err
	}
	// Simply asked: what is otherwise left open of the question keeps its snapshot.
	err = tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", pgx.QueryExecModeSimpleProtocol, int64(migrating)).Scan(&locked)
	if err != nil || locked {
		return locked, err
	}
	return false, tx.Rollback(ctx)
}

// up migrates. Where nodes are at work, a change of a table may meet their
// transactions, and be the one that has to give way. It does so for as long as
// somebody keeps the table, a backup say: that ends, and meanwhile nobody waits.
func up(ctx context.Context, log *slog.Logger, provider *goose.Provider) error {
	for try, overtook := 1, 0; ; try++ {
		_, err := provider.Up(ctx)
		if overtaken(err) {
			overtook++
		}
		if err == nil || overtook == tries || !overtaken(err) && sqlState(err) != lockNotAvailable {
			return err
		}
		level := slog.LevelDebug
		if try == tries {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "the migration waits for those who use the tables", "tries", try, "error", err)
		pause := time.NewTimer(migrateAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}
