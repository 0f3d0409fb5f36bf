package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// sheet is what a subcommand measured: figures with a value of each turn, and
// delays with a distribution of each turn.
type sheet struct {
	What    string    `json:"what"`
	Store   string    `json:"store"`
	Turns   int       `json:"turns"`
	Cores   int       `json:"cores"`
	Figures []*entry  `json:"figures"`
	Delays  []*delays `json:"delays"`
}

// entry is a figure by the name of what it is of, such as "500 sessions".
type entry struct {
	Of    string `json:"of"`
	What  string `json:"what"`
	Unit  string `json:"unit"`
	Value figure `json:"value"`
}

type delays struct {
	Of   string  `json:"of"`
	What string  `json:"what"`
	N    int     `json:"n"` // of the last turn
	Ms   latency `json:"ms"`

	curve []float64 // milliseconds at each hundredth, of the last turn
}

func (s *sheet) add(of, what, unit string, value float64) {
	i := slices.IndexFunc(s.Figures, func(e *entry) bool { return e.Of == of && e.What == what && e.Unit == unit })
	if i < 0 {
		i = len(s.Figures)
		s.Figures = append(s.Figures, &entry{Of: of, What: what, Unit: unit})
	}
	s.Figures[i].Value = append(s.Figures[i].Value, value)
}

func (s *sheet) addDelays(of, what string, ds []time.Duration) {
	if len(ds) == 0 {
		return
	}
	i := slices.IndexFunc(s.Delays, func(d *delays) bool { return d.Of == of && d.What == what })
	if i < 0 {
		i = len(s.Delays)
		s.Delays = append(s.Delays, &delays{Of: of, What: what})
	}
	d := s.Delays[i]
	d.N, d.curve = len(ds), d.curve[:0]
	d.Ms.add(spreadOf(ds)) // which sorts them
	for q := range 101 {
		d.curve = append(d.curve, quantile(ds, float64(q)/100))
	}
}

// Print writes a table for people.
func (s *sheet) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s on %s, %d cores: median", s.What, s.Store, s.Cores)
	if s.Turns > 1 {
		fmt.Fprintf(t, " (least–most) of %d turns", s.Turns)
	}
	fmt.Fprintln(t)
	for _, e := range s.Figures {
		fmt.Fprintf(t, "  %s\t%s\t%s %s\n", e.Of, e.What, e.Value.text(e.Value.decimals()), e.Unit)
	}
	if len(s.Delays) > 0 {
		fmt.Fprintln(t, "\n  milliseconds\t\tp50\tp95\tp99\tmax\tn")
	}
	for _, d := range s.Delays {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%d\n",
			d.Of, d.What, d.Ms.P50.text(2), d.Ms.P95.text(2), d.Ms.P99.text(2), d.Ms.Max.text(1), d.N)
	}
	return t.Flush()
}

type latency struct {
	P50 figure `json:"p50"`
	P95 figure `json:"p95"`
	P99 figure `json:"p99"`
	Max figure `json:"max"`
}

func (l *latency) add(s spread) {
	l.P50, l.P95 = append(l.P50, s.P50), append(l.P95, s.P95)
	l.P99, l.Max = append(l.P99, s.P99), append(l.Max, s.Max)
}

// figure has a value of each turn.
type figure []float64

func (f figure) median() float64 {
	s := slices.Sorted(slices.Values(f))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// MarshalJSON implements [json.Marshaler].
func (f figure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Median float64 `json:"median"`
		Min    float64 `json:"min"`
		Max    float64 `json:"max"`
	}{f.median(), slices.Min(f), slices.Max(f)})
}

func (f figure) text(decimals int) string {
	if len(f) == 1 {
		return fmt.Sprintf("%.*f", decimals, f[0])
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, f.median(), decimals, slices.Min(f), decimals, slices.Max(f))
}

// decimals gives about three places that say something.
func (f figure) decimals() int {
	switch m := f.median(); {
	case m >= 100:
		return 0
	case m >= 10:
		return 1
	default:
		return 2
	}
}

// spread is a distribution, in milliseconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// spreadOf sorts ds.
func spreadOf(ds []time.Duration) spread {
	if len(ds) == 0 {
		return spread{}
	}
	slices.Sort(ds)
	return spread{N: len(ds), P50: quantile(ds, 0.5), P95: quantile(ds, 0.95), P99: quantile(ds, 0.99), Max: quantile(ds, 1)}
}

// quantile is what a share q of sorted took at most, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := min(len(sorted)-1, int(q*float64(len(sorted))))
	return float64(sorted[i].Microseconds()) / 1000
}
