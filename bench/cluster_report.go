package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// clusterReport is everything that bench cluster measured.
type clusterReport struct {
	Cores int           `json:"cores"`
	Tasks int           `json:"tasks"`
	Turns int           `json:"turns"`
	Bulk  figure        `json:"bare_rows_per_second"`
	Lone  figure        `json:"bare_commits_per_second"`
	Sizes []*sizeReport `json:"sizes"`
}

// sizeReport is what one number of nodes did.
type sizeReport struct {
	Nodes    int        `json:"nodes"`
	Batches  loadReport `json:"batches"`
	OneByOne loadReport `json:"one_by_one"`
	OneNode  latency    `json:"submit_to_end_at_one_node_ms"`
	AnyNode  latency    `json:"submit_to_end_at_any_node_ms"`
	Watcher  latency    `json:"event_to_watcher_ms"`
}

// loadReport is how fast a load was, and what bounds it.
type loadReport struct {
	Ended       figure `json:"ended_per_second"`
	Accepted    figure `json:"accepted_per_second"`
	NodesCPU    figure `json:"nodes_cpu_us_per_task"`
	DatabaseCPU figure `json:"postgresql_cpu_us_per_task"`
	CallersCPU  figure `json:"callers_cpu_us_per_task"`
	Busy        figure `json:"cores_busy"`
	BusyInAll   figure `json:"cores_busy_in_all"` // with whoever else is on the machine
	Commits     figure `json:"commits_per_second"`
	Log         figure `json:"wal_bytes_per_task"`
	Active      figure `json:"sessions_active"` // of PostgreSQL, on average
	Waits       []wait `json:"waits"`           // the most frequent first

	found map[string]int
}

// wait is a share of the moments that active sessions were found in.
type wait struct {
	For   string  `json:"for"`
	Share float64 `json:"share"`
}

func newClusterReport(o clusterOptions) *clusterReport {
	r := &clusterReport{Cores: runtime.NumCPU(), Tasks: o.tasks, Turns: o.turns}
	for _, n := range o.nodes {
		r.Sizes = append(r.Sizes, &sizeReport{Nodes: n})
	}
	return r
}

func (r *loadReport) add(t throughput, before, after spent, w waits) {
	perTask := func(seconds float64) float64 { return seconds * 1e6 / float64(t.Tasks) }
	took := after.at.Sub(before.at).Seconds()
	nodes, database, callers := after.nodes-before.nodes, after.database-before.database, after.callers-before.callers
	r.Ended = append(r.Ended, t.Ended)
	r.Accepted = append(r.Accepted, t.Accepted)
	r.NodesCPU = append(r.NodesCPU, perTask(nodes))
	r.DatabaseCPU = append(r.DatabaseCPU, perTask(database))
	r.CallersCPU = append(r.CallersCPU, perTask(callers))
	r.Busy = append(r.Busy, (nodes+database+callers)/took)
	r.BusyInAll = append(r.BusyInAll, (after.machine-before.machine)/took)
	r.Commits = append(r.Commits, float64(after.commits-before.commits)/took)

	r.Log = append(r.Log, float64(after.log-before.log)/float64(t.Tasks))

	found := 0
	if r.found == nil {
		r.found = map[string]int{}
	}
	for what, n := range w.found {
		r.found[what] += n
		found += n
	}
	r.Active = append(r.Active, float64(found)/float64(max(w.looks, 1)))
	r.Waits = mostFrequent(r.found)
}

// mostFrequent is the three that were found most.
func mostFrequent(found map[string]int) []wait {
	total := 0
	for _, n := range found {
		total += n
	}
	all := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(found[b]-found[a], strings.Compare(a, b))
	})
	top := make([]wait, 0, 3)
	for _, what := range all[:min(3, len(all))] {
		top = append(top, wait{For: what, Share: float64(found[what]) / float64(total)})
	}
	return top
}

func (r *clusterReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what string, of func(*sizeReport) string) {
		fmt.Fprint(t, what)
		for _, size := range r.Sizes {
			fmt.Fprint(t, "\t", of(size))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintf(t, "median (least–most) of %d turns\n", r.Turns)
	head := func(what string) {
		row("\n"+what, func(s *sizeReport) string { return fmt.Sprint("nodes: ", s.Nodes) })
	}
	load := func(what string, of func(*sizeReport) *loadReport) {
		figures := []struct {
			what     string
			of       func(*loadReport) figure
			decimals int
		}{
			{"ended/s", func(l *loadReport) figure { return l.Ended }, 0},
			{"accepted/s", func(l *loadReport) figure { return l.Accepted }, 0},
			{"µs CPU a task, nodes", func(l *loadReport) figure { return l.NodesCPU }, 0},
			{"µs CPU a task, PostgreSQL", func(l *loadReport) figure { return l.DatabaseCPU }, 0},
			{"µs CPU a task, callers", func(l *loadReport) figure { return l.CallersCPU }, 0},
			{"cores busy with it", func(l *loadReport) figure { return l.Busy }, 2},
			{fmt.Sprintf("cores busy in all, of %d", r.Cores), func(l *loadReport) figure { return l.BusyInAll }, 2},
			{"commits/s", func(l *loadReport) figure { return l.Commits }, 0},
			{"bytes of WAL a task", func(l *loadReport) figure { return l.Log }, 0},
			{"sessions active in PostgreSQL", func(l *loadReport) figure { return l.Active }, 1},
		}
		head(what)
		for _, f := range figures {
			row("  "+f.what, func(s *sizeReport) string { return f.of(of(s)).text(f.decimals) })
		}
		for i, what := range []string{"they are found in", "", ""} {
			row("  "+what, func(s *sizeReport) string {
				if waits := of(s).Waits; i < len(waits) {
					return fmt.Sprintf("%2.0f %% %s", waits[i].Share*100, waits[i].For)
				}
				return ""
			})
		}
	}
	load("demo.echo in batches", func(s *sizeReport) *loadReport { return &s.Batches })
	load("demo.echo one by one", func(s *sizeReport) *loadReport { return &s.OneByOne })

	head("unloaded, milliseconds")
	delay := func(what string, of func(*sizeReport) latency) {
		row("  "+what+", p50", func(s *sizeReport) string { return of(s).P50.text(2) })
		row("  "+what+", p99", func(s *sizeReport) string { return of(s).P99.text(2) })
	}
	delay("submit to end, at one node", func(s *sizeReport) latency { return s.OneNode })
	delay("submit to end, at any node", func(s *sizeReport) latency { return s.AnyNode })
	delay("event to a watcher elsewhere", func(s *sizeReport) latency { return s.Watcher })

	fmt.Fprintf(t, "\nPostgreSQL without Troupe\n")
	fmt.Fprintf(t, "  rows/s, 2 connections, batches of %d\t%s\n", bulkRows, r.Bulk.text(0))
	fmt.Fprintf(t, "  commits/s, 1 connection, lone rows\t%s\n", r.Lone.text(0))
	return t.Flush()
}
