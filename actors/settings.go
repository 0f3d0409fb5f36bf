package actors

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// settings is what people have set for the whole cluster, as this node knows it:
// at once what was set here, within a look at the store what was set elsewhere.
type settings struct {
	changes atomic.Uint64 // made here; what was read before one is old

	mu     sync.RWMutex
	queues map[queueName]task.Queue // those with settings
	kinds  map[queueName]task.Kind
	pools  map[string]bool

	tenants map[string]access.Tenant

	full sync.Map // task.LimitName → time.Time until when it is taken for full
}

type queueName struct{ namespace, name string }

func kindOf(l task.Lane) queueName { return queueName{l.Namespace, l.Kind} }

// fullFor is for how long a limit on which somebody was parked is taken for full,
// unless something is given back before.
const fullFor = time.Second

func settingsOf(o task.Overview) (queues map[queueName]task.Queue, kinds map[queueName]task.Kind, pools map[string]bool) {
	queues, kinds, pools = map[queueName]task.Queue{}, map[queueName]task.Kind{}, map[string]bool{}
	for _, q := range o.Queues {
		if q != (task.Queue{Namespace: q.Namespace, Name: q.Name}) {
			queues[queueName{q.Namespace, q.Name}] = q
		}
	}
	for _, k := range o.Kinds {
		kinds[queueName{k.Namespace, k.Name}] = k
	}
	for _, p := range o.Pools {
		pools[p.Name] = true
	}
	return queues, kinds, pools
}

func (n *Node) queue(namespace, name string) task.Queue {
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	return n.settings.queues[queueName{namespace, name}]
}

func (n *Node) kind(namespace, name string) task.Kind {
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	return n.settings.kinds[queueName{namespace, name}]
}

func (n *Node) isPaused(namespace, name string) bool { return n.queue(namespace, name).Paused }

// queuesSet is the queues with settings.
func (n *Node) queuesSet() map[queueName]task.Queue {
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	return maps.Clone(n.settings.queues)
}

// packed lists the queues whose tasks fill one node after another.
func (n *Node) packed() (names []task.QueueName) {
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	for name, q := range n.settings.queues {
		if q.Placement == task.PlacementPack {
			names = append(names, task.QueueName{Namespace: name.namespace, Name: name.name})
		}
	}
	return names
}

func (n *Node) isPool(resource string) bool {
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	return n.settings.pools[resource]
}

// wants is what an attempt of a task needs of limits of the whole cluster, in the
// order in which it is parked on one.
func (n *Node) wants(t task.Task) []task.Token {
	tokens := t.Wants(n.queue(t.Namespace, t.Queue), n.kind(t.Namespace, t.Kind), n.Tenant(t.Namespace).Running, n.isPool)
	slices.SortFunc(tokens, func(a, b task.Token) int { return a.Limit.Compare(b.Limit) })
	return tokens
}

// learn takes what the store has set.
func (n *Node) learn(o task.Overview) {
	queues, kinds, pools := settingsOf(o)
	n.settings.mu.Lock()
	before, kindsBefore, others := n.settings.queues, n.settings.kinds, !maps.Equal(pools, n.settings.pools)
	n.settings.queues, n.settings.kinds, n.settings.pools = queues, kinds, pools
	n.settings.mu.Unlock()
	n.budgets.keep(kinds)
	moved := others
	for _, names := range []map[queueName]task.Queue{before, queues} {
		for name := range names {
			was, is := before[name], queues[name]
			if was.Paused != is.Paused || was.Weight != is.Weight || was.Policy != is.Policy {
				n.root.Send(n.scheduler, queueChanged{name: name, to: is})
			}
			moved = moved || was.Paused != is.Paused
		}
	}
	for _, names := range []map[queueName]task.Kind{kindsBefore, kinds} {
		for name := range names {
			if kindsBefore[name].Breaker != kinds[name].Breaker {
				n.root.Send(n.scheduler, kindChanged{kind: name})
			}
		}
	}
	if others {
		// What waits here was told what it needs of this node while that was another.
		n.root.Send(n.scheduler, shed{n: -1})
	}
	if moved {
		n.root.Send(n.claimer, kindsChanged{})
	}
}

// change makes a setting, and knows it when it is on disk.
func (n *Node) set(ctx context.Context, m task.Mutation) error {
	if _, err := n.write(ctx, m); err != nil {
		return err
	}
	n.settings.changes.Add(1)
	n.root.Send(n.peers, tellSettings{})
	o, err := n.cfg.Store.Overview(ctx, task.Scope{})
	if err != nil {
		return err
	}
	n.learn(o)
	n.root.Send(n.claimer, limitsMoved{timed: true})
	return nil
}

// SetQueue changes a queue's settings; attempts under way go on.
func (n *Node) SetQueue(ctx context.Context, c task.QueueChange) (task.Queue, error) {
	if err := n.set(ctx, task.Mutation{Op: task.SetQueue, Queue: c}); err != nil {
		return task.Queue{}, fmt.Errorf("change queue %s: %w", c.Name, err)
	}
	q := n.queue(c.Namespace, c.Name)
	q.Namespace, q.Name = c.Namespace, c.Name
	return q, nil
}

// SetKind changes a kind's settings; attempts under way go on.
func (n *Node) SetKind(ctx context.Context, c task.KindChange) (task.Kind, error) {
	if err := n.set(ctx, task.Mutation{Op: task.SetKind, Kind: c}); err != nil {
		return task.Kind{}, fmt.Errorf("change kind %s: %w", c.Name, err)
	}
	return n.kind(c.Namespace, c.Name), nil
}

// SetPool sets how much there is of a resource in the whole cluster.
func (n *Node) SetPool(ctx context.Context, c task.PoolChange) error {
	if err := n.set(ctx, task.Mutation{Op: task.SetPool, Pool: c}); err != nil {
		return fmt.Errorf("set resource %s: %w", c.Name, err)
	}
	return nil
}

// taken notes that somebody was parked on a limit, so that others need not try.
func (n *Node) taken(l task.LimitName) { n.settings.full.Store(l, time.Now().Add(fullFor)) }

// eased notes that there may be room in limits again.
func (n *Node) eased(tokens []task.Token) {
	for _, k := range tokens {
		n.settings.full.Delete(k.Limit)
	}
}

// isFull says whether one who asks for these tokens would only be parked.
func (n *Node) isFull(tokens []task.Token) bool {
	for _, k := range tokens {
		until, known := n.settings.full.Load(k.Limit)
		if !known {
			continue
		}
		if at, _ := until.(time.Time); time.Now().Before(at) {
			return true
		}
		n.settings.full.Delete(k.Limit)
	}
	return false
}
