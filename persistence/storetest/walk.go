package storetest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/task"
)

// walker takes random steps with a store and a model, and compares all that can
// be seen of them.
type walker struct {
	*rapid.T

	test  *suite
	model *model
	now   time.Time
	born  int
}

// walks is how many unless -rapid.checks says: a durable store takes its time.
const walks = "10"

func fewWalks(t *testing.T) {
	t.Helper()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(walks); err != nil {
			t.Fatal(err)
		}
	}
}

func walk(t *testing.T, subject Subject) {
	t.Helper()
	fewWalks(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := &walker{T: rt, test: newSuite(t, subject), model: &model{}, now: epoch}
		rt.Repeat(map[string]func(*rapid.T){
			"":            w.compare,
			"append":      w.append,
			"append_more": w.append, // twice as often
			"claim":       w.claim,
			"due":         w.due,
			"join":        w.join,
			"leave":       w.leave,
			"reopen":      func(*rapid.T) { w.test.reopen() },
			"sweep":       w.sweep,
			"wait":        func(rt *rapid.T) { w.now = w.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(rt, "s")) * time.Second) },
		})
		if err := w.test.store.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

func (w *walker) same(got, want any) {
	w.Helper()
	if d := diff(got, want); d != "" {
		w.Fatalf("(-got +want)\n%s", d)
	}
}

func (w *walker) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// append hands over a few mutations at once, most of which hold. The later are
// thought of as if the earlier had been made, and so may go wrong where those do.
func (w *walker) append(rt *rapid.T) {
	var ms []task.Mutation
	for range rapid.IntRange(1, 6).Draw(rt, "n") {
		switch rapid.IntRange(0, 9).Draw(rt, "what") {
		case 0, 1, 2:
			ms = append(ms, w.birth(rt))
		case 3:
			ms = append(ms, task.Mutation{Op: task.SetQueue, Queue: task.QueueChange{
				Namespace: "acme", Name: pick(rt, "queue", "a", "b"), Paused: new(rapid.Bool().Draw(rt, "paused")),
			}})
		default:
			if len(w.model.tasks) > 0 {
				ms = append(ms, w.change(rt))
			}
		}
	}
	out, err := w.test.store.Append(w.test.ctx, ms)
	w.must(err)
	saved := map[task.ID]bool{}
	for _, m := range ms {
		saved[m.Task.ID] = saved[m.Task.ID] || m.Op == task.Save
	}
	for i, m := range ms {
		want := w.model.apply(m)
		if !errors.Is(out[i].Err, want.Err) {
			w.Fatalf("outcome of %d is %v, want %v", i, out[i].Err, want.Err)
		}
		if got := out[i].Existing; got != nil && want.Existing != nil && saved[got.ID] {
			w.same(got.ID, want.Existing.ID) // as it stood before or after that
			continue
		}
		w.same(out[i].Existing, want.Existing)
	}
}

func pick[T any](rt *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(rt, label) }

func (w *walker) birth(rt *rapid.T) task.Mutation {
	w.born++
	s := task.Spec{
		ID: id(w.born), Namespace: pick(rt, "namespace", "acme", "acme", "other"),
		Kind: pick(rt, "kind", "work", "play"), Queue: pick(rt, "queue", "a", "b"),
		Priority: rapid.IntRange(-1, 1).Draw(rt, "priority"), Payload: json.RawMessage(strconv.Itoa(w.born)),
		Resources: task.Resources{"slots": pick[task.Quantity](rt, "slots", 0, 1000)}, MaxAttempts: 2, Retry: task.DefaultRetry,
		UniqueKey: pick(rt, "unique", "", "", "u", "v"),
	}
	fresh := true
	switch rapid.IntRange(0, 9).Draw(rt, "spice") {
	case 0:
		fresh = false
		s.ID = id(rapid.IntRange(1, w.born).Draw(rt, "again"))
	case 1:
		s.RunAt = w.now.Add(time.Minute)
	case 2:
		s.Deadline = w.now.Add(time.Minute)
	case 3:
		s.BatchID = id(10_000 + rapid.IntRange(0, 1).Draw(rt, "batch"))
	case 4:
		s.Labels = map[string]string{"a": pick(rt, "label", "x", "y"), "b": "z"}
	case 6, 7:
		s.Affinity = task.Affinity{Require: w.selector(rt, "require"), Prefer: w.selector(rt, "prefer")}
	case 5:
		s.Payload = json.RawMessage(fmt.Sprintf("%2000d", w.born))
	}
	m := insertion(task.New(s, w.now, pick[task.Incarnation](rt, "holder", 0, 0, 1, 2)))
	m.Fresh = fresh
	if rapid.IntRange(0, 3).Draw(rt, "asked") == 0 {
		m.Request = task.Request{
			Key: pick(rt, "key", "k", "l"), Hash: [32]byte{pick[byte](rt, "hash", 1, 1, 2)}, Expires: w.now.Add(time.Minute),
		}
	}
	return m
}

