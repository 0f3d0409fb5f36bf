package schedule

// timed is the waiting entries of a flow that go to the front some day, those
// whose day comes first on top.
type timed []*item

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (t *timed) Len() int { return len(*t) }

func (t *timed) Less(i, j int) bool {
	a, b := (*t)[i], (*t)[j]
	if !a.promote.Equal(b.promote) {
		return a.promote.Before(b.promote)
	}
	return a.order.since < b.order.since
}

func (t *timed) Swap(i, j int) {
	(*t)[i], (*t)[j] = (*t)[j], (*t)[i]
	(*t)[i].timed, (*t)[j].timed = i, j
}

func (t *timed) Push(x any) {
	i, _ := x.(*item)
	i.timed = len(*t)
	*t = append(*t, i)
}

func (t *timed) Pop() any {
	last := len(*t) - 1
	i := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	i.timed = -1
	return i
}
