package actors

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
)

// DefaultWorkerLease is how long a worker elsewhere may be silent, or its connection
// broken, before its attempts run again.
const DefaultWorkerLease = 15 * time.Second

func (n *Node) workerLease() time.Duration { return n.cfg.WorkerLease }

// To and from the actors of workers elsewhere.
type (
	// enter makes a worker of a connection, or gives one that was away its connection.
	// It is answered with entered.
	enter struct {
		reg  task.Registration
		link task.WorkerLink
	}
	entered struct {
		remote   *remoteWorker
		pid      *actor.PID
		session  string
		attempts []task.AttemptRef
		err      error
	}
	linkEnded struct {
		link   task.WorkerLink
		silent bool
	}
	// drainRemote has a worker take no more; tell says whether it has to be told. It is
	// answered with drained.
	drainRemote struct {
		reason string
		tell   bool
	}
	drainRemotes struct{}
	nothingRuns  struct{}
	leaseOver    struct{ gen uint64 }
	// left says that a worker is no more.
	left struct{ session string }
	// remoteChanged tells the scheduler to look at a worker in the roster.
	remoteChanged struct{ id string }
)

// remotes is the parent of the actors of workers elsewhere. It is a registry (see
// supervision.go).
type remotes struct {
	node     *Node
	sessions map[string]*actor.PID
	draining bool
	gone     *goodbye // said to all who were here; newcomers hear it, too
}

// Receive implements [actor.Actor].
func (r *remotes) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case enter:
		r.enter(ctx, msg)
	case left:
		if pid := r.sessions[msg.session]; pid != nil && pid.Equal(ctx.Sender()) {
			delete(r.sessions, msg.session)
			ctx.Send(pid, leave{}) // behind what was passed on to it, which it sends back
		}
	case drainRemotes:
		r.draining = true
		for _, pid := range r.sessions {
			ctx.Send(pid, drainRemote{reason: "the node is shutting down", tell: true})
		}
	case goodbye:
		r.gone = &msg
		for _, pid := range r.sessions {
			ctx.Send(pid, msg)
		}
	}
}

func (r *remotes) enter(ctx actor.Context, msg enter) {
	if pid := r.sessions[msg.reg.Resume]; pid != nil && msg.reg.Resume != "" && r.gone == nil {
		ctx.RequestWithCustomSender(pid, msg, ctx.Sender())
		return
	}
	if r.draining {
		ctx.Respond(entered{err: task.ErrClosed})
		return
	}
	session := uuid.NewString()
	msg.reg.Resume, msg.reg.Running = "", nil
	pid := ctx.Spawn(r.node.props(func() actor.Actor {
		return &remoteActor{node: r.node, session: session}
	}, supervisor{log: r.node.log}))
	r.sessions[session] = pid
	ctx.RequestWithCustomSender(pid, msg, ctx.Sender())
}

// remoteActor speaks for one worker elsewhere, from when it registers until it has
// gone: it closed with nothing to do, or was not heard of for a lease.
type remoteActor struct {
	node    *Node
	session string
	it      *remoteWorker
	gen     uint64 // of the lease
	timer   *time.Timer
	over    bool
}

// Receive implements [actor.Actor].
func (a *remoteActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case enter:
		a.enter(ctx, msg)
	case linkEnded:
		a.linkEnded(ctx, msg)
	case drainRemote:
		a.drain(ctx, msg)
	case leave:
		ctx.Stop(ctx.Self())
	case nothingRuns:
		a.maybeGo(ctx)
	case leaseOver:
		if msg.gen == a.gen {
			a.lose(ctx)
		}
	case goodbye:
		if a.it != nil {
			delay := time.Duration(rand.Int64N(int64(msg.within) + 1)) //nolint:gosec // spread, not a secret
			a.it.desk.shout(func(l task.WorkerLink) { l.Goodbye(delay) })
		}
	case *actor.Restarting, *actor.Stopping:
		a.stop(ctx)
	}
}

func (a *remoteActor) enter(ctx actor.Context, msg enter) {
	resumed := a.it != nil
	switch {
	case a.over, resumed && a.it.reg.Namespace != msg.reg.Namespace:
		// To somebody else it is as if there were no such session.
		msg.reg.Resume = ""
		ctx.RequestWithCustomSender(a.node.remotes, msg, ctx.Sender())
		return
	case !resumed:
		a.it = &remoteWorker{id: uuid.Must(uuid.NewV7()).String(), reg: msg.reg, since: a.node.now(), actor: ctx.Self()}
		self, root := ctx.Self(), a.node.root
		a.it.desk = &desk{node: a.node, worker: a.it.id, errands: map[attemptKey]*errand{}, idle: func() { root.Send(self, nothingRuns{}) }}
		a.it.become(task.WorkerConnected)
		a.it.free.Store(int64(msg.reg.Resources[task.SlotResource]))
		a.node.enlist(a.it, false)
		a.node.log.Info("a worker has come", "worker", a.it.id, "name", msg.reg.Name, "namespace", msg.reg.Namespace, "slots", msg.reg.Slots)
	}
	a.gen++ // whatever lease was under way
	own, before := a.it.desk.attach(msg.link, resumed, msg.reg.Running)
	if before != nil {
		before.Close()
	}
	if a.it.is() == task.WorkerAway {
		a.it.become(task.WorkerConnected)
	}
	ctx.Send(a.node.scheduler, remoteChanged{a.it.id})
	ctx.Send(a.node.claimer, kindsChanged{})
	ctx.Respond(entered{remote: a.it, pid: ctx.Self(), session: a.session, attempts: own})
}

