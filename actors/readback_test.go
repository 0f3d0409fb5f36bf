package actors

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// lostAnswer is a store that keeps the first batch and does not say so; before anybody can
// ask, the task has ended.
type lostAnswer struct {
	task.Store
	calls [][]task.Mutation
}

func (s *lostAnswer) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	s.calls = append(s.calls, append([]task.Mutation(nil), ms...))
	out, err := s.Store.Append(ctx, ms)
	if len(s.calls) > 1 || err != nil {
		return out, err
	}
	taken := ms[0].Task.Take(5)
	started := must(taken.Task.Start(time.Now(), "elsewhere", ""))
	ended := must(started.Task.Succeed(time.Now(), nil))
	if _, err := s.Store.Append(ctx, []task.Mutation{taken.Mutation(), started.Mutation(), ended.Mutation()}); err != nil {
		return nil, err
	}
	return nil, task.ErrUnknown
}

// A store need not look for the id of a fresh task among those that have ended. One that
// may have been stored is fresh no more.
func TestATaskOfUnknownFateIsNotFresh(t *testing.T) {
	n := startNode(t, memory.New())
	s := &lostAnswer{Store: memory.New()}
	born := task.New(spec("echo", `1`).Spec, time.Now(), 0)
	out, err := appendAll(t.Context(), s, []task.Mutation{{Op: task.Insert, Task: born.Task, Events: born.Events, Fresh: true}}, n.log)
	if err != nil || out[0].Existing == nil || out[0].Existing.State != task.Succeeded {
		t.Errorf("%+v, %v, want the task that has ended", out, err)
	}
	if last := s.calls[len(s.calls)-1]; len(s.calls) != 2 || last[0].Fresh {
		t.Errorf("of %d calls the last is fresh: %v", len(s.calls), last[0].Fresh)
	}
}
