package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/troupe-run/troupe/persistence/storetest"
	"github.com/troupe-run/troupe/runtime/task"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Subject{
		Open: func(t testing.TB) task.Store {
			t.Helper()
			return open(t, t.TempDir())
		},
		Reopen: func(t testing.TB, s task.Store) task.Store {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, filepath.Dir(s.(*Store).file))
		},
	})
}
