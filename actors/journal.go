package actors

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// Bounds of one commit. A transaction this size takes a few milliseconds; a
// larger one would only make everybody in it wait longer.
const (
	maxBatch      = 2000
	maxBatchBytes = 8 << 20
)

// lazyFor is how long a lazy write may wait for the next one of its task. In a burst of
// starts it is about as long until the first ends come in.
const lazyFor = 25 * time.Millisecond

// How often a commit that the store refused is tried again.
const commitRetry = 250 * time.Millisecond

// complainEvery bounds how often the log says that it refuses.
const complainEvery = 10 * time.Second

// journal is the one writer: while a transaction commits, the next batch
// gathers. Whoever asked is answered after the commit. Where the store can, new tasks that
// this node will hold are written at the same time as all else: nobody has them yet, so
// nothing else can be said of them before they are answered.
//
// Two writes of the same task that meet in one gathering become one. A lazy one waits
// a while for the other. So the start of an attempt that ends soon costs no write of
// its own.
type journal struct {
	node *Node
	log  *slog.Logger
	// What was taken over must outlive a crash of the actor: everybody in here
	// waits for an answer. So it belongs to the recipe, not to the instance.
	*ledger
}

// ledger is what the journal has taken over and not yet answered.
type ledger struct {
	births     *line    // of new tasks; the same as writes where the store takes one batch at a time
	writes     *line    // of all else
	spare      []*batch // those before, emptied: their memory serves the next
	broken     bool     // the store refused the last commit of writes, and it holds saves
	complained time.Time
	flushers   []*actor.PID
	lazy       map[task.ID]lazyWrite
	due        queue[lazyWrite] // the same in order, with those that wait no more
	timed      bool             // lazyDue is to come
}

// line is one batch after the other.
type line struct {
	gathering  *batch
	committing *batch // with the store now, or waiting to be tried again
}

// idle says whether all that was gathered is settled.
func (l *line) idle() bool { return l.committing == nil && len(l.gathering.ms) == 0 }

// lazyWrite is a write that waits for the next one of its task.
type lazyWrite struct {
	write *task.Mutation
	owed  owed
	until time.Time
}

// batch is one transaction's writes with those who wait for them.
type batch struct {
	ms     []task.Mutation
	owed   []owed // as long as ms
	bytes  int
	byTask map[task.ID]int // index of the latest write of a task
}

// owed is who wants to know what became of a mutation: either the senders of
// writes, or one of the submissions of a caller.
type owed struct {
	ack   ack
	more  []ack // of writes that became one with this
	reply *reply
	index int // into reply.results
}

type ack struct {
	pid   *actor.PID
	token uint64
}

func (a ack) tell(ctx actor.Context, out task.Outcome) {
	if a.pid != nil {
		ctx.Send(a.pid, wrote{token: a.token, outcome: out})
	}
}

// reply collects the answers to one submit, whose tasks may be spread over
// several commits.
type reply struct {
	to      *actor.PID
	results []task.Submitted
	missing int
}

func newJournal(n *Node) actor.Producer {
	l := &ledger{writes: &line{gathering: newBatch()}, lazy: map[task.ID]lazyWrite{}}
	if l.births = l.writes; n.cfg.Store.Writers() > 1 {
		l.births = &line{gathering: newBatch()}
	}
	return func() actor.Actor { return &journal{node: n, log: n.log, ledger: l} }
}

func newBatch() *batch { return &batch{byTask: map[task.ID]int{}} }

// Receive implements [actor.Actor].
func (j *journal) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		j.commit(ctx) // after a crash: what had been gathered
	case write:
		o := owed{ack: ack{pid: ctx.Sender(), token: msg.token}}
		if j.broken && refusable(msg.m) {
			j.answer(ctx, msg.m, o, task.Outcome{Err: task.ErrUnavailable})
			return
		}
		if msg.lazy {
			j.putOff(ctx, msg.m, o)
			return
		}
		j.hurry(msg.m.Task.ID)
		j.gather(msg.m, o)
		j.commit(ctx)
	case hurry:
		j.hurry(msg.id)
		j.commit(ctx)
	case lazyDue:
		j.timed = false
		j.commit(ctx)
	case submit:
		j.submit(ctx, msg)
	case committed:
		j.committed(ctx, msg)
	case retryCommit:
		j.store(ctx, j.writes)
	case flush:
		j.flushers = append(j.flushers, ctx.Sender())
		j.commit(ctx)
		j.answerFlush(ctx)
	}
}

