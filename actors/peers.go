package actors

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/actors/wire"
	"github.com/troupe-run/troupe/runtime/task"
)

// peers speaks with the other nodes. What it carries may be lost: whoever asks
// has a deadline, and looks into the store again. So nothing rests on it but how
// soon things are seen. It is a registry (see supervision.go).
type peers struct {
	node    *Node
	members map[task.Incarnation]*member

	subs   map[uint64]*farSub // what sessions here follow on other nodes
	bySub  map[subKey]uint64
	calls  map[uint64]farCall
	last   uint64 // sub or token
	served map[servedKey]*actor.PID

	hungry  []string        // kinds we look for and find none of
	serving []task.Served   // the same, of workers elsewhere
	running int             // attempts here
	pulsing bool            // that has changed, and is to be told
	work    map[string]bool // kinds of tasks that nobody holds, not told yet
	telling bool
}

// member is another node that lives, as the store has it.
type member struct {
	address string
	heard   time.Time
	met     bool // it has spoken to us
	follows bool // somebody follows feeds there
	labels  map[string]string
	hungry  []string      // it has room, and finds no work of these kinds
	served  []task.Served // nor of these, for its workers elsewhere
	running int           // attempts there
	room    task.Resources
	told    uint64 // events sent for its feeds
	said    uint64 // events got from it for ours
}

// farSub is a task on another node that a session here follows.
type farSub struct {
	session *actor.PID
	gen     uint64
	to      task.Incarnation
	id      task.ID
	live    bool
	n       uint64
	by      time.Time // when it must have been answered
}

type (
	subKey struct {
		session string
		gen     uint64
	}
	servedKey struct {
		from task.Incarnation
		sub  uint64
	}
	farCall struct {
		who *actor.PID
		to  task.Incarnation
		by  time.Time
	}
)

// To and from peers.
type (
	// membership tells which nodes there are.
	membership struct{ nodes []task.Node }
	// farWatch passes a watch on to another node. It is answered as by a task
	// here, with watching, frames and notHeld.
	farWatch struct {
		to  task.Incarnation
		id  task.ID
		msg watch
	}
	farUnwatch struct{ gen uint64 }
	// farAsk makes a call of another node; message makes it, given the token.
	farAsk struct {
		to      task.Incarnation
		message func(token uint64) any
	}
	farAnswer struct{ answer wire.Answer }
	// farDone says that a watcher for another node has nothing more to tell.
	farDone struct{ key servedKey }
	// freed tells of kinds of which there are tasks nobody holds.
	freed struct{ kinds []string }
	// starving tells which kinds this node looks for in vain; none: it has work.
	starving struct {
		kinds  []string
		served []task.Served
	}
	// working tells how many attempts run here.
	working struct{ running int }
	// tellSettings tells the others that something was set here.
	tellSettings struct{}
	// whoIsThere is answered with the other nodes, by incarnation.
	whoIsThere struct{}
	pulse      struct{}
	pulseNow   struct{}
	tellWork   struct{}
)

// Between nodes.
const (
	answerWithin = 2 * time.Second        // or the other node is taken for lost
	gatherWork   = 5 * time.Millisecond   // what is freed meanwhile is told at once
	gatherNews   = 50 * time.Millisecond  // what else has changed of a node is told together
	silentPulses = 3                      // so many missed, and it is not listened to
	servedPulses = 10                     // so many missed, and it is not told any more
	callWithin   = 4 * time.Second        // of a call that waits for the other's disk
	feedsBehind  = 500 * time.Millisecond // after which a view begun before the others knew is read again
)

func newPeers(n *Node) actor.Producer {
	return func() actor.Actor {
		return &peers{
			node: n, members: map[task.Incarnation]*member{}, subs: map[uint64]*farSub{}, bySub: map[subKey]uint64{},
			calls: map[uint64]farCall{}, served: map[servedKey]*actor.PID{}, work: map[string]bool{},
		}
	}
}

