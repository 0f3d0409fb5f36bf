package actors

import (
	"context"
	"sync"

	"github.com/troupe-run/troupe/runtime/task"
)

// window bounds how far one attempt may be ahead of the disk, and how much it
// may say in all. The handler's goroutines acquire, the task's actor releases
// what has been stored.
type window struct {
	size int   // bytes that may be unstored
	log  int64 // bytes the attempt may say in all

	mu    sync.Mutex
	used  int
	said  int64
	room  chan struct{} // closed and replaced when room appears; nil while nobody waits
	ended error
}

func newWindow(size int, log int64) *window { return &window{size: size, log: log} }

// acquire waits for room for n bytes, of which logged count against what the
// attempt may say in all. Something larger than the whole window goes when the
// window is empty.
func (w *window) acquire(ctx context.Context, n, logged int) error {
	for {
		w.mu.Lock()
		switch {
		case w.ended != nil:
			w.mu.Unlock()
			return w.ended
		case w.said+int64(logged) > w.log:
			w.mu.Unlock()
			return task.ErrLogFull
		case w.used == 0 || w.used+n <= w.size:
			w.used += n
			w.said += int64(logged)
			w.mu.Unlock()
			return nil
		}
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// release gives n bytes back, for they are stored.
func (w *window) release(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used = max(0, w.used-n)
	w.wake()
}

// end refuses everything from now on: the attempt is over.
func (w *window) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil {
		w.ended = err
	}
	w.wake()
}

func (w *window) wake() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}
