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
	pipe := fifo(t)
	node := osexec.Command(os.Args[0], asNode, "sh", "-c", "exec 3>"+pipe+"; exec sleep 1000")
	node.Stderr = os.Stderr
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	up, err := os.Open(pipe) // returns when the command has it open too
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := node.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = node.Wait()
	if _, err := up.Read(make([]byte, 1)); err == nil {
		t.Error("the command wrote something")
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
			if _, err := (Config{}).run(t.Context(), newRecorder(), command("sleep", "0.2")); err != nil {
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
	if _, err := (Config{}).run(t.Context(), r, command("cat", "/proc/self/stat")); err != nil {
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
