package runtime_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	victimSteps = 50
	effectSeen  = "an effect"
)

var stepsVictim = flag.String("steps-victim", "", "TestStepsVictim works in this directory")

// TestStepsVictim is the process that TestStepsOutliveKills kills.
func TestStepsVictim(t *testing.T) {
	dir := *stepsVictim
	if dir == "" {
		return // it is run by TestStepsOutliveKills
	}
	rt, err := runtime.Open(t.Context(), runtime.WithData(filepath.Join(dir, "data")), runtime.WithLimits(task.Limits{Crashes: 1 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	effects, err := os.OpenFile(filepath.Join(dir, "effects"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer effects.Close()
	runtime.Handle(rt, "steps", func(ctx context.Context, t *runtime.Task[int]) (int, error) {
		sum := 0
		for i := range victimSteps {
			n, err := runtime.Step(ctx, t, "effect", func(context.Context) (int, error) {
				_, err := fmt.Fprintln(effects, i)
				fmt.Fprintln(os.Stdout, effectSeen)
				time.Sleep(time.Millisecond)
				return i, err
			})
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	})
	one, err := rt.Submit(t.Context(), "steps", 0, func(s *task.Spec) {
		s.ID, s.MaxAttempts, s.Retry.Initial = task.ID{1}, 1000, 1
		s.Retry.Max = time.Millisecond
	})
	if err != nil {
		t.Fatal(err)
	}
	done, err := rt.Wait(t.Context(), task.DefaultNamespace, one.ID)
	if err != nil || string(done.Result) != strconv.Itoa(victimSteps*(victimSteps-1)/2) {
		t.Errorf("%s %+v %v", done.Result, done.Failure, err)
	}
	if err := rt.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// A process that runs a task of fifty steps is killed until the task is done: every
// step ran, in order, and of those that ran more than once each was the one under
// way at a kill.
func TestStepsOutliveKills(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	dir, kills := t.TempDir(), 0
	for ; ; kills++ {
		if kills == 200 {
			t.Fatal("it comes to no end")
		}
		victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStepsVictim$", "-steps-victim="+dir)
		out, err := victim.StdoutPipe()
		if err == nil {
			err = victim.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		killed, said := killSoon(victim.Process, out, 1+rand.N(8), rand.N(4*time.Millisecond))
		if err = victim.Wait(); err == nil {
			break
		}
		if !killed {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "effects"))
	if err != nil {
		t.Fatal(err)
	}
	last, again := -1, 0
	for line := range strings.FieldsSeq(string(raw)) {
		n, err := strconv.Atoi(line)
		switch {
		case err == nil && n == last+1:
			last = n
		case err == nil && n == last:
			again++
		default:
			t.Fatalf("%q behind %d", line, last)
		}
	}
	if last != victimSteps-1 || again > kills {
		t.Errorf("ran up to %d, and %d again with %d kills", last, again, kills)
	}
	t.Logf("%d kills, %d steps ran again", kills, again)
}

// killSoon kills a process in a while after it has said so often that it did
// something.
func killSoon(p *os.Process, out io.Reader, effects int, while time.Duration) (killed bool, said string) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said += lines.Text() + "\n"
		if lines.Text() != effectSeen {
			continue
		}
		if effects--; effects == 0 {
			time.Sleep(while) // no matter for what: any moment will do
			return p.Kill() == nil, said
		}
	}
	return false, said
}
