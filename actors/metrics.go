package actors

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/runtime/task"
)

// metrics is what this package tells Prometheus. No label is unbounded.
type metrics struct {
	batch    prometheus.Histogram
	commit   prometheus.Histogram
	delay    prometheus.Histogram
	held     prometheus.Gauge
	waiting  prometheus.Gauge
	running  prometheus.Gauge
	watched  prometheus.Gauge
	lost     prometheus.Counter
	panics   prometheus.Counter
	buried   prometheus.Counter
	fenced   prometheus.Counter
	garbled  prometheus.Counter
	parked   prometheus.Counter
	ended    *prometheus.CounterVec
	cached   *prometheus.CounterVec
	refused  *prometheus.CounterVec
	recalled *prometheus.CounterVec
	broken   *prometheus.GaugeVec
	putOff   prometheus.Counter

	remotes     prometheus.Gauge
	remotesLost prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "troupe_journal_batch_writes", Help: "Writes in one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "troupe_journal_commit_seconds", Help: "How long one commit took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 3, 10),
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "troupe_scheduling_delay_seconds", Help: "From when a task could run to when its attempt started.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 12),
		}),
		held:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_tasks_held", Help: "Tasks held by this node."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_tasks_waiting", Help: "Held tasks that could run and wait for room."}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_tasks_running", Help: "Tasks whose attempt holds its resources."}),
		watched: prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_watchers", Help: "Open sessions of watchers."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_holds_lost_total", Help: "Held tasks whose row had moved on.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "troupe_actor_panics_total", Help: "Actors that panicked."}),
		buried: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_orphans_freed_total", Help: "Tasks freed from nodes that died.",
		}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_node_fenced_total", Help: "How often this process lost its lease and began anew.",
		}),
		garbled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_peer_messages_unread_total", Help: "Messages of other nodes that could not be read.",
		}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_tasks_parked_total", Help: "Tasks that had to wait for a limit of the whole cluster, counted each time.",
		}),
		putOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_retries_put_off_total", Help: "Retries that wait longer because their kind's budget is used up.",
		}),
		remotes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "troupe_remote_workers", Help: "Workers elsewhere that are connected, or were within a lease."}),
		remotesLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "troupe_remote_workers_lost_total", Help: "Workers elsewhere that were not heard of for a lease.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_tasks_ended_total", Help: "Tasks that ended, by state.",
		}, []string{"state"}),
		cached: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_tasks_cached_total", Help: "Tasks with a cache that succeeded, by how they came to their result.",
		}, []string{"status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_tasks_refused_total", Help: "Tasks that were not taken, by why.",
		}, []string{"reason"}),
		recalled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "troupe_results_recalled_total", Help: "Looks for the result of an identical task, by where it was.",
		}, []string{"where"}),
		broken: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "troupe_breaker_open", Help: "Kinds of which this node starts no tasks, because they failed.",
		}, []string{"namespace", "kind"}), // those with a breaker
	}
	for _, c := range []prometheus.Collector{
		m.batch, m.commit, m.delay, m.held, m.waiting, m.running, m.watched, m.lost, m.panics, m.buried, m.fenced, m.garbled, m.parked, m.ended, m.cached, m.refused, m.recalled, m.broken, m.putOff,
		m.remotes, m.remotesLost,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// counters is what the node counts for [task.Stats].
type counters struct {
	submitted, started, retried atomic.Uint64
	ended                       [task.Cancelled + 1]atomic.Uint64
}
