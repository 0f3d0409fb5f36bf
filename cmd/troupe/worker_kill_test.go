package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

var workerTasks = flag.Int("worker-tasks", 1000, "how many tasks TestWorkerKill has workers run")

const (
	workerChild = "test-worker"
	workersKept = 2
	slotsOfEach = 8
	workersOwn  = "worker.echo"
)

// workAt is a worker in a process of its own, until it is killed.
func workAt(server string) int {
	c, err := client.New(server, client.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	w := client.NewWorker(c, client.WorkerOptions{Name: "pid " + strconv.Itoa(os.Getpid()), Slots: slotsOfEach})
	client.HandleWorker(w, workersOwn, func(ctx context.Context, a *client.Attempt[int]) (int, error) {
		if err := a.EmitText("begun"); err != nil {
			return 0, err
		}
		wait := time.NewTimer(time.Duration(rand.IntN(10)) * time.Millisecond)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		return client.StepOf(ctx, a, "once", func(context.Context) (int, error) { return a.Payload, nil })
	})
	if err := w.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a worker's process.
type child struct {
	cmd  *exec.Cmd
	gone chan struct{}
}

func startChild(t *testing.T, server string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(self, workerChild, server), gone: make(chan struct{})}
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.gone)
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.gone
}

// TestWorkerKill has workers in processes of their own run tasks, and kills them at
// random, and now and then the server. Every task ends once, with its own result.
func TestWorkerKill(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills processes for a while")
	}
	t.Parallel()
	ctx, cancel := within(t, time.Duration(*workerTasks)*100*time.Millisecond)
	defer cancel()
	binary := buildTroupe(t)
	v := newVictim(t, binary)
	v.args = append(v.args, "--worker-lease", "1s")
	v.start(t)
	c, err := client.New("http://"+v.address, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v.ready(ctx, t, c)
	children := make([]*child, workersKept)
	for i := range children {
		children[i] = startChild(t, c.Server())
	}
	submitForWorkers(ctx, t, c)

	killed, deaths := 0, 0
	live := int64(*workerTasks)
	// Between two deaths something gets done, however slow the machine is: else nothing
	// ever would.
	goOn := func() {
		t.Helper()
		before := live
		await(ctx, t, "workers that get nothing done", func() bool {
			s, err := c.Stats(ctx)
			if err != nil {
				return false
			}
			live = 0
			for _, state := range []task.State{task.Scheduled, task.Blocked, task.Queued, task.Running} {
				live += s.Counts[state.String()]
			}
			return live < before || live == 0
		})
	}
	for goOn(); killed == 0 || live > 0; goOn() {
		pause(ctx, t, 50*time.Millisecond+rand.N(250*time.Millisecond))
		if rand.IntN(6) == 0 {
			v.mustKill(t)
			pause(ctx, t, rand.N(100*time.Millisecond))
			v.start(t)
			v.ready(ctx, t, c)
			deaths++
			continue
		}
		i := rand.IntN(len(children))
		children[i].kill()
		pause(ctx, t, rand.N(100*time.Millisecond))
		children[i] = startChild(t, c.Server())
		killed++
	}
	attempts, lost := judgeWorkers(ctx, t, c)
	t.Logf("%d tasks took %d attempts, of which %d died; %d workers and %d servers were killed", *workerTasks, attempts, lost, killed, deaths)
	if killed == 0 || lost == 0 {
		t.Error("the faults hit too little to show anything")
	}
	if t.Failed() {
		t.Logf("the server said:\n%s", v.said())
	}
}

// submitForWorkers submits the tasks, each with its number.
func submitForWorkers(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	reader, writer := io.Pipe()
	go func() {
		enc := json.NewEncoder(writer)
		for i := range *workerTasks {
			_ = enc.Encode(transport.Submission{
				Kind: workersOwn, Payload: json.RawMessage(strconv.Itoa(i)), MaxAttempts: mostAttempts,
				Retry: &transport.RetrySubmission{Initial: "10ms", Max: "50ms"},
			})
		}
		_ = writer.Close()
	}()
	taken := 0
	_, err := c.Batch(ctx, reader, func(l transport.BatchLine) {
		if l.ID != "" && l.Error == nil {
			taken++
		}
	})
	if err != nil || taken != *workerTasks {
		t.Fatalf("%d taken, %v", taken, err)
	}
}

// judgeWorkers looks whether each task ended once and as it should; it counts attempts,
// and those that died with whoever ran them.
func judgeWorkers(ctx context.Context, t *testing.T, c *client.Client) (attempts, lost int) {
	t.Helper()
	var all []transport.Task
	for v, err := range c.List(ctx, url.Values{"kind": {workersOwn}, "limit": {"1000"}}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if len(all) != *workerTasks {
		t.Errorf("%d tasks are there", len(all))
	}
	var next atomic.Int64
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				judgeEnd(ctx, t, c, all[i])
			}
		})
	}
	readers.Wait()
	for _, v := range all {
		attempts += v.Attempt
		lost += len(slices.DeleteFunc(v.Errors, func(e task.AttemptError) bool { return e.Code != task.CodeWorkerLost && e.Code != task.CodeNodeLost }))
	}
	return attempts, lost
}

func judgeEnd(ctx context.Context, t *testing.T, c *client.Client, v transport.Task) {
	t.Helper()
	if v.State != task.Succeeded || string(v.Result) != string(v.Payload) {
		t.Errorf("%s is %s with %s, %+v; its payload was %s", v.ID, v.State, v.Result, v.Error, v.Payload)
	}
	log, err := readLog(ctx, c.Server(), v.ID, v.Cursor)
	if err != nil {
		t.Error(err)
		return
	}
	ends, begins := 0, 0
	for i, e := range log {
		var state task.StateData
		if e.kind != "state" || json.Unmarshal([]byte(e.data), &state) != nil {
			continue
		}
		if state.State == task.Running {
			begins++
		}
		if state.State.Terminal() {
			if ends++; i != len(log)-1 {
				t.Errorf("%s goes on behind its end", v.ID)
			}
		}
	}
	if ends != 1 || begins > v.Attempt {
		t.Errorf("%s ended %d times and began %d attempts of %d", v.ID, ends, begins, v.Attempt)
	}
}
