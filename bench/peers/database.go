package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
)

// database is the PostgreSQL that all share who use one, each a database of its own.
type database struct {
	server *pgtest.Server
	conn   *pgx.Conn
	pid    int
	made   int
}

// startDatabase starts a server that waits for the disk at every commit, as PostgreSQL
// does unless told otherwise; pgtest's own tests do not.
func startDatabase(ctx context.Context) (*database, error) {
	server, err := pgtest.Start("fsync=on", "full_page_writes=on", "synchronous_commit=on", "shared_buffers=256MB", "max_wal_size=4GB")
	if err != nil {
		return nil, err
	}
	d := &database{server: server}
	if d.conn, err = pgx.Connect(ctx, server.URL("postgres")); err == nil {
		err = d.conn.QueryRow(ctx, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`).Scan(&d.pid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the database: %w", err), d.stop(ctx))
	}
	return d, nil
}

func (d *database) stop(ctx context.Context) error {
	if d.conn != nil {
		_ = d.conn.Close(context.WithoutCancel(ctx)) // the server goes next
	}
	return d.server.Close()
}

// fresh makes an empty database; drop is for when it has served.
func (d *database) fresh(ctx context.Context) (name, url string, err error) {
	d.made++
	name = "peer" + strconv.Itoa(d.made)
	// What was written before is not to be written in the middle of what comes.
	for _, sql := range []string{"CREATE DATABASE " + name, "CHECKPOINT"} {
		if _, err := d.conn.Exec(ctx, sql); err != nil {
			return "", "", fmt.Errorf("make a database: %w", err)
		}
	}
	return name, d.server.URL(name), nil
}

func (d *database) drop(ctx context.Context, name string) error {
	_, err := d.conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
	return err
}
