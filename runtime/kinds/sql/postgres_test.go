package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestPostgresIsNotWrittenTo(t *testing.T) {
	s := open(t, Config{Connections: 1})
	url := s.config.Sources["pg"]
	server.Exec(t, nameOf(url), `
		create sequence seq;
		create function sneak() returns int language plpgsql as $$ begin insert into people values (9, 'x', 'x'); return 1; end $$;
		create function sneak_out() returns int language plpgsql as $$ begin
			perform set_config('transaction_read_only', 'off', true); insert into people values (9, 'x', 'x'); return 1; end $$;
		create function sneak_by() returns int language plpgsql as $$ begin
			execute 'set transaction read write'; insert into people values (9, 'x', 'x'); return 1; end $$;
		create function sneak_off() returns int language plpgsql as $$ begin commit; return 1; end $$;
		create procedure sneak_call(inout n int) language plpgsql as $$ begin commit; insert into people values (9, 'x', 'x'); end $$;
		create view gate as select * from people;`)
	for _, text := range []string{
		"insert into people values (9, 'x', 'x')", "insert into people values (9, 'x', 'x') returning id", "update people set name = 'x' returning id",
		"delete from people returning id", "with w as (insert into people values (9, 'x', 'x') returning id) select * from w",
		"with w as (delete from people returning id) select * from w", "merge into people p using gate g on p.id = g.id when matched then delete",
		"update gate set name = 'x' returning id", "select * into other from people", "create table other as select 1", "create temp table other as select 1",
		"select sneak()", "select sneak_out()", "select sneak_by()", "select sneak_off()", "call sneak_call(1)", "do $$ begin perform 1; end $$",
		"select nextval('seq')", "select setval('seq', 7)", "select * from people for update", "select * from people for share", "truncate people", "drop table people",
		"copy people to program 'touch /tmp/troupe-sql-was-here'", "copy people from program 'echo 9'", "copy (select 1) to stdout", "copy people to '/tmp/troupe-sql-was-here'",
		"copy people from stdin", "set transaction read write", "set session characteristics as transaction read write", "set default_transaction_read_only = off",
		"set role postgres", "reset all", "begin", "begin read write", "commit", "commit and chain", "rollback", "savepoint x", "prepare transaction 'x'", "abort",
		"select set_config('transaction_read_only', 'off', true)", "select set_config('transaction_read_only', 'off', false)", "explain analyze insert into people values (9, 'x', 'x')",
		"lock table people", "vacuum people", "analyze people", "refresh materialized view x", "notify x", "listen x", "declare c cursor for select 1", "prepare p as select 1",
		"create extension dblink", "alter system set work_mem = '1MB'", "checkpoint", "discard all",
		"grant all on people to public", "comment on table people is 'x'", "load 'x'", "reindex table people",
	} {
		rows, _, err := ask(t, s, "pg", text)
		f, ok := errors.AsType[*task.Failure](err)
		if !ok || f.Code != "sql_error" || f.Retryable || len(rows) != 0 {
			t.Errorf("%s: %v, %v", text, rows, err)
		}
	}
	// What may be said, but changes nothing behind it.
	for _, text := range []string{
		"select set_config('default_transaction_read_only', 'off', false)", "select set_config('statement_timeout', '1', false)", "select set_config('TimeZone', 'Asia/Tokyo', false)",
		"select pg_advisory_lock(7)", "select pg_notify('x', 'y')", "select set_config('search_path', 'nowhere', false)",
	} {
		if _, _, err := ask(t, s, "pg", text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	// Since version 16 these are refused, and undone before.
	for _, text := range []string{"select lo_create(0)", "select lo_import('/etc/hostname')"} {
		_, _, _ = ask(t, s, "pg", text)
	}
	rows, _, err := ask(t, s, "pg", "select current_setting('TimeZone'), current_setting('transaction_read_only'), current_setting('search_path')")
	wantRows(t, rows, err, `["UTC","on","\"$user\", public"]`)
	found := server.Exec(t, nameOf(url), `select (select count(*) from people), (select count(*) from pg_class where relname = 'other'), (select is_called from seq),
		(select count(*) from pg_locks where locktype = 'advisory'), (select count(*) from pg_prepared_xacts),
		(select count(*) from pg_largeobject_metadata)`)
	if found != "3|0|f|0|0|0" {
		t.Errorf("something was changed: %s", found)
	}
	if there := server.Exec(t, "postgres", "select count(*) from pg_stat_file('/tmp/troupe-sql-was-here', true) f where f.size is not null"); there != "0" {
		t.Error("a file was written")
	}
}

func TestPostgresValues(t *testing.T) {
	s := open(t, Config{})
	server.Exec(t, nameOf(s.config.Sources["pg"]), "create type mood as enum ('sad', 'glad'); create domain small as int check (value < 10)")
	for _, tt := range []struct{ text, want, kind string }{
		{"true", "true", "bool"},
		{"false", "false", "bool"},
		{"null::int", "null", "int4"},
		{"9223372036854775807", "9223372036854775807", "int8"},
		{"12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890", "numeric"},
		{"0.10::numeric", "0.10", "numeric"},
		{"'NaN'::numeric", `"NaN"`, "numeric"},
		{"'Infinity'::float8", `"Infinity"`, "float8"},
		{"'-Infinity'::float4", `"-Infinity"`, "float4"},
		{"0.1::float8", "0.1", "float8"},
		{"1e300::float8", "1e+300", "float8"},
		{"'ä\"<'::text", `"ä\"\u003c"`, "text"},
		{`'\x00ff'::bytea`, `"AP8="`, "bytea"},
		{"'2024-02-29 12:00:00.123456+02'::timestamptz", `"2024-02-29T10:00:00.123456Z"`, "timestamptz"},
		{"'2024-02-29 12:00'::timestamptz", `"2024-02-29T12:00:00Z"`, "timestamptz"},
		{"'infinity'::timestamptz", `"infinity"`, "timestamptz"},
		{"'2024-02-29 12:00:00.5'::timestamp", `"2024-02-29T12:00:00.5"`, "timestamp"},
		{"'0044-03-15 BC'::date", `"0044-03-15 BC"`, "date"},
		{"'2024-02-29'::date", `"2024-02-29"`, "date"},
		{"'1 day 2 hours'::interval", `"P1DT2H"`, "interval"},
		{`'{"a": [1.50, "<"]}'::json`, `{"a":[1.50,"\u003c"]}`, "json"},
		{`'{"b": 2, "a": 1}'::jsonb`, `{"a":1,"b":2}`, "jsonb"},
		{"'5f3c1c1e-0000-4000-8000-000000000000'::uuid", `"5f3c1c1e-0000-4000-8000-000000000000"`, "uuid"},
		{"array[1, null, 3]", "[1,null,3]", "int4[]"},
		{"array[[1.5, 2], [3, 4]]", "[[1.5,2],[3,4]]", "numeric[]"},
		{"'{}'::text[]", "[]", "text[]"},
		{`array['a,b', 'c"d', 'e\f', '{}', 'NULL', null, '', ' ']`, `["a,b","c\"d","e\\f","{}","NULL",null,""," "]`, "text[]"},
		{`'[0:1]={7,8}'::int[]`, "[7,8]", "int4[]"},
		{`array['{"a": 1}'::jsonb]`, `[{"a":1}]`, "jsonb[]"},
		{`array['2024-02-29 12:00+00'::timestamptz]`, `["2024-02-29T12:00:00Z"]`, "timestamptz[]"},
		{"array[true, false]", "[true,false]", "bool[]"},
		{"'glad'::mood", `"glad"`, "mood"},
		{"array['glad'::mood]", `"{glad}"`, "mood[]"},
		{"7::small", "7", "int4"},
		{"'1.2.3.4/8'::inet", `"1.2.3.4/8"`, "inet"},
		{"int4range(1, 5)", `"[1,5)"`, "int4range"},
		{"row(1, 'a')", `"(1,a)"`, "record"},
	} {
		rows, got, err := ask(t, s, "pg", "select "+tt.text+" as v, "+tt.text+" as w where $1", true)
		wantRows(t, rows, err, "["+tt.want+","+tt.want+"]")
		if err == nil && (got.Columns[0] != column{"v", tt.kind}) {
			t.Errorf("%s: %+v", tt.text, got.Columns)
		}
	}
	// A statement that changes how values are written gets them as they are written.
	rows, _, err := ask(t, s, "pg", `select v, w from (select set_config('bytea_output', 'escape', true)) a, lateral (select '\x41'::bytea v, 1 w) b`)
	if err != nil || len(rows) != 1 {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestPostgresArguments(t *testing.T) {
	s := open(t, Config{})
	server.Exec(t, nameOf(s.config.Sources["pg"]), "create type mood as enum ('sad', 'glad')")
	for _, tt := range []struct {
		text, want string
		arg        any
	}{
		{"$1::int8", "9223372036854775807", json.Number("9223372036854775807")},
		{"$1::numeric", "12345678901234567890.123456789", json.Number("12345678901234567890.123456789")},
		{"$1::int", "7", "7"},
		{"$1::bool", "true", true},
		{"$1::text", "null", nil},
		{"$1::text", `"a"`, "a"},
		{"$1::text", `"[1,2]"`, []int{1, 2}},
		{"$1::text", "\"{\\\"a\\\":1}\"", map[string]any{"a": 1}},
		{"$1::jsonb", `{"a":[1,"x"]}`, map[string]any{"a": []any{1, "x"}}},
		{"$1::jsonb", `"x"`, "x"},
		{"$1::jsonb", `[1,2]`, []int{1, 2}},
		{"$1::bytea", `"AP8="`, "AP8="},
		{"$1::timestamptz", `"2024-02-29T10:00:00Z"`, "2024-02-29T12:00:00+02:00"},
		{"$1::int[]", "[1,null,3]", []any{1, nil, 3}},
		{"$1::int[]", "[[1,2],[3,4]]", []any{[]int{1, 2}, []int{3, 4}}},
		{"$1::text[]", `["a,b","c\"d","e\\f","{}","NULL",null,""]`, []any{"a,b", `c"d`, `e\f`, "{}", "NULL", nil, ""}},
		{"$1::jsonb[]", `[{"a":1},"x"]`, []any{map[string]any{"a": 1}, "x"}},
		{"$1::bytea[]", `["AP8="]`, []any{"AP8="}},
		{"$1::mood[]", `"{glad,sad}"`, []any{"glad", "sad"}},
		{"3 = any($1)", "true", []int{1, 2, 3}},
	} {
		rows, _, err := ask(t, s, "pg", "select "+tt.text+" as v", tt.arg)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		var got, want bytesOf
		if got.of(t, rows[0]) != want.of(t, "["+tt.want+"]") {
			t.Errorf("%s: got %s, want %s", tt.text, rows[0], tt.want)
		}
	}
	for arg, text := range map[string]string{"not base64!": "select $1::bytea", "x": "select $1::int"} {
		_, _, err := ask(t, s, "pg", text, arg)
		if f, ok := errors.AsType[*task.Failure](err); !ok || f.Retryable {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, _, err := ask(t, s, "pg", "select $1::bytea[]", []any{"not base64!"})
	wantFailure(t, err, "invalid_payload", false)
	_, _, err = ask(t, s, "pg", "select $1::bytea[]", []any{[]any{"not base64!"}})
	wantFailure(t, err, "invalid_payload", false)
}

// bytesOf is JSON with its escapes undone.
type bytesOf struct{ v any }

func (b *bytesOf) of(t *testing.T, raw string) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&b.v); err != nil {
		t.Fatal(err)
	}
	return string(encode(b.v))
}

func TestArraysThatAreNotWell(t *testing.T) {
	for _, text := range []string{"", "{", "{1", "{1,", "{,}", `{"`, `{"a`, `{"a"`, `{"a"x}`, "{1}x", "[0:1]", "[0:1]=", "1", "{{{{{{{1}}}}}}}", "{{1}", "{1}}"} {
		if b, ok := appendArray(nil, 23, []byte(text)); ok {
			t.Errorf("%q: %s", text, b)
		}
		if got := appendValue(nil, 1007, []byte(text)); string(got) != string(encode(text)) {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func FuzzArrays(f *testing.F) {
	f.Add("{1,NULL,\"a\\\"b\"}")
	f.Add("[0:1]={{a,b},{c,d}}")
	f.Fuzz(func(t *testing.T, text string) {
		if b, ok := appendArray(nil, 25, []byte(text)); ok && !json.Valid(b) {
			t.Errorf("%q: %s", text, b)
		}
	})
}

func TestServerThatStopsIsRetried(t *testing.T) {
	s := open(t, Config{})
	said := make(chan struct{})
	j := &recorder{refuse: func(chunk string) error {
		if strings.Contains(chunk, "columns") {
			close(said)
		}
		return nil
	}}
	done := make(chan error)
	go func() {
		_, err := s.run(t.Context(), j, encode(map[string]any{"source": "pg", "query": "select 'mark', pg_sleep(1000)", "timeout": "10m"}))
		done <- err
	}()
	<-said
	const end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'select ''mark''%'"
	for server.Exec(t, "postgres", end) == "0" {
		if t.Context().Err() != nil {
			t.Fatal("no such statement")
		}
	}
	f := failure(t, <-done, "sql_error", true)
	if !strings.Contains(string(f.Details), "57P01") {
		t.Errorf("%s", f.Details)
	}
	rows, _, err := ask(t, s, "pg", "select 1 as n")
	wantRows(t, rows, err, "[1]")
}

func TestWrongCredentialsAreNotRetried(t *testing.T) {
	url := server.Database(t)
	server.Exec(t, "postgres", "create role hush nologin")
	s := opened(t, Config{Sources: map[string]string{
		"role": strings.Replace(url, "troupe@", "hush:hunter2@", 1), "db": strings.Replace(url, nameOf(url), "hush", 1),
	}})
	for name := range s.databases {
		_, _, err := ask(t, s, name, "select 1")
		f := failure(t, err, "sql_unavailable", false)
		if text := f.Message + string(f.Details); strings.Contains(text, "hunter2") || strings.Contains(text, "hush") || !strings.Contains(text, "SQLSTATE") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestTooManyConnectionsAreRetried(t *testing.T) {
	url := server.Database(t)
	server.Exec(t, "postgres", "create role few login connection limit 0")
	s := opened(t, Config{Sources: map[string]string{"pg": strings.Replace(url, "troupe@", "few@", 1)}})
	_, _, err := ask(t, s, "pg", "select 1")
	if f := failure(t, err, "sql_unavailable", true); !strings.Contains(string(f.Details), "53300") {
		t.Errorf("%s", f.Details)
	}
}

func TestWhatMayPass(t *testing.T) {
	for code, want := range map[string]bool{
		"40001": true, "40P01": true, "53300": true, "53200": true, "08006": true, "57P01": true, "57P03": true, "55P03": true,
		"42601": false, "42P01": false, "22012": false, "25006": false, "28P01": false, "3D000": false, "42501": false, "XX000": false, "": false, "0": false,
	} {
		if passing(code) != want {
			t.Errorf("%s: want %v", code, want)
		}
		err := postgresError(fmt.Errorf("query: %w", &pgconn.PgError{Code: code, Message: strings.Repeat("ü", 2000), Detail: "hunter2"}))
		f := failure(t, err, "sql_error", want)
		if len(f.Message) > 1010 || strings.Contains(f.Message+string(f.Details), "hunter2") {
			t.Errorf("%s: %s", code, f.Message)
		}
	}
	if err := notConnected(context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wantFailure(t, postgresError(errors.New("read tcp 10.0.0.1: broken")), "sql_unavailable", true)
}

func TestThroughAPooler(t *testing.T) {
	url := server.Database(t)
	server.Exec(t, nameOf(url), fixture)
	s := opened(t, Config{Sources: map[string]string{"pg": server.Pooler(t, url)}})
	for range 5 {
		rows, _, err := ask(t, s, "pg", "select name from people where id = $1", 1)
		for f, failed := errors.AsType[*task.Failure](err); failed && f.Code == "sql_unavailable" && t.Context().Err() == nil; {
			rows, _, err = ask(t, s, "pg", "select name from people where id = $1", 1) // it does not listen yet
			f, failed = errors.AsType[*task.Failure](err)
		}
		wantRows(t, rows, err, `["Ada"]`)
		_, _, err = ask(t, s, "pg", "select sneak from nowhere")
		wantFailure(t, err, "sql_error", false)
	}
}

// The password and all of the address stay out of whatever a task can say.
func TestNoSecretGetsOut(t *testing.T) {
	const canary = "c4n4ry-5ecret"
	url := server.Database(t)
	server.Exec(t, "postgres", "create role teller login password '"+canary+"'")
	s := opened(t, Config{Sources: map[string]string{
		"pg": strings.Replace(url, "troupe@", "teller:"+canary+"@", 1), "away": "postgres://teller:" + canary + "@" + canary + ".invalid/" + canary,
	}})
	for source := range s.databases {
		for _, text := range []string{
			"select 1", "select nonsense", "select * from pg_authid", "select rolpassword from pg_roles", "select passwd from pg_shadow", "select * from pg_stat_activity",
			"select current_setting('application_name')", "select inet_server_addr()", "select pg_read_file('/etc/passwd')", "select name, setting from pg_settings", "selec",
		} {
			j := &recorder{}
			got, err := s.run(t.Context(), j, encode(map[string]any{"source": source, "query": text}))
			failed, _ := errors.AsType[*task.Failure](err)
			if said := fmt.Sprint(j.chunks, got, err) + string(encode(failed)); strings.Contains(said, canary) {
				t.Errorf("%s: %s: %s", source, text, said)
			}
		}
	}
}
