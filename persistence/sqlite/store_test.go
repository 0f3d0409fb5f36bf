package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/troupe-run/troupe/persistence/storetest"
	"github.com/troupe-run/troupe/runtime/task"
)

func open(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), dir, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	// Most of what a new store costs is its schema, so it is made once and copied.
	made := t.TempDir()
	if err := open(t, made).Close(); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, storetest.Subject{
		Open: func(tb testing.TB) task.Store {
			tb.Helper()
			dir := filepath.Join(tb.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
				tb.Fatal(err)
			}
			return open(tb, dir)
		},
		Reopen: func(tb testing.TB, s task.Store) task.Store {
			tb.Helper()
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			return open(tb, filepath.Dir(s.(*Store).file))
		},
	})
}
