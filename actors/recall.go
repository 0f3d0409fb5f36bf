package actors

import (
	"context"
	"encoding/json"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// Results keeps results of tasks for all nodes, for a time. It may lose them, and
// must not be slow to say so.
type Results interface {
	Get(ctx context.Context, namespace, kind, key string) (result json.RawMessage, ok bool)
	Put(ctx context.Context, namespace, kind, key string, result json.RawMessage, ttl time.Duration)
}

// recallWithin bounds how long an attempt waits for the result of another task. It
// runs then: that costs what it costs without a cache, and waiting may cost more.
const recallWithin = time.Second

// recall looks for a result that makes the attempt, whose start is on disk,
// needless. Meanwhile the attempt is starting.
func (a *taskActor) recall(ctx actor.Context) {
	self, n, t := ctx.Self(), a.node, a.row
	a.after(ctx, tickRecall, recallWithin)
	n.work(func(workCtx context.Context) {
		result, found := n.result(workCtx, t)
		n.root.Send(self, recalled{attempt: t.Attempt, result: result, found: found})
	})
}

func (a *taskActor) recalled(ctx actor.Context, msg recalled) {
	if !a.starting || msg.attempt != a.attempt {
		return // cut off meanwhile, or given up waiting
	}
	a.stopTimer(tickRecall)
	if !msg.found {
		a.begin(ctx)
		return
	}
	a.busy, a.starting = false, false
	a.end(ctx, must(a.row.Reuse(a.node.now(), msg.result, a.waited)))
}

// result looks for the result of a task like t: beside the store, then in it. A
// failure is none.
func (n *Node) result(ctx context.Context, t task.Task) (result json.RawMessage, found bool) {
	within, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	if n.cfg.Results != nil {
		result, found = n.cfg.Results.Get(within, t.Namespace, t.Kind, t.Cache.Key)
		if found && len(result) <= n.cfg.Limits.Result && task.ValidJSON(result) {
			return result, true
		}
	}
	result, _, found, err := n.cfg.Store.Result(within, t.Namespace, t.Kind, t.Cache.Key, n.now())
	if err != nil && ctx.Err() == nil {
		n.log.Warn("cannot look for a result", "task", t.ID.String(), "error", err)
	}
	return result, found
}

// share puts a result that is on disk beside the store too.
func (n *Node) share(t task.Task) {
	if n.cfg.Results == nil {
		return
	}
	n.work(func(ctx context.Context) {
		n.cfg.Results.Put(ctx, t.Namespace, t.Kind, t.Cache.Key, t.Result, n.until(t.ResultExpires()))
	})
}
