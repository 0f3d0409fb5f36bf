package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/gofrs/flock"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Options says how a store is opened. The zero value is what a server wants.
type Options struct {
	Log *slog.Logger // nil: silent
	// NoMigrate leaves the schema as it is; one that is not the newest is refused.
	NoMigrate bool
}

const (
	fileName = "troupe.db"
	// checkpointPages is how long the log may grow before a commit writes it
	// back: 16 MiB, so that this costs a batch in a thousand rather than in ten.
	checkpointPages = 4096
	// largeLog is when a sweep tries harder.
	largeLog = 64 << 20
)

// Of every connection. A busy file is one that somebody looks at with a tool.
var shared = []string{
	"PRAGMA busy_timeout=5000",
	"PRAGMA foreign_keys=OFF",
	"PRAGMA temp_store=MEMORY",
	"PRAGMA trusted_schema=OFF",
}

var (
	writing = append(slices.Clip(shared),
		"PRAGMA page_size=4096", // before the log: it makes the file
		"PRAGMA journal_mode=WAL",
		"PRAGMA synchronous=FULL",
		fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", checkpointPages),
		fmt.Sprintf("PRAGMA journal_size_limit=%d", largeLog),
		"PRAGMA cache_size=-65536",
	)
	reading = append(slices.Clip(shared),
		"PRAGMA query_only=ON",
		"PRAGMA cache_size=-8192",
	)
)

// Store keeps tasks in one SQLite file. Use [Open].
type Store struct {
	file    string
	log     *slog.Logger
	lock    *flock.Flock
	writer  chan *writer  // one place: who has the writer writes
	readers chan *conn    // nil stands for one that must be dialled anew
	closed  chan struct{} // closed by Close
	once    sync.Once
}

var (
	_ task.Store      = (*Store)(nil)
	_ access.Accounts = (*Store)(nil)
)

// Open opens the store in a directory, which it makes if need be. A directory
// that another process has open is [ErrLocked].
func Open(ctx context.Context, dir string, opt Options) (*Store, error) {
	log := opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		file: filepath.Join(dir, fileName), log: log, lock: lock,
		writer: make(chan *writer, 1), readers: make(chan *conn, max(2, min(runtime.GOMAXPROCS(0), 8))),
		closed: make(chan struct{}),
	}
	if err := s.start(ctx, opt); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *Store) start(ctx context.Context, opt Options) error {
	// Made by us, not by SQLite: nobody else is to read it, and the log beside
	// it takes its mode.
	f, err := os.OpenFile(s.file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := migrate(ctx, s.file, s.log, !opt.NoMigrate); err != nil {
		return err
	}
	w := &writer{file: s.file}
	if err := w.dial(ctx); err != nil {
		return fmt.Errorf("open database %s: %w", s.file, err)
	}
	s.writer <- w
	for range cap(s.readers) {
		s.readers <- nil
	}
	return nil
}

// Migrate brings the schema of the store in a directory to the newest version
// and says from which to which. It needs the directory for itself, as Open does.
func Migrate(ctx context.Context, dir string, opt Options) error {
	opt.NoMigrate = false
	s, err := Open(ctx, dir, opt)
	if err != nil {
		return err
	}
	return s.Close()
}

// Close waits for calls under way and closes the file. Calls that come later
// get [task.ErrClosed].
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		w := <-s.writer
		for range cap(s.readers) {
			if c := <-s.readers; c != nil {
				err = errors.Join(err, c.close())
			}
		}
		err = errors.Join(err, w.close(), s.lock.Close())
	})
	return err
}

// read runs f on one of the readers, in one transaction: it sees one moment.
func (s *Store) read(ctx context.Context, what string, f func(*conn) error) error {
	var c *conn
	select {
	case <-s.closed:
		return fmt.Errorf("%s: %w", what, task.ErrClosed)
	case <-ctx.Done():
		return translate(what, ctx.Err())
	case c = <-s.readers:
	}
	defer func() { s.readers <- c }()
	if c == nil {
		var err error
		if c, err = dial(ctx, s.file, reading); err != nil {
			return translate(what, err)
		}
	}
	err := c.snapshot(ctx, f)
	if code(err) != 0 {
		// Whatever it is, a new connection is cheaper than the doubt.
		_ = c.close()
		c = nil
	}
	if errors.Is(err, task.ErrNotFound) {
		return err
	}
	return translate(what, err)
}

func (c *conn) snapshot(ctx context.Context, f func(*conn) error) error {
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	err := f(c)
	if _, ending := c.exec(context.WithoutCancel(ctx), "COMMIT"); err == nil {
		err = ending
	}
	return err
}

// logSize is how large the write-ahead log is.
func (s *Store) logSize() int64 {
	info, err := os.Stat(s.file + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}
