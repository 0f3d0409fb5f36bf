package exec

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command gets its limits from a process of ours that sets them for itself and
// then becomes the command. Set from outside they would come late: the command
// runs already. The request comes through a pipe and not by arguments and
// environment, as those of the command could make that process another.

// request says what to become.
type request struct {
	Program   string
	Argv, Env []string
	Limits    Limits
}

// The numbers of the pipes that a child finds behind its standard streams.
const (
	requestPipe = 3
	statusPipe  = 4
)

// startLimited is start with limits.
func startLimited(helper []string, r request, attributes *os.ProcAttr) (*group, error) {
	if len(helper) == 0 {
		return nil, errors.New("limits need a helper")
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err == nil {
			files = append(files, r, w)
		}
		return r, w, err
	}
	theirRequest, ours, err := pipe()
	if err != nil {
		return nil, err
	}
	status, theirStatus, err := pipe()
	if err != nil {
		return nil, err
	}
	g, err := start(helper[0], helper, &os.ProcAttr{
		Dir: attributes.Dir, Env: []string{}, Files: append(attributes.Files[:3:3], theirRequest, theirStatus),
	})
	if err != nil {
		return nil, err
	}
	_ = theirRequest.Close()
	_ = theirStatus.Close()
	told := gob.NewEncoder(ours).Encode(r)
	_ = ours.Close()
	said, err := io.ReadAll(io.LimitReader(status, 64))
	if err == nil && told == nil && string(said) == become {
		return g, nil
	}
	g.kill()
	_, _ = g.wait()
	var errno syscall.Errno
	if _, scanned := fmt.Sscanf(string(said), become+"%d", &errno); scanned == nil {
		return nil, errno
	}
	return nil, errors.Join(errors.New("its limits could not be set"), told, err)
}

// become is what a child says last: behind it stands why it could not, and
// nothing if it could, for the pipe closes as the child becomes the command.
const become = "become "

func becomeCommand() error {
	var pipes [2]*os.File
	for i, fd := range []int{requestPipe, statusPipe} {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
			return errNotForPeople
		}
		unix.CloseOnExec(fd)
		pipes[i] = os.NewFile(uintptr(fd), "pipe")
	}
	var r request
	if err := gob.NewDecoder(pipes[0]).Decode(&r); err != nil {
		return fmt.Errorf("read what to become: %w", err)
	}
	keepFiles()
	// Capabilities are a thread's, and there is little room left for more threads
	// or a larger heap between the limits and the end of this program.
	goruntime.LockOSThread()
	debug.SetGCPercent(-1)
	if err := giveUpPower(); err != nil {
		return err
	}
	if err := r.Limits.set(); err != nil {
		return err
	}
	if _, err := io.WriteString(pipes[1], become); err != nil {
		return err
	}
	err := syscall.Exec(r.Program, r.Argv, r.Env) //nolint:gosec // to run what the task says is what it is for
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		_, _ = fmt.Fprintf(pipes[1], "%d", errno)
	}
	return err
}

// giveUpPower takes from this thread, and so from the command, what would let it
// raise its limits again: root's right to, and programs that make root of others.
func giveUpPower() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	for _, power := range []uintptr{unix.CAP_SYS_RESOURCE, unix.CAP_SYS_PTRACE} {
		// Refused to who has it not to give.
		_ = unix.Prctl(unix.PR_CAPBSET_DROP, power, 0, 0, 0)
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, power, 0, 0)
	}
	return nil
}

// set sets the limits for this process and what it becomes. The one of memory
// comes last, for it may already be less than this process has.
func (l Limits) set() error {
	seconds := uint64(l.CPU.Seconds())
	for _, limit := range []struct {
		what       int
		soft, hard uint64
	}{
		{unix.RLIMIT_CPU, seconds, seconds + 1},
		{unix.RLIMIT_FSIZE, l.FileSize, l.FileSize},
		{unix.RLIMIT_NOFILE, l.Files, l.Files},
		{unix.RLIMIT_NPROC, l.Processes, l.Processes},
		{unix.RLIMIT_AS, l.Memory, l.Memory},
	} {
		if limit.soft == 0 {
			continue
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(limit.what, &now); err != nil {
			return fmt.Errorf("ask for limit %d: %w", limit.what, err)
		}
		// Nobody gets more than the node has.
		to := syscall.Rlimit{Cur: min(limit.soft, now.Max), Max: min(limit.hard, now.Max)}
		if err := syscall.Setrlimit(limit.what, &to); err != nil {
			return fmt.Errorf("set limit %d: %w", limit.what, err)
		}
	}
	return nil
}

// hide keeps what the node has in its memory and was given by its environment
// from other processes of the same user, so from commands: they could read it in
// /proc. Root's commands can still.
func hide() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// keepFiles has no command inherit what this process itself was given open.
func keepFiles() {
	const first = 3
	if unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		keepEach(first) // a kernel older than 5.11
	}
}

func keepEach(first int) {
	files, _ := os.ReadDir("/proc/self/fd")
	for _, file := range files {
		if fd, err := strconv.Atoi(file.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
}
