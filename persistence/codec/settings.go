package codec

import (
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Queue is what of a queue's settings has no column of its own and stands with no
// limit.
func Queue(q task.Queue) []byte {
	m := message{}
	if q.Weight != 0 {
		m = m.float(1, q.Weight)
	}
	return m.text(2, string(q.Policy)).text(3, string(q.Placement)).int(4, int64(q.MaxQueued))
}

// DecodeQueue reads into q what Queue wrote.
func DecodeQueue(b []byte, q *task.Queue) error {
	return message(b).each(func(f field) error {
		switch f.number {
		case 1:
			q.Weight = f.float()
		case 2:
			q.Policy = task.Policy(f.b)
		case 3:
			q.Placement = task.Placement(f.b)
		case 4:
			q.MaxQueued = int(f.v)
		}
		return nil
	})
}

// Kind is the same of a kind's settings.
func Kind(k task.Kind) []byte {
	m := message{}.int(1, int64(k.Breaker.Failures)).int(2, int64(k.Breaker.Window)).int(3, int64(k.Breaker.OpenFor))
	if k.RetryBudget != 0 {
		m = m.float(4, k.RetryBudget)
	}
	return m
}

// DecodeKind reads into k what Kind wrote.
func DecodeKind(b []byte, k *task.Kind) error {
	return message(b).each(func(f field) error {
		switch f.number {
		case 1:
			k.Breaker.Failures = int(f.v)
		case 2:
			k.Breaker.Window = time.Duration(f.v)
		case 3:
			k.Breaker.OpenFor = time.Duration(f.v)
		case 4:
			k.RetryBudget = f.float()
		}
		return nil
	})
}

// Node is what of a node has no column of its own.
func Node(n task.Node) []byte { return message{}.labels(1, n.Labels) }

// DecodeNode reads into n what Node wrote.
func DecodeNode(b []byte, n *task.Node) error {
	return message(b).each(func(f field) error {
		if f.number == 1 {
			return label(f.b, &n.Labels)
		}
		return nil
	})
}
