package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// What holds of every kind of source.

var everySource = []string{"pg", "lite"}

func TestRowsAreStreamedBehindTheirColumns(t *testing.T) {
	s := open(t, Config{})
	for _, source := range everySource {
		rows, got, err := ask(t, s, source, "select id, name from people order by id")
		wantRows(t, rows, err, `[1,"Ada"]`, `[2,"Bob's"]`, `[3,"Eve; drop table people"]`)
		if got.Rows != 3 || got.Truncated || len(got.Columns) != 2 || got.Columns[0].Name != "id" || got.Columns[1].Type == "" || got.Duration == "" {
			t.Errorf("%s: %+v", source, got)
		}
		rows, got, err = ask(t, s, source, "select id from people where 1 = 0")
		wantRows(t, rows, err)
		if got.Rows != 0 || got.Columns[0].Name != "id" {
			t.Errorf("%s: %+v", source, got)
		}
	}
}

// injections are texts that mean something where a value is put into a statement
// as text.
var injections = []string{
	`'; drop table people; --`, `' or '1'='1`, `"; delete from people; --`, `\'; drop table people; --`, `$$; drop table people; $$`,
	`'); drop table people; --`, `1; drop table people`, `' union select secret from people --`, `/* */ ' --`, "line\nbreak'", `%27 or 1=1`,
	`@name`, `$1`, `:name`, `?`, `{1,2}`, `NULL`, `\x41`, "\u2019 or 1=1", `'||(select secret from people limit 1)||'`,
}

func TestArgumentsAreNeverPartOfTheStatement(t *testing.T) {
	s := open(t, Config{})
	for _, source := range everySource {
		for _, text := range injections {
			want := string(encode([]string{text}))
			rows, _, err := ask(t, s, source, "select cast($1 as text) as v", text)
			wantRows(t, rows, err, want)
			rows, _, err = ask(t, s, source, "select name from people where name = $1", text)
			wantRows(t, rows, err)
			rows, _, err = askWith(t, s, map[string]any{
				"source": source, "query": "select cast(@name as text) as v, '@name' as q -- @other", "args": map[string]any{"name": text},
			})
			wantRows(t, rows, err, strings.TrimSuffix(want, "]")+`,"@name"]`)
		}
		rows, _, err := ask(t, s, source, "select count(*) as n from people")
		wantRows(t, rows, err, "[3]")
	}
}

func TestArgumentsMustBeThoseOfTheStatement(t *testing.T) {
	s := open(t, Config{})
	for _, source := range everySource {
		for _, payload := range []map[string]any{
			{"query": "select 1", "args": []any{1}},
			{"query": "select cast($1 as text), cast($2 as text)", "args": []any{"a"}},
			{"query": "select cast($1 as text)"},
			{"query": "select cast(@a as text)", "args": map[string]any{"b": 1}},
			{"query": "select cast(@a as text)", "args": map[string]any{"a": "1", "b": 1}},
			{"query": "select cast(@a as text)"},
		} {
			payload["source"] = source
			_, _, err := askWith(t, s, payload)
			// A name alone is no parameter to PostgreSQL.
			if f, ok := errors.AsType[*task.Failure](err); !ok || f.Retryable || f.Code != "invalid_payload" && f.Code != "sql_error" {
				t.Errorf("%s: %v: %v", source, payload, err)
			}
		}
		rows, _, err := ask(t, s, source, "select cast($2 as text) as a, cast($1 as text) as b, cast($2 as text) as c", "x", "y")
		wantRows(t, rows, err, `["y","x","y"]`)
	}
}

func TestExactlyOneStatementIsRun(t *testing.T) {
	s := open(t, Config{})
	for _, source := range everySource {
		for _, text := range []string{
			"select 1; select 2", "select 1; drop table people", "commit; drop table people", "select 1;;select 2", "select 1; nonsense",
			"select 1 /* ; */; /* */ select 2",
		} {
			_, _, err := ask(t, s, source, text)
			if f := failure(t, err, "sql_error", false); f.Message == "" {
				t.Errorf("%s: %q: %+v", source, text, f)
			}
		}
		for _, text := range []string{"select 1 as n;", "select 1 as n ; -- that was it\n", "/* first */ select 1 as n"} {
			rows, _, err := ask(t, s, source, text)
			wantRows(t, rows, err, "[1]")
		}
		for _, text := range []string{"-- nothing", ";", "/* */"} {
			_, _, err := ask(t, s, source, text)
			wantFailure(t, err, "sql_error", false)
		}
	}
}

