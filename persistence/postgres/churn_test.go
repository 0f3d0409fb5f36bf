package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/runtime/task"
)

// Of BenchmarkChurn: the tasks of a batch, and how many ended ones are kept.
const (
	churnBatch = 1000
	churnKept  = 100_000
)

// BenchmarkChurn pushes batch after batch through one database, each inserted,
// ended, and swept away again once enough newer ones have ended. What matters is
// the last tenth against the first; -benchtime=2000x makes it two million tasks.
// The first batches, which find nothing to sweep, do not count.
func BenchmarkChurn(b *testing.B) {
	url := durable(b)
	s := open(b, url)
	var took []time.Duration
	from := 0
	for b.Loop() {
		began := time.Now()
		now := benchNow.Add(time.Duration(from) * time.Millisecond) // each task a millisecond behind the one before
		tasks, ms := births(from, churnBatch, 1)
		mustAppend(b, s, ms)
		mustAppend(b, s, endsAt(b, tasks, now))
		keep := map[task.State]time.Duration{task.Succeeded: churnKept * time.Millisecond}
		if _, err := s.Sweep(b.Context(), task.Retention{Now: now, Keep: keep}, 2*churnBatch); err != nil {
			b.Fatal(err)
		}
		if from += churnBatch; from > churnKept {
			took = append(took, time.Since(began))
		}
	}
	if len(took) < 10 {
		return
	}
	rate := func(of []time.Duration) float64 {
		var all time.Duration
		for _, d := range of {
			all += d
		}
		return float64(len(of)*churnBatch) / all.Seconds()
	}
	tenth := len(took) / 10
	first, last := rate(took[:tenth]), rate(took[len(took)-tenth:])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(first, "first-tasks/s")
	b.ReportMetric(last, "last-tasks/s")
	b.ReportMetric(last/first, "last/first")
	var rates []int
	for at := range 10 {
		rates = append(rates, int(rate(took[at*tenth:(at+1)*tenth])))
	}
	b.Logf("tasks a second, by tenths: %d", rates)
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(b.Context(), `SELECT relname, pg_relation_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, autovacuum_count
		FROM pg_stat_user_tables WHERE relname IN ('tasks_live', 'tasks_ended') ORDER BY relname DESC`)
	if err != nil {
		b.Fatal(err)
	}
	var table string
	var heap, indexes, live, dead, vacuums int64
	if _, err := pgx.ForEachRow(rows, []any{&table, &heap, &indexes, &live, &dead, &vacuums}, func() error {
		b.Logf("%s: %.1f MB, indexes %.1f MB, %d rows, %d dead, vacuumed %d times", table, float64(heap)/1e6, float64(indexes)/1e6, live, dead, vacuums)
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}
