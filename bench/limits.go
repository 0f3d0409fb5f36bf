package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/bench/bare"
)

// limiting says what limits is to do.
type limiting struct {
	lasts    time.Duration
	trips    int
	postgres bool
}

func bindLimits(flags *flag.FlagSet) measurement {
	var o limiting
	flags.DurationVar(&o.lasts, "lasts", 2*time.Second, "how long each is measured")
	flags.IntVar(&o.trips, "trips", 20_000, "round trips over TCP and over a WebSocket")
	flags.BoolVar(&o.postgres, "postgres", true, "measure PostgreSQL as well")
	return o.turn
}

func (o *limiting) turn(ctx context.Context, l *lab, to *sheet) error {
	if o.trips < 1 || o.lasts <= 0 {
		return errors.New("want at least one trip, and some time")
	}
	syncs, err := bare.Fsync(l.dir, o.lasts)
	if err != nil {
		return err
	}
	to.add("disk", "4 KiB and a sync, one after the other", "/s", syncs)
	for _, n := range []int{1, 10, 100, 1000} {
		dir, drop, err := l.directory()
		if err != nil {
			return err
		}
		rows, err := bare.SQLite(ctx, dir, n, o.lasts)
		if err = errors.Join(err, drop()); err != nil {
			return err
		}
		to.add("SQLite", fmt.Sprintf("rows, %d a commit", n), "/s", rows)
	}
	if err := o.sockets(ctx, to); err != nil {
		return err
	}
	if !o.postgres {
		return nil
	}
	return o.database(ctx, l, to)
}

func (o *limiting) sockets(ctx context.Context, to *sheet) error {
	trips, err := bare.Loopback(ctx, o.trips)
	if err != nil {
		return err
	}
	to.addDelays("loopback", "TCP, there and back", trips)
	s, err := launchLean(ctx)
	if err != nil {
		return err
	}
	all, err := dialMany(ctx, s.url, 1)
	if err == nil {
		defer all.close()
		trips, err = inTurns(ctx, 1, o.trips, func(_ context.Context, i int) error {
			if err := all[0].request(i, "ping", nil); err != nil {
				return err
			}
			_, _, err := all[0].answer()
			return err
		})
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	to.addDelays("loopback", "WebSocket to a bare server, with JSON", trips)
	return nil
}

func (o *limiting) database(ctx context.Context, l *lab, to *sheet) (err error) {
	if l.db == nil {
		if l.db, err = startDatabase(ctx); err != nil {
			return err
		}
	}
	name, err := l.db.fresh()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.db.drop(name)) }()
	for _, way := range []struct {
		what              string
		connections, rows int
		insert            bare.Insert
	}{
		{"rows, 1 a commit, 1 connection", 1, 1, bare.One},
		{"rows, 1 a commit, 16 connections", 16, 1, bare.One},
		{"rows, 1 a commit, 64 connections", 64, 1, bare.One},
		{"rows, unnest of 100", 1, 100, bare.Unnest(100)},
		{"rows, unnest of 1000", 1, 1000, bare.Unnest(1000)},
		{"rows, COPY of 1000", 1, 1000, bare.Copy(1000)},
	} {
		often, err := bare.PostgreSQL(ctx, l.db.server.URL(name), way.connections, way.insert, o.lasts)
		if err != nil {
			return err
		}
		to.add("PostgreSQL", way.what, "/s", often*float64(way.rows))
	}
	return nil
}
