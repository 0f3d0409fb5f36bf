package actors

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// roster is the workers elsewhere that are connected to this node, or were within a
// lease. Their actors change it; the scheduler, the claimer and who asks read it.
type roster struct {
	mu      sync.RWMutex
	workers map[string]*remoteWorker // by id
}

// remoteWorker is what is known of a worker elsewhere.
type remoteWorker struct {
	id    string
	reg   task.Registration
	since time.Time
	desk  *desk
	actor *actor.PID
	state atomic.Pointer[string] // one of task's states of a worker
	free  atomic.Int64           // slots, in thousandths, as the scheduler has them
}

func (n *Node) remote(id string) *remoteWorker {
	n.roster.mu.RLock()
	defer n.roster.mu.RUnlock()
	return n.roster.workers[id]
}

// remotesNow lists them, the oldest first.
func (n *Node) remotesNow() []*remoteWorker {
	n.roster.mu.RLock()
	all := slices.Collect(maps.Values(n.roster.workers))
	n.roster.mu.RUnlock()
	slices.SortFunc(all, func(a, b *remoteWorker) int { return a.since.Compare(b.since) })
	return all
}

// enlist makes a worker known, or known no more where gone is true.
func (n *Node) enlist(r *remoteWorker, gone bool) {
	n.roster.mu.Lock()
	defer n.roster.mu.Unlock()
	if gone {
		delete(n.roster.workers, r.id)
	} else {
		n.roster.workers[r.id] = r
	}
	n.metrics.remotes.Set(float64(len(n.roster.workers)))
}

// anyRemote finds whether a worker is so.
func (n *Node) anyRemote(is func(*remoteWorker) bool) bool {
	n.roster.mu.RLock()
	defer n.roster.mu.RUnlock()
	for _, r := range n.roster.workers {
		if is(r) {
			return true
		}
	}
	return false
}

// sends says whether some worker runs tasks of a lane, or with now: whether some has a
// slot free for them.
func (n *Node) sends(l task.Lane, demand task.Resources, now bool) bool {
	return n.anyRemote(func(r *remoteWorker) bool {
		return r.serves(l) && r.fits(demand, n) && (!now || r.free.Load() > 0)
	})
}

func (r *remoteWorker) serves(l task.Lane) bool {
	return task.Served{Namespace: r.reg.Namespace, Kinds: r.reg.Kinds, Labels: r.reg.Labels}.Takes(l)
}

// fits says whether a demand is no more than the worker has or, of what it has
// nothing of, its node.
func (r *remoteWorker) fits(demand task.Resources, n *Node) bool {
	for name, amount := range demand {
		capacity, has := r.reg.Resources[name]
		if !has {
			capacity, has = n.cfg.Capacity[name]
		}
		if amount > capacity && (has || !n.isPool(name)) {
			return false
		}
	}
	return true
}

func (r *remoteWorker) is() string { return *r.state.Load() }

func (r *remoteWorker) become(state string) { r.state.Store(&state) }

// served says what the workers serve, those that are alike together; with now only
// those that have a slot free.
func (n *Node) served(now bool) (all []task.Served) {
	for _, r := range n.remotesNow() {
		if now && r.free.Load() <= 0 {
			continue
		}
		at := slices.IndexFunc(all, func(s task.Served) bool {
			return s.Namespace == r.reg.Namespace && maps.Equal(s.Labels, r.reg.Labels)
		})
		if at < 0 {
			all = append(all, task.Served{Namespace: r.reg.Namespace, Kinds: r.reg.Kinds, Labels: r.reg.Labels})
			continue
		}
		all[at].Kinds = slices.Compact(slices.Sorted(slices.Values(slices.Concat(all[at].Kinds, r.reg.Kinds))))
	}
	return all
}

// view is a worker as it is listed.
func (r *remoteWorker) view(node string) task.Worker {
	return task.Worker{
		ID: r.id, Name: r.reg.Name, Node: node, Namespace: r.reg.Namespace, Labels: r.reg.Labels, Kinds: r.reg.Kinds,
		Slots: r.reg.Resources[task.SlotResource], Resources: r.reg.Resources, Running: r.desk.running(), Since: r.since, State: r.is(),
	}
}