func TestMistakesAreNotRetried(t *testing.T) {
	s := open(t, Config{})
	for source, state := range map[string]string{"pg": `"sqlstate":"42P01"`, "lite": `"sqlite":"SQLITE_ERROR"`} {
		_, _, err := ask(t, s, source, "select * from nowhere")
		f := failure(t, err, "sql_error", false)
		if !strings.Contains(f.Message, "nowhere") || !strings.Contains(string(f.Details), state) {
			t.Errorf("%s: %s %s", source, f.Message, f.Details)
		}
	}
	_, _, err := ask(t, s, "pg", "select 1 as a,\n 1/0")
	if f := failure(t, err, "sql_error", false); !strings.Contains(string(f.Details), "22012") {
		t.Errorf("%s", f.Details)
	}
	_, _, err = ask(t, s, "nowhere", "select 1")
	wantFailure(t, err, "invalid_payload", false)
}

func TestNoMoreThanAsManyRows(t *testing.T) {
	s := open(t, Config{})
	for source, series := range map[string]string{"pg": "select g from generate_series(1, 3000) g", "lite": counting + " select x from n limit 3000"} {
		for _, most := range []int{1, 999, 1000, 1001, 2999} {
			rows, got, err := askWith(t, s, map[string]any{"source": source, "query": series, "max_rows": most})
			if err != nil || len(rows) != most || got.Rows != most || !got.Truncated || rows[most-1] != fmt.Sprintf("[%d]", most) {
				t.Errorf("%s: %d: %d rows, %+v, %v", source, most, len(rows), got, err)
			}
		}
		rows, got, err := askWith(t, s, map[string]any{"source": source, "query": series, "max_rows": 3000})
		if err != nil || len(rows) != 3000 || got.Truncated {
			t.Errorf("%s: %d rows, %+v, %v", source, len(rows), got, err)
		}
	}
}

const counting = "with recursive n(x) as (select 1 union all select x + 1 from n)"

// A query without an end is read only as far as it is wanted, and then stopped.
func TestHugeResultsAreNotGathered(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	for _, source := range everySource {
		text := "repeat('ü<&', 5000)" // some of it takes six times the room in JSON
		if source == "lite" {
			text = "replace(hex(zeroblob(2500)), '00', 'ü<&')"
		}
		j := &recorder{}
		raw := encode(map[string]any{"source": source, "query": counting + " select x, " + text + " as v from n", "max_rows": 1_000_000})
		got, err := s.run(t.Context(), j, raw)
		if err != nil || !got.Truncated || got.Rows == 0 || got.Rows > 100 {
			t.Errorf("%s: %+v, %v", source, got, err)
		}
		total := 0
		for _, chunk := range j.chunks {
			total += len(chunk)
			if len(chunk) > 250<<10 {
				t.Errorf("%s: a chunk of %d bytes", source, len(chunk))
			}
		}
		if total > 1<<20+10_000 {
			t.Errorf("%s: %d bytes", source, total)
		}
	}
}

func TestRowsThatFitNoEventAreRefused(t *testing.T) {
	s := open(t, Config{})
	for _, tt := range []struct{ source, text string }{
		{"pg", "select repeat('x', 200000)"},
		{"pg", "select repeat('x', 10000000)"},
		{"pg", "select repeat('x', 50000000)"},
		{"pg", "select array_agg(repeat('x', 1000)) from generate_series(1, 1000)"},
		{"lite", "select hex(zeroblob(100000))"},
		{"lite", "select zeroblob(100000000)"},
		{"lite", "select printf('%.*c', 1000000000, 'x')"},
		{"lite", "select hex(zeroblob(1000000)), hex(zeroblob(1000000)), hex(zeroblob(1000000))"},
	} {
		rows, _, err := ask(t, s, tt.source, tt.text)
		wantFailure(t, err, "row_too_large", false)
		if len(rows) != 0 {
			t.Errorf("%s: %d rows", tt.text, len(rows))
		}
		rows, _, err = ask(t, s, tt.source, "select 1 as n")
		wantRows(t, rows, err, "[1]")
	}
	_, _, err := ask(t, s, "pg", "select (repeat('[', 5000) || repeat(']', 5000))::json")
	if err != nil {
		t.Errorf("JSON that is nested too deep comes as text: %v", err)
	}
}

