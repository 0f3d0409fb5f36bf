package actors

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/schedule"
	"github.com/troupe-run/troupe/runtime/task"
)

// The scheduler breaks off the starts of a kind whose tasks fail alike, as its
// settings say. What waits of such a kind stands aside meanwhile: it is held and
// counted as before, and the core does not hear of it.

// breaker is a kind that has a breaker, as this node sees it.
type breaker struct {
	circuit task.Circuit
	aside   map[task.ID]bool
	probe   task.ID // the one that is to show how it goes
	gen     uint64  // of the timer
}

// verdict is what an attempt that has ended says of its kind: nothing, a success, or
// a failure by its code.
type verdict struct {
	succeeded bool
	failed    string
}

// stands says whether a task waits, in the core or aside.
func (s *scheduler) stands(id task.ID) bool {
	return s.core.IsWaiting(schedule.ID(id)) || s.isAside(id)
}

func (s *scheduler) isAside(id task.ID) bool {
	if len(s.breakers) == 0 {
		return false
	}
	b := s.breakers[kindOf(s.tasks[id].lane)]
	return b != nil && b.aside[id]
}

// setAside takes a task that is about to wait, if its kind may not start now.
func (s *scheduler) setAside(id task.ID, kind queueName) bool {
	b := s.breakers[kind]
	if b == nil || b.circuit.Lets(s.node.now()) {
		return false
	}
	b.aside[id] = true
	return true
}

// asideAll lists the tasks that stand aside.
func (s *scheduler) asideAll() (ids []task.ID) {
	for _, b := range s.breakers {
		for id := range b.aside {
			ids = append(ids, id)
		}
	}
	return ids
}

// shut has all that waits of a kind stand aside.
func (s *scheduler) shut(kind queueName, b *breaker) {
	for id, t := range s.tasks {
		if kindOf(t.lane) == kind && s.core.Remove(schedule.ID(id)) {
			b.aside[id] = true
		}
	}
}

// comeBack lets up to so many of those that stand aside wait for their turn again,
// the most urgent first; -1: all.
func (s *scheduler) comeBack(b *breaker, most int) {
	ids := make([]task.ID, 0, len(b.aside))
	for id := range b.aside {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y task.ID) int {
		a, b := s.tasks[x].entry, s.tasks[y].entry
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Since.Compare(b.Since), bytes.Compare(x[:], y[:]))
	})
	if most >= 0 {
		ids = ids[:min(most, len(ids))]
	}
	for _, id := range ids {
		delete(b.aside, id)
		s.add(id)
	}
}

// started notes that a task of a kind that is half open is the one it lets.
func (s *scheduler) started(id task.ID, kind queueName) {
	b := s.breakers[kind]
	if b == nil || b.circuit.Closed() {
		return
	}
	b.circuit.Probe()
	b.probe = id
	s.shut(kind, b)
}

// judge takes what an attempt says of its kind.
func (s *scheduler) judge(ctx actor.Context, id task.ID, kind queueName, v verdict) {
	settings := s.node.kind(kind.namespace, kind.name).Breaker
	b := s.breakers[kind]
	if settings == (task.Breaker{}) {
		return // a change of it has been told to us
	}
	probe := b != nil && b.probe == id
	switch {
	case v.failed != "":
		if b == nil {
			b = &breaker{aside: map[task.ID]bool{}}
			s.breakers[kind] = b
		}
		if b.circuit.Failed(settings, s.node.now(), v.failed, probe) {
			s.open(ctx, kind, b, settings.OpenFor)
		}
	case v.succeeded:
		if b != nil && b.circuit.Succeeded(probe) {
			s.node.log.Info("the breaker of a kind has closed", "namespace", kind.namespace, "kind", kind.name)
			s.close(kind, b)
		}
	case probe:
		b.circuit.Void()
		b.probe = task.ID{}
		s.comeBack(b, 1)
	}
}

// open stops the starts of a kind for a while.
func (s *scheduler) open(ctx actor.Context, kind queueName, b *breaker, lasts time.Duration) {
	code, _ := b.circuit.Tripped()
	s.node.log.Warn("the breaker of a kind has opened", "namespace", kind.namespace, "kind", kind.name, "code", code, "for", lasts)
	s.node.metrics.broken.WithLabelValues(kind.namespace, kind.name).Set(1)
	b.probe = task.ID{}
	b.gen++
	s.shut(kind, b)
	msg, self, root := halfOpen{kind: kind, gen: b.gen}, ctx.Self(), s.node.root
	time.AfterFunc(lasts, func() { root.Send(self, msg) })
}

// halfOpen lets one task of a kind start.
func (s *scheduler) halfOpen(ctx actor.Context, msg halfOpen) {
	b := s.breakers[msg.kind]
	if b == nil || b.gen != msg.gen || b.circuit.Closed() {
		return
	}
	if _, until := b.circuit.Tripped(); s.node.now().Before(until) { // the clocks differ a little
		self, root := ctx.Self(), s.node.root
		time.AfterFunc(calmly, func() { root.Send(self, msg) })
		return
	}
	s.comeBack(b, 1)
	s.dispatch(ctx)
}

func (s *scheduler) close(kind queueName, b *breaker) {
	s.node.metrics.broken.DeleteLabelValues(kind.namespace, kind.name)
	delete(s.breakers, kind)
	s.comeBack(b, -1)
}

// kindChanged takes the settings of a kind whose breaker has changed: it is closed.
func (s *scheduler) kindChanged(ctx actor.Context, kind queueName) {
	if b := s.breakers[kind]; b != nil {
		s.close(kind, b)
		s.dispatch(ctx)
	}
}

// tripped lists the breakers that are not closed.
func (s *scheduler) tripped() (all []task.Tripped) {
	for kind, b := range s.breakers {
		if !b.circuit.Closed() {
			code, until := b.circuit.Tripped()
			all = append(all, task.Tripped{Namespace: kind.namespace, Kind: kind.name, Code: code, Until: until})
		}
	}
	slices.SortFunc(all, func(a, b task.Tripped) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}
