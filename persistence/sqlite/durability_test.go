package sqlite

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// pragma runs on the writer's connection.
func (s *Store) pragma(tb testing.TB, text string) string {
	tb.Helper()
	w := <-s.writer
	defer func() { s.writer <- w }()
	if w.conn == nil {
		if err := w.dial(context.Background()); err != nil {
			tb.Fatal(err)
		}
	}
	answer := ""
	if err := w.conn.query(context.Background(), text, nil, func(r row) error {
		answer = fmt.Sprint(r[0])
		return nil
	}); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return answer
}

func TestFullDiskCostsTheCallAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	full := "PRAGMA max_page_count=" + s.pragma(t, "PRAGMA page_count")
	var kept []task.Task
	next := 0
	for range 3 {
		s.pragma(t, full)
		failed := false
		for !failed {
			_, ms := births(next, 7, 0)
			next += len(ms)
			// A lane of its own, a large body and a label: all that must go too.
			ms[3].Task.Queue = fmt.Sprintf("q%d", next)
			ms[4].Task.Payload = json.RawMessage(`"` + strings.Repeat("x", 5000) + `"`)
			ms[5].Task.Labels = map[string]string{"a": "b"}
			_, err := s.Append(t.Context(), ms)
			switch {
			case errors.Is(err, task.ErrUnavailable):
				failed = true
			case err != nil:
				t.Fatal(err)
			default:
				for _, m := range ms {
					kept = append(kept, m.Task)
				}
			}
		}
		// What takes no room still works, and nothing of the refused is there.
		if _, err := s.Task(t.Context(), "default", benchID(next-7)); !errors.Is(err, task.ErrNotFound) {
			t.Fatalf("a task of a refused batch: %v", err)
		}
		s.pragma(t, "PRAGMA max_page_count=1000000")
		_, ms := births(next, 100, 0)
		next += len(ms)
		if _, err := s.Append(t.Context(), ms); err != nil {
			t.Fatalf("with room again: %v", err)
		}
		for _, m := range ms {
			kept = append(kept, m.Task)
		}
		full = "PRAGMA max_page_count=" + s.pragma(t, "PRAGMA page_count")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if ok := s.pragma(t, "PRAGMA integrity_check"); ok != "ok" {
		t.Fatal(ok)
	}
	for _, k := range kept {
		if _, err := s.Task(t.Context(), "default", k.ID); err != nil {
			t.Fatal(err)
		}
	}
	claimed, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 2 * len(kept)})
	if err != nil || len(claimed) != len(kept) {
		t.Errorf("%d of %d claimed, %v", len(claimed), len(kept), err)
	}
}