// Receive implements [actor.Actor].
func (p *peers) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		p.pulseAgain(ctx)
	case membership:
		p.membership(ctx, msg)
	case *anypb.Any:
		p.heard(ctx, msg)
	case farWatch:
		p.watch(ctx, msg)
	case farUnwatch:
		p.unwatch(subKey{ctx.Sender().GetId(), msg.gen})
	case farAsk:
		p.ask(ctx, msg)
	case farDone:
		p.stopServing(ctx, msg.key)
	case tellSettings:
		for to := range p.members {
			p.tell(to, wire.Settings{})
		}
	case whoIsThere:
		ctx.Respond(slices.Collect(maps.Keys(p.members)))
	case happened:
		p.happened(msg)
	case freed:
		p.freed(ctx, msg)
	case starving:
		if was := p.own().IsHungry(); len(msg.kinds) != len(p.hungry) || !sameServed(msg.served, p.serving) {
			p.hungry, p.serving = msg.kinds, msg.served
			if !was {
				p.pulse()
			} else {
				p.pulseSoon(ctx)
			}
		}
	case working:
		p.running = msg.running
		p.pulseSoon(ctx)
	case tellWork:
		p.tellWork()
	case pulseNow:
		p.pulsing = false
		p.pulse()
	case pulse:
		p.pulse()
		p.expire(ctx)
		p.pulseAgain(ctx)
	}
}

func (p *peers) pulseAgain(ctx actor.Context) {
	if p.node.stopped.Load() {
		return
	}
	self, root := ctx.Self(), p.node.root
	time.AfterFunc(p.node.pollEvery(), func() { root.Send(self, pulse{}) })
}

// pulseSoon pulses once for all that changes within a moment.
func (p *peers) pulseSoon(ctx actor.Context) {
	if p.pulsing {
		return
	}
	p.pulsing = true
	self, root := ctx.Self(), p.node.root
	time.AfterFunc(gatherNews, func() { root.Send(self, pulseNow{}) })
}

// tell sends a message to another node.
func (p *peers) tell(to task.Incarnation, m any) {
	if other := p.members[to]; other != nil {
		p.node.tell(other.address, to, m)
	}
}

func (n *Node) tell(address string, to task.Incarnation, m any) {
	packed, err := wire.Pack(n.incarnation, to, m)
	if err != nil {
		n.log.Error("cannot write to another node", "error", err)
		return
	}
	n.cfg.Line.Send(address, packed)
}

func (p *peers) own() wire.Pulse {
	own := wire.Pulse{Follows: p.node.watched.Load() > 0, Hungry: p.hungry, Served: p.serving, Running: p.running}
	if own.IsHungry() {
		own.Room = p.node.cfg.Capacity
	}
	return own
}

func (p *peers) pulse() {
	for to := range p.members {
		p.tell(to, p.own())
	}
}

// membership learns which nodes there are. What was followed on one that is gone
// has to be looked for anew.
func (p *peers) membership(ctx actor.Context, msg membership) {
	there := map[task.Incarnation]bool{}
	for _, n := range msg.nodes {
		address, _ := splitPeer(n.Peer)
		if n.Left || address == "" || n.Incarnation == p.node.incarnation {
			continue
		}
		there[n.Incarnation] = true
		if p.members[n.Incarnation] == nil {
			p.members[n.Incarnation] = &member{
				address: address, labels: n.Labels, heard: time.Now(),
			}
			p.tell(n.Incarnation, p.own())
		}
	}
	for i, m := range p.members {
		if !there[i] {
			delete(p.members, i)
			p.forget(ctx, i)
			if m.isHungry() {
				p.tellHunger(ctx)
			}
		}
	}
	if p.node.others.Swap(int64(len(p.members))) < int64(len(p.members)) {
		ctx.Send(p.node.claimer, kindsChanged{}) // if it finds nothing, it can now say so
	}
	p.learnFollows()
}

// forget gives up on a node: what is followed there, what was asked of it, and
// what it follows here.
func (p *peers) forget(ctx actor.Context, lost task.Incarnation) {
	for id, sub := range p.subs {
		if sub.to == lost {
			p.dropSub(ctx, id)
		}
	}
	for token, c := range p.calls {
		if c.to == lost {
			p.answer(ctx, wire.Answer{Token: token, Err: wire.ErrorText(task.ErrUnreachable)})
		}
	}
	for key := range p.served {
		if key.from == lost {
			p.stopServing(ctx, key)
		}
	}
}

