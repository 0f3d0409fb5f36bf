package schedule

import (
	"container/heap"
	"slices"
)

// seat is a flow's place among others: in the line of a class, or with one of its
// groups on a bench.
type seat struct {
	flow    *flow
	group   *group // nil in a line
	account *account
	stall   *stall
	key     float64 // the account's tag when it was last looked at
	noted   bool    // in the account
	turns   int     // taken in the line, while that is asked
	place   int     // in the stall's heap
}

// look has the key be the tag.
func (s *seat) look() {
	s.key = s.account.tag
	if !s.noted {
		s.noted = true
		if all := s.account.seats; len(all) == cap(all) { // before it grows
			s.account.seats = slices.DeleteFunc(all, func(o *seat) bool {
				o.noted = o.stall != nil
				return !o.noted
			})
		}
		s.account.seats = append(s.account.seats, s)
	}
}

// before is the order of a tenant's flows: of those that have had equally much, the
// one that has not been idle for longest. What is first in them does not matter,
// so that a seat stays where it is when that changes.
func (s *seat) before(o *seat) bool {
	if s.key != o.key {
		return s.key < o.key
	}
	return s.flow.woken < o.flow.woken
}

// ahead is the order of seats of one class that are first at their stands.
func (s *seat) ahead(o *seat) bool {
	switch {
	case s.stall.key != o.stall.key:
		return s.stall.key < o.stall.key
	case s.flow != o.flow:
		return s.before(o)
	default:
		return s.group.head().before(o.group.head())
	}
}

// rise takes it away from where it is.
func (s *seat) rise() {
	l := s.stall
	s.stall = nil
	if len(l.seats) > 1 {
		heap.Remove(l, s.place)
		heap.Fix(l.stand, l.place)
		return
	}
	heap.Remove(l.stand, l.place) // which looks at the seat
	l.seats = nil
	delete(l.stand.of, l.tenant)
}

// moved puts it in its place after its key has changed.
func (s *seat) moved() {
	heap.Fix(s.stall, s.place)
	heap.Fix(s.stall.stand, s.stall.place)
}

// stall is the seats of one tenant's flows at one stand, fairest first.
type stall struct {
	tenant  *tenant
	account *account
	stand   *stand
	key     float64 // the account's tag when it was last looked at
	noted   bool    // in the account
	place   int     // in the stand's heap
	seats   []*seat
}

// look has the key be the tag.
func (l *stall) look() {
	l.key = l.account.tag
	if !l.noted {
		l.noted = true
		if all := l.account.stalls; len(all) == cap(all) { // before it grows
			l.account.stalls = slices.DeleteFunc(all, func(o *stall) bool {
				o.noted = len(o.seats) > 0
				return !o.noted
			})
		}
		l.account.stalls = append(l.account.stalls, l)
	}
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (l *stall) Len() int           { return len(l.seats) }
func (l *stall) Less(i, j int) bool { return l.seats[i].before(l.seats[j]) }
func (l *stall) Swap(i, j int) {
	l.seats[i], l.seats[j] = l.seats[j], l.seats[i]
	l.seats[i].place, l.seats[j].place = i, j
}

func (l *stall) Push(x any) {
	s, _ := x.(*seat)
	s.place = len(l.seats)
	l.seats = append(l.seats, s)
}

func (l *stall) Pop() any {
	last := len(l.seats) - 1
	s := l.seats[last]
	l.seats[last] = nil
	l.seats = l.seats[:last]
	return s
}

// stand is who waits in one place with one priority, the tenant that has had least
// on top.
type stand struct {
	priority int
	stalls   []*stall
	of       map[*tenant]*stall
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (d *stand) Len() int { return len(d.stalls) }

func (d *stand) Less(i, j int) bool {
	a, b := d.stalls[i], d.stalls[j]
	if a.key != b.key {
		return a.key < b.key
	}
	return a.seats[0].before(b.seats[0])
}

func (d *stand) Swap(i, j int) {
	d.stalls[i], d.stalls[j] = d.stalls[j], d.stalls[i]
	d.stalls[i].place, d.stalls[j].place = i, j
}

func (d *stand) Push(x any) {
	l, _ := x.(*stall)
	l.place = len(d.stalls)
	d.stalls = append(d.stalls, l)
}

func (d *stand) Pop() any {
	last := len(d.stalls) - 1
	l := d.stalls[last]
	d.stalls[last] = nil
	d.stalls = d.stalls[:last]
	return l
}

func (d *stand) add(s *seat) {
	s.look()
	if l := d.of[s.flow.tenant]; l != nil {
		s.stall = l
		heap.Push(l, s)
		heap.Fix(d, l.place)
		return
	}
	a := s.flow.tenant.account(d.priority)
	l := &stall{tenant: s.flow.tenant, account: a, stand: d}
	l.look()
	d.of[l.tenant] = l
	s.stall = l
	heap.Push(l, s)
	heap.Push(d, l)
}

// first is the seat that goes before the tenant's others.
func (l *stall) first() *seat {
	for s := l.seats[0]; ; s = l.seats[0] {
		if s.key == s.account.tag {
			return s
		}
		s.look()
		s.moved()
	}
}

// first is the seat that goes before all others; the stand is not empty. Keys are
// tags of some time ago, and no greater: so it is enough to put right, again and
// again, whoever comes up, until it is right.
func (d *stand) first() *seat {
	for {
		l := d.stalls[0]
		s := l.seats[0]
		switch {
		case l.key < l.account.tag:
			l.look()
			heap.Fix(d, 0)
		case s.key < s.account.tag:
			s.look()
			s.moved()
		default:
			return s
		}
	}
}
