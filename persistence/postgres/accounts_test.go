package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// creation is a key and the act of making it; a number makes both ids.
func creation(n int) (access.Key, access.Audit) {
	id := task.ID{1, 2, byte(n >> 8), byte(n), 15: 1}
	return access.Key{ID: id, Namespace: "acme", Hash: [32]byte(append(id[:], id[:]...)), Created: benchNow},
		access.Audit{ID: id, At: benchNow, Namespace: "acme", Action: "key.create", Target: id.String()}
}

func TestKeyWhoseAuditCannotBeKeptIsNotThere(t *testing.T) {
	at := server.Database(t)
	s := open(t, at)
	k, a := creation(1)
	in(t, at, "ALTER TABLE troupe.audits RENAME TO away")
	if err := s.PutKey(t.Context(), k, a); err == nil {
		t.Error("put without an audit")
	}
	if _, err := s.KeyByHash(t.Context(), k.Hash); !errors.Is(err, task.ErrNotFound) {
		t.Errorf("and is there: %v", err)
	}
	in(t, at, "ALTER TABLE troupe.away RENAME TO audits")
	if err := s.PutKey(t.Context(), k, a); err != nil {
		t.Error(err)
	}
}

// What accounts say of a write is so, though connections break all the while.
func TestAccountsHoldWhatTheySayThoughConnectionsBreak(t *testing.T) {
	const callers, each = 4, 60
	own := pgtest.New(t)
	s := open(t, own.Database(t))
	stop := make(chan struct{})
	var harm, all sync.WaitGroup
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
	var mu sync.Mutex
	var firsts, answers, unknown [each]int
	put := map[task.ID]error{}
	for c := range callers {
		all.Go(func() {
			for i := range each {
				id, _ := creation(i)
				first, err := s.Spend(t.Context(), id.ID, benchNow.Add(time.Hour))
				k, a := creation(1000 + c*each + i)
				putting := s.PutKey(t.Context(), k, a)
				mu.Lock()
				switch {
				case err == nil && first:
					firsts[i]++
					answers[i]++
				case err == nil:
					answers[i]++
				case errors.Is(err, task.ErrUnknown):
					unknown[i]++
				case first || !errors.Is(err, task.ErrUnavailable):
					t.Errorf("spend: %v, %v", first, err)
				}
				put[k.ID] = putting
				mu.Unlock()
			}
		})
	}
	all.Wait()
	close(stop)
	harm.Wait()
	for i := range each {
		if firsts[i] > 1 || firsts[i] == 0 && answers[i] > 0 && unknown[i] == 0 {
			t.Errorf("of %d answers %d say that it was the first, and %d are not known", answers[i], firsts[i], unknown[i])
		}
	}
	there := map[task.ID]bool{}
	var acts []string
	eventually(t, "read", func() error {
		keys, err := s.Keys(t.Context(), access.KeyFilter{})
		if err != nil {
			return err
		}
		for _, k := range keys {
			there[k.ID] = true
			acts = append(acts, k.ID.String())
		}
		return nil
	})
	for id, err := range put {
		switch {
		case errors.Is(err, task.ErrUnknown):
		case err != nil && !errors.Is(err, task.ErrUnavailable):
			t.Errorf("put: %v", err)
		case there[id] != (err == nil):
			t.Errorf("a key is there: %v, and putting it gave %v", there[id], err)
		}
	}
	audits, err := s.Audits(t.Context(), "acme", task.ID{}, 0)
	var told []string
	for _, a := range audits {
		told = append(told, a.Target)
	}
	if err != nil || strings.Join(told, " ") != strings.Join(acts, " ") {
		t.Errorf("%d keys and %d acts, %v", len(acts), len(told), err)
	}
	t.Logf("%d of %d keys put", len(acts), callers*each)
}
