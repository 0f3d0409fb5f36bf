package task

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var fuse = Breaker{Failures: 3, Window: time.Minute, OpenFor: 30 * time.Second}

func TestCircuitOpensHalfOpensAndCloses(t *testing.T) {
	var c Circuit
	now := epoch
	fail := func(code string, probe, opens bool) {
		t.Helper()
		now = now.Add(time.Second)
		if c.Failed(fuse, now, code, probe) != opens || c.Closed() == opens {
			t.Fatalf("after %s at %s: %+v", code, now, c)
		}
	}
	fail("a", false, false)
	fail("a", false, false)
	fail("b", false, false) // another error: it begins anew
	fail("a", false, false)
	fail("a", false, false)
	if c.Succeeded(false) {
		t.Error("one that was closed is closed")
	}
	fail("a", false, false)
	fail("a", false, false)
	fail("a", false, true)
	code, until := c.Tripped()
	if code != "a" || until != now.Add(fuse.OpenFor) {
		t.Errorf("%q until %s", code, until)
	}
	if c.Failed(fuse, now, "a", false) || c.Succeeded(false) || c.Closed() {
		t.Errorf("what began before has moved it: %+v", c)
	}
	if c.Lets(until.Add(-1)) || !c.Lets(until) {
		t.Errorf("%+v", c)
	}
	now = until
	c.Probe()
	if c.Lets(now.Add(time.Hour)) {
		t.Error("it lets two start to find out")
	}
	c.Void()
	if !c.Lets(now) {
		t.Error("the one came to nothing, and none may start in its place")
	}
	c.Probe()
	fail("b", true, true)
	if code, again := c.Tripped(); code != "b" || again != now.Add(fuse.OpenFor) || c.Lets(now) {
		t.Errorf("%q until %s", code, again)
	}
	c.Probe()
	if !c.Succeeded(true) || !c.Closed() || !c.Lets(now) {
		t.Errorf("%+v", c)
	}
	fail("a", false, false)
	fail("a", false, false)
	if off := (Breaker{}); c.Failed(off, now, "a", false) {
		t.Error("one that is off opens")
	}
}

// It opens at a failure exactly when that and those before it, without a success or
// another error between, are so many within the window.
func TestCircuitOpensByTheFailuresOfItsWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := Breaker{Failures: rapid.IntRange(1, 5).Draw(rt, "failures"), Window: 10 * time.Second, OpenFor: time.Second}
		var c Circuit
		var row []time.Time
		code := ""
		now := epoch
		for range rapid.IntRange(1, 60).Draw(rt, "outcomes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(rt, "ms")) * time.Millisecond)
			if rapid.IntRange(0, 9).Draw(rt, "success") == 0 {
				c.Succeeded(false)
				row = nil
				continue
			}
			if is := strconv.Itoa(rapid.IntRange(0, 8).Draw(rt, "code") / 8); is != code {
				code, row = is, nil
			}
			row = append(row, now)
			n := 0
			for _, at := range row {
				if now.Sub(at) <= b.Window {
					n++
				}
			}
			if opens := c.Failed(b, now, code, false); opens != (n >= b.Failures) {
				rt.Fatalf("%t at %d of %d", opens, n, b.Failures)
			} else if opens {
				c.Probe()
				c.Succeeded(true)
				row = nil
			}
		}
		if cap(c.failed) > 100 {
			rt.Fatalf("it remembers %d", cap(c.failed))
		}
	})
}
