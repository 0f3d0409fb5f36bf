package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/troupe-run/troupe/runtime/task"
)

// Subject is a store under test.
type Subject struct {
	// Open gives a new, empty store, and sees to it that it is closed in the end.
	Open func(t testing.TB) task.Store
	// Reopen closes s and opens what it kept.
	Reopen func(t testing.TB, s task.Store) task.Store
	// Shared says that many processes may have the store at once. So joining
	// buries nobody, leases end, and nodes are seen by the store's own clock.
	Shared bool
	// Sealed says that texts are kept in another form, so that their bytes are others.
	Sealed bool
	// Brief leaves out what nobody gets wrong who stands around a store that passes in
	// whole: it says so of that one already.
	Brief bool
}

// Run runs the whole suite.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	alone := soleRules
	if subject.Shared {
		alone = slices.Concat(sharedRules, stickyRulesOfMany)
	}
	groups := [][]rule{insertRules, saveRules, listRules, eventRules, resultRules, memoRules, scheduleRules, callbackRules}
	if !subject.Brief {
		groups = append(groups, claimRules, limitRules, nodeRules, alone, dependRules, placementRules, stickyRules, sweepRules, callRules, accountRules, tenantRules)
	}
	if !subject.Brief && !subject.Sealed {
		groups = append(groups, volumeRules)
	}
	for _, group := range groups {
		for _, r := range group {
			t.Run(r.name, func(t *testing.T) {
				r.prove(newSuite(t, subject))
			})
		}
	}
	if !subject.Brief {
		t.Run("RandomWalksMatchTheModel", func(t *testing.T) { walk(t, subject) })
		t.Run("RandomWalksWithKeysMatchTheModel", func(t *testing.T) { walkKeys(t, subject) })
	}
}

// rule is one test.
type rule struct {
	name  string
	prove func(*suite)
}

// patience is how long a test waits for what must come. Only those that fail wait so
// long, so it is more than a slow machine ever needs.
const patience = 2 * time.Minute

// longLease is a lease that no test is slow enough to see the end of.
const longLease = 24 * time.Hour

// mostCrashes is more than a task of these tests has.
const mostCrashes = 1000

// epoch is when the tests happen, with as fine a time as a store must keep.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// suite is one test with a store of its own.
type suite struct {
	*testing.T

	subject Subject
	store   task.Store
	ctx     context.Context
	made    int
}

func newSuite(t *testing.T, subject Subject) *suite {
	t.Helper()
	return &suite{T: t, subject: subject, store: subject.Open(t), ctx: t.Context()}
}

func (s *suite) reopen() {
	s.Helper()
	s.store = s.subject.Reopen(s, s.store)
}

// id gives ids in rising order.
func id(n int) task.ID {
	i := task.ID{0x42}
	binary.BigEndian.PutUint64(i[8:], uint64(n)) //nolint:gosec // a test's own small number
	return i
}

// spec is a small valid spec; change edits it.
func (s *suite) spec(change ...func(*task.Spec)) task.Spec {
	s.made++
	spec := task.Spec{
		ID: id(s.made), Namespace: "acme", Kind: "work", Queue: "default", Payload: json.RawMessage(`{"n": 1.50}`),
		Resources: task.Resources{"slots": 1000}, MaxAttempts: 3, Retry: task.DefaultRetry,
	}
	for _, c := range change {
		c(&spec)
	}
	return spec
}

func insertion(step task.Step) task.Mutation {
	return task.Mutation{Op: task.Insert, Task: step.Task, Events: step.Events}
}

// insert stores a new task made at epoch plus after, held or not.
func (s *suite) insert(spec task.Spec, after time.Duration, holder task.Incarnation) task.Task {
	s.Helper()
	step := task.New(spec, epoch.Add(after), holder)
	s.ok(insertion(step))
	return step.Task
}

// append hands mutations over and fails the test on an error.
func (s *suite) append(ms ...task.Mutation) []task.Outcome {
	s.Helper()
	out, err := s.store.Append(s.ctx, ms)
	if err != nil {
		s.Fatalf("append: %v", err)
	}
	if len(out) != len(ms) {
		s.Fatalf("%d outcomes of %d mutations", len(out), len(ms))
	}
	return out
}

// ok is append where all must hold and make something new.
func (s *suite) ok(ms ...task.Mutation) {
	s.Helper()
	for i := range ms {
		ms[i].Fresh = ms[i].Op == task.Insert // or it is not ok
	}
	for i, o := range s.append(ms...) {
		if o.Err != nil || o.Existing != nil {
			s.Fatalf("mutation %d: %+v", i, o)
		}
	}
}

