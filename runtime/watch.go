package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/troupe-run/troupe/runtime/task"
)

// outboxFrames is how many frames a Go watcher may be behind before the node
// keeps its events in the log only.
const outboxFrames = 1024

// outbox is a [task.Outbox] that a goroutine empties.
type outbox struct {
	mu     sync.Mutex
	frames []*task.Frame
	full   bool          // refused one since it was last emptied
	signal chan struct{} // has room for one: something is there
}

func newOutbox() *outbox { return &outbox{signal: make(chan struct{}, 1)} }

// Offer implements [task.Outbox].
func (o *outbox) Offer(f *task.Frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	must := f.Kind == task.Subscribed || f.Kind == task.Refused || f.Kind == task.Goodbye
	if len(o.frames) >= outboxFrames && !must {
		o.full = true
		return false
	}
	o.frames = append(o.frames, f)
	select {
	case o.signal <- struct{}{}:
	default:
	}
	return true
}

// take empties the outbox and says whether a frame was refused meanwhile.
func (o *outbox) take() (frames []*task.Frame, wasFull bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames, wasFull = o.frames, o.full
	o.frames, o.full = nil, false
	return frames, wasFull
}

// Follow yields what a watcher of topic sees: first a frame of kind Subscribed
// with the state of things, then Happened, Gap and Reset as they come. For a
// task it ends after Ended; it also ends after Goodbye. after is the cursor of
// the last event already seen, nil for none. A slow consumer loses nothing but
// superseded progress. The error is the subscription's, or the context's.
func (r *Runtime) Follow(ctx context.Context, topic task.Topic, after *task.Cursor) iter.Seq2[*task.Frame, error] {
	return func(yield func(*task.Frame, error) bool) {
		box := newOutbox()
		session := r.OpenSession(topic.Namespace, box)
		defer session.Close()
		session.Subscribe(topic, after, nil)
		for {
			select {
			case <-ctx.Done():
				yield(nil, context.Cause(ctx))
				return
			case <-box.signal:
			}
			frames, wasFull := box.take()
			for _, f := range frames {
				if f.Kind == task.Refused {
					yield(nil, fmt.Errorf("watch %s: %w", topic.Name(), f.Err))
					return
				}
				if !yield(f, nil) || f.Kind == task.Ended || f.Kind == task.Goodbye {
					return
				}
			}
			if wasFull {
				session.Drained()
			}
		}
	}
}

// Watch yields the events of one task from behind a cursor (nil: from the
// first) to its end.
func (r *Runtime) Watch(ctx context.Context, namespace string, id task.ID, after *task.Cursor) iter.Seq2[task.Event, error] {
	return func(yield func(task.Event, error) bool) {
		for f, err := range r.Follow(ctx, task.Topic{Namespace: namespace, Task: id}, after) {
			switch {
			case err != nil:
				yield(task.Event{}, err)
				return
			case f.Kind == task.Goodbye:
				yield(task.Event{}, task.ErrClosed)
				return
			case f.Kind == task.Happened && !yield(f.Event, nil):
				return
			}
		}
	}
}

// Wait returns the task once it has ended. When ctx ends before, it returns the
// task as it is, with the context's error.
func (r *Runtime) Wait(ctx context.Context, namespace string, id task.ID) (task.Task, error) {
	t, err := r.Task(ctx, namespace, id)
	if err != nil || t.State.Terminal() {
		return t, err
	}
	var waitErr error
	for f, err := range r.Follow(ctx, task.Topic{Namespace: namespace, Task: id}, &t.Cursor) {
		switch {
		case err != nil:
			waitErr = err
		case f.Kind == task.Goodbye:
			waitErr = task.ErrClosed
		}
	}
	// The context that ended must not keep its last word from being read.
	t, err = r.Task(context.WithoutCancel(ctx), namespace, id)
	if err != nil || t.State.Terminal() {
		return t, err
	}
	return t, errors.Join(waitErr, ctx.Err())
}