func (j *journal) submit(ctx actor.Context, msg submit) {
	r := &reply{to: ctx.Sender(), results: make([]task.Submitted, len(msg.ms)), missing: len(msg.ms)}
	l := j.lineOf(msg.ms)
	for i := range msg.ms {
		m, o := &msg.ms[i], owed{reply: r, index: i}
		if j.broken {
			j.answer(ctx, m, o, task.Outcome{Err: task.ErrUnavailable})
			continue
		}
		l.gathering.add(m, o)
	}
	j.commit(ctx)
}

// putOff has a lazy write wait.
func (j *journal) putOff(ctx actor.Context, m *task.Mutation, o owed) {
	id := m.Task.ID
	j.hurry(id)
	l := lazyWrite{write: m, owed: o, until: time.Now().Add(lazyFor)}
	j.lazy[id] = l
	j.due.push(l)
	j.timeLazy(ctx)
}

func (j *journal) timeLazy(ctx actor.Context) {
	if j.timed || len(j.lazy) == 0 {
		return
	}
	j.timed = true
	self, root := ctx.Self(), j.node.root
	time.AfterFunc(lazyFor, func() { root.Send(self, lazyDue{}) })
}

// hurry gathers the lazy write of a task, if there is one.
func (j *journal) hurry(id task.ID) {
	if l, ok := j.lazy[id]; ok {
		delete(j.lazy, id)
		j.gather(l.write, l.owed)
	}
}

// hurryDue gathers the lazy writes that have waited for long enough; all where
// somebody waits for that.
func (j *journal) hurryDue(ctx actor.Context) {
	now := time.Now()
	for {
		l, ok := j.due.peek()
		if !ok || l.until.After(now) && len(j.flushers) == 0 {
			break
		}
		j.due.pop()
		if current, waits := j.lazy[l.write.Task.ID]; waits && current.write == l.write {
			j.hurry(l.write.Task.ID)
		}
	}
	j.timeLazy(ctx)
}

// gather adds a write to the coming batch, melting it into an earlier one of
// the same task where one row and one segment can say both.
func (j *journal) gather(next *task.Mutation, o owed) {
	b := j.writes.gathering
	if i, ok := b.byTask[next.Task.ID]; ok && melts(&b.ms[i], next) {
		m, earlier := *next, &b.ms[i]
		m.Guard = earlier.Guard
		m.Events = append(earlier.Events, m.Events...)
		m.Give = append(earlier.Give, m.Give...)
		m.Checkpoint = m.Checkpoint || earlier.Checkpoint
		m.Forget = m.Forget || earlier.Forget
		if m.Memos = append(earlier.Memos, m.Memos...); m.Task.State.Terminal() {
			m.Memos = nil
		}
		*earlier = m
		b.owed[i].more = append(append(b.owed[i].more, o.ack), o.more...)
		return
	}
	b.add(next, o)
}

// melts says whether two saves can be one: the second was decided on the row
// the first makes, and all their events are of one attempt. What depends on a limit
// may come to nothing, and stands alone.
func melts(first, second *task.Mutation) bool {
	return first.Op == task.Save && second.Op == task.Save && len(first.Take)+len(second.Take) == 0 &&
		first.Task.Guard() == second.Guard &&
		(len(first.Events) == 0 || len(second.Events) == 0 ||
			first.Events[0].Cursor.Attempt == second.Events[0].Cursor.Attempt)
}

func size(m *task.Mutation) int {
	n := len(m.Task.Payload) + len(m.Task.Result) + 256
	for _, e := range m.Events {
		n += len(e.Data) + 64
	}
	for _, memo := range m.Memos {
		n += memo.Size()
	}
	return n
}

// lineOf is where new tasks gather that came in one call, and may depend on each other. One
// that is not held may be claimed as soon as it is stored, and what follows is to be told
// after its birth: so they go the same way.
func (j *journal) lineOf(ms []task.Mutation) *line {
	for i := range ms {
		if ms[i].Task.Holder == 0 {
			return j.writes
		}
	}
	return j.births
}

// commit hands what was gathered to the store, unless a batch of the same line is with it
// already.
func (j *journal) commit(ctx actor.Context) {
	if j.writes.committing == nil {
		j.hurryDue(ctx)
	}
	j.advance(ctx, j.births)
	j.advance(ctx, j.writes)
}

