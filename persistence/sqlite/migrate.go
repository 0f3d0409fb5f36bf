package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// oldestLibrary is the first version of SQLite that cannot damage a file when
// its log starts over while somebody writes it back.
var oldestLibrary = [3]int{3, 51, 3}

// migrate brings the schema to the version we know, or, unless it may, says that
// this has to be done. One that is newer than we know is left alone.
func migrate(ctx context.Context, file string, log *slog.Logger, may bool) (err error) {
	source, err := connector(file)
	if err != nil {
		return err
	}
	db := sql.OpenDB(source)
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, p := range writing {
		if _, err := db.ExecContext(ctx, p); err != nil {
			return fmt.Errorf("open database %s: %s: %w", file, p, err)
		}
	}
	if err := checkLibrary(ctx, db); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithSlog(log), goose.WithDisableGlobalRegistry(true), goose.WithTableName("migrations"))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	current, known, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read schema version of %s: %w", file, err)
	case current > known:
		return fmt.Errorf("%w: %s has version %d, this troupe knows none after %d; use a newer troupe",
			ErrSchema, file, current, known)
	case current == known:
		return nil
	case !may:
		return fmt.Errorf("%w: %s has version %d, this troupe needs %d; run troupe migrate",
			ErrSchema, file, current, known)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate %s: %w", file, err)
	}
	log.InfoContext(ctx, "schema migrated", "file", file, "from", current, "to", known)
	return nil
}

func checkLibrary(ctx context.Context, db *sql.DB) error {
	var text string
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&text); err != nil {
		return fmt.Errorf("read version of SQLite: %w", err)
	}
	var v [3]int
	if _, err := fmt.Sscanf(text, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		return fmt.Errorf("version of SQLite, %q: %w", text, err)
	}
	return checkVersion(v)
}

func checkVersion(v [3]int) error {
	for i := range v {
		switch {
		case v[i] > oldestLibrary[i]:
			return nil
		case v[i] < oldestLibrary[i]:
			return fmt.Errorf("built with SQLite %v; before %v a checkpoint can damage the database", v, oldestLibrary)
		}
	}
	return nil
}
