package actors

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// sessions is the parent of all sessions. It is a registry (see
// supervision.go).
type sessions struct {
	node *Node
	open int
	gone *goodbye // said to all who were here; newcomers hear it, too
}

// Receive implements [actor.Actor].
func (s *sessions) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case openSession:
		pid := ctx.Spawn(s.node.props(func() actor.Actor {
			return &session{node: s.node, namespace: msg.namespace, out: msg.out, subs: map[string]*subscription{}}
		}, supervisor{log: s.node.log}))
		s.open++
		s.node.metrics.watched.Set(float64(s.open))
		s.node.sessionCount.Store(int64(s.open))
		ctx.Respond(pid)
		if s.gone != nil {
			ctx.Send(pid, *s.gone)
		}
	case closeSession:
		ctx.Stop(ctx.Sender())
		s.open--
		s.node.metrics.watched.Set(float64(s.open))
		s.node.sessionCount.Store(int64(s.open))
	case goodbye:
		s.gone = &msg
		for _, pid := range ctx.Children() {
			ctx.Send(pid, msg)
		}
	}
}

// Bounds of one session.
const (
	pageEvents   = 256  // read from the log at a time
	feedSnapshot = 100  // tasks a feed's watcher is shown first
	feedMissed   = 4096 // frames of a feed kept for a watcher that lags
	lookAgain    = 20 * time.Millisecond
	// Where there are other nodes, how soon a task is looked for again that one of
	// them had, and one that nobody has.
	lookElsewhere = 100 * time.Millisecond
	lookAnyway    = 500 * time.Millisecond
)

// session is one watcher: an HTTP stream, a WebSocket or an iterator in Go. It
// keeps a cursor a subscription and offers frames to its outbox, which never
// blocks. What the outbox will not take is not kept: once the outbox has
// emptied, the subscription goes on from its cursor, out of the task's memory
// or its log. So a slow watcher costs no more memory than a fast one and loses
// nothing; only its progress events are merged.
type session struct {
	node      *Node
	namespace string
	out       task.Outbox
	subs      map[string]*subscription
	gen       uint64
	closed    bool
}

// subscription is one topic a session follows.
type subscription struct {
	topic    task.Topic
	name     string
	gen      uint64 // of the request under way, or of the live watch
	answered bool   // the subscriber has its snapshot
	tag      any
	at       task.Cursor
	end      task.Cursor // its last event, as the row has it, if it has ended
	phase    phase
	slow     bool       // catching up because the outbox was full
	stirred  bool       // something happened to a parked task while its log was read
	parked   bool       // the feeds tell when its task moves
	far      bool       // another node speaks for its task
	row      *task.Task // as it was then

	// Of a feed.
	missed []*task.Frame
	over   bool // more was missed than is kept: begin with a new view
	seen   map[task.ID]task.Cursor
}

// phase is how a subscription gets its frames just now.
type phase uint8

const (
	asking  phase = iota // has asked the holder whether it has the task
	parking              // nobody here holds it; has asked the feeds to tell
	reading              // pages come from the log
	waiting              // parked at the end of the log
	live                 // the task's actor sends
	lagging              // the outbox is full
)

// Receive implements [actor.Actor].
func (s *session) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case subscribe:
		s.subscribe(ctx, msg)
	case unsubscribe:
		s.drop(ctx, s.subs[msg.topic])
	case outboxEmpty:
		s.outboxEmpty(ctx)
	case closeSession:
		s.close(ctx)
	case goodbye:
		delay := time.Duration(rand.Int64N(int64(msg.within) + 1)) //nolint:gosec // spread, not a secret
		s.out.Offer(&task.Frame{Kind: task.Goodbye, Delay: delay})
	case watching:
		if sub := s.of(msg.gen); sub != nil && sub.phase == asking {
			s.watching(ctx, sub, msg)
		}
	case notHeld:
		s.notHeld(ctx, msg)
	case following:
		if sub := s.of(msg.gen); sub != nil && sub.phase == parking {
			s.following(ctx, sub)
		}
	case page:
		if sub := s.of(msg.gen); sub != nil && sub.phase == reading {
			s.page(ctx, sub, msg)
		}
	case listed:
		if sub := s.of(msg.gen); sub != nil && sub.phase == reading {
			s.listed(ctx, sub, msg)
		}
	case frames:
		if sub := s.of(msg.gen); sub != nil && sub.phase == live {
			s.deliver(ctx, sub, msg.frames)
		}
	case fed:
		s.fed(ctx, msg)
	case happened:
		s.stir(ctx, msg.task.ID)
	case look:
		if sub := s.of(msg.gen); sub != nil && sub.phase == waiting {
			s.ask(ctx, sub)
		}
	case *actor.Restarting, *actor.Stopping:
		// The instance goes, and with it the cursors: the watcher comes back on
		// a new session.
		if !s.closed {
			s.out.Offer(&task.Frame{Kind: task.Goodbye})
		}
	}
}

// of finds the subscription a late answer belongs to; nil if it has moved on.
func (s *session) of(gen uint64) *subscription {
	for _, sub := range s.subs {
		if sub.gen == gen {
			return sub
		}
	}
	return nil
}