func TestTimeoutStopsTheQuery(t *testing.T) {
	s := open(t, Config{})
	for _, tt := range []struct{ source, text string }{
		{"pg", "select pg_sleep(1000)"},
		{"pg", "select 1 from generate_series(1, 1000000000) g where g < 0"},
		{"pg", "select set_config('statement_timeout', '0', true), pg_sleep(1000)"},
		{"lite", counting + " select count(*) from n"},
		{"lite", "select 1 union all select * from (" + counting + " select count(*) from n)"}, // the first row comes at once
		{"lite", counting + " select x from n where x < 0"},
	} {
		_, _, err := askWith(t, s, map[string]any{"source": tt.source, "query": tt.text, "timeout": "300ms"})
		wantFailure(t, err, "sql_timeout", true)
		rows, _, err := ask(t, s, tt.source, "select 1 as n")
		wantRows(t, rows, err, "[1]")
	}
	wantNobodyBusy(t)
}

// wantNobodyBusy waits until no statement runs on the server any more.
func wantNobodyBusy(t *testing.T) {
	t.Helper()
	const busy = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() and state <> 'idle'"
	for server.Exec(t, "postgres", busy) != "0" {
		if t.Context().Err() != nil {
			t.Fatal("a statement still runs")
		}
	}
}

func TestCancellationStopsTheQuery(t *testing.T) {
	s := open(t, Config{})
	cancelled := errors.New("cancelled")
	for source, text := range map[string]string{
		"pg":   "select repeat('x', 1000) from generate_series(1, 100) union all select 'x' from pg_sleep(1000)", // the server sends 8 KiB at a time
		"lite": "select 1 union all select * from (" + counting + " select count(*) from n)",
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		j := &recorder{refuse: func(chunk string) error {
			if strings.Contains(chunk, "rows") { // which come although the next ones do not
				cancel(cancelled)
			}
			return nil
		}}
		_, err := s.run(ctx, j, encode(map[string]any{"source": source, "query": text, "timeout": "10m"}))
		if !errors.Is(err, cancelled) {
			t.Errorf("%s: %v", source, err)
		}
		if len(j.rows(t)) == 0 {
			t.Errorf("%s: no row came before", source)
		}
	}
	wantNobodyBusy(t)
}

func TestFullLogEndsTheQuery(t *testing.T) {
	s := open(t, Config{})
	for _, source := range everySource {
		for _, full := range []int{0, 1, 3} {
			said := 0
			j := &recorder{refuse: func(string) error {
				if said++; said > full {
					return task.ErrLogFull
				}
				return nil
			}}
			got, err := s.run(t.Context(), j, encode(map[string]any{"source": source, "query": counting + " select x from n", "max_rows": 1_000_000}))
			// A batch is sent after a moment, too, however few rows it has.
			if want := len(j.rows(t)); err != nil || !got.Truncated || got.Rows != want || len(j.chunks) != full {
				t.Errorf("%s: %+v, %v: %d rows in %d pieces have come", source, got, err, want, len(j.chunks))
			}
		}
	}
	wantNobodyBusy(t)
}

func TestRefusedOutputFailsTheAttempt(t *testing.T) {
	s := open(t, Config{})
	over := errors.New("the attempt is over")
	for _, source := range everySource {
		for _, part := range []string{"columns", "rows"} {
			for cause, code := range map[error]string{over: "", task.ErrInvalid: "row_too_large"} {
				j := &recorder{refuse: func(chunk string) error {
					if strings.Contains(chunk, part) {
						return cause
					}
					return nil
				}}
				_, err := s.run(t.Context(), j, encode(map[string]any{"source": source, "query": counting + " select x from n"}))
				if code == "" && !errors.Is(err, over) {
					t.Errorf("%s, %s: %v", source, part, err)
				}
				if code != "" {
					wantFailure(t, err, code, false)
				}
			}
		}
	}
	wantNobodyBusy(t)
}

