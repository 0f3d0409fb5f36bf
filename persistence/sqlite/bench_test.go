package sqlite

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// The figures to compare with are those of the raw benchmarks beside: rows of
// the same size by the same driver, nothing but a key, in the same run.

var payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 300) + `"}`)

func benchID(n int) task.ID {
	var id task.ID
	binary.BigEndian.PutUint64(id[:8], uint64(1_700_000_000_000+n/100))
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func benchSpec(n int) task.Spec {
	return task.Spec{
		ID: benchID(n), Namespace: "default", Kind: "demo.work", Queue: "default", Payload: payload,
		Resources: task.Resources{"slots": 1000}, MaxAttempts: 3, Retry: task.DefaultRetry,
	}
}

var benchNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func births(from, n int, holder task.Incarnation) (steps []task.Step, ms []task.Mutation) {
	for i := range n {
		now := benchNow.Add(time.Duration(from+i) * time.Microsecond)
		s := task.New(benchSpec(from+i), now, holder)
		steps = append(steps, s)
		ms = append(ms, task.Mutation{Op: task.Insert, Task: s.Task, Events: s.Events})
	}
	return steps, ms
}

func appendAll(b *testing.B, s *Store, ms []task.Mutation) {
	b.Helper()
	out, err := s.Append(context.Background(), ms)
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range out {
		if o.Err != nil {
			b.Fatal(o.Err)
		}
	}
}

// stopwatch measures what the store does, and not what making its work costs.
type stopwatch struct{ spent, cpu time.Duration }

func (w *stopwatch) time(f func()) {
	began, used := time.Now(), cpuTime()
	f()
	w.spent += time.Since(began)
	w.cpu += cpuTime() - used
}

// cpuTime tells a slow store from a busy machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (w *stopwatch) report(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(n)/w.spent.Seconds(), "tasks/s")
	b.ReportMetric(float64(w.cpu.Microseconds())/float64(n), "cpu-µs/task")
}

var batches = []int{1, 10, 100, 1000}

func BenchmarkRawInsert(b *testing.B) {
	for _, n := range batches {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := open(b, b.TempDir())
			w := <-s.writer
			defer func() { s.writer <- w }()
			ctx := context.Background()
			if _, err := w.conn.exec(ctx, "CREATE TABLE raw (id INTEGER PRIMARY KEY, body BLOB NOT NULL)"); err != nil {
				b.Fatal(err)
			}
			body := []byte(strings.Repeat("x", 525))
			var watch stopwatch
			for b.Loop() {
				watch.time(func() {
					for _, q := range []string{"BEGIN IMMEDIATE", "COMMIT"} {
						if q == "COMMIT" {
							for range n {
								if _, err := w.conn.exec(ctx, "INSERT INTO raw (body) VALUES (?)", body); err != nil {
									b.Fatal(err)
								}
							}
						}
						if _, err := w.conn.exec(ctx, q); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			watch.report(b, n*b.N)
		})
	}
}

func BenchmarkInsert(b *testing.B) {
	for _, holder := range []task.Incarnation{0, 1} {
		for _, n := range batches {
			b.Run(fmt.Sprintf("holder=%d/%d", holder, n), func(b *testing.B) {
				s := open(b, b.TempDir())
				var watch stopwatch
				done := 0
				for b.Loop() {
					_, ms := births(done, n, holder)
					done += n
					watch.time(func() { appendAll(b, s, ms) })
				}
				watch.report(b, done)
			})
		}
	}
}

// BenchmarkInsertAndEnd is a task's fast path: its insert in one batch, its
// start and its end in a later one.
func BenchmarkInsertAndEnd(b *testing.B) {
	for _, started := range []bool{false, true} {
		for _, n := range batches {
			b.Run(fmt.Sprintf("start=%v/%d", started, n), func(b *testing.B) {
				s := open(b, b.TempDir())
				var watch stopwatch
				done := 0
				for b.Loop() {
					steps, ms := births(done, n, 1)
					done += n
					var ends []task.Mutation
					for _, birth := range steps {
						start, _ := birth.Task.Start(birth.Task.Created, "node-1", "local-1")
						end, _ := start.Task.Succeed(birth.Task.Created.Add(time.Second), json.RawMessage(`{"ok":true}`))
						if started {
							ends = append(ends, start.Mutation(), end.Mutation())
							continue
						}
						m := end.Mutation()
						m.Guard = birth.Task.Guard()
						m.Events = slices.Concat(start.Events, end.Events)
						ends = append(ends, m)
					}
					watch.time(func() {
						appendAll(b, s, ms)
						appendAll(b, s, ends)
					})
				}
				watch.report(b, done)
			})
		}
	}
}

func BenchmarkClaim(b *testing.B) {
	const waiting = 1_000_000
	for _, lanes := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			s := open(b, b.TempDir())
			for done := 0; done < waiting; {
				_, ms := births(done, 10_000, 0)
				for i := range ms {
					ms[i].Task.Queue = fmt.Sprintf("q%d", (done+i)*7919%lanes)
					ms[i].Task.Payload = nil
				}
				done += len(ms)
				appendAll(b, s, ms)
			}
			var watch stopwatch
			for b.Loop() {
				watch.time(func() {
					tasks, err := s.Claim(context.Background(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 100})
					if err != nil || len(tasks) == 0 {
						b.Fatal(len(tasks), err)
					}
				})
			}
			watch.report(b, 100*b.N)
		})
	}
}