func (s *session) next(sub *subscription, p phase) uint64 {
	s.gen++
	sub.gen, sub.phase = s.gen, p
	return s.gen
}

func (s *session) subscribe(ctx actor.Context, msg subscribe) {
	msg.topic.Namespace = s.namespace
	sub := &subscription{topic: msg.topic, name: msg.topic.Name(), tag: msg.tag}
	s.drop(ctx, s.subs[sub.name])
	s.subs[sub.name] = sub
	if msg.after != nil {
		sub.at = *msg.after
	}
	if !msg.topic.Task.IsZero() {
		s.ask(ctx, sub)
		return
	}
	sub.seen = map[task.ID]task.Cursor{}
	ctx.Request(s.node.feeds, follow{topic: sub.topic, gen: s.next(sub, parking)})
}

// ask asks for the task's actor.
func (s *session) ask(ctx actor.Context, sub *subscription) {
	sub.stirred, sub.far = false, false
	ctx.Request(s.node.holder, forTask{
		id: sub.topic.Task, msg: watch{namespace: s.namespace, after: sub.at, gen: s.next(sub, asking)},
	})
}

func (s *session) watching(ctx actor.Context, sub *subscription, msg watching) {
	if msg.err != nil {
		s.refuse(ctx, sub, msg.err)
		return
	}
	if msg.far {
		msg.task = *sub.row
	}
	s.snapshot(sub, &msg.task)
	if !msg.live {
		s.read(ctx, sub)
		return
	}
	if sub.parked {
		sub.parked = false
		ctx.Request(s.node.feeds, unfollow{topic: sub.topic})
	}
	sub.phase = live
	s.deliver(ctx, sub, msg.frames)
	if sub.phase == live {
		sub.slow = false
	}
}

// notHeld: no actor here speaks for the task, or none does any more.
func (s *session) notHeld(ctx actor.Context, msg notHeld) {
	sub := s.of(msg.gen)
	if sub == nil || sub.phase != asking && sub.phase != live {
		return
	}
	if sub.far {
		// It knows nothing of the task any more, or is gone itself.
		sub.far = false
		s.lookIn(ctx, sub, lookElsewhere)
		return
	}
	if sub.parked {
		s.read(ctx, sub)
		return
	}
	ctx.Request(s.node.feeds, follow{topic: sub.topic, gen: s.next(sub, parking)})
}

func (s *session) following(ctx actor.Context, sub *subscription) {
	sub.parked = true
	s.read(ctx, sub)
}

// read fetches the next page of the log, or a feed's view, away from the actor.
func (s *session) read(ctx actor.Context, sub *subscription) {
	gen, topic, after := s.next(sub, reading), sub.topic, sub.at
	self, n := ctx.Self(), s.node
	if topic.Task.IsZero() {
		f := topic.Select()
		f.Limit = feedSnapshot
		n.work(func(workCtx context.Context) {
			tasks, _, err := n.cfg.Store.Tasks(workCtx, f)
			l := listed{gen: gen, tasks: tasks, err: err}
			if err == nil && !topic.Batch.IsZero() && len(tasks) > 0 {
				counts, live, err := n.batchCounts(workCtx, topic.Namespace, topic.Batch)
				if l.err = err; live == 0 {
					l.ended = counts
				}
			}
			n.root.Send(self, l)
		})
		return
	}
	n.pages.read(place{topic.Namespace, topic.Task, after}, reader{self, gen})
}

// page offers what the log has behind the cursor. At its end the subscription
// waits for the task to move, or asks for its actor, which may be ahead of the
// log.
func (s *session) page(ctx actor.Context, sub *subscription, msg page) {
	switch {
	case msg.err != nil && s.node.life.Err() != nil:
		return // the node stops, and says so in a moment
	case errors.Is(msg.err, task.ErrNotFound) && sub.answered:
		s.endSub(ctx, sub) // deleted meanwhile
		return
	case msg.err != nil:
		s.refuse(ctx, sub, msg.err)
		return
	case msg.task.Holder == 0 && msg.task.Cursor.Before(sub.at):
		s.refuse(ctx, sub, task.ErrCursorAhead)
		return
	}
	if !msg.task.Cursor.Before(sub.at) {
		s.snapshot(sub, msg.task) // else its actor must say whether there is such a cursor
	}
	sub.end = task.Cursor{}
	if msg.task.State.Terminal() {
		sub.end = msg.task.Cursor
	}
	if len(msg.frames) > 0 {
		if first := msg.frames[0].Event.Cursor; msg.task.LostBetween(sub.at, first) &&
			!s.out.Offer(&task.Frame{Kind: task.Gap, Topic: sub.name, First: first}) {
			s.lag(ctx, sub)
			return
		}
		s.deliver(ctx, sub, msg.frames)
		if sub.phase == reading {
			s.read(ctx, sub)
		}
		return
	}
	switch {
	case msg.task.State.Terminal():
		s.endSub(ctx, sub) // its end had been seen before
	case !sub.parked || sub.stirred:
		s.ask(ctx, sub)
	case msg.task.Holder == s.node.incarnation:
		s.lookIn(ctx, sub, lookAgain) // just claimed, and its actor not there yet
	case msg.task.Holder != 0 && s.node.others.Load() > 0:
		sub.far, sub.row = true, msg.task
		ctx.Request(s.node.peers, farWatch{
			to: msg.task.Holder, id: sub.topic.Task,
			msg: watch{namespace: s.namespace, after: sub.at, gen: s.next(sub, asking)},
		})
	case msg.task.Holder != 0:
		s.lookIn(ctx, sub, lookElsewhere) // of a node that died, or that we cannot speak to
	case s.node.lease.granted > 0:
		s.lookIn(ctx, sub, lookAnyway) // others may have moved it and not said so
	default:
		sub.phase = waiting
	}
}

