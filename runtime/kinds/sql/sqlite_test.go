package sql

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // which makes the files of these tests

	"github.com/troupe-run/troupe/runtime/task"
)

// write runs SQL on a SQLite file, which it makes if it is not there.
func write(t *testing.T, file, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteIsNotWrittenTo(t *testing.T) {
	file := newFile(t, fixture)
	other := filepath.Join(filepath.Dir(file), "other.db")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, Config{Sources: map[string]string{"lite": "sqlite:" + file}})
	for _, text := range []string{
		"insert into people values (9, 'x', 'x')", "insert into people values (9, 'x', 'x') returning id", "update people set name = 'x' returning id",
		"delete from people returning id", "with w as (select 9 as id) insert into people select id, 'x', 'x' from w returning id",
		"replace into people values (1, 'x', 'x') returning id", "drop table people", "create table x (a)", "create temp table x as select 1", "create temp view x as select 1",
		"create virtual table x using fts5(a)", "alter table people add column x", "create index x on people (name)", "reindex", "analyze", "vacuum",
		"vacuum into '" + other + "'", "attach '" + other + "' as other", "attach ':memory:' as other", "detach main", "begin immediate", "begin", "commit", "rollback", "savepoint x",
		"pragma journal_mode = delete", "pragma journal_mode", "pragma query_only = off", "pragma query_only", "pragma writable_schema = on", "pragma user_version = 7",
		"pragma wal_checkpoint", "pragma optimize", "pragma incremental_vacuum", "pragma temp_store_directory = '/tmp'", "pragma database_list",
		"update sqlite_schema set sql = 'x' returning 1", "select load_extension('/tmp/x.so')", "select LOAD_EXTENSION('/tmp/x.so', 'y')", "select * from pragma_database_list",
		"select * from pragma_journal_mode", "select writefile('" + other + "', 'x')", "select readfile('/etc/passwd')", "select edit('x')", "select fts3_tokenizer('x', x'00')",
		"explain insert into people values (9, 'x', 'x')", "select * from pragma_query_only", "select sqlite_dbpage('x')",
	} {
		rows, _, err := ask(t, s, "lite", text)
		f, ok := errors.AsType[*task.Failure](err)
		if !ok || f.Code != "sql_error" || f.Retryable {
			t.Errorf("%s: %v, %v", text, rows, err)
			continue
		}
		if len(rows) != 0 || strings.Contains(f.Message, filepath.Dir(file)) && !strings.Contains(text, other) {
			t.Errorf("%s: %v, %s", text, rows, f.Message)
		}
	}
	after, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, %v", err)
	}
	names, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(names) != 1 {
		t.Errorf("there is more than the file: %v, %v", names, err)
	}
}

