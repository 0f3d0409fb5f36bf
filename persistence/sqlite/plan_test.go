package sqlite

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// plan is how SQLite would go about a query.
func (s *Store) plan(t *testing.T, query string, args []any) string {
	t.Helper()
	w := <-s.writer
	defer func() { s.writer <- w }()
	for len(args) < strings.Count(query, "?") {
		args = append(args, nil)
	}
	var steps []string
	if err := w.conn.query(t.Context(), "EXPLAIN QUERY PLAN "+query, args, func(r row) error {
		steps = append(steps, r.text(3))
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(steps, "; ")
}

func TestNoQueryScansOrSortsTheTasks(t *testing.T) {
	s := open(t, t.TempDir())
	const finds = "SELECT " + columns + " FROM tasks WHERE "
	for _, q := range []string{
		insertTask, saveHeld, saveEnd, saveAny, take, heads, orphanRows,
		finds + "id = ? AND namespace = ?", finds + byUniqueKey,
		dueRows, sweepRows, trimRows, expiredKeys, firstParked, openLimits, rates, parkedRows, park, unpark, unusedKeys, findResult, expiredResults,
		"DELETE FROM requests WHERE task = ?",
		readMemos, dropMemos, readSignals, takeSignal, dropSignals, countSignals, sameSignal, awaitSignals, ignoreSignals, signalled,
	} {
		if p := s.plan(t, q, nil); strings.Contains(p, "SCAN tasks") || strings.Contains(p, "SCAN requests") || strings.Contains(p, "SCAN results") ||
			strings.Contains(p, "SCAN memos") || strings.Contains(p, "SCAN signals") {
			if q == signalled && strings.Contains(p, "SCAN signals USING INDEX signals_awaited") || q == signalled && strings.Contains(p, "SCAN signals USING COVERING INDEX signals_awaited") {
				continue // those that somebody is to move on
			}
			if q == dueRows && strings.Contains(p, "SCAN tasks USING INDEX waking") {
				continue // from its start, as far as asked
			}
			t.Errorf("%s\n%s", q, p)
		}
	}
	for name, f := range map[string]task.Filter{
		"listed":      {},
		"listed ":     {States: []task.State{task.Succeeded}, Kind: "k", Queue: "q"},
		"unfortunate": {States: []task.State{task.Failed, task.Cancelled}},
		"batched":     {BatchID: task.ID{1}, States: []task.State{task.Running}},
		"PRIMARY KEY": {Labels: map[string]string{"a": "b"}, States: []task.State{task.Running}},
	} {
		f.Namespace, f.CreatedAfter, f.CreatedBefore = "n", epochs[0], epochs[1]
		f.After = task.Place{Created: epochs[1], ID: task.ID{2}}
		query, args := listing(f)
		if p := s.plan(t, query, args); strings.Contains(p, "TEMP B-TREE") || !strings.Contains(p, strings.TrimSpace(name)) {
			t.Errorf("%+v\n%s", f, p)
		}
	}
	query, args := listing(task.Filter{Namespace: "n", States: []task.State{task.Running}})
	if p := s.plan(t, query, args); !strings.Contains(p, "SEARCH tasks USING INDEX held") {
		t.Errorf("running tasks: %s", p)
	}
}

func TestNoQueryScansOrSortsWhatIsKeptOfAccounts(t *testing.T) {
	s := open(t, t.TempDir())
	for _, q := range []string{
		changeAccessKey, touchAccessKey, accessKeyOfHash, accessKeyOfID, accessKeyToChange, accessKeysOf, accessKeysOfAll, endedAccessKeys,
		spentLong, auditsOf, auditsPast,
	} {
		if p := s.plan(t, q, nil); strings.Contains(p, "SCAN") || strings.Contains(p, "TEMP B-TREE") {
			t.Errorf("%s\n%s", q, p)
		}
	}
}

var epochs = []time.Time{benchNow, benchNow.Add(time.Hour)}

func TestEmptyLanesAreForgottenAndOthersKept(t *testing.T) {
	s := open(t, t.TempDir())
	const many = sparedLanes + 200
	_, ms := births(0, many, 0)
	for i := range ms {
		ms[i].Task.Resources = task.Resources{"cpu": task.Quantity(i + 1)}
	}
	if _, err := s.Append(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	known := func() int {
		w := <-s.writer
		defer func() { s.writer <- w }()
		return len(w.lanes.byID)
	}
	sweep := func() {
		if _, err := s.Sweep(t.Context(), task.Retention{Now: benchNow}, 150); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if n := known(); n != many {
		t.Errorf("%d lanes, want all %d: in each waits a task", n, many)
	}
	held, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 2 * many})
	if err != nil || len(held) != many {
		t.Fatalf("%d claimed, %v", len(held), err)
	}
	if _, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 1}); err != nil {
		t.Fatal(err)
	}
	sweep()
	if n := known(); n != many-150 {
		t.Errorf("%d lanes, want %d: no more than asked go at once", n, many-150)
	}
	sweep()
	if n := known(); n != sparedLanes {
		t.Errorf("%d lanes, want %d", n, sparedLanes)
	}
	var back []task.Mutation
	for _, k := range held {
		back = append(back, k.Release().Mutation())
	}
	if _, err := s.Append(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	again, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 2 * many})
	if err != nil || len(again) != many {
		t.Errorf("%d claimed again, %v", len(again), err)
	}
}