// expire gives up on what has not been answered, and on nodes that say nothing.
func (p *peers) expire(ctx actor.Context) {
	now := time.Now()
	for i, m := range p.members {
		silent := now.Sub(m.heard)
		if m.isHungry() && silent > 2*p.node.pollEvery() {
			m.hungry, m.served = nil, nil // whatever prefers it shall not wait for one that is perhaps no more
			p.tellHunger(ctx)
		}
		if silent > silentPulses*p.node.pollEvery()+answerWithin/2 {
			for id, sub := range p.subs {
				if sub.to == i {
					p.dropSub(ctx, id)
				}
			}
		}
		if silent > servedPulses*p.node.pollEvery() {
			p.forget(ctx, i)
			m.follows = false
		}
	}
	for id, sub := range p.subs {
		if !sub.live && now.After(sub.by) {
			p.dropSub(ctx, id)
		}
	}
	for token, c := range p.calls {
		if now.After(c.by) {
			p.answer(ctx, wire.Answer{Token: token, Err: wire.ErrorText(task.ErrUnreachable)})
		}
	}
	p.learnFollows()
}

// heard takes a message of another node.
func (p *peers) heard(ctx actor.Context, packed *anypb.Any) {
	from, to, m, err := wire.Unpack(packed)
	other := p.members[from]
	switch {
	case to != p.node.incarnation:
		return // for a node that was here before
	case other == nil:
		ctx.Send(p.node.claimer, lookAround{}) // it is newer than our list
		return
	case err != nil:
		p.node.metrics.garbled.Inc()
		p.node.log.Warn("cannot read what another node says", "incarnation", int64(from), "error", err)
		return
	}
	other.heard = time.Now()
	if !other.met {
		other.met = true
		p.tell(from, p.own()) // it knows us now: what we said before went nowhere
	}
	switch m := m.(type) {
	case wire.Watch:
		p.serve(ctx, from, m)
	case wire.Unwatch:
		p.stopServing(ctx, servedKey{from, m.Sub})
	case wire.Watching:
		p.watching(ctx, from, m)
	case wire.Frames:
		p.frames(ctx, from, m)
	case wire.NotHeld:
		if sub := p.subs[m.Sub]; sub != nil && sub.to == from {
			p.dropSub(ctx, m.Sub)
		}
	case wire.Cancel:
		p.called(from, m.Token, func(ctx context.Context) (wire.Answer, error) { return p.node.cancelFor(ctx, m) })
	case wire.Explain:
		p.called(from, m.Token, func(ctx context.Context) (wire.Answer, error) { return p.node.explainFor(ctx, m) })
	case wire.DrainWorker:
		p.called(from, m.Token, func(ctx context.Context) (wire.Answer, error) {
			return wire.Answer{}, p.node.drainHere(ctx, m.Namespace, m.Worker)
		})
	case wire.Report:
		p.called(from, m.Token, p.node.reportFor)
	case wire.Answer:
		if c, ok := p.calls[m.Token]; ok && c.to == from {
			p.answer(ctx, m)
		}
	case wire.Pulse:
		p.pulsed(ctx, other, m)
	case wire.Work:
		ctx.Send(p.node.claimer, hinted{})
	case wire.Settings:
		ctx.Send(p.node.claimer, lookAround{})
	case wire.Happened:
		p.happenedThere(ctx, other, m)
	}
}

// watch begins to follow a task on another node for a session here.
func (p *peers) watch(ctx actor.Context, msg farWatch) {
	if p.members[msg.to] == nil {
		ctx.Respond(notHeld{gen: msg.msg.gen})
		return
	}
	p.last++
	p.subs[p.last] = &farSub{
		session: ctx.Sender(), gen: msg.msg.gen, to: msg.to, id: msg.id, by: time.Now().Add(answerWithin),
	}
	p.bySub[subKey{ctx.Sender().GetId(), msg.msg.gen}] = p.last
	p.tell(msg.to, wire.Watch{Sub: p.last, Task: msg.id, Namespace: msg.msg.namespace, After: msg.msg.after})
}

