package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Options says how a store is opened. The zero value is what a server wants.
type Options struct {
	Log *slog.Logger // nil: silent
	// NoMigrate leaves the schema as it is; one that is older than we know is refused.
	NoMigrate bool
	// Patience bounds every call, and every statement by the server's own clock;
	// 10 s otherwise. A caller's deadline that comes first goes first.
	Patience time.Duration
}

const (
	defaultPatience    = 10 * time.Second
	defaultConnections = 10
	connectWithin      = 5 * time.Second
	pingWithin         = time.Second // of a connection that rested, or it is taken for lost
	arriveWithin       = 30 * time.Second
	migrateWithin      = time.Hour
	arriveEvery        = 250 * time.Millisecond
)

// Store keeps tasks in a PostgreSQL database. Use [Open].
type Store struct {
	pool     atomic.Pointer[pgxpool.Pool]
	plain    sync.Once // turns to statements without names
	log      *slog.Logger
	patience time.Duration
	lanes    lanes
	writers  chan *writer // those that nobody has just now
	open     atomic.Int64 // lanes that the last claim could take from
	closed   atomic.Bool
}

var (
	_ task.Store      = (*Store)(nil)
	_ access.Accounts = (*Store)(nil)
)

// Open connects to the database that a URL (or a libpq keyword string) names.
// pool_max_conns in it bounds the connections; 10 otherwise.
func Open(ctx context.Context, url string, opt Options) (*Store, error) {
	config, err := configure(url)
	if err != nil {
		return nil, err
	}
	s := &Store{log: opt.Log, patience: opt.Patience}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.patience <= 0 {
		s.patience = defaultPatience
	}
	if err := s.arrive(ctx, config.ConnConfig, !opt.NoMigrate); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	s.pool.Store(pool)
	s.writers = make(chan *writer, config.MaxConns)
	return s, nil
}

// arrive sees to the schema, and waits for a server that does not answer yet: what
// starts together does not start in order. A migration takes the time it takes.
func (s *Store) arrive(ctx context.Context, config *pgx.ConnConfig, mayMigrate bool) error {
	within, cancel := context.WithTimeout(ctx, migrateWithin)
	defer cancel()
	began := time.Now()
	for told := false; ; {
		err := migrate(within, config, s.log, mayMigrate)
		if err == nil || !severed(err) || time.Since(began) > arriveWithin {
			return err
		}
		if !told {
			s.log.WarnContext(ctx, "the database does not answer yet", "waiting", arriveWithin, "error", err)
			told = true
		}
		pause := time.NewTimer(arriveEvery)
		select {
		case <-pause.C:
		case <-within.Done():
			pause.Stop()
			return err
		}
	}
}

// unprepare has statements sent with their text from now on. Behind a pooler in
// transaction mode the next transaction may meet a session that does not know
// the statements we prepared in another.
func (s *Store) unprepare(ctx context.Context) {
	s.plain.Do(func() {
		before := s.pool.Load()
		config := before.Config()
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		after, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return // cannot be: the configuration was good before
		}
		s.log.InfoContext(ctx, "the database is behind a pooler: statements are not prepared any more")
		s.pool.Store(after)
		go before.Close() // waits for calls under way
	})
}

// configure reads a URL. Its error does not repeat it: a password may be in it.
func configure(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("address of the database: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = defaultConnections
	}
	if config.PingTimeout == 0 {
		config.PingTimeout = pingWithin
	}
	// A connection that broke keeps its place until the server has had its last
	// word, for which the driver would wait 15 s. Behind a cut it does not come.
	config.BeforeClose = func(c *pgx.Conn) {
		if c.IsClosed() {
			_ = c.PgConn().Conn().Close()
		}
	}
	config.AfterConnect = teachColumns
	c := config.ConnConfig
	// Arrays go by the types that the server asks for, and these modes do not ask it.
	// Behind a pooler the one that takes their place does as well.
	if mode := c.DefaultQueryExecMode; mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol {
		c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectWithin {
		c.ConnectTimeout = connectWithin
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "troupe"
	}
	return config, nil
}

// Migrate brings the schema of the database to the newest version.
func Migrate(ctx context.Context, url string, opt Options) error {
	opt.NoMigrate = false
	s, err := Open(ctx, url, opt)
	if err != nil {
		return err
	}
	return s.Close()
}

// Close waits for calls under way and closes the connections. Calls that come
// later get [task.ErrClosed].
func (s *Store) Close() error {
	if !s.closed.Swap(true) {
		s.plain.Do(func() {}) // no new pool any more
		s.pool.Load().Close()
	}
	return nil
}
