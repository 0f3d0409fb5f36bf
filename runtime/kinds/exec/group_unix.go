//go:build unix

package exec

import (
	"os"
	"sync"
	"syscall"
)

// group is a command and the processes it started, unless they left it.
type group struct {
	leader *os.Process
	warden *warden // nil: nobody is told of its end

	mu   sync.Mutex
	over bool // the leader's number may be another's by now
}

// start runs a program in a group of its own, without a terminal: one that asks
// for a password fails, and does not stand still in the background.
func start(program string, argv []string, attributes *os.ProcAttr) (*group, error) {
	attributes.Sys = &syscall.SysProcAttr{Setsid: true}
	dieWithParent(attributes.Sys)
	leader, err := os.StartProcess(program, argv, attributes)
	if err != nil {
		return nil, err
	}
	return &group{leader: leader}, nil
}

// wait returns when the command has ended, and has then killed what is left of
// its group. As long as nobody has collected the leader its number is its own,
// so that comes last where the system lets us see its end without it.
func (g *group) wait() (state *os.ProcessState, err error) {
	uncollected := awaitEnd(g.leader)
	if !uncollected {
		state, err = g.leader.Wait()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = syscall.Kill(-g.leader.Pid, syscall.SIGKILL) // ESRCH: nothing is left
	g.over = true
	if g.warden != nil {
		g.warden.remove(g.leader.Pid)
	}
	if uncollected {
		state, err = g.leader.Wait()
	}
	return state, err
}

// watched has w end the group if the node cannot.
func (g *group) watched(w *warden) {
	g.warden = w
	w.add(g.leader.Pid)
}

func (g *group) terminate() { g.signal(syscall.SIGTERM) }
func (g *group) kill()      { g.signal(syscall.SIGKILL) }

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		_ = syscall.Kill(-g.leader.Pid, s) // ESRCH: it has just ended
	}
}

// ended says how a command ended: by which signal, or with which status.
func ended(state *os.ProcessState) (status int, signal string) {
	how, ok := state.Sys().(syscall.WaitStatus)
	if ok && how.Signaled() {
		return 128 + int(how.Signal()), how.Signal().String()
	}
	return state.ExitCode(), ""
}

// scarce are the errors of a machine that is short of something for a moment.
var scarce = []error{
	syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY, syscall.EINTR,
}
