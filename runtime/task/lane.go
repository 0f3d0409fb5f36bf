package task

import (
	"slices"
	"strconv"
	"strings"
)

// Lane is what tasks have in common that can start or wait only together.
type Lane struct {
	Namespace string
	Queue     string
	Kind      string
	Demand    string // canonical text of the resources, see [Resources.String]
	Affinity  Affinity
	Bound     Incarnation // only this node takes tasks of it, while it lives; 0: any does
}

// Lane is the lane of t.
func (t Task) Lane() Lane {
	return Lane{Namespace: t.Namespace, Queue: t.Queue, Kind: t.Kind, Demand: t.Resources.String(), Affinity: t.Affinity, Bound: t.Bound}
}

// Terms is everything of a lane beside its names as one text, which names it
// together with them: a line each for what it demands, requires and prefers, and for
// whom it is bound to, without those at its end that are empty. Stores keep it.
func (l Lane) Terms() string {
	if l.Affinity == (Affinity{}) && l.Bound == 0 {
		return l.Demand
	}
	bound := ""
	if l.Bound != 0 {
		bound = strconv.FormatInt(int64(l.Bound), 10)
	}
	return strings.TrimRight(strings.Join([]string{l.Demand, string(l.Affinity.Require), string(l.Affinity.Prefer), bound}, "\n"), "\n")
}

// WithTerms is l with the terms of a text that [Lane.Terms] gave.
func (l Lane) WithTerms(text string) Lane {
	lines := strings.SplitN(text, "\n", 4)
	for len(lines) < 4 {
		lines = append(lines, "")
	}
	l.Demand, l.Affinity = lines[0], Affinity{Require: Selector(lines[1]), Prefer: Selector(lines[2])}
	bound, _ := strconv.ParseInt(lines[3], 10, 64)
	l.Bound = Incarnation(bound)
	return l
}

// Claim says which tasks a holder wants.
type Claim struct {
	Holder Incarnation
	Kinds  []string // kinds it can run itself
	Served []Served // and those its workers can; others are left alone
	Limit  int
	Full   []Lane // lanes it holds enough of already
	Above  *int64 // only ranks lower than this, if set

	Labels map[string]string // its own
	Rivals []Rival           // nodes to which it leaves what goes to them rather
	Packed []QueueName       // queues whose tasks go to the first node that has room
}

// QueueName names a queue.
type QueueName struct{ Namespace, Name string }

// Rival is another node, with room and nothing to do.
type Rival struct {
	Labels map[string]string `json:"labels"`
	Kinds  []string          `json:"kinds"`  // it can run
	Before bool              `json:"before"` // in the order in which nodes are filled up

	Served   []Served  `json:"-"` // its workers can
	Running  int       `json:"-"`
	Capacity Resources `json:"-"`
}

// Takes says whether tasks of a lane may run on r or its workers, as far as their
// labels say.
func (r Rival) Takes(l Lane) bool {
	return r.runs(l) || slices.ContainsFunc(r.Served, func(s Served) bool { return s.Takes(l) })
}

func (r Rival) runs(l Lane) bool {
	return slices.Contains(r.Kinds, l.Kind) && l.Affinity.Require.Matches(r.Labels)
}

// May says whether q may take tasks of a lane as far as its placement goes. lives
// says of a node whether it does.
func (q Claim) May(l Lane, lives func(Incarnation) bool) bool {
	packed := slices.Contains(q.Packed, QueueName{l.Namespace, l.Queue})
	switch {
	case l.Bound != 0 && l.Bound != q.Holder && lives(l.Bound), !l.Affinity.Require.Matches(q.Labels):
		return false
	case len(q.Rivals) == 0 || l.Affinity.Prefer == "" && !packed:
		return true
	}
	preferred := l.Affinity.Prefer.Matches(q.Labels)
	return !slices.ContainsFunc(q.Rivals, func(r Rival) bool {
		if !r.runs(l) {
			return false
		}
		other := l.Affinity.Prefer.Matches(r.Labels)
		return other && !preferred || packed && r.Before && other == preferred
	})
}

// Takes says whether q may take tasks of a lane, to run them itself or on its workers.
func (q Claim) Takes(l Lane, lives func(Incarnation) bool) bool {
	return slices.Contains(q.Kinds, l.Kind) && q.May(l, lives) || q.serves(l, lives)
}

// Nobody says that there is nothing q could run.
func (q Claim) Nobody() bool { return len(q.Kinds) == 0 && len(q.Served) == 0 }

func (q Claim) serves(l Lane, lives func(Incarnation) bool) bool {
	return slices.ContainsFunc(q.Served, func(s Served) bool { return s.Takes(l) }) &&
		(l.Bound == 0 || l.Bound == q.Holder || !lives(l.Bound))
}

// Choose is Takes for many lanes: it looks once at those that ask for the same.
func (q Claim) Choose(lives func(Incarnation) bool) func(Lane) bool {
	kinds := make(map[string]bool, len(q.Kinds))
	for _, k := range q.Kinds {
		kinds[k] = true
	}
	may := q.placed(lives)
	return func(l Lane) bool { return kinds[l.Kind] && may(l) || len(q.Served) > 0 && q.serves(l, lives) }
}

// placed is May for many lanes.
func (q Claim) placed(lives func(Incarnation) bool) func(Lane) bool {
	known := map[Lane]bool{}
	return func(l Lane) bool {
		if l.Affinity == (Affinity{}) && l.Bound == 0 && len(q.Packed) == 0 {
			return true
		}
		l.Demand = ""
		if len(q.Packed) == 0 {
			l.Namespace, l.Queue = "", ""
		}
		may, seen := known[l]
		if !seen {
			may = q.May(l, lives)
			known[l] = may
		}
		return may
	}
}