func (j *journal) advance(ctx actor.Context, l *line) {
	if l.committing != nil || len(l.gathering.ms) == 0 {
		return
	}
	after := newBatch()
	if last := len(j.spare) - 1; last >= 0 {
		after, j.spare = j.spare[last], j.spare[:last]
	}
	l.committing, l.gathering = l.gathering, l.gathering.split(after)
	j.store(ctx, l)
}

// split moves what does not fit in one transaction to the empty batch after it.
func (b *batch) split(after *batch) *batch {
	fits, bytes := 0, 0
	for fits < min(len(b.ms), maxBatch) && (fits == 0 || bytes <= maxBatchBytes) {
		bytes += size(&b.ms[fits])
		fits++
	}
	for i := fits; i < len(b.ms); i++ {
		after.add(&b.ms[i], b.owed[i])
	}
	clear(b.ms[fits:])
	clear(b.owed[fits:])
	b.ms, b.owed, b.bytes = b.ms[:fits], b.owed[:fits], bytes
	return after
}

func (j *journal) store(ctx actor.Context, l *line) {
	if l.committing == nil {
		return
	}
	b, self, root := l.committing, ctx.Self(), j.node.root
	j.node.metrics.batch.Observe(float64(len(b.ms)))
	j.node.work(func(workCtx context.Context) {
		began := time.Now()
		outcomes, err := appendAll(workCtx, j.node.cfg.Store, b.ms, j.log)
		j.node.metrics.commit.Observe(time.Since(began).Seconds())
		root.Send(self, committed{batch: b, outcomes: outcomes, err: err})
	})
}

func (j *journal) committed(ctx actor.Context, msg committed) {
	l := j.writes
	if msg.batch == j.births.committing {
		l = j.births
	}
	if msg.batch != l.committing {
		return
	}
	if msg.err != nil {
		j.failed(ctx, l, msg.err)
		return
	}
	if l == j.writes {
		j.broken = false
	}
	l.committing = nil
	if !slices.ContainsFunc(msg.outcomes, comesAgain) { // else what comes goes first
		j.commit(ctx) // the store has to do while we tell everybody
	}
	j.settle(ctx, msg.batch, msg.outcomes)
	if b := msg.batch.emptied(); b != nil {
		j.spare = append(j.spare, b)
	}
	j.commit(ctx)
	j.answerFlush(ctx)
}

// failed handles a store that kept nothing. What callers ask for is refused; they may
// come again. What is said of tasks as they are cannot be refused: it is tried again
// until it can be stored.
func (j *journal) failed(ctx actor.Context, l *line, err error) {
	if now := time.Now(); now.Sub(j.complained) > complainEvery {
		j.complained = now
		j.log.Error("the store refuses writes", "error", err)
	}
	why := task.ErrUnavailable
	if errors.Is(err, task.ErrUnknown) {
		why = task.ErrUnknown // the node ends before it could find out
	}
	l.committing = j.refuse(ctx, l.committing, why)
	if len(l.committing.ms) == 0 {
		l.committing = nil
		j.commit(ctx)
		j.answerFlush(ctx)
		return
	}
	j.broken = true
	l.gathering = j.refuse(ctx, l.gathering, task.ErrUnavailable)
	self, root := ctx.Self(), j.node.root
	time.AfterFunc(commitRetry, func() { root.Send(self, retryCommit{}) })
}

// refusable says whether a write can be refused: all but saves are asked for by somebody
// who may come again. They would pile up else, for as long as the store keeps nothing.
func refusable(m *task.Mutation) bool { return m.Op != task.Save }

// refuse tells in a batch who may come again why, and returns what is left of it.
func (j *journal) refuse(ctx actor.Context, b *batch, why error) *batch {
	rest := newBatch()
	for i := range b.ms {
		m := &b.ms[i]
		if refusable(m) {
			j.answer(ctx, m, b.owed[i], task.Outcome{Err: why})
			continue
		}
		rest.add(m, b.owed[i])
	}
	return rest
}

func (b *batch) add(m *task.Mutation, o owed) {
	b.byTask[m.Task.ID] = len(b.ms)
	b.ms, b.owed = append(b.ms, *m), append(b.owed, o)
	b.bytes += size(m)
}

// emptied keeps only the batch's memory, and that only while it is not much.
func (b *batch) emptied() *batch {
	if cap(b.ms) > 2*maxBatch {
		return nil
	}
	clear(b.ms)
	clear(b.owed)
	clear(b.byTask)
	b.ms, b.owed, b.bytes = b.ms[:0], b.owed[:0], 0
	return b
}

