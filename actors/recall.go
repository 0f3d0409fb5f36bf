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
	// Get says for how long it may be used, too; 0: that is not known.
	Get(ctx context.Context, namespace, kind, key string) (result json.RawMessage, left time.Duration, ok bool)
	Put(ctx context.Context, namespace, kind, key string, result json.RawMessage, ttl time.Duration)
}

// Recent keeps results in memory.
type Recent interface {
	Get(namespace, kind, key string) (result json.RawMessage, ok bool)
	// Put keeps a new result in place of an older one; Add one that was found, unless
	// there is one.
	Put(namespace, kind, key string, result json.RawMessage, ttl time.Duration)
	Add(namespace, kind, key string, result json.RawMessage, ttl time.Duration)
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
		n.root.Send(self, recalled{id: t.ID, attempt: t.Attempt, result: result, found: found})
	})
}

func (a *taskActor) recalled(ctx actor.Context, msg recalled) {
	if !a.starting || msg.id != a.row.ID || msg.attempt != a.attempt {
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

// result looks for the result of a task like t: in memory, beside the store, then in
// it. A failure is none.
func (n *Node) result(ctx context.Context, t task.Task) (result json.RawMessage, found bool) {
	within, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	where, left := "memory", time.Duration(0)
	if n.cfg.Recent != nil {
		result, found = n.cfg.Recent.Get(t.Namespace, t.Kind, t.Cache.Key)
	}
	if !found && n.cfg.Results != nil {
		where = "beside"
		result, left, found = n.cfg.Results.Get(within, t.Namespace, t.Kind, t.Cache.Key)
		found = found && len(result) <= n.cfg.Limits.Result && task.ValidJSON(result)
	}
	if !found {
		where = "store"
		result, left, found = n.storedResult(within, t)
	}
	switch {
	case !found:
		where = "nowhere"
	case left > 0 && n.cfg.Recent != nil:
		n.cfg.Recent.Add(t.Namespace, t.Kind, t.Cache.Key, result, left)
	}
	n.metrics.recalled.WithLabelValues(where).Inc()
	return result, found
}

func (n *Node) storedResult(ctx context.Context, t task.Task) (json.RawMessage, time.Duration, bool) {
	kept, found, err := n.cfg.Store.Result(ctx, t.Namespace, t.Kind, t.Cache.Key, n.now())
	if err != nil && n.life.Err() == nil {
		n.log.Warn("cannot look for a result", "task", t.ID.String(), "error", err)
	}
	return kept.Result, n.until(kept.Expires), found
}

// share puts a result that is on disk into memory and beside the store too.
func (n *Node) share(t task.Task) {
	ttl := n.until(t.ResultExpires())
	if n.cfg.Recent != nil {
		n.cfg.Recent.Put(t.Namespace, t.Kind, t.Cache.Key, t.Result, ttl)
	}
	if n.cfg.Results == nil {
		return
	}
	n.work(func(ctx context.Context) {
		n.cfg.Results.Put(ctx, t.Namespace, t.Kind, t.Cache.Key, t.Result, n.until(t.ResultExpires()))
	})
}
