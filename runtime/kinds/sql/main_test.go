package sql

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime/task"
)

var server *pgtest.Server

func TestMain(m *testing.M) {
	code := pgtest.Main(m, func(s *pgtest.Server) { server = s })
	if err := leaked(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// leaked is what is left running when the tests are over. A node's dead letters
// keep a goroutine of the actor library for a second, longer than one look takes.
func leaked() (err error) {
	for range 5 {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	return err
}

// recorder keeps what a handler said.
type recorder struct {
	mu     sync.Mutex
	chunks []string
	refuse func(chunk string) error // asked for each
}

func (r *recorder) Emit(chunk any) error {
	b, err := json.Marshal(chunk)
	if err != nil {
		return err
	}
	if r.refuse != nil {
		if err := r.refuse(string(b)); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chunks = append(r.chunks, string(b))
	return nil
}

// rows are all that were streamed, each as its JSON.
func (r *recorder) rows(t *testing.T) (rows []string) {
	t.Helper()
	for i, chunk := range r.chunks {
		var batch struct {
			Columns []column          `json:"columns"`
			Rows    []json.RawMessage `json:"rows"`
		}
		if err := json.Unmarshal([]byte(chunk), &batch); err != nil {
			t.Fatal(err)
		}
		if (i == 0) != (batch.Columns != nil) {
			t.Errorf("chunk %d is %.100s: want the columns first, and once", i, chunk)
		}
		for _, row := range batch.Rows {
			rows = append(rows, string(row))
		}
	}
	return rows
}

// fixture is the same rows in a database of either kind.
const fixture = `
create table people (id integer primary key, name text not null, secret text);
insert into people values (1, 'Ada', 'x'), (2, 'Bob''s', 'y'), (3, 'Eve; drop table people', 'z');`

// open opens sources of the kinds named: "pg" and "lite", with the fixture in them.
func open(t *testing.T, cfg Config) *Sources {
	t.Helper()
	url := server.Database(t)
	server.Exec(t, nameOf(url), fixture)
	cfg.Sources = map[string]string{"pg": url, "lite": "sqlite:" + newFile(t, fixture)}
	return opened(t, cfg)
}

func opened(t *testing.T, cfg Config) *Sources {
	t.Helper()
	s, err := Open(t.Context(), cfg)
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

// nameOf is the database that a URL leads to.
func nameOf(url string) string {
	name := url[strings.LastIndex(url, "/")+1:]
	name, _, _ = strings.Cut(name, "?")
	return name
}

// newFile makes a SQLite file from SQL.
func newFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a b?#%41.db")
	write(t, file, text)
	return file
}

func ask(t *testing.T, s *Sources, source, query string, args ...any) ([]string, result, error) {
	t.Helper()
	if args == nil {
		args = []any{}
	}
	return askWith(t, s, map[string]any{"source": source, "query": query, "args": args})
}

func askWith(t *testing.T, s *Sources, payload map[string]any) ([]string, result, error) {
	t.Helper()
	raw, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	j := &recorder{}
	got, err := s.run(t.Context(), j, raw)
	return j.rows(t), got, err
}

func wantFailure(t *testing.T, err error, code string, retryable bool) {
	t.Helper()
	_ = failure(t, err, code, retryable)
}

func failure(t *testing.T, err error, code string, retryable bool) *task.Failure {
	t.Helper()
	f, ok := errors.AsType[*task.Failure](err)
	if !ok || f.Code != code || f.Retryable != retryable {
		t.Fatalf("got %v (%+v), want %s", err, f, code)
	}
	return f
}

func wantRows(t *testing.T, got []string, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
