package schedule

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Amount is so much of one resource, in thousandths of its unit.
type Amount struct {
	Name  string
	Milli int64
}

// Demand is what an entry holds while it runs: sorted by name, each name once,
// no zeros. The empty demand takes nothing.
type Demand []Amount

// NewDemand makes a demand of amounts by name.
func NewDemand(amounts map[string]int64) Demand {
	d := make(Demand, 0, len(amounts))
	for name, milli := range amounts {
		if milli > 0 {
			d = append(d, Amount{Name: name, Milli: milli})
		}
	}
	slices.SortFunc(d, func(a, b Amount) int { return cmp.Compare(a.Name, b.Name) })
	return d
}

// key is a text that equal demands share and different ones do not.
func (d Demand) key() string {
	var b strings.Builder
	for _, a := range d {
		b.WriteString(strconv.Quote(a.Name))
		b.WriteString(strconv.FormatInt(a.Milli, 10))
	}
	return b.String()
}
