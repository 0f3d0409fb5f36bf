// Package persistence opens the store that a URL names.
//
// The stores are its subfolders, one for each technology, and each speaks the
// contract of [task.Store]; persistence/storetest proves it of each. This is the
// only package that knows more than one of them.
package persistence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/persistence/postgres"
	"github.com/troupe-run/troupe/persistence/sqlite"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Every store keeps accounts, too: what Open gives is an [access.Accounts].
var _ = []access.Accounts{(*memory.Store)(nil), (*sqlite.Store)(nil), (*postgres.Store)(nil)}

// DefaultDirectory is where the data is if nobody says.
const DefaultDirectory = "troupe-data"

// ErrScheme says that a URL names no store we have.
var ErrScheme = errors.New("no such store")

// Options says how a store is opened. The zero value is what a server wants.
type Options struct {
	Log *slog.Logger // nil: silent
	// NoMigrate leaves the schema as it is; one that is not the newest is refused.
	NoMigrate bool
}

// Open opens the store that url names:
//
//	"", DIR, sqlite:DIR      a SQLite file in a directory; "" is [DefaultDirectory]
//	postgres://…             a PostgreSQL database, which many nodes share
//	memory:                  in memory, gone with the process
//
// It is an [access.Accounts] besides. A SQLite store that another process has is [sqlite.ErrLocked].
func Open(ctx context.Context, url string, opt Options) (task.Store, error) {
	open, err := opener(url)
	if err != nil {
		return nil, err
	}
	return open(ctx, opt)
}

// Migrate brings the schema of the store that url names to the newest version.
func Migrate(ctx context.Context, url string, opt Options) error {
	opt.NoMigrate = false
	s, err := Open(ctx, url, opt)
	if err != nil {
		return err
	}
	return s.Close()
}

type openFunc func(context.Context, Options) (task.Store, error)

// opener finds what opens a URL. A store that does not open is no store, and not
// a nil one of its kind.
func opener(url string) (openFunc, error) {
	dir := func(name string) openFunc {
		return func(ctx context.Context, opt Options) (task.Store, error) {
			s, err := sqlite.Open(ctx, name, sqlite.Options{Log: opt.Log, NoMigrate: opt.NoMigrate})
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	}
	scheme, rest, found := strings.Cut(url, ":")
	switch {
	case url == "":
		return dir(DefaultDirectory), nil
	case !found || strings.ContainsAny(scheme, `/\.`) || len(scheme) < 2: // a drive letter is no scheme
		return dir(url), nil
	case scheme == "memory" && rest == "":
		return func(context.Context, Options) (task.Store, error) { return memory.New(), nil }, nil
	case scheme == "sqlite" && strings.TrimPrefix(rest, "//") != "":
		return dir(strings.TrimPrefix(rest, "//")), nil
	case scheme == "postgres" || scheme == "postgresql":
		return func(ctx context.Context, opt Options) (task.Store, error) {
			s, err := postgres.Open(ctx, url, postgres.Options{Log: opt.Log, NoMigrate: opt.NoMigrate})
			if err != nil {
				return nil, err
			}
			return s, nil
		}, nil
	}
	return nil, fmt.Errorf("%w: %q; use sqlite:DIR or postgres://…", ErrScheme, scheme)
}
