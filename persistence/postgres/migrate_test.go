package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/troupe-run/troupe/persistence/postgres"
	"github.com/troupe-run/troupe/runtime/task"
)

// in runs SQL in a database of the tests' server.
func in(tb testing.TB, address, statement string) string {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	return server.Exec(tb, strings.TrimPrefix(u.Path, "/"), statement)
}

const version = "SELECT max(version_id) FROM troupe.migrations"

// newer makes the schema one of a later troupe.
func newer(t *testing.T, address string, least int) {
	t.Helper()
	in(t, address, "ALTER TABLE troupe.tasks ADD COLUMN later text; INSERT INTO troupe.migrations (version_id, is_applied) VALUES (9001, true);"+
		fmt.Sprintf("UPDATE troupe.compatibility SET least = %d", least))
}

// works inserts a task, ends it and reads it.
func works(t *testing.T, s *postgres.Store, from int) {
	t.Helper()
	tasks, ms := births(from, 1, 1)
	mustAppend(t, s, ms)
	mustAppend(t, s, endsOf(t, tasks))
	if got, err := s.Task(t.Context(), "default", tasks[0].ID); err != nil || got.State != task.Succeeded {
		t.Errorf("%v %v", got.State, err)
	}
}

func TestSchemaIsMadeUnlessForbidden(t *testing.T) {
	at := server.Database(t)
	_, err := postgres.Open(t.Context(), at, postgres.Options{NoMigrate: true, Patience: patience})
	if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), "troupe migrate") {
		t.Errorf("an empty database: %v", err)
	}
	if left := in(t, at, "SELECT count(*) FROM pg_namespace WHERE nspname = 'troupe'"); left != "0" {
		t.Error("and something was made in it")
	}
	if err := postgres.Migrate(t.Context(), at, postgres.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), at, postgres.Options{NoMigrate: true, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	works(t, s, 0)
}

func TestOldSchemaIsBroughtUpToDateUnlessForbidden(t *testing.T) {
	at := server.Database(t)
	first, err := os.ReadFile("migrations/0001_tasks.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.MigrateBy(t.Context(), at, fstest.MapFS{"0001_tasks.sql": {Data: first}}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Open(t.Context(), at, postgres.Options{NoMigrate: true, Patience: patience}); !errors.Is(err, postgres.ErrSchema) {
		t.Errorf("opened without a migration: %v", err)
	}
	if v := in(t, at, version); v != "1" {
		t.Errorf("a node that may not migrate brought it to %s", v)
	}
	works(t, open(t, at), 0)
}

func TestNewerSchemaThatOnlyAddsIsUsed(t *testing.T) {
	for _, forbidden := range []bool{false, true} {
		at := server.Database(t)
		running := open(t, at)
		works(t, running, 0)
		newer(t, at, 1)
		works(t, running, 1)
		var said bytes.Buffer
		again, err := postgres.Open(t.Context(), at, postgres.Options{Patience: patience, NoMigrate: forbidden, Log: slog.New(slog.NewTextHandler(&said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		works(t, again, 2)
		if !strings.Contains(said.String(), "level=INFO") || !strings.Contains(said.String(), "version=9001") {
			t.Errorf("it said %q", said.String())
		}
		if v := in(t, at, version); v != "9001" {
			t.Errorf("version %s", v)
		}
	}
}

func TestSchemaThatIsTooNewIsRefused(t *testing.T) {
	at := server.Database(t)
	if err := postgres.Migrate(t.Context(), at, postgres.Options{}); err != nil {
		t.Fatal(err)
	}
	newer(t, at, 9000)
	for _, forbidden := range []bool{false, true} {
		_, err := postgres.Open(t.Context(), at, postgres.Options{Patience: patience, NoMigrate: forbidden})
		if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), "use a newer troupe") {
			t.Errorf("%v", err)
		}
	}
	if err := postgres.Migrate(t.Context(), at, postgres.Options{}); !errors.Is(err, postgres.ErrSchema) {
		t.Errorf("troupe migrate: %v", err)
	}
	in(t, at, "DELETE FROM troupe.compatibility") // whoever did that: it is not known to fit
	if s, err := postgres.Open(t.Context(), at, postgres.Options{Patience: patience}); err == nil {
		t.Error("used, though nothing says that it may be")
		_ = s.Close()
	}
}

// later is a troupe that knows more: a column, and an index that is made while
// others write.
func later(t *testing.T) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{
		"9001_column.sql": {Data: []byte("-- +goose Up\nSET LOCAL lock_timeout = '200ms';\nALTER TABLE troupe.tasks ADD COLUMN later text;\n")},
		"9002_index.sql":  {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY live_later ON troupe.tasks_live (later);\n")},
	}
	known, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range known {
		data, err := os.ReadFile("migrations/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name()] = &fstest.MapFile{Data: data}
	}
	return files
}

func TestManyThatStartAtOnceMakeOneSchema(t *testing.T) {
	at := server.Database(t)
	both := later(t)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			if i%2 == 1 {
				if err := postgres.MigrateBy(t.Context(), at, both, slog.New(slog.DiscardHandler)); err != nil {
					t.Errorf("a later one: %v", err)
				}
				return
			}
			s, err := postgres.Open(t.Context(), at, postgres.Options{Patience: patience})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			defer s.Close()
			works(t, s, i)
		})
	}
	all.Wait()
	if got := in(t, at, "SELECT count(*) = count(DISTINCT version_id) FROM troupe.migrations"); got != "t" {
		t.Error("a migration was made twice")
	}
	if got := in(t, at, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'troupe.live_later'::regclass"); got != "t" {
		t.Errorf("the index: %s", got)
	}
	if got := in(t, at, "SELECT count(*) FROM troupe.compatibility"); got != "1" {
		t.Errorf("%s rows say who may use it", got)
	}
}

// tries is a log that tells of each time a migration has to give way.
type tries chan struct{}

func (c tries) Enabled(context.Context, slog.Level) bool { return true }
func (c tries) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c tries) WithGroup(string) slog.Handler            { return c }

func (c tries) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "the migration waits") {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return nil
}

// A change of a table that cannot have it now must not keep everybody else from
// it for long, and tries again.
func TestMigrationThatHasToWaitTriesAgain(t *testing.T) {
	at := server.Database(t)
	s := open(t, at)
	tasks, ms := births(0, 1, 1)
	mustAppend(t, s, ms)
	release := lockTask(t, at, tasks[0].ID)
	gaveWay := make(tries, 100)
	migrated := make(chan error, 1)
	go func() { migrated <- postgres.MigrateBy(t.Context(), at, later(t), slog.New(gaveWay)) }()
	eventually(t, "a migration that waits", func() error {
		if in(t, at, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'") == "0" {
			return errors.New("it does not")
		}
		return nil
	})
	works(t, s, 1) // within the store's patience of one call
	for range 7 {  // more often than a call would
		<-gaveWay
	}
	release()
	if err := <-migrated; err != nil {
		t.Error(err)
	}
}
