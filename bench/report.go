package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report is everything one run measured. Latencies are in milliseconds.
type report struct {
	Fsync    float64 `json:"fsync_per_second"`
	Unloaded probed  `json:"unloaded"`

	Sessions     int     `json:"sessions"`
	Events       int     `json:"events"`
	FirstEvent   spread  `json:"submit_to_first_event_ms"`
	Delivery     spread  `json:"event_to_watcher_ms"`
	Scheduling   spread  `json:"scheduling_delay_ms"`
	WatchSeconds float64 `json:"watch_seconds"`
	WatchCPU     float64 `json:"watch_cpu_seconds"`
	WatchMemory  float64 `json:"watch_memory_mib"`

	Single       throughput `json:"one_by_one"`
	Batch        throughput `json:"batches"`
	API          spread     `json:"api_ms"`
	ServerCPU    float64    `json:"server_cpu_seconds"`
	ServerMemory float64    `json:"server_memory_mib"`
}

type probed struct {
	Start spread `json:"scheduling_delay_ms"`
	End   spread `json:"submit_to_end_ms"`
}

type throughput struct {
	Tasks    int     `json:"tasks"`
	Accepted float64 `json:"accepted_per_second"`
	Ended    float64 `json:"ended_per_second"` // from the first submit to the last end
}

// spread is a distribution.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func spreadOf(ds []time.Duration) spread {
	if len(ds) == 0 {
		return spread{}
	}
	slices.Sort(ds)
	at := func(q float64) float64 {
		i := min(len(ds)-1, int(q*float64(len(ds))))
		return float64(ds[i].Microseconds()) / 1000
	}
	return spread{N: len(ds), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

func (r *report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what string, s spread) {
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%d\n", what, s.P50, s.P95, s.P99, s.Max, s.N)
	}
	fmt.Fprintln(t, "milliseconds\tp50\tp95\tp99\tmax\tn")
	row("scheduling delay, unloaded", r.Unloaded.Start)
	row("submit to end, unloaded", r.Unloaded.End)
	row(fmt.Sprintf("submit to first event, %d sessions", r.Sessions), r.FirstEvent)
	row("event to watcher", r.Delivery)
	row("scheduling delay", r.Scheduling)
	row("POST /v1/tasks, many in flight", r.API)
	fmt.Fprintln(t)
	fmt.Fprintf(t, "watching\t%d events in %.1f s\t%.2f CPU s\t%.1f MiB\n", r.Events, r.WatchSeconds, r.WatchCPU, r.WatchMemory)
	fmt.Fprintf(t, "demo.echo one by one\t%.0f accepted/s\t%.0f ended/s\t%.1f × this disk's syncs\n", r.Single.Accepted, r.Single.Ended, r.Single.Ended/r.Fsync)
	fmt.Fprintf(t, "demo.echo in batches\t%.0f accepted/s\t%.0f ended/s\t%.1f × this disk's syncs\n", r.Batch.Accepted, r.Batch.Ended, r.Batch.Ended/r.Fsync)
	fmt.Fprintf(t, "this disk\t%.0f syncs/s\n", r.Fsync)
	fmt.Fprintf(t, "the server in all\t%.2f CPU s\t%.1f MiB\n", r.ServerCPU, r.ServerMemory)
	return t.Flush()
}
