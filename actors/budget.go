package actors

import (
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// budgets paces the retries of kinds that have a budget, by what has started here.
type budgets struct {
	mu    sync.Mutex
	kinds map[queueName]*task.Retries
}

// of finds those of a kind; b.mu is held.
func (b *budgets) of(kind queueName) *task.Retries {
	r := b.kinds[kind]
	if r == nil {
		r = &task.Retries{}
		b.kinds[kind] = r
	}
	return r
}

// firstAttempt counts one, if its kind has a budget.
func (n *Node) firstAttempt(t task.Task) {
	budget := n.kind(t.Namespace, t.Kind).RetryBudget
	if budget == 0 {
		return
	}
	n.budgets.mu.Lock()
	n.budgets.of(queueName{t.Namespace, t.Kind}).Began(n.now(), budget)
	n.budgets.mu.Unlock()
}

// placeOfRetry is how long a retry of a task has to wait for others of its kind.
func (n *Node) placeOfRetry(t task.Task, f task.Failure) time.Duration {
	budget := n.kind(t.Namespace, t.Kind).RetryBudget
	if budget == 0 || !t.Retries(f) {
		return 0
	}
	n.budgets.mu.Lock()
	defer n.budgets.mu.Unlock()
	return n.budgets.of(queueName{t.Namespace, t.Kind}).Admit(n.now(), budget)
}

// keep forgets kinds that have no budget any more.
func (b *budgets) keep(kinds map[queueName]task.Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for kind := range b.kinds {
		if kinds[kind].RetryBudget == 0 {
			delete(b.kinds, kind)
		}
	}
}
