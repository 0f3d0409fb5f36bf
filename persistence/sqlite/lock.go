package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// lockDirectory makes the directory and takes its lock, or says who has it. The
// lock is the kernel's and ends with the process, however that ends; the file
// stays, with the number of the process that had it last.
func lockDirectory(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	name := filepath.Join(dir, "lock")
	lock := flock.New(name, flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	case !locked:
		return nil, fmt.Errorf("%w: %s belongs to another troupe process (pid %s); stop it or give another --data",
			ErrLocked, dir, holder(name))
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := os.WriteFile(name, []byte(pid), 0o600); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return lock, nil
}

func holder(name string) string {
	b, err := os.ReadFile(name) //nolint:gosec // the operator names the directory
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return pid
	}
	return "unknown"
}
