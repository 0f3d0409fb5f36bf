package task

import (
	"slices"
	"time"
)

// Circuit is how the tasks of a kind fare under its [Breaker]. It is closed, and lets
// tasks start, until enough of them have failed alike; then it is open and lets none,
// and after a while half open: it lets one start, and closes or opens again by what
// becomes of that one. The zero Circuit is closed.
type Circuit struct {
	code    string      // of the latest failures in a row
	failed  []time.Time // those within the window
	until   time.Time   // when it lets one start again; zero: it is closed
	probing bool        // that one is under way
}

// Closed says that it lets all start.
func (c *Circuit) Closed() bool { return c.until.IsZero() }

// Lets says whether a task may start now.
func (c *Circuit) Lets(now time.Time) bool {
	return c.Closed() || !c.probing && !now.Before(c.until)
}

// Tripped says of one that is not closed which error opened it, and until when it
// lets none start; then it has to see what becomes of one.
func (c *Circuit) Tripped() (code string, until time.Time) { return c.code, c.until }

// Probe notes that the one which it let has started.
func (c *Circuit) Probe() { c.probing = true }

// Void notes that the one has come to nothing, and another may start.
func (c *Circuit) Void() { c.probing = false }

// Failed notes a failure, of the probe or of one that started while the circuit was
// closed, and says whether that opens it.
func (c *Circuit) Failed(b Breaker, now time.Time, code string, probe bool) (opens bool) {
	switch {
	case b.Failures == 0:
		return false
	case !c.Closed() && !probe:
		return false // it started before
	case probe:
		c.open(b, now, code)
		return true
	case code != c.code:
		c.code, c.failed = code, c.failed[:0]
	}
	from := now.Add(-b.Window)
	c.failed = slices.DeleteFunc(append(c.failed, now), func(at time.Time) bool { return at.Before(from) })
	if len(c.failed) < b.Failures {
		return false
	}
	c.open(b, now, code)
	return true
}

func (c *Circuit) open(b Breaker, now time.Time, code string) {
	*c = Circuit{code: code, until: now.Add(b.OpenFor)}
}

// Succeeded notes a success, and says whether that closes the circuit.
func (c *Circuit) Succeeded(probe bool) (closes bool) {
	if !c.Closed() && !probe {
		return false
	}
	closes = probe && !c.Closed()
	*c = Circuit{failed: c.failed[:0]}
	return closes
}

// Tripped is a breaker that is not closed.
type Tripped struct {
	Namespace string
	Kind      string
	Code      string    // of the failures that opened it
	Until     time.Time // it lets one start again then, and waits how that ends
}
