package memory_test

import (
	"testing"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/persistence/storetest"
	"github.com/troupe-run/troupe/runtime/task"
)

func reopen(tb testing.TB, s task.Store) task.Store {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Subject{Open: func(testing.TB) task.Store { return memory.New() }, Reopen: reopen})
}

func TestSharedStore(t *testing.T) {
	storetest.Run(t, storetest.Subject{Open: func(testing.TB) task.Store { return memory.NewShared() }, Reopen: reopen, Shared: true})
}
