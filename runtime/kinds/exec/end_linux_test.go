package exec

import (
	"fmt"
	"os"
	osexec "os/exec"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
)

func TestACommandDiesWithItsNode(t *testing.T) {
	for name, tt := range map[string]struct{ limits, script string }{
		"itself":                 {"", "exec 3>$0; echo up; exec sleep 1000"},
		"itself, with limits":    {"files=100", "exec 3>$0; echo up; exec sleep 1000"},
		"what it has started":    {"", "exec 3>$0; echo up; sh -c 'sleep 1000; :' & sh -c 'sleep 1000; :'; :"},
		"what is left of it":     {"", "exec 3>$0; echo up; trap '' TERM HUP; { trap '' INT; sleep 1000; } & sleep 1000"},
		"all of it, with limits": {"files=100,cpu=60s", "exec 3>$0; echo up; sleep 1000 & sleep 1000; :"},
	} {
		t.Run(name, func(t *testing.T) {
			pipe := fifo(t)
			node := osexec.Command(os.Args[0], asNode, tt.limits, "sh", "-c", tt.script, pipe)
			node.Stderr = os.Stderr
			said, err := node.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
			up, err := os.Open(pipe) // returns when the command has it open too
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			if _, err := said.Read(make([]byte, 1)); err != nil { // from then on it is watched
				t.Fatal(err)
			}
			if err := node.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = node.Wait()
			if _, err := up.Read(make([]byte, 1)); err == nil {
				t.Error("the command wrote something")
			}
		})
	}
}

func TestACommandDoesNotDieWithAThread(t *testing.T) {
	var all sync.WaitGroup
	stop := make(chan struct{})
	// A goroutine that ends while it is locked takes its thread with it.
	killers := func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			gone := make(chan struct{})
			go func() { defer close(gone); goruntime.LockOSThread() }()
			<-gone
		}
	}
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(killers)
	}
	for range 20 {
		all.Go(func() {
			if _, err := newRunner(Config{}).run(t.Context(), newRecorder(), command("sleep", "0.2")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(stop)
	busy.Wait()
}

func TestACommandHasASessionOfItsOwn(t *testing.T) {
	r := newRecorder()
	if _, err := newRunner(Config{}).run(t.Context(), r, command("cat", "/proc/self/stat")); err != nil {
		t.Fatal(err)
	}
	var pid, parent, group, session, terminal int
	_, rest, _ := strings.Cut(r.output(), " (cat) S ")
	if rest == "" {
		_, rest, _ = strings.Cut(r.output(), " (cat) R ")
	}
	if _, err := fmt.Sscan(r.output(), &pid); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(rest, &parent, &group, &session, &terminal); err != nil {
		t.Fatal(err)
	}
	if pid == 0 || group != pid || session != pid || terminal != 0 || parent != os.Getpid() {
		t.Errorf("of this process %d the command got %q", os.Getpid(), r.output())
	}
}
