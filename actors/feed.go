package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// feeds knows who follows what, and passes on what the journal has stored: to a
// feed for each batch, queue or filter somebody follows, and to sessions that
// wait for a task nobody holds to move. It is a registry (see supervision.go).
type feeds struct {
	node  *Node
	feeds map[string]*feed // by namespace and topic name
	tasks map[task.ID]map[string]*actor.PID

	// Of the tasks heard of last, the newest event that was passed on. Nodes tell
	// of a task one after the other, but not over the same line.
	newest map[task.ID]task.Cursor
	heard  []task.ID
	oldest int
}

// ordered is of how many tasks the order of events is watched over.
const ordered = 8192

// inOrder leaves out events that others have overtaken.
func (f *feeds) inOrder(id task.ID, events []task.Event) []task.Event {
	at, known := f.newest[id]
	for len(events) > 0 && known && !at.Before(events[0].Cursor) {
		events = events[1:]
	}
	if len(events) == 0 {
		return nil
	}
	switch {
	case known:
	case len(f.heard) < ordered:
		f.heard = append(f.heard, id)
	default:
		delete(f.newest, f.heard[f.oldest])
		f.heard[f.oldest] = id
		f.oldest = (f.oldest + 1) % ordered
	}
	f.newest[id] = events[len(events)-1].Cursor
	return events
}

// feed is one followed batch, queue or filter. Its frames carry the topic's
// name, so they are made once for all who follow it.
type feed struct {
	topic    task.Topic
	watchers map[string]*actor.PID

	counting bool // its batch is being counted
	again    bool // and has moved meanwhile
}

// Receive implements [actor.Actor].
func (f *feeds) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case follow:
		f.follow(ctx, msg)
	case unfollow:
		f.unfollow(ctx.Sender(), msg.topic)
	case happened:
		f.happened(ctx, msg)
	case countBatch:
		if fd := f.feeds[msg.key]; fd != nil {
			f.count(ctx, fd)
		}
	case batchCounted:
		f.counted(ctx, msg)
	case feedsBroken:
		for _, fd := range f.feeds {
			for _, who := range fd.watchers {
				ctx.Send(who, fed{topic: fd.topic.Name(), broken: true})
			}
		}
		for id, waiting := range f.tasks { // theirs may have moved unheard
			for _, who := range waiting {
				ctx.Send(who, happened{task: task.Task{Spec: task.Spec{ID: id}}})
			}
		}
	}
}

func feedKey(t task.Topic) string { return t.Namespace + "\x00" + t.Name() }

func (f *feeds) follow(ctx actor.Context, msg follow) {
	who := ctx.Sender()
	if id := msg.topic.Task; !id.IsZero() {
		if f.tasks[id] == nil {
			f.tasks[id] = map[string]*actor.PID{}
		}
		f.tasks[id][who.GetId()] = who
	} else {
		key := feedKey(msg.topic)
		if f.feeds[key] == nil {
			f.feeds[key] = &feed{topic: msg.topic, watchers: map[string]*actor.PID{}}
		}
		f.feeds[key].watchers[who.GetId()] = who
	}
	now := int64(len(f.feeds) + len(f.tasks))
	if f.node.watched.Swap(now) == 0 && f.node.others.Load() > 0 {
		// The others have told us nothing so far, and will from now on. What they
		// stored in between is in a new view.
		ctx.Send(f.node.peers, pulseNow{})
		self, root := ctx.Self(), f.node.root
		time.AfterFunc(feedsBehind, func() { root.Send(self, feedsBroken{}) })
	}
	ctx.Respond(following{gen: msg.gen})
}

func (f *feeds) unfollow(who *actor.PID, topic task.Topic) {
	if id := topic.Task; !id.IsZero() {
		delete(f.tasks[id], who.GetId())
		if len(f.tasks[id]) == 0 {
			delete(f.tasks, id)
		}
	} else if fd := f.feeds[feedKey(topic)]; fd != nil {
		delete(fd.watchers, who.GetId())
		if len(fd.watchers) == 0 {
			delete(f.feeds, feedKey(topic))
		}
	}
	f.node.watched.Store(int64(len(f.feeds) + len(f.tasks)))
}

func (f *feeds) happened(ctx actor.Context, msg happened) {
	if f.node.others.Load() > 0 {
		msg.events = f.inOrder(msg.task.ID, msg.events)
	}
	for _, who := range f.tasks[msg.task.ID] {
		ctx.Send(who, msg)
	}
	for _, fd := range f.feeds {
		if !fd.topic.Match(msg.task) && !fd.leaves(msg.task) {
			continue
		}
		name := fd.topic.Name()
		if !fd.topic.Batch.IsZero() && msg.task.State.Terminal() {
			f.count(ctx, fd)
		}
		var out []*task.Frame
		for _, e := range msg.events {
			if e.Type == task.EventState || e.Type == task.EventProgress {
				out = append(out, &task.Frame{Kind: task.Happened, Topic: name, Event: e})
			}
		}
		if len(out) == 0 {
			continue
		}
		for _, who := range fd.watchers {
			ctx.Send(who, fed{topic: name, frames: out})
		}
	}
}

// leaves says whether t may just have left a feed that selects by state: who
// follows the running ones wants to see one end.
func (fd *feed) leaves(t task.Task) bool {
	if fd.topic.Filter == nil || len(fd.topic.Filter.States) == 0 {
		return false
	}
	any := *fd.topic.Filter
	any.States, any.Namespace = nil, fd.topic.Namespace
	return any.Match(t)
}

// count finds out whether a followed batch has ended, once for all who follow it.
func (f *feeds) count(ctx actor.Context, fd *feed) {
	if fd.counting {
		fd.again = true
		return
	}
	fd.counting, fd.again = true, false
	self, n, topic := ctx.Self(), f.node, fd.topic
	n.work(func(workCtx context.Context) {
		counts, live, err := n.batchCounts(workCtx, topic.Namespace, topic.Batch)
		n.root.Send(self, batchCounted{key: feedKey(topic), counts: counts, ended: err == nil && live == 0, err: err})
	})
}

// counted tells who follows a batch that it has ended. Where it has not, but has
// moved since, or could not be counted, it is counted again a little later.
func (f *feeds) counted(ctx actor.Context, msg batchCounted) {
	fd := f.feeds[msg.key]
	if fd == nil {
		return
	}
	fd.counting = false
	if msg.ended {
		end := &task.Frame{Kind: task.Ended, Topic: fd.topic.Name(), Counts: msg.counts}
		for _, who := range fd.watchers {
			ctx.Send(who, fed{topic: end.Topic, frames: []*task.Frame{end}})
		}
		return
	}
	wait := lookAgain
	if msg.err != nil {
		wait = lookAnyway
	}
	if fd.again || msg.err != nil {
		self, root := ctx.Self(), f.node.root
		time.AfterFunc(wait, func() { root.Send(self, countBatch{key: msg.key}) })
	}
}
