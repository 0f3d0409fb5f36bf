package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// job is what every system carries out: nothing, with about 500 bytes to carry.
type job struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

var filler = strings.Repeat("some 30 bytes that say nothing ", 15)

func newJob(n int) job { return job{N: n, Text: filler} }

// ledger notes when each job was submitted and when it started, by one clock.
type ledger struct {
	began    time.Time
	sent     []atomic.Int64 // since began, by number
	started  []atomic.Int64
	ran      atomic.Int64 // how many different jobs
	repeated atomic.Int64
	goal     atomic.Int64
	reached  chan struct{} // holds one
	taken    int           // numbers in use
}

func newLedger(most int) *ledger {
	return &ledger{
		began: time.Now(), sent: make([]atomic.Int64, most), started: make([]atomic.Int64, most), reached: make(chan struct{}, 1),
	}
}

// take gives the first of n numbers that nobody has had. All that were taken before
// have run, so that the next news is that these have.
func (l *ledger) take(n int) int {
	first := l.taken
	l.taken += n
	l.goal.Store(int64(l.taken))
	return first
}

func (l *ledger) send(n int) { l.sent[n].Store(int64(time.Since(l.began))) }

// run is what a handler does.
func (l *ledger) run(n int) {
	if n < 0 || n >= len(l.started) || !l.started[n].CompareAndSwap(0, int64(time.Since(l.began))) {
		l.repeated.Add(1)
		return
	}
	if l.ran.Add(1) == l.goal.Load() {
		l.reached <- struct{}{}
	}
}

// check says whether every job taken ran once and no other did.
func (l *ledger) check() error {
	if ran, again := l.ran.Load(), l.repeated.Load(); ran != int64(l.taken) || again != 0 {
		return fmt.Errorf("%d of %d jobs ran, %d ran again", ran, l.taken, again)
	}
	return nil
}
