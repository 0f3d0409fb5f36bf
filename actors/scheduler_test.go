package actors

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

func oneSlot(c *Config) { c.Capacity = task.Resources{task.SlotResource: 1000} }

func set(tb testing.TB, n *Node, name string, change task.QueueChange) {
	tb.Helper()
	change.Namespace, change.Name = task.DefaultNamespace, name
	if _, err := n.SetQueue(tb.Context(), change); err != nil {
		tb.Fatal(err)
	}
}

func TestQueueSettingsSayWhoStarts(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		var mu sync.Mutex
		var ran []string
		n.Handle("note", func(_ context.Context, j *Job) (json.RawMessage, error) {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, string(j.Task.Payload))
			return nil, nil
		})
		took := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			taken := ran
			ran = nil
			return taken
		}
		set(t, n, "heavy", task.QueueChange{Weight: new(3.0)})
		set(t, n, "dated", task.QueueChange{Policy: new(task.PolicyDeadline), Paused: new(true)})
		for i := range 20 {
			for _, queue := range []string{"light", "heavy"} {
				submitOne(t, n, "note", `"`+queue+`"`, func(s *task.Spec) { s.Queue = queue })
			}
			submitOne(t, n, "note", strconv.Itoa(i), func(s *task.Spec) {
				s.Queue, s.Deadline = "dated", time.Now().Add(time.Hour-time.Duration(i)*time.Minute)
			})
		}
		time.Sleep(16*time.Second + time.Millisecond)
		count := map[string]int{}
		for _, payload := range took() {
			count[payload]++
		}
		if count[`"heavy"`] < 11 || count[`"heavy"`] > 13 {
			t.Errorf("of 16, three quarters should be heavy: %v", count)
		}
		time.Sleep(time.Minute)
		took()
		submitOne(t, n, "note", `"first"`, func(s *task.Spec) { s.Queue = "light" }) // while it runs the others come
		synctest.Wait()
		set(t, n, "dated", task.QueueChange{Paused: new(false)})
		time.Sleep(time.Minute)
		dated := took()
		if len(dated) != 21 {
			t.Fatalf("%d of 21 ran", len(dated))
		}
		for i, payload := range dated[1:] {
			if want := strconv.Itoa(19 - i); payload != want {
				t.Errorf("number %d was %s, want %s", i, payload, want)
			}
		}
	}, oneSlot)
}

func TestExplainSaysWhenATaskWillStart(t *testing.T) {
	virtual(t, func(t *testing.T, n *Node) {
		t.Helper()
		n.Handle("minute", func(context.Context, *Job) (json.RawMessage, error) {
			time.Sleep(time.Minute)
			return nil, nil
		})
		for range 5 { // that a minute is what they take is learned
			submitOne(t, n, "minute", `0`)
			time.Sleep(2 * time.Minute)
		}
		submitOne(t, n, "minute", `0`)
		synctest.Wait()
		second := submitOne(t, n, "minute", `0`)
		synctest.Wait()
		w, err := n.Explain(t.Context(), awaitState(t, n, second.ID, task.Queued))
		if err != nil {
			t.Fatal(err)
		}
		if wait := w.ExpectedStart.Sub(n.now()); wait < 40*time.Second || wait > 2*time.Minute {
			t.Errorf("it is expected to start in %s, and will in a minute: %+v", wait, w)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
	}, oneSlot)
}