func (p *peers) unwatch(key subKey) {
	id, ok := p.bySub[key]
	if !ok {
		return
	}
	p.tell(p.subs[id].to, wire.Unwatch{Sub: id})
	delete(p.bySub, key)
	delete(p.subs, id)
}

// dropSub ends a subscription for which nothing more will come.
func (p *peers) dropSub(ctx actor.Context, id uint64) {
	sub := p.subs[id]
	ctx.Send(sub.session, notHeld{gen: sub.gen})
	p.unwatch(subKey{sub.session.GetId(), sub.gen})
}

func (p *peers) watching(ctx actor.Context, from task.Incarnation, m wire.Watching) {
	sub := p.subs[m.Sub]
	if sub == nil || sub.to != from {
		return
	}
	sub.live = true
	ctx.Send(sub.session, watching{
		gen: sub.gen, live: m.Live, far: true, err: wire.ErrorOf(m.Err), frames: framesOf(sub.id, m.Events),
	})
	if !m.Live {
		p.unwatch(subKey{sub.session.GetId(), sub.gen})
	}
}

func framesOf(id task.ID, events []wire.Event) []*task.Frame {
	out := make([]*task.Frame, len(events))
	topic := task.Topic{Task: id}.Name()
	for i, e := range wire.EventsFor(id, events) {
		out[i] = &task.Frame{Kind: task.Happened, Topic: topic, Event: e}
	}
	return out
}

func (p *peers) frames(ctx actor.Context, from task.Incarnation, m wire.Frames) {
	sub := p.subs[m.Sub]
	if sub == nil || sub.to != from || !sub.live {
		return
	}
	if sub.n++; m.N != sub.n {
		p.dropSub(ctx, m.Sub) // some were lost on the way; they are in the log
		return
	}
	ctx.Send(sub.session, frames{gen: sub.gen, frames: framesOf(sub.id, m.Events)})
}

// serve follows a task here for another node.
func (p *peers) serve(ctx actor.Context, from task.Incarnation, m wire.Watch) {
	key := servedKey{from, m.Sub}
	p.stopServing(ctx, key)
	other := p.members[from].address
	tell := func(about any) { p.node.tell(other, from, about) }
	p.served[key] = ctx.Spawn(p.node.props(func() actor.Actor {
		return &farWatcher{node: p.node, key: key, watch: m, tell: tell}
	}, supervisor{log: p.node.log}))
}

func (p *peers) stopServing(ctx actor.Context, key servedKey) {
	if pid := p.served[key]; pid != nil {
		ctx.Stop(pid)
		delete(p.served, key)
	}
}

// ask makes a call for somebody here.
func (p *peers) ask(ctx actor.Context, msg farAsk) {
	p.last++
	p.calls[p.last] = farCall{who: ctx.Sender(), to: msg.to, by: time.Now().Add(callWithin)}
	if p.members[msg.to] == nil {
		p.answer(ctx, wire.Answer{Token: p.last, Err: wire.ErrorText(task.ErrUnreachable)})
		return
	}
	p.tell(msg.to, msg.message(p.last))
}

func (p *peers) answer(ctx actor.Context, m wire.Answer) {
	ctx.Send(p.calls[m.Token].who, farAnswer{m})
	delete(p.calls, m.Token)
}

// called does what another node asks, away from the actor, and answers.
func (p *peers) called(from task.Incarnation, token uint64, do func(context.Context) (wire.Answer, error)) {
	other := p.members[from].address
	p.node.work(func(ctx context.Context) {
		within, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		a, err := do(within)
		a.Token, a.Err = token, wire.ErrorText(err)
		p.node.tell(other, from, a)
	})
}

