package sqlite

import (
	"cmp"
	"container/heap"
	"context"
	"math"

	"github.com/troupe-run/troupe/runtime/task"
)

// A claim merges lanes. Each starts at the lowest rank that a task in it can
// have; the one that stands lowest is looked into, a few heads at a time, and so
// only the lanes that give something are looked into, and those whose bound was
// too low. Whoever waits, and however many, is not looked at.

const (
	heads = `SELECT rank, n FROM tasks INDEXED BY claimable
		WHERE lane = ? AND (rank, n) > (?, ?) ORDER BY rank, n LIMIT ?`
	take = `UPDATE tasks SET holder = ?, lane = NULL, rank = NULL, wake_at = NULL, bound = NULL, bound_until = NULL WHERE n = ? RETURNING ` + columns
)

// place is where a task stands in its lane.
type place struct{ rank, n int64 }

// queue is one lane as a claim sees it.
type queue struct {
	lane *lane
	at   place   // nothing in it stands before this
	next []place // what is known to follow
	more int64   // how many to look for next time
}

// merge is a heap of queues, the one that stands lowest first.
type merge []*queue

func (m *merge) Len() int      { return len(*m) }
func (m *merge) Swap(i, j int) { (*m)[i], (*m)[j] = (*m)[j], (*m)[i] }
func (m *merge) Less(i, j int) bool {
	a, b := (*m)[i].at, (*m)[j].at
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.n, b.n)) < 0
}
func (m *merge) Push(x any) { *m = append(*m, x.(*queue)) }
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// Claim implements [task.Store].
func (s *Store) Claim(ctx context.Context, q task.Claim) ([]task.Task, error) {
	if q.Limit <= 0 || q.Nobody() {
		return nil, nil
	}
	var tasks []task.Task
	err := s.write(ctx, "claim", func(t *tx) error {
		within := context.WithoutCancel(ctx)
		if err := t.call(within); err != nil {
			return err
		}
		chosen, err := t.choose(within, q)
		if err != nil {
			return err
		}
		tasks = make([]task.Task, 0, len(chosen))
		for _, n := range chosen {
			taken, err := list(within, t.conn, take, int64(q.Holder), n)
			if err != nil {
				return err
			}
			tasks = append(tasks, taken...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tasks, nil
}

// choose gives the rows of the tasks to take, lowest rank first.
func (t *tx) choose(ctx context.Context, q task.Claim) ([]int64, error) {
	below := int64(math.MaxInt64)
	if q.Above != nil {
		below = *q.Above
	}
	open := t.open(q, below)
	heap.Init(&open)
	touched := map[*lane]int64{}
	var chosen []int64
	for len(open) > 0 && len(chosen) < q.Limit {
		lowest := open[0]
		if lowest.at.rank >= below {
			break
		}
		if len(lowest.next) == 0 {
			share := int64((q.Limit - len(chosen)) / len(open))
			if err := t.look(ctx, lowest, max(share, lowest.more)); err != nil {
				return nil, err
			}
			if len(lowest.next) == 0 {
				touched[lowest.lane] = nobodyWaits
				heap.Pop(&open)
				continue
			}
			lowest.at = lowest.next[0]
			touched[lowest.lane] = lowest.at.rank
			heap.Fix(&open, 0)
			continue
		}
		chosen = append(chosen, lowest.next[0].n)
		if lowest.next = lowest.next[1:]; len(lowest.next) > 0 {
			lowest.at = lowest.next[0]
		}
		touched[lowest.lane] = lowest.at.rank
		heap.Fix(&open, 0)
	}
	t.then = append(t.then, func() {
		for l, low := range touched {
			l.low = low
		}
	})
	return chosen, nil
}

// open gives the lanes that a claim may take from and somebody may wait in.
func (t *tx) open(q task.Claim, below int64) merge {
	full := make(map[task.Lane]bool, len(q.Full))
	for _, l := range q.Full {
		full[l] = true
	}
	may := q.Choose(alone(q.Holder))
	queues := make([]queue, 0, len(t.lanes.byID)) // one piece: there may be thousands
	open := make(merge, 0, len(t.lanes.byID))
	for _, l := range t.lanes.byID {
		if l.low >= below || l.low == nobodyWaits ||
			len(t.paused) > 0 && t.paused[queueName{l.Namespace, l.Queue}] || len(full) > 0 && full[l.Lane] || !may(l.Lane) {
			continue
		}
		queues = append(queues, queue{lane: l, at: place{rank: l.low}, more: 4})
		open = append(open, &queues[len(queues)-1])
	}
	return open
}

// alone says that no other node than this one lives: whoever joins buries all before.
func alone(holder task.Incarnation) func(task.Incarnation) bool {
	return func(i task.Incarnation) bool { return i == holder }
}

// look reads what follows in a lane, each time more.
func (t *tx) look(ctx context.Context, q *queue, n int64) error {
	q.more = min(4*n, 1024)
	// The first look starts at a bound, which a task may stand at; no n is 0.
	return t.conn.query(ctx, heads, []any{q.lane.id, q.at.rank, q.at.n, n}, func(r row) error {
		q.next = append(q.next, place{rank: r.int(0), n: r.int(1)})
		return nil
	})
}
