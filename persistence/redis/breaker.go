package redis

import "sync/atomic"

const maxFailures = 3 // in a row

// A breaker keeps callers from asking a Redis that does not answer. Their failures
// and the probe's open it; only the probe closes it again.
type breaker struct {
	open     atomic.Bool
	failures atomic.Int32
}

// failed says whether this failure opened it.
func (b *breaker) failed() bool {
	return b.failures.Add(1) >= maxFailures && !b.open.Swap(true)
}

func (b *breaker) answered() { b.failures.Store(0) }

func (b *breaker) trip() { b.open.Store(true) }

// reset says whether it was open.
func (b *breaker) reset() bool {
	b.failures.Store(0)
	return b.open.Swap(false)
}
