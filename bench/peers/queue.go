package main

import (
	"context"
	"fmt"
	"time"
)

// queue is a system that carries out jobs, its workers included, ready for some.
// Every job it starts it shows its ledger.
type queue interface {
	// submit hands jobs over, in one call where the system has such a call. They are
	// as safe as the system makes them when it returns.
	submit(ctx context.Context, jobs []job) error
	// ended is how many jobs have ended so far, by the system's own books.
	ended(ctx context.Context) (int, error)
	close(ctx context.Context) error
}

// distant is a queue that runs jobs where no ledger is, and can tell when one that
// was submitted alone started.
type distant interface {
	startedAt(ctx context.Context, n int) (time.Time, error)
}

// served is a queue with servers of its own, whose CPU time counts.
type served interface{ pids() []int }

// place is where a queue finds what it needs.
type place struct {
	Dir      string // empty, on disk
	Postgres string // URL of an empty database
	Troupe   string // programs
	Faktory  string
}

// peer is one system in one setting.
type peer struct {
	name   string
	safe   string // what an accepted job survives
	beside []string
	rate   int // jobs a second, about; sizes the loads
	open   func(ctx context.Context, at place, l *ledger) (queue, error)

	postgres bool
}

const (
	librarySQLite   = "troupe library SQLite"
	libraryPostgres = "troupe library PostgreSQL"
	serverSQLite    = "troupe server SQLite"
	serverPostgres  = "troupe server PostgreSQL"
	workerSQLite    = "troupe server + worker SQLite"

	everyCommit = "every one, by fsync"
)

// peers are the queues, those of Troupe first. A rival stands beside the settings of
// Troupe that are like it: in process or over a socket, on the same database.
func peers() []peer {
	return []peer{
		{name: librarySQLite, safe: everyCommit, rate: 12000, open: openLibrary},
		{name: libraryPostgres, safe: everyCommit, rate: 10000, open: openLibrary, postgres: true},
		{name: serverSQLite, safe: everyCommit, rate: 10000, open: openServer},
		{name: serverPostgres, safe: everyCommit, rate: 8000, open: openServer, postgres: true},
		{name: workerSQLite, safe: everyCommit, rate: 4000, open: openServerAndWorker},
		{
			name: "river PostgreSQL default", safe: everyCommit, rate: 1000, open: openRiverPostgres(riverDefault), postgres: true,
			beside: []string{libraryPostgres, serverPostgres},
		},
		{
			name: "river PostgreSQL tuned", safe: everyCommit, rate: 8000, open: openRiverPostgres(riverTuned), postgres: true,
			beside: []string{libraryPostgres, serverPostgres},
		},
		{
			name: "river SQLite tuned", safe: everyCommit, rate: 1000, open: openRiverSQLite(riverTuned),
			beside: []string{librarySQLite, serverSQLite},
		},
		{
			name: "asynq fsync always tuned", safe: everyCommit, rate: 3000, open: openAsynq("always", asynqTuned),
			beside: []string{librarySQLite, serverSQLite},
		},
		{
			name: "asynq every second tuned", safe: "all but the last second's", rate: 5000, open: openAsynq("everysec", asynqTuned),
			beside: []string{librarySQLite, serverSQLite},
		},
		{
			name: "asynq every second default", safe: "all but the last second's", rate: 4000, open: openAsynq("everysec", asynqDefault),
			beside: []string{librarySQLite, serverSQLite},
		},
		{
			name: "faktory", safe: "all but the last 30 s to 2 min", rate: 5000, open: openFaktory,
			beside: []string{workerSQLite, serverSQLite},
		},
		{name: "channel in memory", safe: "none", rate: 300000, open: openChannel, beside: []string{librarySQLite}},
	}
}

func peerOf(name string) (peer, error) {
	for _, p := range peers() {
		if p.name == name {
			return p, nil
		}
	}
	return peer{}, fmt.Errorf("no peer is called %q", name)
}