func TestFullDiskKeepsNeitherAKeyNorItsAudit(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.pragma(t, "PRAGMA max_page_count="+s.pragma(t, "PRAGMA page_count"))
	kept, failed := 0, 0
	for n := 1; failed < 20; n++ {
		// The larger of the two changes places, so that now one and now the other has no room.
		id, more := benchID(n), strings.Repeat("x", 3000)
		k := access.Key{ID: id, Namespace: "acme", Hash: [32]byte(append(id[:], id[:]...)), Created: benchNow}
		a := access.Audit{ID: id, At: benchNow, Namespace: "acme", Action: "key.create"}
		if n%2 == 0 {
			k.Name = more
		} else {
			a.Detail = more
		}
		switch err := s.PutKey(t.Context(), k, a); {
		case errors.Is(err, task.ErrUnavailable):
			failed++
		case err != nil:
			t.Fatal(err)
		default:
			kept++
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	keys, err := s.Keys(t.Context(), access.KeyFilter{Namespace: "acme"})
	if err != nil || len(keys) != kept {
		t.Fatalf("%d keys, %v; want %d", len(keys), err, kept)
	}
	acts, err := s.Audits(t.Context(), "acme", task.ID{}, 0)
	if err != nil || len(acts) != kept {
		t.Fatalf("%d acts of %d keys, %v", len(acts), kept, err)
	}
	for i, a := range acts {
		if a.ID != keys[i].ID {
			t.Errorf("an act of %s, and a key %s", a.ID, keys[i].ID)
		}
	}
}

func TestFullTmpfsIsSurvived(t *testing.T) {
	if os.Geteuid() != 0 { // only root mounts: run again as the root of a namespace of our own
		again := exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$")
		if out, err := again.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "umount", "-l", dir).Run() })
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept, next := 0, 0
	fill := func() {
		for {
			_, ms := births(next, 50, 0)
			next += len(ms)
			_, err := s.Append(t.Context(), ms)
			if err != nil {
				if !errors.Is(err, task.ErrUnavailable) && !errors.Is(err, task.ErrUnknown) {
					t.Fatal(err)
				}
				return
			}
			kept += len(ms)
		}
	}
	fill()
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,size=12m", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	before := kept
	fill()
	if kept <= before {
		t.Error("with room again, nothing was kept")
	}
	o, err := s.Overview(t.Context(), task.Scope{})
	if err != nil || o.Counts[0].Tasks != int64(kept) {
		t.Errorf("%v, %v; want %d tasks", o.Counts, err, kept)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,size=64m", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if ok := s.pragma(t, "PRAGMA integrity_check"); ok != "ok" {
		t.Error(ok)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// appendUntilKilled is a process of its own: it appends batches, and ends of
// some of the tasks before, and says what was kept.
func appendUntilKilled(dir string, acknowledged io.Writer) error {
	ctx := context.Background()
	s, err := Open(ctx, dir, Options{})
	if err != nil {
		return err
	}
	node, err := s.Renew(ctx, task.Node{Name: "victim"})
	if err != nil {
		return err
	}
	from := int(node.Incarnation) * 1_000_000
	for {
		steps, ms := births(from, 9, node.Incarnation)
		for i, birth := range steps {
			start, _ := birth.Task.Start(birth.Task.Created, "n", "w")
			end, _ := start.Task.Succeed(birth.Task.Created, json.RawMessage(strconv.Itoa(i)))
			if i%2 == 0 {
				ms = append(ms, start.Mutation(), end.Mutation())
			}
		}
		if _, err := s.Append(ctx, ms); err != nil {
			return err
		}
		fmt.Fprintln(acknowledged, from)
		from += 9
	}
}

func TestKilledProcessLosesNothingItAcknowledged(t *testing.T) {
	cycles := 8
	if testing.Short() {
		cycles = 3
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	total := 0
	for cycle := range cycles {
		kept := killed(t, self, dir, 1+cycle*3)
		total += 9 * len(kept)
		s, err := Open(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if ok := s.pragma(t, "PRAGMA integrity_check"); ok != "ok" {
			t.Fatal(ok)
		}
		for _, from := range kept {
			for i := range 9 {
				got, err := s.Task(t.Context(), "default", benchID(from+i))
				if err != nil || got.State == task.Succeeded != (i%2 == 0) {
					t.Fatalf("task %d: %v, %v", from+i, got.State, err)
				}
			}
		}
		recount(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	o, err := s.Overview(t.Context(), task.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	there := int64(0)
	for _, c := range o.Counts {
		there += c.Tasks
	}
	if there < int64(total) {
		t.Errorf("%d tasks after all, %d were acknowledged", there, total)
	}
	t.Logf("%d kills, %d tasks acknowledged, none lost", cycles, total)
}

// killed runs a process until it has acknowledged that many batches, and kills
// it in the middle of the next. It returns the first number of each batch.
func killed(t *testing.T, self, dir string, batches int) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	victim := exec.CommandContext(ctx, self)
	victim.Env = append(os.Environ(), "TROUPE_TEST_CRASH_DIR="+dir)
	victim.Stderr = os.Stderr
	said, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var kept []int
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		from, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		if kept = append(kept, from); len(kept) == batches {
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(kept) < batches {
		t.Fatalf("the process ended by itself after %d batches", len(kept))
	}
	_ = victim.Wait() // killed, as it says
	return kept
}

// recount compares the counts kept with the rows there are.
func recount(t *testing.T, s *Store) {
	t.Helper()
	wrong := s.pragma(t, `SELECT (SELECT count(*) FROM (
			SELECT namespace, queue, state, count(*) FROM tasks GROUP BY 1, 2, 3 EXCEPT SELECT * FROM counts))
		+ (SELECT count(*) FROM (
			SELECT * FROM counts EXCEPT SELECT namespace, queue, state, count(*) FROM tasks GROUP BY 1, 2, 3))`)
	if wrong != "0" {
		t.Errorf("%s counts are wrong", wrong)
	}
}
