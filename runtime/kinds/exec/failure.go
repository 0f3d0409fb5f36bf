package exec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/troupe-run/troupe/runtime/task"
)

// The statuses a shell gives to what it could not run.
const (
	statusNotFound   = 127
	statusNotStarted = 126
)

type details struct {
	Signal     string `json:"signal,omitempty"`
	ExitStatus int    `json:"exit_status"`
}

func failure(code string, retryable bool, d details, format string, args ...any) error {
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err) // a string and a number
	}
	return &task.Failure{Code: code, Message: fmt.Sprintf(format, args...), Retryable: retryable, Details: raw}
}

// failed is why a command that ran did not succeed.
func failed(program string, status int, signal string) error {
	d := details{Signal: signal, ExitStatus: status}
	if signal != "" {
		return failure("signal", true, d, "%s was ended by a signal: %s", filepath.Base(program), signal)
	}
	return failure("exit_status", true, d, "%s ended with status %d", filepath.Base(program), status)
}

// notStarted is why a command never ran. Only what a machine is short of for a
// moment is worth another try.
func notStarted(program string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return failure("exec_not_found", false, details{ExitStatus: statusNotFound},
			"there is no program %s on this node, or what its first line names is missing", program)
	}
	// Without the path of the node that the error names.
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno
	}
	retryable := slices.ContainsFunc(scarce, func(s error) bool { return errors.Is(err, s) })
	return failure("exec_failed", retryable, details{ExitStatus: statusNotStarted}, "cannot start %s: %v", program, err)
}

func notThere(dir string) error {
	return failure("exec_failed", false, details{ExitStatus: statusNotStarted}, "dir: %s is no directory on this node", dir)
}
