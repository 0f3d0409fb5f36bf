package storetest

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Tasks that wait for others: blocked until all of those have ended.

// child is a spec that depends on tasks.
func (s *suite) child(parents []task.Task, change ...func(*task.Spec)) task.Spec {
	return s.spec(append([]func(*task.Spec){func(p *task.Spec) {
		p.OnDependencyFailure = task.CancelOnFailure
		for _, t := range parents {
			p.DependsOn = append(p.DependsOn, t.ID)
		}
	}}, change...)...)
}

func orRun(p *task.Spec) { p.OnDependencyFailure = task.RunOnFailure }

// running is a task that runs, held by node 5.
func (s *suite) running() task.Task {
	s.Helper()
	return s.start(s.insert(s.spec(), 0, 5), time.Second)
}

// ends ends a running task, and says whether that may have unblocked any.
func (s *suite) ends(t task.Task, how task.State) bool {
	s.Helper()
	step, err := t.Succeed(epoch.Add(time.Minute), nil)
	switch how {
	case task.Failed:
		step, err = t.Fail(epoch.Add(time.Minute), task.Failure{Code: "e"}, 0)
	case task.Cancelled:
		step, err = t.Cancel(epoch.Add(time.Minute), "")
	default:
	}
	if err != nil {
		s.Fatal(err)
	}
	out := s.append(step.Mutation())[0]
	if out.Err != nil {
		s.Fatal(out.Err)
	}
	return out.Settles
}

// unblocked expects that these and no others are listed.
func (s *suite) unblocked(want ...task.Unblocked) {
	s.Helper()
	got, err := s.store.Unblocked(s.ctx, 100)
	if err != nil {
		s.Fatal(err)
	}
	if len(got) != len(want) {
		s.Fatalf("%d tasks are unblocked, want %d", len(got), len(want))
	}
	for i := range want {
		s.same(got[i].Task, want[i].Task)
		if got[i].Failed != want[i].Failed {
			s.Fatalf("%s is given up for %s, want %s", got[i].Task.ID, got[i].Failed, want[i].Failed)
		}
	}
}

// release moves all that are unblocked on.
func (s *suite) release() (moved []task.Task) {
	s.Helper()
	for {
		all, err := s.store.Unblocked(s.ctx, 100)
		if err != nil {
			s.Fatal(err)
		}
		if len(all) == 0 {
			return moved
		}
		for _, u := range all {
			moved = append(moved, s.step(u.Step(epoch.Add(time.Hour))))
		}
	}
}

