package memory

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// limit finds a limit, with who is first of those parked on it.
func (s *Store) limit(name task.LimitName) *task.Limit {
	l := s.limits[name]
	if l == nil {
		l = task.NewLimit()
		s.limits[name] = l
	}
	l.First, l.Needs = task.NobodyParked, 0
	l.Alone = !s.lives(l.Home)
	if parked := s.parkedOn(name); len(parked) > 0 {
		l.First, l.Needs = parked[0].task.Rank(), parked[0].needs
	}
	return l
}

// parkedOn gives who waits for room in a limit, lowest rank first.
func (s *Store) parkedOn(name task.LimitName) []*row {
	var parked []*row
	for _, r := range s.tasks {
		if r.task.Parked != nil && r.task.Parked.Limit == name && !r.inVain {
			parked = append(parked, r)
		}
	}
	slices.SortFunc(parked, func(a, b *row) int { return cmp.Or(cmp.Compare(a.task.Rank(), b.task.Rank()), cmp.Compare(a.n, b.n)) })
	return parked
}

func (s *Store) till(tokens []task.Token) *task.Till {
	t := &task.Till{Now: time.Now(), Limits: map[task.LimitName]*task.Limit{}}
	for _, k := range tokens {
		t.Limits[k.Limit] = s.limit(k.Limit)
	}
	return t
}

// take takes what a task asks for, or parks it.
func (s *Store) take(r *row, m task.Mutation) bool {
	parked, inVain, ok := s.till(m.Take).Take(m.Ask())
	if !ok && parked.Limit.Scope == task.OfSticky {
		r.task = normal(r.task.Bind(parked.Home, time.Now()))
		return false
	}
	if !ok {
		r.task.Holder, r.task.Called = 0, false
		r.task.Parked, r.needs, r.inVain = &task.Parked{Limit: parked.Limit}, parked.Amount, inVain
	}
	return ok
}

// call lets parked tasks try again for which there is room now.
func (s *Store) call() {
	now := time.Now()
	for name, l := range s.limits {
		parked := first(s.parkedOn(name), task.MostCalled)
		asks := make([]task.Quantity, len(parked))
		for i, r := range parked {
			asks[i] = r.needs
		}
		for _, r := range parked[:l.Call(now, asks)] {
			r.task.Parked, r.task.Called = nil, true
		}
	}
}

// opens is when a rate lets the next parked task go; zero: none will.
func (s *Store) opens() (at time.Time) {
	for name := range s.limits {
		if opens := s.limit(name).Opens(time.Now()); !opens.IsZero() && (at.IsZero() || opens.Before(at)) {
			at = opens
		}
	}
	return at
}

func (s *Store) setQueue(c task.QueueChange) {
	key := named{c.Namespace, c.Name}
	q := c.Of(s.queues[key])
	if c.Concurrency != nil {
		s.change(task.LimitName{Scope: task.OfQueue, Namespace: c.Namespace, Name: c.Name}, task.CeilingOf(q.Concurrency), task.Rate{})
	}
	if c.Paces() {
		s.change(task.LimitName{Scope: task.OfRate, Namespace: c.Namespace, Name: c.Name}, -1, q.Rate)
	}
	s.queues[key] = q
}

func (s *Store) setKind(c task.KindChange) {
	key := named{c.Namespace, c.Name}
	k := c.Of(s.kinds[key])
	if c.Concurrency != nil {
		s.change(task.LimitName{Scope: task.OfKind, Namespace: c.Namespace, Name: c.Name}, task.CeilingOf(k.Concurrency), task.Rate{})
	}
	s.kinds[key] = k
}

func (s *Store) setPool(c task.PoolChange) {
	ceiling := task.Quantity(-1)
	if c.Capacity != nil {
		ceiling = *c.Capacity
	}
	s.change(task.LimitName{Scope: task.OfPool, Name: c.Name}, ceiling, task.Rate{})
}

func (s *Store) change(name task.LimitName, ceiling task.Quantity, rate task.Rate) {
	s.limit(name).Change(ceiling, rate)
	for _, r := range s.tasks {
		if r.task.Parked != nil && r.task.Parked.Limit == name {
			r.inVain = false
		}
	}
}

func (s *Store) pools() []task.Pool {
	var pools []task.Pool
	for name, l := range s.limits {
		if name.Scope == task.OfPool && l.Ceiling >= 0 {
			pools = append(pools, task.Pool{Name: name.Name, Capacity: l.Ceiling, Used: l.Used})
		}
	}
	slices.SortFunc(pools, func(a, b task.Pool) int { return cmp.Compare(a.Name, b.Name) })
	return pools
}

// forgetLimits drops those of keys and of caches that nobody uses.
func (s *Store) forgetLimits() {
	maps.DeleteFunc(s.limits, func(name task.LimitName, l *task.Limit) bool {
		return l.Idle(name.Scope, time.Now()) && s.limit(name).First == task.NobodyParked
	})
}

// seen is a task as it is read: one that is parked tells how its limit stands.
func (s *Store) seen(t task.Task) task.Task {
	if t.Parked != nil {
		l := s.limits[t.Parked.Limit]
		t.Parked = &task.Parked{Limit: t.Parked.Limit, Used: l.Used, Most: l.Ceiling}
	}
	return t
}
