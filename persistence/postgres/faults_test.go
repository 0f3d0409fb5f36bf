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

	"github.com/jackc/pgx/v5"

	"github.com/troupe-run/troupe/persistence/postgres"
	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime/task"
)

// eventually gives a fresh connection the time to come up.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
		s, err = postgres.Open(t.Context(), url, postgres.Options{Patience: patience})
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

// lockTask keeps a task's row locked until release is called. The transaction is not of
// a store: the server ends those that do nothing for a while.
func lockTask(t *testing.T, url string, id task.ID) (release func()) {
	t.Helper()
	return locked(t, url, "SELECT FROM troupe.tasks WHERE id = $1 FOR UPDATE", [16]byte(id))
}

func locked(t *testing.T, url, statement string, args ...any) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	t.Cleanup(release)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
	return release
}

// TestCallIsBoundedByItsPatience has the server keep a call waiting for a lock, which is
// held until the call is over.
func TestCallIsBoundedByItsPatience(t *testing.T) {
	url := server.Database(t)
	hasty, err := postgres.Open(t.Context(), url, postgres.Options{Patience: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer hasty.Close()
	s := open(t, url)
	tasks, ms := births(0, 1, 1)
	mustAppend(t, s, ms)
	release := lockTask(t, url, tasks[0].ID)
	if _, err := hasty.Append(t.Context(), endsOf(t, tasks)); !errors.Is(err, task.ErrUnavailable) {
		t.Error(err)
	}
	release()
	mustAppend(t, s, endsOf(t, tasks))
	eventually(t, "the hasty one to go on", func() error {
		_, err := hasty.Task(t.Context(), "default", tasks[0].ID)
		return err
	})
}

// TestTransactionLeftOpenLosesItsLocks is about a node that is cut off between
// two statements: what it had locked is free long before a call gives up, and if
// it comes back it starts over.
func TestTransactionLeftOpenLosesItsLocks(t *testing.T) {
	url := server.Database(t)
	s, other := open(t, url), open(t, url)
	tasks, ms := births(0, 1, 1)
	mustAppend(t, s, ms)
	times := 0
	other.WhileLocked(t.Context(), tasks[0].ID, func() {
		if times++; times == 1 {
			mustAppend(t, s, endsOf(t, tasks)) // or it waits until it gives up
		}
	})
	if times < 2 {
		t.Error("its transaction was not begun anew")
	}
}

// TestCallEndsSoonAfterItsCaller has a lock in the way for longer than anybody waits
// behind somebody who has gone: until the call is over.
func TestCallEndsSoonAfterItsCaller(t *testing.T) {
	url := server.Database(t)
	s, err := postgres.Open(t.Context(), url, postgres.Options{Patience: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, ms := births(0, 1, 1)
	release := locked(t, url, "LOCK TABLE troupe.tasks")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, ms)
		over <- err
	}()
	eventually(t, "it to wait", func() error {
		if in(t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == "0" {
			return errors.New("it does not")
		}
		return nil
	})
	cancel()
	if err := <-over; !errors.Is(err, task.ErrUnavailable) {
		t.Error(err)
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
	s := open(t, own.Database(t))
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
