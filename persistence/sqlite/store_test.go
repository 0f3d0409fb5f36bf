package sqlite

import (
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
	storetest.Run(t, storetest.Subject{
		Open: func(tb testing.TB) task.Store {
			tb.Helper()
			return open(tb, tb.TempDir())
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