func TestSweepGoesInStepsAndTidiesTheLog(t *testing.T) {
	s := open(t, t.TempDir())
	const tasks = 2*sweepStep + 50
	steps, ms := births(0, tasks, 1)
	for i := range steps {
		ms[i].Task.Payload = []byte(`"` + strings.Repeat("x", 400_000) + `"`)
		end, _ := steps[i].Task.Cancel(benchNow, "")
		ms = append(ms, end.Mutation())
	}
	if _, err := s.Append(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	if s.logSize() <= largeLog {
		t.Fatalf("the log has %d bytes, too few to prove anything", s.logSize())
	}
	keep := map[task.State]time.Duration{task.Cancelled: 0}
	for _, want := range []int{sweepStep + 10, tasks - sweepStep - 10, 0} {
		n, err := s.Sweep(t.Context(), task.Retention{Now: benchNow, Keep: keep}, max(want, 1))
		if err != nil || n != want {
			t.Fatalf("%d swept, %v; want %d", n, err, want)
		}
	}
	if s.logSize() > largeLog {
		t.Errorf("the log still has %d bytes", s.logSize())
	}
	recount(t, s)
	if n := s.pragma(t, "SELECT count(*) FROM bodies"); n != "0" {
		t.Errorf("%s bodies are left", n)
	}
}

func TestWriterThatIsNotTrustedIsDialledAnew(t *testing.T) {
	s := open(t, t.TempDir())
	_, ms := births(0, 3, 0)
	if _, err := s.Append(t.Context(), ms[:1]); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.write(t.Context(), "panic", func(x *tx) error {
			if _, err := x.apply(t.Context(), &ms[1]); err != nil {
				t.Error(err)
			}
			panic("on purpose")
		})
	}()
	if err := s.writeBack(t.Context()); err != nil { // nothing to do without a connection
		t.Error(err)
	}
	if _, err := s.Append(t.Context(), ms[2:]); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 9})
	if err != nil || len(got) != 2 || got[0].ID != ms[0].Task.ID || got[1].ID != ms[2].Task.ID {
		t.Errorf("%d claimed, %v", len(got), err)
	}
}

func TestDamagedFileIsNoPassingTrouble(t *testing.T) {
	s := open(t, t.TempDir())
	_, ms := births(0, 1, 0)
	if _, err := s.Append(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	s.pragma(t, "UPDATE tasks SET life = x'ff' RETURNING 1")
	_, err := s.Task(t.Context(), "default", ms[0].Task.ID)
	if err == nil || isAny(err, task.ErrUnavailable, task.ErrNotFound) {
		t.Errorf("a damaged row: %v", err)
	}
	s.pragma(t, "UPDATE tasks SET birth = x'ff' RETURNING 1")
	if _, err := s.Events(t.Context(), "default", ms[0].Task.ID, task.Cursor{}, 9); err == nil {
		t.Error("a damaged log was read")
	}
	if _, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 9}); err == nil {
		t.Error("a damaged row was claimed")
	}
}

func TestLostDirectoryIsPassingTrouble(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Overview(t.Context(), task.Scope{}); !isAny(err, task.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Overview(t.Context(), task.Scope{}); err != nil {
		t.Error(err)
	}
}

func isAny(err error, of ...error) bool {
	for _, e := range of {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
