package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// metric is one thing that is measured.
type metric struct {
	key, title string
	better     string // "more" or "less"
}

var metrics = []metric{
	{"drain", "in batches, jobs/s", "more"},
	{"drain_cpu", "in batches, CPU µs a job", "less"},
	{"single", "one a call, jobs/s", "more"},
	{"single_cpu", "one a call, CPU µs a job", "less"},
	{"start_p50", "submit to start at 100/s, p50 ms", "less"},
	{"start_p99", "submit to start at 100/s, p99 ms", "less"},
	{"watch_p50", "event to watcher, p50 ms", "less"},
	{"watch_p99", "event to watcher, p99 ms", "less"},
	{"watch_cpu", "server's CPU µs a delivered event", "less"},
	{"watch_memory", "server's KiB a session", "less"},
	{"fsync", "4 KiB and a sync, p50 ms", "less"},
	{"commit", "PostgreSQL, one row a commit, p50 ms", "less"},
	{"postgres_rows", "PostgreSQL, 1,000 rows a commit, rows/s", "more"},
	{"sqlite_rows", "SQLite file, 1,000 rows a commit, rows/s", "more"},
}

// report is all that was measured. Turns has an entry for each turn, nil where one
// failed.
type report struct {
	Short       bool      `json:"short"`
	Contestants []*result `json:"contestants"`
	Ratios      []ratio   `json:"ratios"`
}

type result struct {
	Name   string    `json:"name"`
	Safe   string    `json:"accepted_jobs_survive,omitempty"`
	Turns  []figures `json:"turns"`
	beside []string
}

// ratio is Troupe's figures over those of a rival of the same turn.
type ratio struct {
	Troupe string          `json:"troupe"`
	Rival  string          `json:"rival"`
	Of     map[string]span `json:"of"`
}

// span is what several turns gave.
type span struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func newReport(o options, all []contestant) *report {
	r := &report{Short: o.short}
	for _, c := range all {
		r.Contestants = append(r.Contestants, &result{Name: c.name, Safe: c.safe, beside: c.beside})
	}
	return r
}

func (r *report) add(name string, f figures) {
	r.of(name).Turns = append(r.of(name).Turns, f)
}

// of is nil for one that was not measured.
func (r *report) of(name string) *result {
	for _, c := range r.Contestants {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func spanOf(values []float64) (span, bool) {
	if len(values) == 0 {
		return span{}, false
	}
	slices.Sort(values)
	return span{Median: quantile(values, 0.5), Least: values[0], Most: values[len(values)-1]}, true
}

func (c *result) spanOf(key string) (span, bool) {
	var values []float64
	for _, f := range c.Turns {
		if v, ok := f[key]; ok {
			values = append(values, v)
		}
	}
	return spanOf(values)
}

// compare works the ratios out.
func (r *report) compare() {
	r.Ratios = nil
	for _, rival := range r.Contestants {
		for _, name := range rival.beside {
			ours := r.of(name)
			if ours == nil {
				continue
			}
			one := ratio{Troupe: name, Rival: rival.Name, Of: map[string]span{}}
			for _, m := range metrics {
				var values []float64
				for turn := range min(len(ours.Turns), len(rival.Turns)) {
					if v := rival.Turns[turn][m.key]; v > 0 && ours.Turns[turn] != nil {
						values = append(values, ours.Turns[turn][m.key]/v)
					}
				}
				if all, ok := spanOf(values); ok {
					one.Of[m.key] = all
				}
			}
			r.Ratios = append(r.Ratios, one)
		}
	}
}

// Print writes a table for people.
func (r *report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range metrics {
		head := false
		for _, c := range r.Contestants {
			all, ok := c.spanOf(m.key)
			if !ok {
				continue
			}
			if !head {
				fmt.Fprintf(t, "\n%s\tmedian\tleast..most\taccepted jobs that survive\n", m.title)
				head = true
			}
			fmt.Fprintf(t, "  %s\t%s\t%s..%s\t%s\n", c.Name, number(all.Median), number(all.Least), number(all.Most), c.Safe)
		}
	}
	for _, one := range r.Ratios {
		fmt.Fprintf(t, "\n%s ÷ %s\tmedian\tleast..most\tbetter if\n", one.Troupe, one.Rival)
		for _, m := range metrics {
			if all, ok := one.Of[m.key]; ok {
				fmt.Fprintf(t, "  %s\t%.2f\t%.2f..%.2f\t%s than 1\n", m.title, all.Median, all.Least, all.Most, m.better)
			}
		}
	}
	return t.Flush()
}

// number is as exact as anybody reads it.
func number(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}