// A connection is for one task after the other; those over the bound wait.
func TestConnectionsAreBounded(t *testing.T) {
	s := open(t, Config{Connections: 2})
	errs := make(chan error)
	const tasks = 8
	for _, source := range everySource {
		most := make(chan struct{}, tasks)
		hold := make(chan struct{})
		for range tasks {
			go func() {
				j := &recorder{refuse: func(chunk string) error {
					if strings.Contains(chunk, "columns") {
						most <- struct{}{}
						<-hold
					}
					return nil
				}}
				_, err := s.run(t.Context(), j, encode(map[string]any{"source": source, "query": "select 1", "timeout": "10m"}))
				errs <- err
			}()
		}
		<-most
		<-most
		select {
		case <-most:
			t.Errorf("%s: a third task got in", source)
		case <-time.After(50 * time.Millisecond): // it might come later: then this test sees nothing
		}
		close(hold)
		for range tasks {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestWaitingForAConnectionEndsWithTheTimeout(t *testing.T) {
	s := open(t, Config{Connections: 1})
	for _, source := range everySource {
		in, hold, done := make(chan struct{}), make(chan struct{}), make(chan error)
		go func() {
			j := &recorder{refuse: func(chunk string) error {
				if strings.Contains(chunk, "columns") {
					close(in)
					<-hold
				}
				return nil
			}}
			_, err := s.run(t.Context(), j, encode(map[string]any{"source": source, "query": "select 1", "timeout": "10m"}))
			done <- err
		}()
		<-in
		_, _, err := askWith(t, s, map[string]any{"source": source, "query": "select 1", "timeout": "20ms"})
		wantFailure(t, err, "sql_timeout", true)
		close(hold)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestPayloads(t *testing.T) {
	s := open(t, Config{MaxRows: 100, MaxTimeout: time.Minute})
	for _, raw := range []string{
		`{}`, `[]`, `"x"`, `{"source":"pg"}`, `{"query":"select 1"}`, `{"source":"pg","query":" "}`, `{"source":"pg","query":"select 1\u0000"}`,
		`{"source":"pg","query":"select 1","write":true}`, `{"source":"pg","query":"select 1","timeout":"soon"}`, `{"source":"pg","query":"select 1","timeout":"2m"}`,
		`{"source":"pg","query":"select 1","timeout":"0s"}`, `{"source":"pg","query":"select 1","max_rows":0}`, `{"source":"pg","query":"select 1","max_rows":101}`,
		`{"source":"pg","query":"select 1","max_rows":"1"}`, `{"source":"pg","query":"select 1","password":"x"}`, `{"source":"pg","query":"select 1","args":1}`,
		`{"source":"pg","query":"select 1","args":{"a b":1}}`, `{"source":"pg","query":"select 1","args":{"1a":1}}`, `{"source":"pg","query":"select 1","args":{"":1}}`,
		`{"source":"pg","query":"select 1","args":[` + strings.Repeat("1,", maxArguments) + `1]}`,
	} {
		_, err := s.run(t.Context(), &recorder{}, json.RawMessage(raw))
		wantFailure(t, err, "invalid_payload", false)
	}
	for _, raw := range []string{
		`{"source":"pg","query":"select 1","args":null,"write":false}`, `{"source":"lite","query":"select 1","timeout":"1m","max_rows":100,"args":{}}`,
	} {
		if _, err := s.run(t.Context(), &recorder{}, json.RawMessage(raw)); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestSourcesAreChecked(t *testing.T) {
	for name, url := range map[string]string{
		"a b": "sqlite:x.db", "": "sqlite:x.db", "a": "mysql://hunter2@host/db", "b": "hunter2", "c": "sqlite:", "d": "sqlite:a\x00hunter2",
		"e": "postgres://u:hunter2@host:port/db", "f": "postgres://u:hunter2@host/db?pool_max_conns=no",
	} {
		_, err := Open(t.Context(), Config{Sources: map[string]string{name: url, "good": "postgres://u:hunter2@127.0.0.1/db"}})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestSourcesThatAreAwayAreRetried(t *testing.T) {
	s := opened(t, Config{Sources: map[string]string{
		"nobody": "postgres://user:hunter2@127.0.0.1:1/hush?sslmode=disable", "name": "postgres://user:hunter2@hush.invalid/hush",
		"file": "sqlite:" + t.TempDir() + "/hush/hunter2.db", "dir": "sqlite:" + t.TempDir(),
	}})
	for name := range s.databases {
		_, _, err := ask(t, s, name, "select 1")
		f := failure(t, err, "sql_unavailable", true)
		if text := f.Message + string(f.Details); strings.Contains(text, "hunter2") || strings.Contains(text, "hush") || strings.Contains(text, "127.0") || strings.Contains(text, "user") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
