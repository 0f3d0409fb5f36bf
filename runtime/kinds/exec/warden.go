//go:build unix

package exec

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// warden is a process beside the node, one for all commands, that knows their
// groups. When the node dies, however it dies, the warden ends them with all that
// they have started: the kernel itself would end the first process of each only.
type warden struct {
	helper []string // none: nobody watches

	mu      sync.Mutex
	groups  map[int]struct{}
	process *os.Process
	pipe    *os.File // nil while there is no process
}

// ready is called before a command starts, so that its group need not wait for
// the start of a warden too.
func (w *warden) ready() {
	if len(w.helper) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pipe == nil {
		_ = w.start() // see tell
	}
}

func (w *warden) add(group int) {
	if len(w.helper) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.groups == nil {
		w.groups = map[int]struct{}{}
	}
	w.groups[group] = struct{}{}
	w.tell("+", group)
}

// remove is called while the group's number is still its own.
func (w *warden) remove(group int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.groups[group]; known {
		delete(w.groups, group)
		w.tell("-", group)
	}
}

// tell starts a warden where there is none any more, which hears of all groups.
// Where that fails commands run unwatched, and the next one tries again.
func (w *warden) tell(what string, group int) {
	if w.pipe != nil {
		if _, err := fmt.Fprintf(w.pipe, "%s%d\n", what, group); err == nil {
			return
		}
		_ = w.pipe.Close()
		w.pipe = nil
		_, _ = w.process.Wait() // it has ended: nobody else reads the pipe
	}
	if len(w.groups) == 0 || w.start() != nil {
		return
	}
	for group := range w.groups {
		_, _ = fmt.Fprintf(w.pipe, "+%d\n", group)
	}
}

func (w *warden) start() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	// In a session of its own no Ctrl-C reaches it before the node.
	w.process, err = os.StartProcess(w.helper[0], append(slices.Clip(w.helper), watching), &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{theirs, null, null}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_ = ours.Close()
		return err
	}
	w.pipe = ours
	return nil
}

// watch is what a warden does: it hears of groups until the node is gone.
func watch(node io.Reader) error {
	groups := map[int]struct{}{}
	for in := bufio.NewScanner(node); in.Scan(); {
		line := in.Text()
		group, err := strconv.Atoi(line[min(1, len(line)):])
		if err != nil || group <= 1 {
			return errNotForPeople
		}
		if line[0] == '+' {
			groups[group] = struct{}{}
		} else {
			delete(groups, group)
		}
	}
	for group := range groups {
		_ = syscall.Kill(-group, syscall.SIGKILL) // ESRCH: it has just ended
	}
	return nil
}
