package main

import (
	"fmt"
	"syscall"
)

// allowFiles sees to it that this process and those that it starts may have n files
// and sockets open. Go itself asks for all that the hard limit allows.
func allowFiles(n int) error {
	want := uint64(n) //nolint:gosec // of a few thousand
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= want {
		return nil
	}
	more := syscall.Rlimit{Cur: want, Max: max(limit.Max, want)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more); err != nil {
		return fmt.Errorf("so many sockets need %d open files, and only %d are allowed (raise it with: ulimit -Hn %d): %w", n, limit.Max, n, err)
	}
	return nil
}