// lookIn waits for the task to move, and looks in a while even if it has not.
func (s *session) lookIn(ctx actor.Context, sub *subscription, wait time.Duration) {
	gen, self, root := s.next(sub, waiting), ctx.Self(), s.node.root
	time.AfterFunc(wait, func() { root.Send(self, look{gen: gen}) })
}

// stir wakes a subscription whose unheld task has moved.
func (s *session) stir(ctx actor.Context, id task.ID) {
	sub := s.subs[task.Topic{Task: id}.Name()]
	if sub == nil {
		return
	}
	sub.stirred = true
	if sub.phase == waiting {
		s.ask(ctx, sub)
	}
}

// snapshot answers the subscriber, once.
func (s *session) snapshot(sub *subscription, t *task.Task) {
	if !sub.answered {
		sub.answered = true
		s.out.Offer(&task.Frame{Kind: task.Subscribed, Topic: sub.name, Tag: sub.tag, Task: t})
	}
}

// deliver offers frames of one task in order. What is at or before the cursor
// has been seen; at the first the outbox refuses, the rest is left in the log.
func (s *session) deliver(ctx actor.Context, sub *subscription, fs []*task.Frame) {
	for i, f := range fs {
		if !sub.at.Before(f.Event.Cursor) {
			continue
		}
		if sub.slow && f.Event.Type == task.EventProgress && supersededProgress(fs[i+1:]) {
			sub.at = f.Event.Cursor
			continue
		}
		if !s.out.Offer(f) {
			s.lag(ctx, sub)
			return
		}
		sub.at = f.Event.Cursor
		if sub.phase == live || sub.at == sub.end {
			if _, ended := f.Event.Ended(); !ended {
				continue
			}
			s.endSub(ctx, sub)
			return
		}
	}
}

func supersededProgress(later []*task.Frame) bool {
	for _, f := range later {
		if f.Event.Type == task.EventProgress {
			return true
		}
	}
	return false
}

// unwatch tells whoever speaks for the task that nothing more is wanted.
func (s *session) unwatch(ctx actor.Context, sub *subscription) {
	if sub.far {
		ctx.Request(s.node.peers, farUnwatch{gen: sub.gen})
		sub.far = false
		return
	}
	ctx.Request(s.node.holder, forTask{id: sub.topic.Task, msg: unwatch{}})
}

// lag stops the flow to a full outbox.
func (s *session) lag(ctx actor.Context, sub *subscription) {
	if sub.phase == live {
		s.unwatch(ctx, sub)
	}
	s.next(sub, lagging)
	sub.slow = true
}

// outboxEmpty lets those go on that had to stop.
func (s *session) outboxEmpty(ctx actor.Context) {
	for _, sub := range s.subs {
		switch {
		case sub.phase != lagging:
		case sub.topic.Task.IsZero():
			s.caughtUp(ctx, sub)
		default:
			s.ask(ctx, sub)
		}
	}
}

// endSub tells the watcher that its task has ended, and forgets it.
func (s *session) endSub(ctx actor.Context, sub *subscription) {
	if !s.out.Offer(&task.Frame{Kind: task.Ended, Topic: sub.name, Event: task.Event{Task: sub.topic.Task}}) {
		s.lag(ctx, sub)
		return
	}
	s.drop(ctx, sub)
}

func (s *session) refuse(ctx actor.Context, sub *subscription, err error) {
	s.out.Offer(&task.Frame{Kind: task.Refused, Topic: sub.name, Tag: sub.tag, Err: err})
	s.drop(ctx, sub)
}

func (s *session) drop(ctx actor.Context, sub *subscription) {
	if sub == nil {
		return
	}
	delete(s.subs, sub.name)
	if !sub.topic.Task.IsZero() && (sub.phase == live || sub.far) {
		s.unwatch(ctx, sub)
	}
	if sub.parked || sub.phase == parking {
		ctx.Request(s.node.feeds, unfollow{topic: sub.topic})
	}
}

func (s *session) close(ctx actor.Context) {
	if s.closed {
		return
	}
	s.closed = true
	for _, sub := range s.subs {
		s.drop(ctx, sub)
	}
	ctx.Request(s.node.sessions, closeSession{})
}
