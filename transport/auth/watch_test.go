package auth

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// running runs a door until the test of a bubble ends.
func running(t *testing.T, d *Door) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// watched remembers when it was closed.
type watched struct {
	pass *Pass

	mu     sync.Mutex
	times  []time.Time
	reason *transport.Problem
}

// closed says when; it should be once.
func (w *watched) closed() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.times)
}

func watching(d *Door, p access.Principal) *watched {
	w := &watched{}
	w.pass = d.Watch(p, func(reason *transport.Problem) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.times, w.reason = append(w.times, time.Now()), reason
	})
	return w
}

const closeWithin = 5 * time.Second

// stream is what becomes of one that is watched, in milliseconds from its begin; 0 is
// never.
type stream struct{ begins, expires, revoked, released, renewed int }

// Whatever ends a credential, what is open is closed once, not before and within five
// seconds; what was released is not, and what was renewed in time goes on.
func TestStreamIsClosedWithinFiveSeconds(t *testing.T) {
	some := func(rt *rapid.T, name string) int {
		return rapid.IntRange(0, 1).Draw(rt, name) * rapid.IntRange(1, 20_000).Draw(rt, name+" ms")
	}
	rapid.Check(t, func(rt *rapid.T) {
		streams := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) stream {
			return stream{some(rt, "begins"), some(rt, "expires"), some(rt, "revoked"), some(rt, "released"), some(rt, "renewed")}
		}), 1, 8).Draw(rt, "streams")
		slow := time.Duration(rapid.IntRange(0, 1500).Draw(rt, "store ms")) * time.Millisecond
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = playStreams(t, streams, slow) })
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

func playStreams(t *testing.T, streams []stream, slow time.Duration) (wrong []string) {
	t.Helper()
	a := newAccounts()
	a.wait = slow
	d := newDoor(t, a)
	running(t, d)
	out := make(chan string, len(streams))
	for i, s := range streams {
		go func() {
			bad := "stopped"
			defer func() { out <- bad }()
			if bad = playStream(t, d, a, s); bad != "" {
				bad = fmt.Sprintf("stream %d %+v: %s", i, s, bad)
			}
		}()
	}
	for range streams {
		if bad := <-out; bad != "" {
			wrong = append(wrong, bad)
		}
	}
	return wrong
}

func playStream(t *testing.T, d *Door, a *accounts, s stream) string {
	t.Helper()
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	time.Sleep(ms(s.begins) + 300*time.Microsecond) // never in the moment in which the door looks
	began := time.Now()
	var expires time.Time
	if s.expires > 0 {
		expires = began.Add(ms(s.expires))
	}
	_, k := a.add(t, "team", time.Time{}, access.TasksRead)
	p := ofKey(k)
	p.Expires = expires
	end := time.Time{} // of the credential
	sooner := func(at int) {
		if when := began.Add(ms(at)); at > 0 && (end.IsZero() || when.Before(end)) {
			end = when
		}
	}
	sooner(s.expires)
	sooner(s.revoked)

	w := watching(d, p)
	released := false
	moments := slices.Sorted(slices.Values([]int{s.revoked, s.released, s.renewed, 30_000}))
	for _, at := range slices.Compact(moments) {
		if at == 0 {
			continue
		}
		time.Sleep(time.Until(began.Add(ms(at))))
		switch at {
		case s.revoked:
			a.revoke(k.ID, time.Now())
		case s.released:
			w.pass.Release()
			released = len(w.closed()) == 0
			w.pass.Release()
		case s.renewed:
			closed := len(w.closed()) > 0
			err := w.pass.Renew(access.Principal{Namespace: "team", Actor: "jwt:ada"})
			if (err != nil) != (closed || released) {
				return fmt.Sprintf("renewed: %v, closed %v, released %v", err, closed, released)
			}
			if err == nil {
				end = time.Time{}
			}
		}
	}
	closed := w.closed()
	switch {
	case len(closed) == 0 && !end.IsZero() && !released:
		return "not closed"
	case len(closed) > 1 || len(closed) == 1 && released:
		return fmt.Sprintf("closed at %v, released %v", closed, released)
	case len(closed) == 1 && (end.IsZero() || closed[0].Before(end) || closed[0].Sub(end) > closeWithin):
		return fmt.Sprintf("ended %s, closed %s", end.Sub(began), closed[0].Sub(began))
	case len(closed) == 1 && w.reason.Code != "unauthorized":
		return w.reason.Code
	}
	return ""
}

