package postgres_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/postgres"
	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime/task"
)

// Measured on a server that waits for the disk, as one of production does. Of
// the figures, those to compare are of one run.

var payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 300) + `"}`)

var benchNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func births(from, n int, holder task.Incarnation) (tasks []task.Task, ms []task.Mutation) {
	for i := range n {
		var id task.ID
		binary.BigEndian.PutUint64(id[:8], uint64(1_700_000_000_000+from))
		binary.BigEndian.PutUint64(id[8:], uint64(from+i))
		s := task.New(task.Spec{
			ID: id, Namespace: "default", Kind: "demo.work", Queue: "default", Payload: payload,
			Resources: task.Resources{"slots": 1000}, MaxAttempts: 3, Retry: task.DefaultRetry,
		}, benchNow.Add(time.Duration(from+i)*time.Microsecond), holder)
		tasks = append(tasks, s.Task)
		ms = append(ms, task.Mutation{Op: task.Insert, Task: s.Task, Events: s.Events})
	}
	return tasks, ms
}

func mustAppend(tb testing.TB, s *postgres.Store, ms []task.Mutation) {
	tb.Helper()
	out, err := s.Append(context.Background(), ms)
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range out {
		if o.Err != nil || o.Existing != nil {
			tb.Fatalf("%+v", o)
		}
	}
}

func endsOf(tb testing.TB, tasks []task.Task) []task.Mutation {
	tb.Helper()
	return endsAt(tb, tasks, benchNow)
}

func endsAt(tb testing.TB, tasks []task.Task, at time.Time) (ms []task.Mutation) {
	tb.Helper()
	for _, t := range tasks {
		started, err := t.Start(at, "node", "worker")
		if err != nil {
			tb.Fatal(err)
		}
		end, err := started.Task.Succeed(at, json.RawMessage(`{"ok":true}`))
		if err != nil {
			tb.Fatal(err)
		}
		m := end.Mutation()
		m.Guard = t.Guard()
		m.Events = slices.Concat(started.Events, end.Events)
		ms = append(ms, m)
	}
	return ms
}

func durable(b *testing.B) string {
	b.Helper()
	return pgtest.New(b, "fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB", "autovacuum_naptime=10s").Database(b)
}

// BenchmarkTask is what a task that runs at once costs: its insert and its end.
func BenchmarkTask(b *testing.B) {
	for _, mode := range []string{"", "&default_query_exec_mode=cache_statement"} {
		url := durable(b) + mode
		for _, size := range []int{1, 10, 100, 1000} {
			b.Run(strings.TrimPrefix(mode, "&")+"/"+time.Duration(size).String(), func(b *testing.B) {
				s := open(b, url)
				from := int(time.Now().UnixNano() % 1e15)
				var insert, end time.Duration
				n := 0
				for b.Loop() {
					tasks, ms := births(from+n, size, 1)
					ends := endsOf(b, tasks)
					began := time.Now()
					mustAppend(b, s, ms)
					insert += time.Since(began)
					began = time.Now()
					mustAppend(b, s, ends)
					end += time.Since(began)
					n += size
				}
				b.ReportMetric(float64(n)/insert.Seconds(), "inserts/s")
				b.ReportMetric(float64(n)/end.Seconds(), "ends/s")
				b.ReportMetric(insert.Seconds()*1e3/float64(n/size), "ms/insert-batch")
			})
		}
	}
}

// BenchmarkRawInsert is what the database itself allows: rows of the same size
// with nothing but a key.
func BenchmarkRawInsert(b *testing.B) {
	conn, err := pgx.Connect(b.Context(), durable(b))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(b.Context(), "CREATE TABLE raw (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea)"); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1, 100, 1000} {
		b.Run(time.Duration(size).String(), func(b *testing.B) {
			bodies := make([][]byte, size)
			for i := range bodies {
				bodies[i] = []byte(strings.Repeat("x", 500))
			}
			n := 0
			for b.Loop() {
				if _, err := conn.Exec(b.Context(), "INSERT INTO raw (body) SELECT * FROM unnest($1::bytea[])", bodies); err != nil {
					b.Fatal(err)
				}
				n += size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkClaim claims from a backlog.
func BenchmarkClaim(b *testing.B) {
	s := open(b, durable(b))
	const backlog = 200_000
	for at := 0; at < backlog; at += 2000 {
		_, ms := births(at, 2000, 0)
		mustAppend(b, s, ms)
	}
	n := 0
	for b.Loop() {
		got, err := s.Claim(b.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 256})
		if err != nil {
			b.Fatal(err)
		}
		if n += len(got); len(got) < 256 {
			b.StopTimer()
			b.Fatal("the backlog is too small")
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tasks/s")
}
