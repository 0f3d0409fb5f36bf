package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/postgres"
	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime/task"
)

// eventually gives a fresh connection the time to come up.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func TestWorksBehindAPoolerInTransactionMode(t *testing.T) {
	url := server.Pooler(t, server.Database(t))
	var s *postgres.Store
	eventually(t, "open", func() (err error) {
		s, err = postgres.Open(t.Context(), url, postgres.Options{})
		return err
	})
	defer s.Close()
	// More at once than the pooler has connections, so that each meets many.
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 30 {
				tasks, ms := births(1000*worker+i, 1, 1)
				if out, err := s.Append(t.Context(), ms); err != nil || out[0].Err != nil {
					t.Errorf("insert: %v %v", out, err)
					return
				}
				if out, err := s.Append(t.Context(), endsOf(t, tasks)); err != nil || out[0].Err != nil {
					t.Errorf("end: %v %v", out, err)
					return
				}
				if got, err := s.Task(t.Context(), "default", tasks[0].ID); err != nil || got.State != task.Succeeded {
					t.Errorf("read: %v %v", got.State, err)
				}
				if _, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 9}); err != nil {
					t.Errorf("claim: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// TestNothingAcknowledgedIsLostAndNothingIsDoubled has writers go on while what
// they talk to is taken away again and again. What Append said it kept must be
// there; what it said it did not keep must not.
func TestNothingAcknowledgedIsLostAndNothingIsDoubled(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, *pgtest.Server){
		"terminated connections": func(t *testing.T, s *pgtest.Server) {
			t.Helper()
			s.Exec(t, "postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'troupe'")
		},
		"killed server": func(t *testing.T, s *pgtest.Server) {
			t.Helper()
			s.Kill()
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
		},
		"restarted server": func(t *testing.T, s *pgtest.Server) {
			t.Helper()
			s.Stop()
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			own := pgtest.New(t)
			s := open(t, own.Database(t))
			if _, err := s.Renew(t.Context(), task.Node{Name: "n", Lease: time.Hour}); err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			var kept, refused, unknown atomic.Int64
			var mu sync.Mutex
			fate := map[task.ID]bool{} // kept or refused; unknown ones are not in it
			var all sync.WaitGroup
			for worker := range 4 {
				all.Go(func() {
					for i := 0; !stop.Load(); i++ {
						tasks, ms := births(1_000_000*(worker+1)+10*i, 10, 1)
						_, err := s.Append(t.Context(), ms)
						switch {
						case err == nil:
							kept.Add(1)
						case errors.Is(err, task.ErrUnknown):
							unknown.Add(1)
							continue
						case errors.Is(err, task.ErrUnavailable):
							refused.Add(1)
						default:
							t.Errorf("append: %v", err)
						}
						mu.Lock()
						for _, k := range tasks {
							fate[k.ID] = err == nil
						}
						mu.Unlock()
					}
				})
			}
			for range 8 {
				before := kept.Load()
				eventually(t, "go on", func() error {
					if kept.Load() < before+5 {
						return errors.New("nothing is kept")
					}
					return nil
				})
				harm(t, own)
			}
			stop.Store(true)
			all.Wait()
			t.Logf("%d batches kept, %d refused, %d unknown", kept.Load(), refused.Load(), unknown.Load())
			for id, there := range fate {
				_, err := s.Task(t.Context(), "default", id)
				if there && err != nil || !there && !errors.Is(err, task.ErrNotFound) {
					t.Fatalf("task %s: kept %v, and reading it gives %v", id, there, err)
				}
			}
			counted := int64(0)
			o, err := s.Overview(t.Context(), task.Scope{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range o.Counts {
				counted += c.Tasks
			}
			if rows := own.Exec(t, "test1", "SELECT count(*) FROM troupe.tasks"); rows != strconv.FormatInt(counted, 10) {
				t.Errorf("%s tasks, counted %d", rows, counted)
			}
		})
	}
}

// TestCallIsBoundedByItsPatience has the server keep a call waiting for a lock.
func TestCallIsBoundedByItsPatience(t *testing.T) {
	url := server.Database(t)
	s, err := postgres.Open(t.Context(), url, postgres.Options{Patience: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other := open(t, url)
	tasks, ms := births(0, 1, 1)
	mustAppend(t, other, ms)
	locked, release := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(locked)
		other.WhileLocked(t.Context(), tasks[0].ID, func() {
			locked <- struct{}{}
			<-release
		})
	}()
	<-locked
	began := time.Now()
	_, err = s.Append(t.Context(), endsOf(t, tasks))
	if took := time.Since(began); !errors.Is(err, task.ErrUnavailable) || took > 5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	close(release)
	<-locked
	mustAppend(t, s, endsOf(t, tasks))
}

// TestTransactionLeftOpenLosesItsLocks is about a node that is cut off between
// two statements: what it had locked is free long before a call gives up, and if
// it comes back it starts over.
func TestTransactionLeftOpenLosesItsLocks(t *testing.T) {
	url := server.Database(t)
	s, other := open(t, url), open(t, url)
	tasks, ms := births(0, 1, 1)
	mustAppend(t, s, ms)
	began, times := time.Now(), 0
	other.WhileLocked(t.Context(), tasks[0].ID, func() {
		if times++; times == 1 {
			mustAppend(t, s, endsOf(t, tasks))
		}
	})
	if took := time.Since(began); times != 2 || took > 7*time.Second {
		t.Errorf("begun %d times, over after %v", times, took)
	}
}

// TestCallEndsSoonAfterItsCaller has a lock in the way for longer than anybody
// should wait behind somebody who has gone.
func TestCallEndsSoonAfterItsCaller(t *testing.T) {
	url := server.Database(t)
	s := open(t, url)
	_, ms := births(0, 1, 1)
	database := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
	var locked sync.WaitGroup
	locked.Go(func() { server.Exec(t, database, "LOCK TABLE troupe.tasks; SELECT FROM pg_sleep(5)") })
	defer locked.Wait()
	eventually(t, "lock", func() error {
		if server.Exec(t, database, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") == "0" {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	_, err := s.Append(ctx, ms)
	if took := time.Since(began); !errors.Is(err, task.ErrUnavailable) || took > 3*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

func TestPasswordIsNeverSaid(t *testing.T) {
	for _, url := range []string{
		"postgres://u:hidden@127.0.0.1:1/x?connect_timeout=1", "postgres://u:hidden@127.0.0.1:bad/x", "postgres://u:hidden@[/x",
	} {
		within, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := postgres.Open(within, url, postgres.Options{})
		cancel()
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v", err)
		}
	}
}

// A join whose connection broke is tried again as a join, and not as a renewal of what
// was not kept.
func TestJoinThatBrokeJoinsAgain(t *testing.T) {
	own := pgtest.New(t)
	s, err := postgres.Open(t.Context(), own.Database(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop := make(chan struct{})
	var harm, joins sync.WaitGroup
	harm.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				own.Exec(t, "postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'troupe'")
			}
		}
	})
	var joined atomic.Int64
	for range 4 {
		joins.Go(func() {
			for range 100 {
				n, err := s.Renew(t.Context(), task.Node{Name: "n", Started: time.Now(), Lease: time.Minute})
				switch {
				case err == nil && n.Incarnation > 0:
					joined.Add(1)
				case errors.Is(err, task.ErrUnavailable), errors.Is(err, task.ErrUnknown):
				default:
					t.Errorf("%+v, %v", n, err)
				}
			}
		})
	}
	joins.Wait()
	close(stop)
	harm.Wait()
	t.Logf("%d of 400 joined", joined.Load())
}
