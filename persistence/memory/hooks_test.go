package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestHooksPlayAFullDiskAndAnUnknownFate(t *testing.T) {
	s := memory.New()
	spec := task.Spec{ID: task.ID{1}, Namespace: "n", Kind: "k", Queue: "q"}
	step := task.New(spec, time.Now(), 0)
	ms := []task.Mutation{{Op: task.Insert, Task: step.Task, Events: step.Events}}
	kept := func() bool {
		_, err := s.Task(t.Context(), "n", spec.ID)
		return err == nil
	}

	s.Hook(memory.Hooks{Before: func(call string, ms []task.Mutation) error {
		if call != "Append" {
			return nil
		}
		if len(ms) != 1 {
			t.Errorf("%d mutations", len(ms))
		}
		return task.ErrUnavailable
	}})
	if _, err := s.Append(t.Context(), ms); !errors.Is(err, task.ErrUnavailable) || kept() {
		t.Errorf("%v, kept: %v; want ErrUnavailable and nothing", err, kept())
	}

	s.Hook(memory.Hooks{After: func(call string, _ []task.Mutation) error {
		if call == "Append" {
			return task.ErrUnknown
		}
		return nil
	}})
	if _, err := s.Append(t.Context(), ms); !errors.Is(err, task.ErrUnknown) || !kept() {
		t.Errorf("%v, kept: %v; want ErrUnknown and the task", err, kept())
	}
}

func TestEveryCallIsHooked(t *testing.T) {
	s := memory.New()
	lost := errors.New("lost")
	asked := ""
	s.Hook(memory.Hooks{Before: func(call string, _ []task.Mutation) error {
		asked = call
		return lost
	}})
	ctx := t.Context()
	act := access.Audit{ID: task.ID{1}, At: time.Now(), Namespace: "n", Action: "test"}
	for name, call := range map[string]func() error{
		"Renew":    func() error { _, err := s.Renew(ctx, task.Node{}); return err },
		"Claim":    func() error { _, err := s.Claim(ctx, task.Claim{}); return err },
		"Due":      func() error { _, _, err := s.Due(ctx, time.Now(), 1); return err },
		"Orphans":  func() error { _, err := s.Orphans(ctx, 1); return err },
		"Tasks":    func() error { _, _, err := s.Tasks(ctx, task.Filter{}); return err },
		"Result":   func() error { _, _, err := s.Result(ctx, "n", "k", "", time.Now()); return err },
		"Events":   func() error { _, err := s.Events(ctx, "n", task.ID{1}, task.Cursor{}, 1); return err },
		"Overview": func() error { _, err := s.Overview(ctx, task.Scope{}); return err },
		"Sweep":    func() error { _, err := s.Sweep(ctx, task.Retention{}, 1); return err },
		"PutKey": func() error {
			k := access.Key{ID: task.ID{1}, Namespace: "n", Hash: [32]byte{1}, Created: time.Now()}
			return s.PutKey(ctx, k, act)
		},
		"KeyByHash": func() error { _, err := s.KeyByHash(ctx, [32]byte{1}); return err },
		"Keys":      func() error { _, err := s.Keys(ctx, access.KeyFilter{}); return err },
		"ChangeKey": func() error { _, err := s.ChangeKey(ctx, "n", task.ID{1}, access.KeyChange{}, act); return err },
		"TouchKeys": func() error { return s.TouchKeys(ctx, nil) },
		"SetTenant": func() error { return s.SetTenant(ctx, access.Tenant{Namespace: "n"}, act) },
		"Tenants":   func() error { _, err := s.Tenants(ctx); return err },
		"Spend":     func() error { _, err := s.Spend(ctx, task.ID{1}, time.Now()); return err },
		"AddAudit":  func() error { return s.AddAudit(ctx, act) },
		"Audits":    func() error { _, err := s.Audits(ctx, "n", task.ID{}, 1); return err },
	} {
		if err := call(); !errors.Is(err, lost) || asked != name {
			t.Errorf("%s: %v, hooked as %q", name, err, asked)
		}
	}
}
