package bare

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // the driver that the store has
)

// row is what is inserted: about as much as a task.
var row = strings.Repeat("x", 500)

// SQLite is how many rows a second go into a table without an index, so many in each
// transaction, with a write-ahead log that is synced at every commit.
func SQLite(ctx context.Context, dir string, perCommit int, lasts time.Duration) (float64, error) {
	file := filepath.Join(dir, fmt.Sprintf("bare%d.db", perCommit))
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return 0, fmt.Errorf("open SQLite: %w", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE bare (id INTEGER PRIMARY KEY, row TEXT)"); err != nil {
		return 0, fmt.Errorf("SQLite: %w", err)
	}
	insert, err := db.PrepareContext(ctx, "INSERT INTO bare (row) VALUES (?)")
	if err != nil {
		return 0, fmt.Errorf("SQLite: %w", err)
	}
	defer insert.Close()
	commits, err := rate(lasts, func(int) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		stmt := tx.StmtContext(ctx, insert)
		defer stmt.Close()
		for range perCommit {
			if _, err := stmt.ExecContext(ctx, row); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
	return commits * float64(perCommit), err
}

// Insert is a way to insert rows into PostgreSQL.
type Insert func(ctx context.Context, c *pgx.Conn) error

// One inserts a row in a transaction of its own.
func One(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "INSERT INTO bare (row) VALUES ($1)", row)
	return err
}

// Unnest inserts n rows by one statement.
func Unnest(n int) Insert {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = row
	}
	return func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "INSERT INTO bare (row) SELECT unnest($1::text[])", rows)
		return err
	}
}

// Copy inserts n rows by COPY.
func Copy(n int) Insert {
	return func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.CopyFrom(ctx, pgx.Identifier{"bare"}, []string{"row"}, pgx.CopyFromSlice(n, func(int) ([]any, error) { return []any{row}, nil }))
		return err
	}
}

// PostgreSQL is how often a second so many connections insert.
func PostgreSQL(ctx context.Context, url string, connections int, insert Insert, lasts time.Duration) (float64, error) {
	conns := make([]*pgx.Conn, 0, connections)
	defer func() {
		for _, c := range conns {
			_ = c.Close(ctx)
		}
	}()
	for range connections {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, fmt.Errorf("PostgreSQL: %w", err)
		}
		conns = append(conns, c)
	}
	if _, err := conns[0].Exec(ctx, "CREATE TABLE IF NOT EXISTS bare (id bigint GENERATED ALWAYS AS IDENTITY, row text)"); err != nil {
		return 0, fmt.Errorf("PostgreSQL: %w", err)
	}
	var n atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, c := range conns {
		group.Go(func() error {
			for time.Since(began) < lasts {
				if err := insert(groupCtx, c); err != nil {
					return fmt.Errorf("PostgreSQL: %w", err)
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(n.Load()) / time.Since(began).Seconds(), err
}
