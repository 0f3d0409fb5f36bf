package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// working runs a worker until the test ends, or stop is called, which waits for it.
func working(t *testing.T, w *client.Worker) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("the worker does not stop")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

func submitted(t *testing.T, c *client.Client, s transport.Submission) string {
	t.Helper()
	if s.Payload == nil {
		s.Payload = json.RawMessage("null")
	}
	got, _, err := c.Submit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got.ID
}

func resultOf(t *testing.T, c *client.Client, id string) string {
	t.Helper()
	result, err := c.Result(t.Context(), id, patience)
	if err != nil {
		return code(err)
	}
	return string(result)
}

func TestWorkerDoesAllThatAHandlerMay(t *testing.T) {
	c := realServer(t)
	w := client.NewWorker(c, client.WorkerOptions{Name: "w", Slots: 4, Labels: map[string]string{"zone": "a"}, Resources: task.Resources{"gpu": 1000}})
	var made atomic.Int32
	client.HandleWorker(w, "all", func(ctx context.Context, a *client.Attempt[map[string]int]) (string, error) {
		var kept int
		restored, err := a.Restore(&kept)
		if err != nil {
			return "", err
		}
		err = errors.Join(a.Progress(0.5, "half"), a.Progress(-1, "who knows"), a.Log(slog.LevelWarn, "look", "n", a.Payload["n"], "why", errors.New("so")),
			a.Emit([]int{1}), a.EmitText("text"), a.EmitBytes([]byte{0xff}), a.Checkpoint(41))
		if err != nil {
			return "", err
		}
		var sum int
		for range 3 {
			n, err := client.StepOf(ctx, a, "make", func(context.Context) (int, error) { return int(made.Add(1)), nil })
			if err != nil {
				return "", err
			}
			sum += n
		}
		if !restored {
			return "", errors.New("once more")
		}
		if err := a.Sleep(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
		var word string
		if _, err := a.WaitFor(ctx, "go", -1, &word); err != nil {
			return "", err
		}
		got, err := a.WaitFor(ctx, "go", 0, nil)
		return fmt.Sprintf("%d %d %s %t", kept, sum, word, got), err
	})
	client.HandleWorker(w, "panics", func(context.Context, *client.Attempt[any]) (int, error) { panic("boom") })
	client.HandleWorker(w, "refuses", func(context.Context, *client.Attempt[any]) (int, error) {
		return 0, &task.Failure{Code: "never", Message: "no", Details: json.RawMessage(`[1]`)}
	})
	client.HandleWorker(w, "typed", func(_ context.Context, a *client.Attempt[int]) (int, error) { return a.Payload, nil })
	client.HandleWorker(w, "huge", func(context.Context, *client.Attempt[any]) (string, error) { return strings.Repeat("x", 2<<20), nil })
	stop := working(t, w)

	all := submitted(t, c, transport.Submission{Kind: "all", Payload: json.RawMessage(`{"n":7}`), Retry: &transport.RetrySubmission{Initial: "1ms", Max: "1ms"}, Resources: task.Resources{"gpu": 1000}})
	if err := c.Signal(t.Context(), all, "go", json.RawMessage(`"went"`)); err != nil {
		t.Fatal(err)
	}
	if got := resultOf(t, c, all); got != `"41 6 went false"` || made.Load() != 3 {
		t.Errorf("%s, %d steps made", got, made.Load())
	}
	once := 1
	for kind, want := range map[string]string{"panics": "panic", "refuses": "never", "typed": "invalid_payload", "huge": "result_too_large"} {
		id := submitted(t, c, transport.Submission{Kind: kind, Payload: json.RawMessage(`"x"`), MaxAttempts: once})
		for {
			if got := resultOf(t, c, id); got != "" {
				if task, err := c.Get(t.Context(), id); err != nil || task.Error == nil || task.Error.Code != want {
					t.Errorf("%s: %s, %+v, %v", kind, got, task.Error, err)
				}
				break
			}
		}
	}
	l, err := c.Workers(t.Context())
	if err != nil || len(l.Workers) != 2 || l.Workers[1].Name != "w" || l.Workers[1].Slots != 4000 || l.Workers[1].State != "connected" || l.Workers[1].Labels["zone"] != "a" ||
		!slices.Contains(l.Workers[1].Kinds, "typed") {
		t.Errorf("%+v, %v", l, err)
	}
	if err := c.DrainWorker(t.Context(), l.Workers[1].ID); err != nil {
		t.Error(err)
	}
	if err := c.DrainWorker(t.Context(), "nobody"); code(err) != "worker_not_found" {
		t.Error(err)
	}
	if l, err = c.Workers(t.Context()); err != nil || l.Workers[1].State != "draining" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestWorkerFinishesWhatItHasBeforeItStops(t *testing.T) {
	c := realServer(t)
	begun, end := make(chan struct{}), make(chan struct{})
	w := client.NewWorker(c, client.WorkerOptions{Name: "w"})
	client.HandleWorker(w, "slow", func(ctx context.Context, _ *client.Attempt[any]) (string, error) {
		close(begun)
		select {
		case <-end:
			return "whole", nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	})
	stop := working(t, w)
	first := submitted(t, c, transport.Submission{Kind: "slow"})
	<-begun
	second := submitted(t, c, transport.Submission{Kind: "slow"})
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	awaitThat(t, "the worker to drain", func() bool {
		l, err := c.Workers(t.Context())
		return err == nil && len(l.Workers) == 2 && l.Workers[1].State == "draining"
	})
	close(end)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := resultOf(t, c, first); got != `"whole"` {
		t.Errorf("the first gave %s", got)
	}
	awaitThat(t, "nobody to serve the second", func() bool {
		e, err := c.Explain(t.Context(), second)
		return err == nil && e.Waiting != nil && e.Waiting.Reason == task.WaitsForHandler
	})
}

func TestCancelReachesTheWorker(t *testing.T) {
	c := realServer(t)
	begun, why := make(chan struct{}, 1), make(chan error, 2)
	w := client.NewWorker(c, client.WorkerOptions{Name: "w"})
	client.HandleWorker(w, "hang", func(ctx context.Context, _ *client.Attempt[any]) (int, error) {
		begun <- struct{}{}
		<-ctx.Done()
		why <- context.Cause(ctx)
		return 0, context.Cause(ctx)
	})
	client.HandleWorker(w, "late", func(ctx context.Context, _ *client.Attempt[any]) (int, error) {
		<-ctx.Done()
		select {
		case why <- context.Cause(ctx):
		default: // an attempt before has said it
		}
		return 0, context.Cause(ctx)
	})
	working(t, w)
	id := submitted(t, c, transport.Submission{Kind: "hang"})
	<-begun
	if _, err := c.Cancel(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	if err := <-why; !errors.Is(err, client.ErrCancelled) {
		t.Errorf("ended by %v", err)
	}
	// An attempt's time may be over before it has come to the worker, so there are more.
	id = submitted(t, c, transport.Submission{Kind: "late", Timeout: "20ms", Retry: &transport.RetrySubmission{Initial: "1ms", Max: "1ms"}, MaxAttempts: 1000})
	if err := <-why; !errors.Is(err, client.ErrTimeout) {
		t.Errorf("ended by %v", err)
	}
	if _, err := c.Cancel(t.Context(), id, ""); err != nil {
		t.Error(err)
	}
	id = submitted(t, c, transport.Submission{Kind: "late", Timeout: "20ms", MaxAttempts: 1})
	if got := resultOf(t, c, id); got != "timeout" && got != "task_failed" {
		t.Errorf("%s", got)
	}
}

// cutter is a way to a server on which every connection breaks, each after so many
// bytes from the worker. In bytes, and not in time, each gets somewhere before it does,
// on a machine of any speed.
type cutter struct {
	to    string
	bytes func() int64
	cuts  atomic.Int64
}

func (k *cutter) serve(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer from.Close()
			to, err := net.Dial("tcp", k.to)
			if err != nil {
				return
			}
			defer to.Close()
			go func() {
				if _, err := io.CopyN(to, from, k.bytes()); err == nil {
					k.cuts.Add(1)
				}
				_ = from.Close() // and what is under way to the worker is lost
				_ = to.Close()
			}()
			_, _ = io.Copy(from, to)
		}()
	}
}

// A worker whose connection breaks again and again goes on with what it has: nothing
// runs twice, and each end is told.
func TestWorkerOutlivesItsConnections(t *testing.T) {
	c := realServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Eight attempts with all they have said once more are less than half of the least.
	k := &cutter{to: strings.TrimPrefix(c.Server(), "http://"), bytes: func() int64 { return 5<<10 + rand.Int64N(5<<10) }}
	go k.serve(l)
	t.Cleanup(func() { _ = l.Close() })
	far, err := client.New("http://"+l.Addr().String(), client.Options{HTTP: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	w := client.NewWorker(far, client.WorkerOptions{Name: "w", Slots: 8})
	var mu sync.Mutex
	ran := map[string]int{}
	client.HandleWorker(w, "work", func(ctx context.Context, a *client.Attempt[int]) (int, error) {
		mu.Lock()
		ran[a.ID]++
		mu.Unlock()
		pause := time.NewTimer(time.Duration(rand.IntN(20)) * time.Millisecond)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		return a.Payload, a.EmitText("done")
	})
	stop := working(t, w)
	const tasks = 200
	ids := make([]string, tasks)
	for i := range ids {
		ids[i] = submitted(t, c, transport.Submission{Kind: "work", Payload: json.RawMessage(strconv.Itoa(i))})
	}
	for i, id := range ids {
		if got := resultOf(t, c, id); got != strconv.Itoa(i) {
			t.Errorf("task %d gave %s", i, got)
		}
		if got, err := c.Get(t.Context(), id); err != nil || got.Attempt != 1 {
			t.Errorf("task %d took %d attempts, %v", i, got.Attempt, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range ran {
		if n != 1 {
			t.Errorf("%s ran %d times in one attempt", id, n)
		}
	}
	t.Logf("%d connections broke", k.cuts.Load())
	if k.cuts.Load() < 3 {
		t.Error("no connection broke to speak of")
	}
}

func awaitThat(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(patience)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
