package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// What a namespace may take up, as far as a store sees to it.

func (s *suite) setTenant(t access.Tenant) {
	s.Helper()
	if err := s.accounts().SetTenant(s.ctx, t, s.act("tenant.set")); err != nil {
		s.Fatal(err)
	}
}

// wantsOfTenant is what a task asks for whose namespace is bounded.
func wantsOfTenant(t task.Task) []task.Token {
	return t.Wants(task.Queue{}, task.Kind{}, 1, noPool)
}

var tenantRules = []rule{
	{"OfANamespaceNoMoreRunThanMayWhateverTheyAre", func(s *suite) {
		s.setTenant(access.Tenant{Namespace: "acme", Running: 2})
		one := func(i int, namespace string) (task.Task, bool) {
			t := s.insert(s.spec(func(p *task.Spec) {
				p.Namespace, p.Queue, p.Kind = namespace, "q"+strconv.Itoa(i%2), "k"+strconv.Itoa(i%3)
			}), time.Duration(i)*time.Second, 5)
			return s.try(t, wantsOfTenant(t)...)
		}
		var running []task.Task
		var parked task.Task
		for i := range 5 {
			if t, ok := one(i, "acme"); ok {
				running = append(running, t)
			} else {
				parked = t
			}
		}
		s.same(len(running), 2)
		limit := task.NamespaceLimit("acme")
		s.same(s.read(parked).Parked, &task.Parked{Limit: limit, Used: 2000, Most: 2000})
		for range 3 {
			if _, ok := one(0, "other"); !ok {
				s.Error("another namespace is bounded, too")
			}
		}
		s.reopen()
		claimed := func() []task.Task {
			got, err := s.store.Claim(s.ctx, task.Claim{Holder: 5, Kinds: []string{"k0", "k1", "k2"}, Limit: 10})
			if err != nil {
				s.Fatal(err)
			}
			return got
		}
		s.same(len(claimed()), 0)
		s.step(running[0].Lost(epoch.Add(time.Hour), task.CodeNodeLost, 0.5, mostCrashes), nil) // its node died
		called := claimed()
		s.same(len(called), 1)
		if _, ok := s.try(called[0], wantsOfTenant(called[0])...); !ok {
			s.Error("there is room, and it does not start")
		}
		s.setTenant(access.Tenant{Namespace: "acme", Running: 3})
		s.same(len(claimed()), 1)
		s.setTenant(access.Tenant{Namespace: "acme", Queued: 7}) // and no bound on what runs
		s.same(len(claimed()), 1)
	}},
	{"TenantThatIsNotSetBoundsNothing", func(s *suite) {
		s.setTenant(access.Tenant{Namespace: "acme", Running: 2})
		known := s.audits("acme", 0)[0]
		s.want(s.accounts().SetTenant(s.ctx, access.Tenant{Namespace: "acme", Running: 1}, known), task.ErrExists)
		started := 0
		for range 3 {
			t := s.insert(s.spec(), 0, 5)
			if _, ok := s.try(t, wantsOfTenant(t)...); ok {
				started++
			}
		}
		s.same(started, 2)
	}},
	{"OfANamespaceNoMoreRunThanMayWhoeverAsksAndDies", func(s *suite) {
		const tasks, workers, most = 40, 6, 3
		s.setTenant(access.Tenant{Namespace: "acme", Running: most})
		var ms []task.Mutation
		for i := range tasks {
			spec := s.spec(func(p *task.Spec) { p.MaxAttempts = 1000 })
			ms = append(ms, insertion(task.New(spec, epoch.Add(time.Duration(i)*time.Second), 0)))
		}
		s.ok(ms...)
		var running, done atomic.Int64
		s.together(workers, func(n int) error {
			for late := time.Now().Add(patience); done.Load() < tasks; {
				if time.Now().After(late) {
					return fmt.Errorf("%d of %d have run", done.Load(), tasks)
				}
				got, err := s.store.Claim(s.ctx, task.Claim{Holder: task.Incarnation(n + 1), Kinds: []string{"work"}, Limit: 4})
				if err != nil {
					return err
				}
				started, err := s.startAll(got)
				if err != nil {
					return err
				}
				if now := running.Add(int64(len(started))); now > most {
					return fmt.Errorf("%d run, where %d may", now, most)
				}
				var ends []task.Mutation
				ended := int64(0)
				for i, t := range started {
					step := t.Lost(t.Started, task.CodeNodeLost, 0.5, mostCrashes)
					if (i+n+t.Attempt)%3 > 0 {
						ended++
						if step, err = t.Succeed(epoch, json.RawMessage("1")); err != nil {
							return err
						}
					}
					ends = append(ends, step.Mutation())
				}
				running.Add(-int64(len(started)))
				out, err := s.store.Append(s.ctx, ends)
				if err != nil {
					return err
				}
				if i := slices.IndexFunc(out, func(o task.Outcome) bool { return o.Err != nil }); i >= 0 {
					return out[i].Err
				}
				done.Add(ended)
				if err := s.wakeAll(); err != nil {
					return err
				}
			}
			return nil
		})
	}},
}

