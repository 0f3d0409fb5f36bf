package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// limitsSpec is what the role that measures the machine is told.
type limitsSpec struct {
	Dir, Postgres string
	For           time.Duration // each
}

func limitsRole(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var spec limitsSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return err
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return err
	}
	f := figures{}
	for _, part := range []func(context.Context, limitsSpec, figures) error{diskLimit, postgresLimits, sqliteLimit} {
		if err := part(ctx, spec, f); err != nil {
			return err
		}
	}
	return json.NewEncoder(stdout).Encode(f)
}

// repeat calls do for a while and gives how long each call took, sorted.
func repeat(lasting time.Duration, do func() error) ([]time.Duration, error) {
	var took []time.Duration
	for began := time.Now(); time.Since(began) < lasting; {
		before := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(before))
	}
	slices.Sort(took)
	return took, nil
}

// rate is how many things of which so many come at once were done in a second.
func rate(took []time.Duration, each int) float64 {
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	return float64(len(took)*each) / sum.Seconds()
}

func diskLimit(_ context.Context, spec limitsSpec, f figures) error {
	file, err := os.Create(filepath.Join(spec.Dir, "synced"))
	if err != nil {
		return fmt.Errorf("probe the disk: %w", err)
	}
	defer file.Close()
	block, n := make([]byte, 4096), int64(0)
	took, err := repeat(spec.For, func() error {
		n++
		if _, err := file.WriteAt(block, n%256*4096); err != nil {
			return err
		}
		return file.Sync()
	})
	if err != nil {
		return fmt.Errorf("probe the disk: %w", err)
	}
	f["fsync"] = milliseconds(quantile(took, 0.5))
	return nil
}

func postgresLimits(ctx context.Context, spec limitsSpec, f figures) error {
	conn, err := pgx.Connect(ctx, spec.Postgres)
	if err != nil {
		return fmt.Errorf("probe PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	exec := func(sql string, args ...any) func() error {
		return func() error {
			_, err := conn.Exec(ctx, sql, args...)
			return err
		}
	}
	if err := exec("CREATE TABLE bare (row text)")(); err != nil {
		return fmt.Errorf("probe PostgreSQL: %w", err)
	}
	lone, err := repeat(spec.For, exec("INSERT INTO bare VALUES ($1)", filler))
	if err != nil {
		return fmt.Errorf("probe PostgreSQL: %w", err)
	}
	many, err := repeat(spec.For, exec("INSERT INTO bare SELECT unnest($1::text[])", slices.Repeat([]string{filler}, batchSize)))
	if err != nil {
		return fmt.Errorf("probe PostgreSQL: %w", err)
	}
	f["commit"], f["postgres_rows"] = milliseconds(quantile(lone, 0.5)), rate(many, batchSize)
	return nil
}

func sqliteLimit(ctx context.Context, spec limitsSpec, f figures) error {
	db, err := sql.Open("sqlite", sqliteURL(filepath.Join(spec.Dir, "bare.db")))
	if err != nil {
		return fmt.Errorf("probe SQLite: %w", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE bare (row text)"); err != nil {
		return fmt.Errorf("probe SQLite: %w", err)
	}
	took, err := repeat(spec.For, func() error { return insertRows(ctx, db) })
	if err != nil {
		return fmt.Errorf("probe SQLite: %w", err)
	}
	f["sqlite_rows"] = rate(took, batchSize)
	return nil
}

func insertRows(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	insert, err := tx.PrepareContext(ctx, "INSERT INTO bare VALUES (?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	for range batchSize {
		if _, err := insert.ExecContext(ctx, filler); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// sqliteURL opens a file whose WAL is synced with every commit.
func sqliteURL(path string) string {
	return "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}