// linkEnded: the worker is given up if it was silent for a lease, and gone if nothing
// of it runs. Else it has a lease to come back.
func (a *remoteActor) linkEnded(ctx actor.Context, msg linkEnded) {
	if a.it == nil || a.over || !a.it.desk.detach(msg.link) {
		return
	}
	if msg.silent {
		a.lose(ctx)
		return
	}
	if a.it.is() == task.WorkerConnected {
		a.it.become(task.WorkerAway)
	}
	ctx.Send(a.node.scheduler, remoteChanged{a.it.id})
	a.gen++
	gen, self, root := a.gen, ctx.Self(), a.node.root
	a.timer = time.AfterFunc(a.node.workerLease(), func() { root.Send(self, leaseOver{gen}) })
	a.maybeGo(ctx)
}

// drain has the worker take no more.
func (a *remoteActor) drain(ctx actor.Context, msg drainRemote) {
	if a.it != nil && !a.over {
		a.it.become(task.WorkerDraining)
		ctx.Send(a.node.scheduler, remoteChanged{a.it.id})
		if msg.tell {
			a.it.desk.tell(func(l task.WorkerLink) { l.Drain(msg.reason) })
		}
	}
	if ctx.Sender() != nil {
		ctx.Respond(drained{})
	}
}

// maybeGo ends a worker that has no connection and nothing to do.
func (a *remoteActor) maybeGo(ctx actor.Context) {
	if a.it != nil && !a.over && !a.it.desk.connected() && a.it.desk.running() == 0 {
		a.leave(ctx, workerLost(a.node.workerLease()))
	}
}

// lose gives the worker up: its attempts have failed.
func (a *remoteActor) lose(ctx actor.Context) {
	if a.it == nil || a.over {
		return
	}
	a.node.metrics.remotesLost.Inc()
	a.node.log.Warn("a worker is lost", "worker", a.it.id, "name", a.it.reg.Name, "attempts", a.it.desk.running())
	a.leave(ctx, workerLost(a.node.workerLease()))
}

func workerLost(lease time.Duration) *task.Failure {
	return &task.Failure{
		Code: task.CodeWorkerLost, Message: "the worker was not heard of for " + lease.String(), Retryable: true,
	}
}

// leave forgets the worker.
func (a *remoteActor) leave(ctx actor.Context, why *task.Failure) {
	a.over = true
	a.gen++
	if a.timer != nil {
		a.timer.Stop()
	}
	a.node.enlist(a.it, true)
	a.it.desk.lose(why)
	ctx.Send(a.node.scheduler, remoteChanged{a.it.id})
	ctx.Send(a.node.claimer, kindsChanged{})
	ctx.Request(a.node.remotes, left{a.session})
}

// stop ends what the worker has when this actor is being stopped or restarted; the
// next instance knows of nothing, and the worker registers anew.
func (a *remoteActor) stop(ctx actor.Context) {
	if a.it == nil {
		return
	}
	a.it.desk.shout(task.WorkerLink.Close)
	if !a.over {
		a.leave(ctx, &task.Failure{Code: task.CodeWorkerCrashed, Message: "the worker's connection crashed", Retryable: true})
	}
}

// WorkerSession is a worker elsewhere that is connected here, see [task.WorkerSession].
type WorkerSession struct {
	node *Node
	link task.WorkerLink
	as   entered
}

// RegisterWorker takes a worker, or gives one that was away its new connection.
func (n *Node) RegisterWorker(ctx context.Context, reg task.Registration, link task.WorkerLink) (*WorkerSession, error) {
	if n.draining.Load() || n.stopped.Load() || n.isLost() {
		return nil, n.closed()
	}
	answer, err := ask[entered](ctx, n, n.remotes, enter{reg: reg, link: link})
	if err == nil {
		err = answer.err
	}
	if err != nil {
		return nil, err
	}
	return &WorkerSession{node: n, link: link, as: answer}, nil
}

// Registered implements [task.WorkerSession].
func (w *WorkerSession) Registered() task.Registered {
	return task.Registered{Worker: w.as.remote.id, Session: w.as.session, Lease: w.node.workerLease(), Attempts: w.as.attempts}
}

// Begin implements [task.WorkerSession].
func (w *WorkerSession) Begin() {
	w.as.remote.desk.begun(w.link, w.as.attempts)
	if w.as.remote.is() == task.WorkerDraining {
		w.link.Drain("")
	}
}

// Call implements [task.WorkerSession].
func (w *WorkerSession) Call(token string, call task.WorkerCall, done func(task.WorkerAnswer, error)) {
	w.as.remote.desk.call(w.link, token, errandCall{call: call, answer: done})
}

// Drain implements [task.WorkerSession].
func (w *WorkerSession) Drain() { w.node.root.Send(w.as.pid, drainRemote{}) }

// Ended implements [task.WorkerSession].
func (w *WorkerSession) Ended(silent bool) {
	w.node.root.Send(w.as.pid, linkEnded{link: w.link, silent: silent})
}
