package sql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Config says which databases tasks may read, and bounds what a query may take.
// A zero field is its default.
type Config struct {
	// Sources are the databases by the names that tasks give:
	// postgres://user:password@host/database, or sqlite:PATH.
	Sources map[string]string

	Connections int           // to each source, at most; 4
	MaxRows     int           // the most a task may ask for; 1,000,000
	MaxBytes    int64         // of rows, as JSON, that a task may read; 64 MiB
	MaxTimeout  time.Duration // the longest a task may ask for; 1 hour
}

// A task's log holds 256 MiB an attempt by default, of all it says.
func (c Config) withDefaults() Config {
	c.Connections = cmp.Or(c.Connections, 4)
	c.MaxRows = cmp.Or(c.MaxRows, 1_000_000)
	c.MaxBytes = cmp.Or(c.MaxBytes, 64<<20)
	c.MaxTimeout = cmp.Or(c.MaxTimeout, time.Hour)
	return c
}

const (
	defaultTimeout = 30 * time.Second
	defaultRows    = 10_000
	maxArguments   = 10_000
	maxRow         = 192 << 10 // bytes of JSON; an event holds 256 KiB
	lockTimeout    = 10 * time.Second
	lastWords      = 5 * time.Second // to end a transaction whose task is over
)

// Sources are open databases: the kind "sql", ready to be registered. A
// connection is made when a task needs one.
type Sources struct {
	config    Config
	databases map[string]database
}

// Open checks the configuration. It connects to nothing, so a database that is
// away keeps no node from starting.
func Open(ctx context.Context, cfg Config) (*Sources, error) {
	s := &Sources{config: cfg.withDefaults(), databases: make(map[string]database, len(cfg.Sources))}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		if !task.ValidName(name) {
			return nil, errors.Join(fmt.Errorf("%q cannot be the name of a source: want 1 to 100 of the characters a-z 0-9 . _ -", name), s.Close())
		}
		db, err := s.config.open(ctx, cfg.Sources[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("source %s: %w", name, err), s.Close())
		}
		s.databases[name] = db
	}
	return s, nil
}

var errUnfit = errors.New("want postgres://… or sqlite:PATH")

// open never says what the URL is: it may hold a password.
func (c Config) open(ctx context.Context, url string) (database, error) {
	if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return openSQLite(file, c.Connections)
	}
	if strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://") {
		return openPostgres(ctx, url, c.Connections)
	}
	return nil, errUnfit
}

// Close closes all connections. Tasks of the kind must have ended.
func (s *Sources) Close() error {
	for _, db := range s.databases {
		db.close()
	}
	return nil
}