// volumeRules are about how many bytes are kept.
var volumeRules = []rule{
	{"BytesKeptAreThoseOfWhatIsThere", func(s *suite) {
		large := json.RawMessage(`"` + strings.Repeat("x", 5000) + `"`)
		var one task.Task
		var log []task.Event
		check := func(what string) {
			s.Helper()
			want := []task.Volume{{Namespace: "acme", Bytes: int64(len(one.Payload)+len(one.Checkpoint)+len(one.Result)) + task.BytesOf(log)}}
			if d := diff(s.overview(task.Scope{Namespace: "acme"}).Volumes, want); d != "" {
				s.Errorf("%s: (-got +want)\n%s", what, d)
			}
		}
		save := func(m task.Mutation) {
			s.Helper()
			s.ok(m)
			log = append(log, m.Events...)
			checkpoint := one.Checkpoint
			if one = m.Task; !m.Checkpoint {
				one.Checkpoint = checkpoint
			}
		}
		s.insert(s.spec(func(p *task.Spec) { p.Namespace = "other" }), 0, 0)
		born := insertion(task.New(s.spec(func(p *task.Spec) { p.Payload = large }), epoch, 5))
		save(born)
		check("a large payload")
		s.append(born)
		check("the same insert again")
		start, err := one.Start(epoch, "node", "worker")
		if err != nil {
			s.Fatal(err)
		}
		save(start.Mutation())
		for _, checkpoint := range []json.RawMessage{large, json.RawMessage("1"), large, nil, json.RawMessage("[2]")} {
			t, e := one.Say(epoch, task.EventOutput, large)
			t.Checkpoint = checkpoint
			save(task.Mutation{Op: task.Save, Guard: one.Guard(), Task: t, Events: []task.Event{e}, Checkpoint: true})
			check("a checkpoint of " + strconv.Itoa(len(checkpoint)))
		}
		stale := task.Mutation{Op: task.Save, Guard: one.Guard(), Task: one}
		stale.Guard.Attempt++
		s.refused(stale, task.ErrStale)
		check("a write that was refused")
		fail, err := one.Fail(epoch, task.Failure{Code: "x", Message: "no"}, 0.5)
		if err != nil {
			s.Fatal(err)
		}
		save(fail.Mutation())
		check("an end")
		again, err := one.Rerun(epoch)
		if err != nil {
			s.Fatal(err)
		}
		save(again.Mutation())
		check("a new beginning")
		save(one.Take(5).Mutation())
		if start, err = one.Start(epoch, "node", "worker"); err != nil {
			s.Fatal(err)
		}
		save(start.Mutation())
		end, err := one.Succeed(epoch, large)
		if err != nil {
			s.Fatal(err)
		}
		save(end.Mutation())
		check("a large result")
		s.reopen()
		check("another day")
		if _, err := s.store.Sweep(s.ctx, task.Retention{Now: epoch.Add(time.Hour), KeepEvents: time.Minute}, 10); err != nil {
			s.Fatal(err)
		}
		log = log[len(log)-1:]
		check("a log that was trimmed")
		s.ok(task.Mutation{Op: task.Delete, Task: one, Guard: one.Guard()})
		s.same(s.overview(task.Scope{Namespace: "acme"}).Volumes, []task.Volume(nil))
		s.same(len(s.overview(task.Scope{}).Volumes), 1)
	}},
	{"BytesKeptAreExactWhoeverWrites", func(s *suite) {
		const writers, tasks = 8, 30
		var all []task.Task
		for range writers * tasks {
			all = append(all, s.insert(s.spec(), 0, 5))
		}
		left := make([]int64, writers)
		s.together(writers, func(n int) error {
			for i, t := range all[n*tasks : (n+1)*tasks] {
				step, err := t.Start(epoch, "node", "worker")
				if err != nil {
					return err
				}
				t, ms := step.Task, []task.Mutation{step.Mutation()}
				for range i % 3 {
					said, e := t.Say(epoch, task.EventLog, json.RawMessage(strconv.Itoa(1000*i)))
					ms = append(ms, task.Mutation{Op: task.Save, Guard: t.Guard(), Task: said, Events: []task.Event{e}})
					t = said
				}
				end, err := t.Succeed(epoch, json.RawMessage(strconv.Itoa(i)))
				if err != nil {
					return err
				}
				if ms = append(ms, end.Mutation()); i%2 == 0 {
					ms = append(ms, task.Mutation{Op: task.Delete, Task: end.Task, Guard: end.Task.Guard()})
				}
				out, err := s.store.Append(s.ctx, ms)
				if err != nil {
					return err
				}
				if i := slices.IndexFunc(out, func(o task.Outcome) bool { return o.Err != nil }); i >= 0 {
					return out[i].Err
				}
				if i%2 == 1 {
					events, err := s.store.Events(s.ctx, t.Namespace, t.ID, task.Cursor{}, 100)
					if err != nil {
						return err
					}
					left[n] += int64(len(t.Payload)+len(end.Task.Result)) + task.BytesOf(events)
				}
			}
			return nil
		})
		var sum int64
		for _, n := range left {
			sum += n
		}
		s.same(s.overview(task.Scope{}).Volumes, []task.Volume{{Namespace: "acme", Bytes: sum}})
	}},
}

// startAll starts claimed tasks of a namespace that is bounded, those that may.
func (s *suite) startAll(claimed []task.Task) (started []task.Task, err error) {
	var ms []task.Mutation
	for _, t := range claimed {
		step, err := t.Start(epoch, "node", "worker", wantsOfTenant(t)...)
		if err != nil {
			return nil, err
		}
		ms = append(ms, step.Mutation())
	}
	out, err := s.store.Append(s.ctx, ms)
	if err != nil {
		return nil, err
	}
	for i, o := range out {
		switch {
		case o.Err == nil:
			started = append(started, ms[i].Task)
		case !errors.Is(o.Err, task.ErrParked):
			return nil, o.Err
		}
	}
	return started, nil
}

// wakeAll lets tasks go whose time has come.
func (s *suite) wakeAll() error {
	due, _, err := s.store.Due(s.ctx, epoch.Add(1000*time.Hour), 100)
	if err != nil {
		return err
	}
	var ms []task.Mutation
	for _, t := range due {
		if step, err := t.Due(epoch.Add(1000 * time.Hour)); err == nil {
			ms = append(ms, step.Mutation())
		}
	}
	_, err = s.store.Append(s.ctx, ms) // another may have been faster
	return err
}
