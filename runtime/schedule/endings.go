package schedule

import (
	"cmp"
	"slices"
)

// endings is the items that run and hold something, by expected end. A reservation
// reads them in order at every decision; and most come at the back and go at the front,
// so it is a sorted array of which the shorter side is moved.
type endings struct {
	array []*item
	head  int // where they begin in it
}

func (e *endings) all() []*item { return e.array[e.head:] }

func (e *endings) insert(i *item) {
	at, _ := slices.BinarySearchFunc(e.all(), i, (*item).byEnd)
	if e.head > 0 && 2*at < len(e.all()) {
		copy(e.array[e.head-1:], e.all()[:at])
		e.head--
		e.array[e.head+at] = i
		return
	}
	if len(e.array) == cap(e.array) && 2*e.head >= len(e.array) { // there is room in front
		n := copy(e.array, e.all())
		clear(e.array[n:])
		e.array, e.head = e.array[:n], 0
	}
	e.array = slices.Insert(e.array, e.head+at, i)
}

func (e *endings) remove(i *item) {
	at, found := slices.BinarySearchFunc(e.all(), i, (*item).byEnd)
	switch {
	case !found:
	case 2*at < len(e.all()):
		copy(e.all()[1:], e.all()[:at])
		e.array[e.head] = nil
		e.head++
	default:
		e.array = slices.Delete(e.array, e.head+at, e.head+at+1)
	}
}

func (i *item) byEnd(j *item) int {
	return cmp.Or(i.end.Compare(j.end), i.order.compare(&j.order), slices.Compare(i.ID[:], j.ID[:]))
}