func (w *walker) selector(rt *rapid.T, label string) task.Selector {
	terms := map[string][]string{}
	for range rapid.IntRange(0, 2).Draw(rt, label) {
		terms[pick(rt, "key", "zone", "gpu")] = pick(rt, "values", []string{"a"}, []string{"b", "a"}, []string{`"<ü`})
	}
	return task.Select(terms)
}

func (w *walker) labels(rt *rapid.T) map[string]string {
	return pick(rt, "labels", nil, map[string]string{"zone": "a"}, map[string]string{"zone": "b", "gpu": "a"}, map[string]string{"gpu": `"<ü`})
}

// change is something that may happen to a task, or, now and then, may not.
func (w *walker) change(rt *rapid.T) task.Mutation {
	t := pick(rt, "task", w.model.tasks...).Task
	var step task.Step
	err := errors.New("not chosen")
	switch rapid.IntRange(0, 12).Draw(rt, "change") {
	case 0:
		if t.Holder != 0 {
			step, err = t.Start(w.now, "node", "worker")
		}
	case 1:
		step, err = t.Succeed(w.now, json.RawMessage(`{"r": 1}`))
	case 2:
		step, err = t.Fail(w.now, task.Failure{Code: "c", Message: "m", Retryable: rapid.Bool().Draw(rt, "retryable")}, 0.5)
	case 3:
		step, err = t.Cancel(w.now, "because")
	case 4:
		step, err = t.Due(w.now)
	case 5:
		step, err = t.HandBack(w.now)
	case 6:
		step, err = t.Rerun(w.now)
	case 7:
		if !t.State.Terminal() && t.State != task.Running {
			step, err = t.Take(pick[task.Incarnation](rt, "holder", 0, 1, 2)), nil
		}
	case 8:
		if !t.State.Terminal() {
			step, err = t.Lost(w.now, task.CodeNodeLost, 0.5, mostCrashes), nil
		}
	case 9:
		if t.State.Terminal() {
			return task.Mutation{Op: task.Delete, Task: task.Task{Spec: task.Spec{ID: t.ID, Namespace: t.Namespace}}, Guard: t.Guard()}
		}
	}
	m := step.Mutation()
	if err != nil {
		m = w.speech(rt, t)
	}
	switch rapid.IntRange(0, 19).Draw(rt, "spoil") {
	case 0:
		m.Guard.Attempt++
	case 1:
		m.Guard.Holder++
	case 2:
		m.Task.Namespace = pick(rt, "namespace", "acme", "other")
	}
	return m
}

// speech is a few live events, and perhaps a checkpoint.
func (w *walker) speech(rt *rapid.T, t task.Task) task.Mutation {
	m := task.Mutation{Op: task.Save, Guard: t.Guard()}
	for i := range rapid.IntRange(0, 3).Draw(rt, "events") {
		var e task.Event
		t, e = t.Say(w.now, task.EventLog, json.RawMessage(fmt.Sprintf(`{"message":"%d"}`, i)))
		m.Events = append(m.Events, e)
	}
	if rapid.IntRange(0, 3).Draw(rt, "save") == 0 && !t.State.Terminal() {
		m.Checkpoint = true
		t.Checkpoint = json.RawMessage(fmt.Sprintf("%*d", pick(rt, "size", 3, 3000), 7))
	}
	m.Task = t
	return m
}

func (w *walker) claim(rt *rapid.T) {
	q := task.Claim{
		Holder: pick[task.Incarnation](rt, "holder", 1, 2), Limit: rapid.IntRange(1, 4).Draw(rt, "limit"),
		Kinds: pick(rt, "kinds", []string{"work"}, []string{"work", "play"}, []string{"none"}),
	}
	q.Labels = w.labels(rt)
	for range rapid.IntRange(0, 2).Draw(rt, "served") {
		q.Served = append(q.Served, task.Served{
			Namespace: pick(rt, "whose", "acme", "nobody"), Kinds: pick(rt, "workers do", []string{"play"}, []string{"play", "work"}), Labels: w.labels(rt),
		})
	}
	for range rapid.IntRange(0, 2).Draw(rt, "rivals") {
		q.Rivals = append(q.Rivals, task.Rival{Labels: w.labels(rt), Kinds: pick(rt, "theirs", []string{"work"}, []string{"play", "work"}, nil), Before: rapid.Bool().Draw(rt, "before")})
	}
	if rapid.Bool().Draw(rt, "packs") {
		q.Packed = []task.QueueName{{Namespace: "acme", Name: pick(rt, "packed", "a", "b")}, {Namespace: "nobody", Name: "b"}}
	}
	if len(w.model.tasks) > 0 && rapid.Bool().Draw(rt, "bounded") {
		t := pick(rt, "like", w.model.tasks...).Task
		if above := t.Rank(); rapid.Bool().Draw(rt, "above") {
			q.Above = &above
		} else {
			q.Full = []task.Lane{t.Lane()}
		}
	}
	got, err := w.test.store.Claim(w.test.ctx, q)
	w.must(err)
	w.same(got, w.model.claim(q))
}