var dependRules = []rule{
	{"ChildIsBlockedUntilAllItsParentsSucceeded", func(s *suite) {
		a, b := s.running(), s.running()
		child := s.insert(s.child([]task.Task{a, b}), 0, 5)
		if child.State != task.Blocked || child.Holder != 0 {
			s.Fatalf("%s, held by %d", child.State, child.Holder)
		}
		s.stored(child)
		s.unblocked()
		if !s.ends(a, task.Succeeded) {
			s.Error("the first parent's end settles nothing")
		}
		s.unblocked()
		s.unblocked()
		s.reopen()
		if !s.ends(b, task.Succeeded) {
			s.Error("the last parent's end settles nothing")
		}
		s.unblocked(task.Unblocked{Task: child})
		s.reopen()
		s.unblocked(task.Unblocked{Task: child})
		if got := s.claim(task.Claim{Holder: 5, Kinds: []string{"work"}, Limit: 10}); len(got) != 0 {
			s.Fatal("a blocked task can be claimed")
		}
		moved := s.release()
		s.unblocked()
		if len(moved) != 1 || moved[0].State != task.Queued {
			s.Fatalf("%+v", moved)
		}
		s.claim(task.Claim{Holder: 5, Kinds: []string{"work"}, Limit: 10})
	}},
	{"ParentThatDoesNotSucceedGivesItsChildrenUp", func(s *suite) {
		for _, how := range []task.State{task.Failed, task.Cancelled} {
			a, b := s.running(), s.running()
			child := s.insert(s.child([]task.Task{a, b}), 0, 0)
			other := s.insert(s.child([]task.Task{a, b}, orRun), 0, 0)
			s.ends(a, how)
			s.unblocked(task.Unblocked{Task: child, Failed: a.ID})
			given := s.release()[0]
			if given.State != task.Cancelled || given.Failure.Code != task.CodeDependency {
				s.Fatalf("%s %+v", given.State, given.Failure)
			}
			s.stored(given)
			s.ends(b, how)
			s.unblocked(task.Unblocked{Task: other})
			s.release()
		}
	}},
	{"ParentThatHasEndedHoldsNobodyUp", func(s *suite) {
		a, b := s.running(), s.running()
		s.ends(a, task.Succeeded)
		s.ends(b, task.Failed)
		steps := []task.Step{
			task.New(s.child([]task.Task{a}), epoch, 0), task.New(s.child([]task.Task{b}), epoch, 0), task.New(s.child([]task.Task{b}, orRun), epoch, 0),
		}
		for _, step := range steps {
			if out := s.append(insertion(step))[0]; out.Err != nil || !out.Settles {
				s.Fatalf("%+v", out)
			}
		}
		s.unblocked(task.Unblocked{Task: steps[0].Task}, task.Unblocked{Task: steps[1].Task, Failed: b.ID}, task.Unblocked{Task: steps[2].Task})
	}},
	{"ParentMustBeThere", func(s *suite) {
		foreign := s.insert(s.spec(func(p *task.Spec) { p.Namespace = "other" }), 0, 0)
		here := s.running()
		for _, parents := range [][]task.Task{{here, foreign}, {{Spec: task.Spec{ID: id(1 << 20)}}}} {
			step := task.New(s.child(parents), epoch, 0)
			out := s.append(insertion(step))[0]
			var missing *task.MissingError
			if !errors.As(out.Err, &missing) || missing.Task != parents[len(parents)-1].ID {
				s.Fatalf("%+v", out)
			}
			s.gone(step.Task)
		}
		// One that was made while they were there is the same task when it is made again.
		step := task.New(s.child([]task.Task{here}), epoch, 0)
		s.ok(insertion(step))
		s.ends(here, task.Succeeded)
		ended := s.read(here)
		s.ok(task.Mutation{Op: task.Delete, Task: ended, Guard: ended.Guard()})
		if out := s.append(insertion(step))[0]; out.Err != nil || out.Existing == nil || out.Existing.ID != step.Task.ID {
			s.Fatalf("%+v", out)
		}
		s.unblocked(task.Unblocked{Task: step.Task})
	}},
	{"ParentsAndChildrenMayComeTogether", func(s *suite) {
		var ms []task.Mutation
		parent := task.New(s.spec(), epoch, 5)
		ms = append(ms, insertion(parent))
		child := task.New(s.child([]task.Task{parent.Task}), epoch, 5)
		grandchild := task.New(s.child([]task.Task{child.Task}), epoch, 5)
		s.ok(append(ms, insertion(child), insertion(grandchild))...)
		s.unblocked()
		s.ends(s.start(parent.Task, time.Second), task.Failed)
		if moved := s.release(); len(moved) != 2 || moved[1].State != task.Cancelled {
			s.Fatalf("%+v", moved)
		}
	}},
	{"CancelledChildIsNotUnblocked", func(s *suite) {
		a := s.running()
		child := s.insert(s.child([]task.Task{a}), 0, 0)
		s.step(child.Cancel(epoch, ""))
		if s.ends(a, task.Succeeded) {
			s.Error("nobody waits for it any more")
		}
		s.unblocked()
		again := s.step(s.read(child).Rerun(epoch))
		if again.State != task.Queued {
			s.Fatal(again.State)
		}
	}},
	{"StatesAreThoseOfTheNamespace", func(s *suite) {
		a, other := s.running(), s.insert(s.spec(func(p *task.Spec) { p.Namespace = "other" }), 0, 0)
		got, err := s.store.States(s.ctx, "acme", []task.ID{a.ID, other.ID, id(1 << 20)})
		if err != nil || len(got) != 1 || got[a.ID] != task.Running {
			s.Fatalf("%v, %v", got, err)
		}
	}},
	{"ManyChildrenAndManyParents", func(s *suite) {
		root := s.running()
		var ms []task.Mutation
		var children []task.Task
		for range 300 {
			step := task.New(s.child([]task.Task{root}), epoch, 0)
			ms, children = append(ms, insertion(step)), append(children, step.Task)
		}
		s.ok(ms...)
		last := s.insert(s.child(children), 0, 0)
		s.ends(root, task.Succeeded)
		if moved := s.release(); len(moved) != 300 {
			s.Fatalf("%d children moved", len(moved))
		}
		ms = nil
		for _, c := range children {
			held := s.read(c)
			held = s.step(held.Take(5), nil)
			ms = append(ms, must(s.start(held, time.Hour).Succeed(epoch.Add(2*time.Hour), nil)).Mutation())
		}
		s.ok(ms[1:]...)
		s.unblocked()
		s.ok(ms[0])
		s.unblocked(task.Unblocked{Task: last})
	}},
	// A child that comes while its parent ends is not left behind.
	{"NobodyIsLeftBehind", func(s *suite) {
		const rounds, each = 20, 4
		for range rounds {
			parent := s.running()
			var specs []task.Spec
			for range each {
				specs = append(specs, s.child([]task.Task{parent}))
			}
			step := must(parent.Succeed(epoch.Add(time.Minute), nil))
			var wg sync.WaitGroup
			wg.Go(func() {
				if out, err := s.store.Append(s.ctx, []task.Mutation{step.Mutation()}); err != nil || out[0].Err != nil {
					s.Errorf("end: %v %v", out, err)
				}
			})
			for _, spec := range specs {
				wg.Go(func() {
					if out, err := s.store.Append(s.ctx, []task.Mutation{insertion(task.New(spec, epoch, 0))}); err != nil || out[0].Err != nil {
						s.Errorf("insert: %v %v", out, err)
					}
				})
			}
			wg.Wait()
			moved := s.release()
			for _, spec := range specs {
				if !slices.ContainsFunc(moved, func(t task.Task) bool { return t.ID == spec.ID }) {
					s.Fatalf("%s stays blocked", spec.ID)
				}
			}
		}
	}},
}

func must(step task.Step, err error) task.Step {
	if err != nil {
		panic(err)
	}
	return step
}
