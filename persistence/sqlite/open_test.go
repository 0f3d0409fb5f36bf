package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestMain(m *testing.M) {
	if dir, victim := os.LookupEnv("TROUPE_TEST_CRASH_DIR"); victim { //nolint:forbidigo // how a test speaks to its child
		fmt.Fprintln(os.Stderr, appendUntilKilled(dir, os.Stdout))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestSecondOpenIsRefusedAndSaysWhoHasIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("second open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestNobodyElseMayReadTheData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir)
	if _, err := s.Renew(t.Context(), task.Node{Name: "n"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		".": 0o700 | os.ModeDir, "lock": 0o600, fileName: 0o600, fileName + "-wal": 0o600, fileName + "-shm": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info, err, want)
		}
	}
}

func TestDirectoryMayHaveAnyName(t *testing.T) {
	for _, name := range []string{"with space", "what?mode=memory", "number#1", "100%41", "ü", "a&b=c;d", "'quote\""} {
		dir := filepath.Join(t.TempDir(), name)
		open(t, dir)
		if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Size() == 0 {
			t.Errorf("%q: %v, %v", name, info, err)
		}
	}
}

func TestUnusableDirectoryIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a database, but long enough to be taken for one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file, Options{}); err == nil {
		t.Error("opened a file as a directory")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, fileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil {
		t.Error("opened a directory as a file")
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil {
		t.Error("opened without a lock")
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte(strings.Repeat("garbage ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil || errors.Is(err, task.ErrUnavailable) {
		t.Errorf("opened garbage: %v", err)
	}
}

func TestSchemaThatDoesNotFitIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(t.Context(), dir, Options{NoMigrate: true}); !errors.Is(err, ErrSchema) ||
		!strings.Contains(err.Error(), "run troupe migrate") {
		t.Fatalf("an old schema: %v", err)
	}
	if err := Migrate(t.Context(), dir, Options{NoMigrate: true}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, Options{NoMigrate: true})
	if err != nil {
		t.Fatal(err)
	}
	w := <-s.writer
	if _, err := w.conn.exec(t.Context(), "INSERT INTO migrations (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	s.writer <- w
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "newer troupe") {
		t.Errorf("a schema of a later version: %v", err)
	}
	if err := Migrate(t.Context(), dir, Options{}); !errors.Is(err, ErrSchema) {
		t.Errorf("a schema of a later version: %v", err)
	}
}

func TestLibraryThatMayDamageTheFileIsRefused(t *testing.T) {
	for v, good := range map[[3]int]bool{
		{3, 51, 2}: false, {3, 50, 9}: false, {2, 99, 99}: false,
		{3, 51, 3}: true, {3, 51, 4}: true, {3, 52, 0}: true, {4, 0, 0}: true,
	} {
		if err := checkVersion(v); (err == nil) != good {
			t.Errorf("version %v: %v", v, err)
		}
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := open(t, t.TempDir())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, reading := s.Overview(t.Context(), task.Scope{})
	_, writing := s.Claim(t.Context(), task.Claim{Kinds: []string{"k"}, Limit: 1})
	for _, err := range []error{reading, writing, s.writeBack(t.Context())} {
		if !errors.Is(err, task.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
}

func TestCallThatWaitsForTheWriterGivesUpInTime(t *testing.T) {
	s := open(t, t.TempDir())
	w := <-s.writer
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	_, err := s.Renew(ctx, task.Node{})
	if !errors.Is(err, task.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want ErrUnavailable and context.Canceled", err)
	}
	s.writer <- w
	if _, err := s.Renew(t.Context(), task.Node{}); err != nil {
		t.Error(err)
	}
}

func TestCallThatIsGivenUpLeavesNothingAndHarmsNothing(t *testing.T) {
	s := open(t, t.TempDir())
	_, ms := births(0, 100, 0)
	// The context ends somewhere within the transaction: the walk over many
	// places includes the one before the commit.
	for i := range 40 {
		ctx := &countdown{Context: t.Context(), left: i * 3}
		if _, err := s.Append(ctx, ms); err == nil {
			continue
		} else if !errors.Is(err, task.ErrUnavailable) {
			t.Fatal(err)
		}
		o, err := s.Overview(t.Context(), task.Scope{})
		if err != nil || len(o.Counts) > 0 {
			t.Fatalf("%v of a transaction given up, %v", o.Counts, err)
		}
	}
	tasks, err := s.Claim(t.Context(), task.Claim{Holder: 1, Kinds: []string{"demo.work"}, Limit: 1000})
	if err != nil || len(tasks) != len(ms) {
		t.Errorf("%d tasks claimed, %v", len(tasks), err)
	}
}

// countdown is a context that is over once it was asked often enough.
type countdown struct {
	context.Context

	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}
