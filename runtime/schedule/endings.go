package schedule

import (
	"cmp"
	"slices"
)

// soonest is a heap of items that run, the one on top that is expected to end first.
type soonest []*item

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (s *soonest) Len() int           { return len(*s) }
func (s *soonest) Less(i, j int) bool { return (*s)[i].byEnd((*s)[j]) < 0 }
func (s *soonest) Swap(i, j int)      { (*s)[i], (*s)[j] = (*s)[j], (*s)[i] }

func (s *soonest) Push(x any) {
	i, _ := x.(*item)
	*s = append(*s, i)
}

func (s *soonest) Pop() any {
	last := len(*s) - 1
	i := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return i
}

func (i *item) byEnd(j *item) int {
	return cmp.Or(i.end.Compare(j.end), i.order.compare(&j.order), slices.Compare(i.ID[:], j.ID[:]))
}

// endings is such a heap whose items know their places in it.
type endings struct{ soonest }

// Swap implements [heap.Interface].
func (e *endings) Swap(i, j int) {
	e.soonest.Swap(i, j)
	e.soonest[i].ends, e.soonest[j].ends = i, j
}

// Push implements [heap.Interface].
func (e *endings) Push(x any) {
	i, _ := x.(*item)
	i.ends = len(e.soonest)
	e.soonest = append(e.soonest, i)
}