// comesAgain says of a write that it was set apart from a batch that was stored, and not
// stored itself.
func comesAgain(out task.Outcome) bool { return errors.Is(out.Err, task.ErrUnavailable) }

// settle tells everybody what became of a batch.
func (j *journal) settle(ctx actor.Context, b *batch, outcomes []task.Outcome) {
	var admitted []*task.Task
	var news unheld
	watched, followed := j.node.watched.Load() > 0, j.node.farFollowers.Load() > 0
	for i := range b.ms {
		m, o, out := &b.ms[i], b.owed[i], outcomes[i]
		if !refusable(m) && comesAgain(out) {
			j.gather(m, o)
			continue
		}
		j.answer(ctx, m, o, out)
		news.limits(m, out)
		news.settles = news.settles || out.Settles
		if out.Bound != 0 {
			news.add(new(m.Task.Bind(out.Bound, j.node.now()))) // its node is to hear of it
		}
		if out.Err != nil || out.Existing != nil {
			continue
		}
		t := &m.Task
		switch {
		case !m.Inserts() && m.Op != task.Save:
			continue
		case t.Holder == 0 && !t.State.Terminal():
			news.add(t)
		case m.Op == task.Insert && t.Holder == j.node.incarnation:
			admitted = append(admitted, new(*t))
		}
		if watched && len(m.Events) > 0 {
			ctx.Send(j.node.feeds, happened{task: *t, events: m.Events})
		}
		if followed && len(m.Events) > 0 {
			ctx.Send(j.node.peers, happened{task: *t, events: m.Events})
		}
	}
	if len(admitted) > 0 {
		ctx.Send(j.node.holder, hold{tasks: admitted})
	}
	if news.heads != nil || !news.wake.IsZero() {
		ctx.Send(j.node.claimer, news)
	}
	if news.settles {
		ctx.Send(j.node.claimer, settled{})
	}
	if news.moved {
		ctx.Send(j.node.claimer, limitsMoved{timed: news.timed})
	}
	if kinds := news.kinds(); len(kinds) > 0 && j.node.tells() {
		ctx.Send(j.node.peers, freed{kinds: kinds})
	}
}

// limits notes what a write did to limits of the whole cluster.
func (u *unheld) limits(m *task.Mutation, out task.Outcome) {
	switch {
	case out.Bound != 0:
	case errors.Is(out.Err, task.ErrParked):
		u.moved = true // perhaps only because others stand before it
		u.timed = u.timed || out.Limit.Scope.Paces()
	case out.Err == nil && len(m.Give) > 0:
		u.moved = true
		u.eased = append(u.eased, m.Task.Kind)
	}
}

func (u *unheld) add(t *task.Task) {
	if t.State == task.Queued {
		if u.heads == nil {
			u.heads = map[task.Lane]int64{}
		}
		l, rank := t.Lane(), t.Rank()
		if head, ok := u.heads[l]; !ok || rank < head {
			u.heads[l] = rank
		}
	}
	if at := t.WakeAt(); !at.IsZero() && (u.wake.IsZero() || at.Before(u.wake)) {
		u.wake = at
	}
}

func (u *unheld) kinds() []string {
	kinds := map[string]bool{}
	for l := range u.heads {
		kinds[l.Kind] = true
	}
	for _, k := range u.eased {
		kinds[k] = true
	}
	return slices.Collect(maps.Keys(kinds))
}

func (j *journal) answer(ctx actor.Context, m *task.Mutation, o owed, out task.Outcome) {
	o.ack.tell(ctx, out)
	for _, a := range o.more {
		a.tell(ctx, out)
	}
	if o.reply == nil {
		return
	}
	result := task.Submitted{Task: m.Task, Created: true, Err: out.Err}
	if out.Existing != nil {
		result = task.Submitted{Task: *out.Existing}
	}
	if out.Err == nil && out.Existing == nil {
		j.node.counters.submitted.Add(1)
	} else if m.Task.Holder != 0 {
		ctx.Send(j.node.claimer, refused{lane: []task.Lane{m.Task.Lane()}})
	}
	o.reply.results[o.index] = result
	o.reply.missing--
	if o.reply.missing == 0 {
		ctx.Send(o.reply.to, submitted{results: o.reply.results})
	}
}

func (j *journal) answerFlush(ctx actor.Context) {
	if !j.births.idle() || !j.writes.idle() || len(j.lazy) > 0 {
		return
	}
	for _, pid := range j.flushers {
		ctx.Send(pid, flushed{})
	}
	j.flushers = nil
}
