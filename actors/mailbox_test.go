package actors

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

type (
	urgent struct{ n int }
	normal struct{ from, n int }
	lazy   struct{ n int }
)

func (urgent) lane() lane { return control }
func (lazy) lane() lane   { return background }

// recorder is a mailbox's invoker that notes what it is given.
type recorder struct {
	mu     sync.Mutex
	got    []any
	failed chan any
}

func (r *recorder) note(m any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
}
func (r *recorder) InvokeSystemMessage(m any) { r.note(m) }
func (r *recorder) InvokeUserMessage(m any) {
	if m == "panic" {
		panic("boom")
	}
	r.note(m)
}
func (r *recorder) EscalateFailure(_, m any) { r.failed <- m }

// held is a dispatcher that runs nothing until it is told to.
type heldDispatcher struct{ run []func() }

func (d *heldDispatcher) Schedule(f func()) { d.run = append(d.run, f) }
func (d *heldDispatcher) Throughput() int   { return 300 }

func testMailbox() (*mailbox, *recorder, *heldDispatcher) {
	r, d := &recorder{failed: make(chan any, 1)}, &heldDispatcher{}
	m, _ := newMailbox(slog.New(slog.DiscardHandler), func() {})().(*mailbox)
	m.RegisterHandlers(r, d)
	return m, r, d
}

func TestMailboxLanesOvertakeButDoNotStarve(t *testing.T) {
	m, r, d := testMailbox()
	for i := range 1000 {
		m.PostUserMessage(lazy{n: i})
		m.PostUserMessage(&actor.MessageEnvelope{Message: urgent{n: i}}) // a Request travels in an envelope
	}
	m.PostSystemMessage("system")
	if len(d.run) != 1 {
		t.Fatalf("scheduled %d times", len(d.run))
	}
	d.run[0]()
	if r.got[0] != "system" {
		t.Errorf("first came %v", r.got[0])
	}
	first := map[string]int{}
	for i, got := range r.got {
		name := fmt.Sprintf("%T", got)
		if _, seen := first[name]; !seen {
			first[name] = i
		}
	}
	if first["actors.lazy"] != weights[control]+1 {
		t.Errorf("the first message of the background lane came as number %d", first["actors.lazy"])
	}
	if len(r.got) != 2001 || m.UserMessageCount() != 0 {
		t.Errorf("handled %d, left %d", len(r.got), m.UserMessageCount())
	}
	if cap(m.userQ[control].items) > shrinkAbove {
		t.Errorf("after the burst a lane keeps room for %d", cap(m.userQ[control].items))
	}
}

func TestMailboxKeepsTheOrderOfEverySenderInALane(t *testing.T) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	const senders, each = 8, 2000
	done := make(chan []normal)
	var got []normal
	pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if m, ok := c.Message().(normal); ok {
			if got = append(got, m); len(got) == senders*each {
				done <- got
			}
		}
	}, actor.WithMailbox(newMailbox(slog.New(slog.DiscardHandler), func() {}))))
	for s := range senders {
		go func() {
			for i := range each {
				system.Root.Send(pid, normal{from: s, n: i})
			}
		}()
	}
	select {
	case <-time.After(patience):
		t.Fatal("messages were lost")
	case all := <-done:
		var next [senders]int
		for _, m := range all {
			if m.n != next[m.from] {
				t.Fatalf("sender %d: %d follows %d", m.from, m.n, next[m.from]-1)
			}
			next[m.from]++
		}
	}
	_ = system.Root.StopFuture(pid).Wait()
}

func TestMailboxStopsForAPanicUntilItIsResumed(t *testing.T) {
	m, r, d := testMailbox()
	m.PostUserMessage("panic")
	m.PostUserMessage(normal{n: 1})
	d.run[0]()
	if failed := <-r.failed; failed != "panic" {
		t.Errorf("escalated %v", failed)
	}
	m.PostSystemMessage(&actor.SuspendMailbox{})
	d.run[len(d.run)-1]()
	before := len(r.got)
	m.PostUserMessage(normal{n: 2})
	for _, f := range d.run[2:] {
		f()
	}
	if m.suspended.Load() && len(r.got) != before {
		t.Errorf("a suspended mailbox handled %v", r.got[before:])
	}
	m.PostSystemMessage(&actor.ResumeMailbox{})
	d.run[len(d.run)-1]()
	if m.UserMessageCount() != 0 {
		t.Errorf("%d messages left after it was resumed", m.UserMessageCount())
	}
}

func TestRestartDelayGrowsToItsBound(t *testing.T) {
	if d := restartDelay(1, 1); d != 0 {
		t.Errorf("the first restart waits %s", d)
	}
	last := time.Duration(0)
	for failures := 2; failures < 100; failures++ {
		d := restartDelay(failures, 1)
		if d < last || d > restartMost {
			t.Fatalf("after %d failures %s, before %s", failures, d, last)
		}
		if low := restartDelay(failures, 0); low < d/2-1 || low > d {
			t.Fatalf("after %d failures between %s and %s", failures, low, d)
		}
		last = d
	}
	if last != restartMost {
		t.Errorf("the longest delay is %s", last)
	}
}
