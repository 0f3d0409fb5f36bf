package postgres_test

import (
	"os"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/postgres"
	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/persistence/storetest"
	"github.com/troupe-run/troupe/runtime/task"
)

var server *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, func(s *pgtest.Server) { server = s }))
}

// patience is how long a test waits for what must come, and a call for the server.
// Only what fails waits so long, so it is more than a slow machine ever needs.
const patience = 2 * time.Minute

func open(tb testing.TB, url string) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(tb.Context(), url, postgres.Options{Patience: patience})
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

// empty makes of a used database what it was when it was made: nothing in it but its
// schema. It takes a tenth of the time that another one takes.
const empty = `DO $$ DECLARE name text; used boolean; BEGIN
	FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
		WHERE schemaname = 'troupe' AND tablename NOT IN ('migrations', 'compatibility') LOOP
		EXECUTE 'SELECT EXISTS (SELECT FROM ' || name || ')' INTO used;
		IF used THEN EXECUTE 'DELETE FROM ' || name; END IF;
	END LOOP;
	FOR name IN SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences
		WHERE schemaname = 'troupe' AND last_value IS NOT NULL LOOP
		EXECUTE 'ALTER SEQUENCE ' || name || ' RESTART';
	END LOOP;
END $$`

func TestStore(t *testing.T) {
	urls := map[task.Store]string{}
	made := server.Database(t)
	if err := postgres.Migrate(t.Context(), made, postgres.Options{}); err != nil {
		t.Fatal(err)
	}
	var free []string // of tests that are over
	storetest.Run(t, storetest.Subject{
		Shared: true,
		Open: func(tb testing.TB) task.Store {
			tb.Helper()
			var url string
			if last := len(free) - 1; last >= 0 {
				url, free = free[last], free[:last]
				in(tb, url, empty)
			} else {
				url = server.Copy(tb, made)
			}
			tb.Cleanup(func() { free = append(free, url) }) // when it has been closed
			s := open(tb, url)
			urls[s] = url
			return s
		},
		Reopen: func(tb testing.TB, s task.Store) task.Store {
			tb.Helper()
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			again := open(tb, urls[s])
			urls[again] = urls[s]
			return again
		},
	})
}
