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
	"github.com/troupe-run/troupe/persistence/sqlite"
	"github.com/troupe-run/troupe/runtime/task"
)

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
//	"", DIR, sqlite:DIR   a SQLite file in a directory; "" is [DefaultDirectory]
//	memory:               in memory, gone with the process
//
// A store that another process has is [sqlite.ErrLocked].
func Open(ctx context.Context, url string, opt Options) (task.Store, error) {
	dir, memorized, err := parse(url)
	switch {
	case err != nil:
		return nil, err
	case memorized:
		return memory.New(), nil
	}
	// Not returned as it comes: a nil *Store is no nil interface.
	s, err := sqlite.Open(ctx, dir, sqlite.Options{Log: opt.Log, NoMigrate: opt.NoMigrate})
	if err != nil {
		return nil, err
	}
	return s, nil
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

// parse reads a URL: a directory, or that it is to be memory.
func parse(url string) (dir string, memorized bool, err error) {
	scheme, rest, found := strings.Cut(url, ":")
	switch {
	case url == "":
		return DefaultDirectory, false, nil
	case !found || strings.ContainsAny(scheme, `/\.`) || len(scheme) < 2: // a drive letter is no scheme
		return url, false, nil
	case scheme == "memory" && rest == "":
		return "", true, nil
	case scheme == "sqlite" && strings.TrimPrefix(rest, "//") != "":
		return strings.TrimPrefix(rest, "//"), false, nil
	case scheme == "postgres" || scheme == "postgresql":
		return "", false, fmt.Errorf("%w: PostgreSQL is not built in yet; use sqlite:DIR", ErrScheme)
	}
	return "", false, fmt.Errorf("%w: %q; use memory: or sqlite:DIR", ErrScheme, url)
}
