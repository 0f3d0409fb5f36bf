package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrating is the key of the advisory lock that lets one node migrate at a time.
const migrating = 0x7472_6f75_7065 // "troupe"

// migrate brings the schema to the version we know, or, unless it may, says that
// this has to be done. One that is newer than we know is left alone.
func migrate(ctx context.Context, config *pgx.ConnConfig, log *slog.Logger, may bool) (err error) {
	lock, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close(context.WithoutCancel(ctx))) }()
	// A lock of a transaction, not of a session, which a pooler would not keep.
	held, err := lock.Begin(ctx)
	if err != nil {
		return fmt.Errorf("lock the schema: %w", err)
	}
	defer func() { _ = held.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := held.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrating)); err != nil {
		return fmt.Errorf("lock the schema: %w", err)
	}

	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if may {
		if _, err := db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS troupe"); err != nil {
			return fmt.Errorf("make the schema troupe: %w", err)
		}
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSlog(log), goose.WithDisableGlobalRegistry(true), goose.WithTableName("troupe.migrations"))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	var there bool
	if err := held.QueryRow(ctx, "SELECT to_regclass('troupe.migrations') IS NOT NULL").Scan(&there); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if !there && !may {
		return fmt.Errorf("%w: there is none; run troupe migrate", ErrSchema)
	}
	current, known, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read schema version: %w", err)
	case current > known:
		return fmt.Errorf("%w: it has version %d, this troupe knows none after %d; use a newer troupe", ErrSchema, current, known)
	case current == known:
		return nil
	case !may:
		return fmt.Errorf("%w: it has version %d, this troupe needs %d; run troupe migrate", ErrSchema, current, known)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	log.InfoContext(ctx, "schema migrated", "from", current, "to", known)
	return nil
}
