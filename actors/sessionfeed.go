package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// The part of a session that follows feeds: many tasks merged into one view,
// with no cursor of its own. That of a batch ends once with the batch.

// listed begins a feed's flow: the view as it is, then what happened since the
// session began to follow.
func (s *session) listed(ctx actor.Context, sub *subscription, msg listed) {
	if msg.err != nil && s.node.life.Err() != nil {
		return // the node stops, and says so in a moment
	}
	if msg.err != nil {
		s.out.Offer(&task.Frame{Kind: task.Refused, Topic: sub.name, Tag: sub.tag, Err: msg.err})
		s.drop(ctx, sub)
		return
	}
	clear(sub.seen)
	for _, t := range msg.tasks {
		sub.seen[t.ID] = t.Cursor
	}
	f := &task.Frame{Kind: task.Reset, Topic: sub.name, Tasks: msg.tasks}
	if !sub.answered {
		f.Kind, f.Tag = task.Subscribed, sub.tag
	}
	if !s.out.Offer(f) {
		sub.over, sub.phase = true, lagging
		return
	}
	sub.answered, sub.phase = true, live
	if msg.ended != nil {
		sub.missed = append(sub.missed, &task.Frame{Kind: task.Ended, Topic: sub.name, Counts: msg.ended})
	}
	s.feed(ctx, sub)
}

// fed takes what happened to a feed's tasks.
func (s *session) fed(ctx actor.Context, msg fed) {
	sub := s.subs[msg.topic]
	if sub == nil {
		return
	}
	if msg.broken {
		sub.missed, sub.over = nil, true
		if sub.phase == live {
			s.caughtUp(ctx, sub)
		}
		return
	}
	for _, f := range msg.frames {
		if f.Event.Type == task.EventProgress && sub.phase == lagging {
			sub.missed = withoutProgress(sub.missed, f.Event.Task)
		}
		sub.missed = append(sub.missed, f)
	}
	if len(sub.missed) > feedMissed {
		sub.missed, sub.over = nil, true
	}
	if sub.phase == live {
		s.feed(ctx, sub)
	}
}

// withoutProgress drops the older progress of a task that newer replaces.
func withoutProgress(fs []*task.Frame, id task.ID) []*task.Frame {
	for i, f := range fs {
		if f.Event.Type == task.EventProgress && f.Event.Task == id {
			return append(fs[:i], fs[i+1:]...)
		}
	}
	return fs
}

// feed offers what is missed as far as the outbox takes it.
func (s *session) feed(ctx actor.Context, sub *subscription) {
	for i, f := range sub.missed {
		if at, ok := sub.seen[f.Event.Task]; ok && !at.Before(f.Event.Cursor) {
			continue // in the view already
		}
		if !s.out.Offer(f) {
			sub.missed, sub.phase = sub.missed[i:], lagging
			return
		}
		if f.Kind == task.Ended {
			s.drop(ctx, sub)
			return
		}
		delete(sub.seen, f.Event.Task)
	}
	sub.missed = nil
}

// caughtUp goes on with a feed whose outbox has emptied: with what was missed,
// or with a new view where that was too much.
func (s *session) caughtUp(ctx actor.Context, sub *subscription) {
	if sub.over {
		sub.over, sub.missed = false, nil
		s.read(ctx, sub)
		return
	}
	sub.phase = live
	s.feed(ctx, sub)
}
