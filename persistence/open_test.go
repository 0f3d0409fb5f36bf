package persistence_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/persistence/sqlite"
)

func TestURLNamesAStore(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, url := range []string{"", "data", "./data: with colon", "sqlite:other", "sqlite://third", filepath.Join(t.TempDir(), "abs")} {
		s, err := persistence.Open(t.Context(), url, persistence.Options{})
		if err != nil {
			t.Errorf("open %q: %v", url, err)
			continue
		}
		if _, ok := s.(*sqlite.Store); !ok {
			t.Errorf("open %q gives a %T", url, s)
		}
		if _, err := persistence.Open(t.Context(), url, persistence.Options{}); !errors.Is(err, sqlite.ErrLocked) {
			t.Errorf("open %q twice: %v", url, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// Opened by that package's own tests; here, that it is asked: it alone knows what a
	// bad port is, and says so before it calls anybody.
	_, err := persistence.Open(t.Context(), "postgres://127.0.0.1:bad/x", persistence.Options{})
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); !ok {
		t.Errorf("postgres: gives %v", err)
	}
	s, err := persistence.Open(t.Context(), "memory:", persistence.Options{})
	if _, ok := s.(*memory.Store); !ok {
		t.Errorf("memory: gives a %T, %v", s, err)
	}
}

func TestURLThatNamesNoStoreIsRefused(t *testing.T) {
	for url, says := range map[string]string{
		"mysql:secret": `"mysql"; use sqlite:DIR or postgres://…`,
		"sqlite:":      "use sqlite:DIR or postgres://…",
		"memory:x":     "use sqlite:DIR or postgres://…",
	} {
		_, err := persistence.Open(t.Context(), url, persistence.Options{})
		if !errors.Is(err, persistence.ErrScheme) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("open %q: %v", url, err)
		}
	}
}

func TestMigrateMakesWhatOpenNeeds(t *testing.T) {
	dir := t.TempDir()
	careful := persistence.Options{NoMigrate: true}
	if _, err := persistence.Open(t.Context(), dir, careful); !errors.Is(err, sqlite.ErrSchema) {
		t.Fatalf("open without a schema: %v", err)
	}
	if err := persistence.Migrate(t.Context(), dir, careful); err != nil {
		t.Fatal(err)
	}
	s, err := persistence.Open(t.Context(), dir, careful)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := persistence.Migrate(t.Context(), "mysql:x", careful); !errors.Is(err, persistence.ErrScheme) {
		t.Errorf("migrate nothing: %v", err)
	}
}