// refused is append of one that must not hold, and why.
func (s *suite) refused(m task.Mutation, why error) {
	s.Helper()
	if o := s.append(m)[0]; !errors.Is(o.Err, why) || o.Existing != nil {
		s.Fatalf("outcome %+v, want %v", o, why)
	}
}

// step stores a decision and gives the row after it.
func (s *suite) step(step task.Step, err error) task.Task {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	s.ok(step.Mutation())
	return step.Task
}

func (s *suite) start(t task.Task, after time.Duration) task.Task {
	s.Helper()
	return s.step(t.Start(epoch.Add(after), "node", "worker"))
}

func (s *suite) succeed(t task.Task, after time.Duration) task.Task {
	s.Helper()
	return s.step(t.Succeed(epoch.Add(after), json.RawMessage(`"done"`)))
}

func (s *suite) read(t task.Task) task.Task {
	s.Helper()
	got, err := s.store.Task(s.ctx, t.Namespace, t.ID)
	if err != nil {
		s.Fatal(err)
	}
	return got
}

// stored says that the row is as it should be.
func (s *suite) stored(want task.Task) {
	s.Helper()
	s.same(s.read(want), want)
}

func (s *suite) gone(t task.Task) {
	s.Helper()
	if _, err := s.store.Task(s.ctx, t.Namespace, t.ID); !errors.Is(err, task.ErrNotFound) {
		s.Fatalf("task %s: %v, want it gone", t.ID, err)
	}
}

// events reads a whole log in pages of two.
func (s *suite) events(t task.Task) []task.Event {
	s.Helper()
	var log []task.Event
	after := task.Cursor{}
	for {
		page, err := s.store.Events(s.ctx, t.Namespace, t.ID, after, 2)
		if err != nil {
			s.Fatal(err)
		}
		if len(page) == 0 {
			return log
		}
		log = append(log, page...)
		after = page[len(page)-1].Cursor
	}
}

func (s *suite) claim(q task.Claim) []task.Task {
	s.Helper()
	if q.Kinds == nil {
		q.Kinds = []string{"work"}
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	tasks, err := s.store.Claim(s.ctx, q)
	if err != nil {
		s.Fatal(err)
	}
	return tasks
}

// join gives a new node's number.
func (s *suite) join() task.Incarnation {
	s.Helper()
	n, err := s.store.Renew(s.ctx, task.Node{Name: "node", Started: epoch, Seen: epoch, Lease: longLease})
	if err != nil {
		s.Fatal(err)
	}
	return n.Incarnation
}

func (s *suite) same(got, want any) {
	s.Helper()
	if d := diff(got, want); d != "" {
		s.Fatalf("(-got +want)\n%s", d)
	}
}

func diff(got, want any) string {
	if reflect.DeepEqual(got, want) { // as it mostly is, and much faster
		return ""
	}
	return cmp.Diff(got, want, cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b task.Time) bool { return time.Time(a).Equal(time.Time(b)) }),
		// What is not empty, that is; and not byte by byte, which takes its time.
		cmp.FilterValues(func(a, b json.RawMessage) bool { return len(a)+len(b) > 0 },
			cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })))
}

func ids(tasks []task.Task) []task.ID {
	var all []task.ID
	for _, t := range tasks {
		all = append(all, t.ID)
	}
	return all
}

func (s *suite) overview(scope task.Scope) task.Overview {
	s.Helper()
	o, err := s.store.Overview(s.ctx, scope)
	if err != nil {
		s.Fatal(err)
	}
	return o
}

// list reads a whole list in pages.
func (s *suite) list(f task.Filter) []task.Task {
	s.Helper()
	var all []task.Task
	if f.Namespace == "" {
		f.Namespace = "acme"
	}
	if f.Limit == 0 {
		f.Limit = 3
	}
	for {
		page, next, err := s.store.Tasks(s.ctx, f)
		if err != nil {
			s.Fatal(err)
		}
		if len(page) > f.Limit {
			s.Fatalf("a page of %d, asked for %d", len(page), f.Limit)
		}
		all = append(all, page...)
		if next.IsZero() {
			return all
		}
		f.After = next
	}
}

func reversed[T any](all []T) []T {
	all = slices.Clone(all)
	slices.Reverse(all)
	return all
}
