package schedule

import (
	"container/list"
	"math"
	"time"
)

// Learner remembers how long entries of a kind run, for each namespace: of each the
// newest thousand or so, as counts in buckets that are half an octave wide. Its
// memory is bounded; the kinds that have not been heard of for longest go. It is
// not safe for concurrent use.
type Learner struct {
	kinds map[kindName]*list.Element
	used  *list.List // of *history, the latest first
}

type kindName struct{ namespace, kind string } // no kind: all of the namespace

type history struct {
	name  kindName
	total float32
	count [buckets]float32
}

const (
	buckets    = 64 // from a millisecond to fifty days
	mostKinds  = 10_000
	mostCounts = 1000 // of one kind; then all of its count half
)

// NewLearner makes one that knows nothing.
func NewLearner() *Learner { return &Learner{kinds: map[kindName]*list.Element{}, used: list.New()} }

// Ran notes that an entry of a kind ran for so long.
func (l *Learner) Ran(namespace, kind string, d time.Duration) {
	l.note(kindName{namespace, kind}, d)
	l.note(kindName{namespace: namespace}, d)
}

func (l *Learner) note(name kindName, d time.Duration) {
	e := l.kinds[name]
	if e == nil {
		if l.used.Len() >= mostKinds {
			last := l.used.Back()
			delete(l.kinds, historyOf(last).name)
			l.used.Remove(last)
		}
		e = l.used.PushFront(&history{name: name})
		l.kinds[name] = e
	}
	l.used.MoveToFront(e)
	h := historyOf(e)
	if h.total >= mostCounts {
		h.total = 0
		for i := range h.count {
			h.count[i] /= 2
			h.total += h.count[i]
		}
	}
	h.count[bucket(d)]++
	h.total++
}

// Expect is for how long half of a kind's entries ran at most, and for how long nine
// in ten did; zero where nothing is known.
func (l *Learner) Expect(namespace, kind string) (typical, safe time.Duration) {
	e := l.kinds[kindName{namespace, kind}]
	if e == nil {
		return 0, 0
	}
	h := historyOf(e)
	return h.quantile(0.5), h.quantile(0.9)
}

// Mean is for how long a kind's entries run on average, which is what counts where
// many are added up. A kind begins with what all of its namespace ran on average, as
// if one of its own had; zero where nothing is known of that either.
func (l *Learner) Mean(namespace, kind string) time.Duration {
	all := l.kinds[kindName{namespace: namespace}]
	if all == nil {
		return 0
	}
	sum, n := historyOf(all).sum()
	sum, n = sum/n, 1
	if e := l.kinds[kindName{namespace, kind}]; e != nil {
		own, count := historyOf(e).sum()
		sum, n = sum+own, n+count
	}
	return time.Duration(sum / n * float64(time.Millisecond))
}

// sum is for how many milliseconds entries ran together, and how many there were.
func (h *history) sum() (ms, n float64) {
	for i, k := range h.count {
		ms += float64(k) * middles[i]
	}
	return ms, float64(h.total)
}

// middles is the middle of each bucket, in milliseconds.
var middles = func() (all [buckets]float64) {
	for i := range all {
		all[i] = math.Exp2((float64(i) + 0.5) / 2)
	}
	return all
}()

func historyOf(e *list.Element) *history {
	h, _ := e.Value.(*history)
	return h
}

func bucket(d time.Duration) int {
	ms := max(1, float64(d)/float64(time.Millisecond))
	return min(buckets-1, int(2*math.Log2(ms)))
}

// quantile is the upper end of the bucket in which the quantile lies.
func (h *history) quantile(q float32) time.Duration {
	want, sum := q*h.total, float32(0)
	for i, n := range h.count {
		if sum += n; n > 0 && sum >= want {
			return time.Duration(math.Exp2(float64(i+1)/2) * float64(time.Millisecond))
		}
	}
	return 0
}