func (w *walker) due(rt *rapid.T) {
	limit := rapid.IntRange(0, 3).Draw(rt, "limit")
	got, next, err := w.test.store.Due(w.test.ctx, w.now, limit)
	w.must(err)
	want, wantNext := w.model.due(w.now, limit)
	w.same(got, want)
	w.same(next, wantNext)
}

func (w *walker) join(*rapid.T) {
	n, err := w.test.store.Renew(w.test.ctx, task.Node{Name: "n", Started: w.now, Seen: w.now, Lease: longLease})
	w.must(err)
	for i := range w.model.nodes {
		w.model.nodes[i].Left = w.model.nodes[i].Left || !w.test.subject.Shared
	}
	n.Lease = 0 // not read back
	w.model.nodes = append(w.model.nodes, n)
}

func (w *walker) leave(rt *rapid.T) {
	var live []int
	for i, n := range w.model.nodes {
		if !n.Left {
			live = append(live, i)
		}
	}
	if len(live) == 0 {
		rt.Skip("nobody is there")
	}
	n := &w.model.nodes[rapid.SampledFrom(live).Draw(rt, "node")]
	left := *n
	left.Seen, left.Left = w.now, true
	left, err := w.test.store.Renew(w.test.ctx, left)
	w.must(err)
	left.Lease = 0
	*n = left
}

func (w *walker) sweep(rt *rapid.T) {
	r := task.Retention{Now: w.now, Keep: map[task.State]time.Duration{}}
	for _, s := range []task.State{task.Succeeded, task.Failed, task.Cancelled} {
		if rapid.Bool().Draw(rt, "keep") {
			r.Keep[s] = time.Minute
		}
	}
	r.KeepEvents = pick(rt, "events", 0, time.Second)
	n, err := w.test.store.Sweep(w.test.ctx, r, 1000)
	w.must(err)
	w.same(n, w.model.sweep(r))
}

// compare looks at every row, at a few logs, and at all that is asked of many.
func (w *walker) compare(rt *rapid.T) {
	s := w.test
	for _, namespace := range []string{"acme", "other"} {
		all := task.Filter{Namespace: namespace, Limit: 1000}
		rows, _, err := s.store.Tasks(s.ctx, all)
		w.must(err)
		w.same(rows, w.model.list(all))
	}
	for range min(3, len(w.model.tasks)) {
		e := pick(rt, "log", w.model.tasks...)
		got, err := s.store.Task(s.ctx, e.Namespace, e.ID)
		w.must(err)
		w.same(got, e.Task)
		from := rapid.IntRange(0, len(e.log)).Draw(rt, "from")
		after := task.Cursor{}
		if from > 0 {
			after = e.log[from-1].Cursor
		}
		events, err := s.store.Events(s.ctx, e.Namespace, e.ID, after, 100)
		w.must(err)
		w.same(events, e.log[from:])
	}
	orphans, err := s.store.Orphans(s.ctx, 3)
	w.must(err)
	w.same(orphans, w.model.orphans(3))
	f := w.filter(rt)
	page, next, err := s.store.Tasks(s.ctx, f)
	w.must(err)
	want := w.model.list(f)
	if more := len(want) > f.Limit; more == next.IsZero() {
		w.Fatalf("next page at %v, want one: %v", next, more)
	}
	w.same(page, want[:min(f.Limit, len(want))])
	if !next.IsZero() {
		f.After = next
		rest, _, err := s.store.Tasks(s.ctx, f)
		w.must(err)
		w.same(rest, want[f.Limit:min(2*f.Limit, len(want))])
	}
	for _, scope := range []task.Scope{{}, {Namespace: "acme"}, {Batch: id(10_000)}, {Namespace: "acme", Batch: id(10_001)}} {
		got, err := s.store.Overview(s.ctx, scope)
		w.must(err)
		want := w.model.overview(scope)
		if s.subject.Sealed {
			got.Volumes, want.Volumes = nil, nil
		}
		w.same(got, want)
	}
}

func (w *walker) filter(rt *rapid.T) task.Filter {
	f := task.Filter{Namespace: "acme", Limit: rapid.IntRange(1, 5).Draw(rt, "limit")}
	flip := func() bool { return rapid.IntRange(0, 3).Draw(rt, "by") == 0 }
	if flip() {
		f.Kind = "work"
	}
	if flip() {
		f.Queue = "a"
	}
	if flip() {
		f.Labels = map[string]string{"a": "x", "b": "z"}
		if flip() {
			maps.DeleteFunc(f.Labels, func(k, _ string) bool { return k == "b" })
		}
	}
	if flip() {
		f.BatchID = id(10_000)
	}
	if flip() {
		f.CreatedAfter = w.now.Add(-time.Minute)
	}
	if flip() {
		f.CreatedBefore = w.now
	}
	for _, s := range task.States() {
		if flip() {
			f.States = append(f.States, s)
		}
	}
	return f
}
