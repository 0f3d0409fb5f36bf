package actors

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestRetriesBeyondTheBudgetLetFirstAttemptsGoFirst(t *testing.T) {
	alone(t, func(t *testing.T, store *memory.Store, n *Node) {
		t.Helper()
		var mu sync.Mutex
		starts := map[int][]time.Time{} // by attempt
		begun := make(chan struct{})    // closed when all have: what a retry waits is of how many began before it
		n.Handle("work", func(_ context.Context, j *Job) (json.RawMessage, error) {
			mu.Lock()
			starts[j.Task.Attempt] = append(starts[j.Task.Attempt], time.Now())
			if len(starts[1]) == 100 && len(starts[2]) == 0 {
				close(begun)
			}
			mu.Unlock()
			<-begun
			if j.Task.Attempt == 1 {
				return nil, &task.Failure{Code: "down", Message: "no", Retryable: true}
			}
			return nil, nil
		})
		kind := task.KindChange{Namespace: task.DefaultNamespace, Name: "work", RetryBudget: new(0.25)}
		if _, err := n.SetKind(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var ids []task.ID
		for range 100 {
			ids = append(ids, submitOne(t, n, "work", "1", func(s *task.Spec) { s.Retry = task.Retry{Initial: time.Second, Max: time.Hour, Factor: 2} }).ID)
		}
		time.Sleep(5 * time.Second)
		mu.Lock()
		first, retries := len(starts[1]), len(starts[2])
		mu.Unlock()
		if first != 100 || retries < 10 || retries > 40 { // ten, a quarter of those begun by then, and one in two seconds
			t.Errorf("after 5 s there were %d first attempts and %d retries", first, retries)
		}
		time.Sleep(3 * time.Minute)
		mu.Lock()
		all := starts[2]
		mu.Unlock()
		if len(all) != 100 {
			t.Fatalf("%d retries: some are lost", len(all))
		}
		if took := all[99].Sub(began); took < 80*time.Second || took > 150*time.Second { // 65 that are not paid for, 35 a minute
			t.Errorf("the last retry came after %v", took)
		}
		told := 0
		for _, id := range ids {
			events, err := store.Events(t.Context(), task.DefaultNamespace, id, task.Cursor{}, 100)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(events, func(e task.Event) bool { return strings.Contains(string(e.Data), `"reason":"retry_budget"`) }) {
				told++
			}
		}
		if told < 100-40 || told > 100-10 {
			t.Errorf("%d are told that they wait for the budget", told)
		}
		kind.RetryBudget = new(0.0)
		if _, err := n.SetKind(t.Context(), kind); err != nil || len(n.budgets.kinds) != 0 {
			t.Errorf("%d are kept of kinds without a budget, %v", len(n.budgets.kinds), err)
		}
	})
}
