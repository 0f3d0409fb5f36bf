package task

import "time"

// A sticky key is at home on one node: only there tasks with it start. It moves to
// whoever asks for it next once that node is no more, or nothing has run with the key
// for a while. The key is a limit, so that asking for it and starting is one write.

const (
	// StickyFor is for how long a node keeps a sticky key with which nothing runs.
	StickyFor = 10 * time.Minute
	// BoundFor is for how long a task is left to the node that has its key. Then
	// anybody asks again: that node may not be able to run it, or have the key no more.
	BoundFor = 5 * time.Minute
)

// keepsFrom says whether a sticky key is at home on a node, but not on this one.
func (l *Limit) keepsFrom(node Incarnation, now time.Time) bool {
	return l.Home != 0 && l.Home != node && !l.Alone && (l.Used > 0 || l.Next.After(now))
}

// come makes a node the home of a sticky key. What runs with it on a node that is no
// more does not count any longer.
func (l *Limit) come(node Incarnation) {
	if l.Home != node {
		l.Home, l.Alone, l.Used = node, false, 0
	}
}

// Bind is t as it waits for the node that has its sticky key.
func (t Task) Bind(home Incarnation, now time.Time) Task {
	t.State, t.Holder, t.Called = Queued, 0, false
	t.Bound, t.BoundUntil = home, now.Add(BoundFor)
	return t
}

// Unbind lets anybody ask for the key of a task that has waited for a node for long.
func (t Task) Unbind(now time.Time) (Step, error) {
	if t.Bound == 0 || t.State != Queued || t.Holder != 0 || now.Before(t.BoundUntil) {
		return Step{}, ErrStale
	}
	return t.Release(), nil
}
