package actors

import (
	"math"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// pacer learns how fast the queues start their tasks here.
type pacer struct {
	paces   map[queueName]*task.Pace
	started map[queueName]int // since they were last observed
}

func newPacer() *pacer {
	return &pacer{paces: map[queueName]*task.Pace{}, started: map[queueName]int{}}
}

// observe learns of all queues, and forgets those of which there is nothing to know.
func (p *pacer) observe(waiting map[queueName]bool, paused func(namespace, name string) bool) {
	now := time.Now()
	for name := range waiting {
		if p.paces[name] == nil {
			p.paces[name] = &task.Pace{}
		}
	}
	for name, pace := range p.paces {
		if paused(name.namespace, name.name) {
			pace.Pause()
		} else {
			pace.Observe(now, p.started[name], waiting[name])
		}
		if !waiting[name] && pace.Forgotten(now) {
			delete(p.paces, name)
		}
	}
	clear(p.started)
}

// forecast says what has been learned.
func (s *scheduler) forecast(msg forecast) forecasts {
	f := forecasts{paces: map[queueName]task.Pace{}, runs: map[queueName]time.Duration{}}
	for _, name := range msg.queues {
		if pace := s.paces.paces[name]; pace != nil {
			f.paces[name] = *pace
		}
	}
	for kind := range msg.kinds {
		typical, _ := s.times.Expect(kind.namespace, kind.name)
		f.runs[kind] = time.Duration(float64(typical) / math.Sqrt2) // the least it may mean
	}
	return f
}