func (p *peers) freed(ctx actor.Context, msg freed) {
	if !p.node.tells() {
		return
	}
	for _, k := range msg.kinds {
		p.work[k] = true
	}
	if p.telling {
		return
	}
	p.telling = true
	self, root := ctx.Self(), p.node.root
	time.AfterFunc(gatherWork, func() { root.Send(self, tellWork{}) })
}

func (p *peers) tellWork() {
	p.telling = false
	var m wire.Work
	for k := range p.work {
		m.Kinds = append(m.Kinds, k)
	}
	clear(p.work)
	for to := range p.members {
		p.tell(to, m)
	}
	if p.node.cfg.Hints != nil {
		p.node.cfg.Hints.Tell(m.Kinds)
	}
}

func (p *peers) pulsed(ctx actor.Context, other *member, m wire.Pulse) {
	other.follows = m.Follows
	p.learnFollows()
	if !slices.Equal(other.hungry, m.Hungry) || !sameServed(other.served, m.Served) || other.running != m.Running {
		other.hungry, other.served, other.running, other.room = m.Hungry, m.Served, m.Running, m.Room
		p.tellHunger(ctx)
	}
}

func (m *member) isHungry() bool { return len(m.hungry)+len(m.served) > 0 }

func sameServed(a, b []task.Served) bool {
	return slices.EqualFunc(a, b, func(x, y task.Served) bool {
		return x.Namespace == y.Namespace && slices.Equal(x.Kinds, y.Kinds) && maps.Equal(x.Labels, y.Labels)
	})
}

// learnFollows notes whether the journal must tell us what happens.
func (p *peers) learnFollows() {
	n := int64(0)
	for _, m := range p.members {
		if m.follows {
			n++
		}
	}
	p.node.farFollowers.Store(n)
}

func (p *peers) tellHunger(ctx actor.Context) {
	hungry := map[task.Incarnation]task.Rival{}
	for i, m := range p.members {
		if m.isHungry() {
			hungry[i] = task.Rival{Labels: m.labels, Kinds: m.hungry, Served: m.served, Running: m.running, Capacity: m.room}
		}
	}
	ctx.Send(p.node.claimer, hunger{nodes: hungry})
}

// happened tells what was stored here to nodes where somebody follows feeds.
func (p *peers) happened(msg happened) {
	for to, m := range p.members {
		if m.follows {
			m.told++
			p.tell(to, wire.Happened{N: m.told, Task: wire.BriefOf(msg.task), Events: wire.EventsOf(msg.events)})
		}
	}
}

func (p *peers) happenedThere(ctx actor.Context, other *member, m wire.Happened) {
	if other.said++; m.N != other.said {
		ctx.Send(p.node.feeds, feedsBroken{}) // some were lost on the way
	}
	other.said = m.N
	t := m.Task.Task()
	ctx.Send(p.node.feeds, happened{task: t, events: wire.EventsFor(t.ID, m.Events)})
}

// farWatcher follows a task here for a session on another node.
type farWatcher struct {
	node  *Node
	key   servedKey
	watch wire.Watch
	tell  func(any)
	n     uint64
}

// Receive implements [actor.Actor].
func (w *farWatcher) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		ctx.Request(w.node.holder, forTask{id: w.watch.Task, msg: watch{namespace: w.watch.Namespace, after: w.watch.After}})
	case *actor.Stopping:
		ctx.Request(w.node.holder, forTask{id: w.watch.Task, msg: unwatch{}})
	case watching:
		w.tell(wire.Watching{Sub: w.key.sub, Live: msg.live, Err: wire.ErrorText(msg.err), Events: eventsIn(msg.frames)})
		if !msg.live {
			ctx.Send(w.node.peers, farDone{w.key})
		}
	case frames:
		w.n++
		w.tell(wire.Frames{Sub: w.key.sub, N: w.n, Events: eventsIn(msg.frames)})
	case notHeld:
		w.tell(wire.NotHeld{Sub: w.key.sub})
		ctx.Send(w.node.peers, farDone{w.key})
	}
}

func eventsIn(fs []*task.Frame) []wire.Event {
	events := make([]task.Event, len(fs))
	for i, f := range fs {
		events[i] = f.Event
	}
	return wire.EventsOf(events)
}