func TestSQLiteMayBeDescribed(t *testing.T) {
	s := open(t, Config{})
	rows, _, err := ask(t, s, "lite", "select name, type from pragma_table_info('people') order by cid")
	wantRows(t, rows, err, `["id","INTEGER"]`, `["name","TEXT"]`, `["secret","TEXT"]`)
	rows, _, err = ask(t, s, "lite", "select name from sqlite_schema where type = 'table'")
	wantRows(t, rows, err, `["people"]`)
	if rows, _, err := ask(t, s, "lite", "explain query plan select * from people"); err != nil || len(rows) == 0 {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestSQLiteValues(t *testing.T) {
	s := opened(t, Config{Sources: map[string]string{"lite": "sqlite:" + newFile(t, `
		create table v (i integer, r real, t text, b blob, j json, d datetime);
		insert into v values (9223372036854775807, 0.1, 'ä"<', x'00ff', '{"a":[1.50,"<"]}', '2024-02-29 12:00:00');
		insert into v values (-1, 9e999, '', x'', 'no JSON', null);
		insert into v values (null, -9e999, cast(x'ff' as text), null, '7', 12);`)}})
	rows, got, err := ask(t, s, "lite", "select * from v")
	wantRows(t, rows, err,
		`[9223372036854775807,0.1,"ä\"\u003c","AP8=",{"a":[1.50,"\u003c"]},"2024-02-29 12:00:00"]`,
		`[-1,"Infinity","","","no JSON",null]`,
		`[null,"-Infinity","\ufffd",null,7,12]`,
	)
	want := []column{{"i", "INTEGER"}, {"r", "REAL"}, {"t", "TEXT"}, {"b", "BLOB"}, {"j", "json"}, {"d", "datetime"}}
	for i, c := range got.Columns {
		if c.Name != want[i].Name || !strings.EqualFold(c.Type, want[i].Type) {
			t.Errorf("%+v, want %+v", c, want[i])
		}
	}
}

func TestSQLiteArguments(t *testing.T) {
	s := open(t, Config{})
	args := []any{json.Number("9223372036854775807"), 1.5, "x", true, false, nil, []any{1, "a"}, map[string]any{"k": 1}, json.Number("1e30")}
	rows, _, err := ask(t, s, "lite", "select ? as a, ?, ?3, ?, ?, ?, ?, ?, ?", args...)
	wantRows(t, rows, err, `[9223372036854775807,1.5,"x",1,0,null,"[1,\"a\"]","{\"k\":1}",1e+30]`)
	rows, _, err = ask(t, s, "lite", "select value from json_each(?)", []any{3, "b"})
	wantRows(t, rows, err, "[3]", `["b"]`)
	for _, query := range []string{"select :a as v", "select @a as v", "select $a as v"} {
		rows, _, err := askWith(t, s, map[string]any{"source": "lite", "query": query, "args": map[string]any{"a": "x"}})
		wantRows(t, rows, err, `["x"]`)
	}
	for _, payload := range []map[string]any{
		{"query": "select ?", "args": []any{json.Number("9223372036854775808")}},
		{"query": "select ?", "args": []any{json.Number("1e999")}},
		{"query": "select ?", "args": map[string]any{"a": 1}},
		{"query": "select :a", "args": []any{1}},
		{"query": "select $0", "args": []any{1}},
	} {
		payload["source"] = "lite"
		rows, _, err := askWith(t, s, payload)
		if err == nil {
			t.Errorf("%v: %v", payload, rows)
			continue
		}
		wantFailure(t, err, "invalid_payload", false)
	}
}

// A reader waits for who writes, in both ways of SQLite to keep a journal.
func TestSQLiteReadsBesideAWriter(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		file := newFile(t, "pragma journal_mode = "+mode+";"+fixture)
		s := opened(t, Config{Sources: map[string]string{"lite": "sqlite:" + file}})
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		run := func(text string) {
			t.Helper()
			if _, err := db.ExecContext(context.Background(), text); err != nil {
				t.Fatal(err)
			}
		}
		run("begin exclusive")
		run("update people set name = 'changed' where id = 1")
		if mode == "wal" {
			rows, _, err := ask(t, s, "lite", "select name from people where id = 1")
			wantRows(t, rows, err, `["Ada"]`)
		} else {
			_, _, err := askWith(t, s, map[string]any{"source": "lite", "query": "select name from people where id = 1", "timeout": "50ms"})
			wantFailure(t, err, "sql_timeout", true)
		}
		done := make(chan error)
		go func() {
			j := &recorder{}
			_, err := s.run(context.Background(), j, encode(map[string]any{"source": "lite", "query": "select name from people where id = 1"}))
			done <- err
		}()
		run("commit")
		if err := <-done; err != nil {
			t.Error(err)
		}
		rows, _, err := ask(t, s, "lite", "select name from people where id = 1")
		wantRows(t, rows, err, `["changed"]`)
	}
}

func TestSQLiteFilesThatAreNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(file, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := opened(t, Config{Sources: map[string]string{"lite": "sqlite:" + file}})
	_, _, err := ask(t, s, "lite", "select 1 from sqlite_schema")
	if f := failure(t, err, "sql_error", false); !strings.Contains(string(f.Details), "SQLITE_NOTADB") {
		t.Errorf("%s", f.Details)
	}
	if codeName(999) != "999" {
		t.Error(codeName(999))
	}
}