func TestStreamIsClosedAtOnceByARevocationHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		running(t, d)
		_, k := a.add(t, "team", time.Time{}, access.Admin)
		w := watching(d, ofKey(k))
		time.Sleep(reloadEvery / 2)
		a.revoke(k.ID, time.Now())
		d.Forget(k.ID)
		d.Forget(k.ID)
		if synctest.Wait(); len(w.closed()) != 1 {
			t.Error("still open")
		}
	})
}

func TestStreamIsClosedWhenItsKeyIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		running(t, d)
		_, k := a.add(t, "team", time.Time{}, access.Admin)
		w := watching(d, ofKey(k))
		a.with(func() { delete(a.keys, k.ID) })
		if time.Sleep(closeWithin); len(w.closed()) != 1 {
			t.Error("still open")
		}
	})
}

func TestNobodyIsClosedByAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		a := newAccounts()
		d := newDoor(t, a, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
		running(t, d)
		_, k := a.add(t, "team", time.Time{}, access.Admin)
		w := watching(d, ofKey(k))
		short := ofKey(k)
		short.Expires = time.Now().Add(time.Minute)
		dated := watching(d, short)
		a.with(func() { a.wait = time.Hour })
		if time.Sleep(30 * time.Minute); len(w.closed()) > 0 {
			t.Fatal("closed because the store does not answer")
		}
		if len(dated.closed()) != 1 || dated.closed()[0].Sub(short.Expires) > closeWithin {
			t.Errorf("what expires is closed %v, not about %s", dated.closed(), short.Expires)
		}
		if n := strings.Count(logged.String(), "\n"); n != 1 {
			t.Errorf("logged %d lines: %s", n, logged.String())
		}
		a.with(func() { a.wait = 0 })
		a.revoke(k.ID, time.Now())
		if time.Sleep(closeWithin); len(w.closed()) != 1 {
			t.Error("still open")
		}
	})
}

func TestSessionIsNotRenewedIntoAnotherNamespace(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a)
	_, mine := a.add(t, "team", time.Time{}, access.Admin)
	_, theirs := a.add(t, "others", time.Time{}, access.Admin)
	w := watching(d, ofKey(mine))
	if err := w.pass.Renew(ofKey(theirs)); code(t, err) != "forbidden" {
		t.Error(err)
	}
	if got := d.passes.keys(); len(got) != 1 || got[0] != mine.ID {
		t.Error("the session is not what it was")
	}
}

func TestKeysInUseAreReadInBatchesAndEachOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		const keys = 2*reloadBatch + 1
		for range keys {
			_, k := a.add(t, "team", time.Time{}, access.TasksRead)
			for range 3 {
				watching(d, ofKey(k))
			}
		}
		watching(d, access.Principal{Namespace: "team", Actor: "jwt:ada"})
		d.closeRevoked(t.Context())
		seen := map[task.ID]int{}
		for _, batch := range a.listed {
			if len(batch) > reloadBatch {
				t.Errorf("a batch of %d", len(batch))
			}
			for _, id := range batch {
				seen[id]++
			}
		}
		maps.DeleteFunc(seen, func(_ task.ID, times int) bool { return times == 1 })
		if len(a.listed) != 3 || len(seen) > 0 {
			t.Errorf("%d batches, %d keys more than once", len(a.listed), len(seen))
		}
	})
}
