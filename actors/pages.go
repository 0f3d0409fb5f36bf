package actors

import (
	"context"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// pages reads tasks and pages of their logs for sessions. Thousands may come back at once
// to the same few: those who ask for a page that is being read share the next read of it,
// which begins after all of them asked. So nobody is shown less than was there when it came.
type pages struct {
	node *Node

	mu    sync.Mutex
	reads map[place][]reader // under way, with those who wait for the next
}

// place is where in whose log a page begins.
type place struct {
	namespace string
	task      task.ID
	after     task.Cursor
}

// reader is who gets a page.
type reader struct {
	pid *actor.PID
	gen uint64
}

func newPages(n *Node) *pages { return &pages{node: n, reads: map[place][]reader{}} }

// read has a page sent to who.
func (p *pages) read(at place, who reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting, under := p.reads[at]; under {
		p.reads[at] = append(waiting, who)
		return
	}
	p.reads[at] = nil
	p.node.work(func(ctx context.Context) {
		for all := []reader{who}; len(all) > 0; all = p.next(at) {
			msg := p.load(ctx, at)
			for _, r := range all {
				msg.gen = r.gen
				p.node.root.Send(r.pid, msg)
			}
		}
	})
}

// next is those who have come meanwhile.
func (p *pages) next(at place) []reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.reads[at]
	if len(waiting) == 0 {
		delete(p.reads, at)
	} else {
		p.reads[at] = nil
	}
	return waiting
}

// load reads a page; its frames are the same for all.
func (p *pages) load(ctx context.Context, at place) (msg page) {
	t, err := p.node.cfg.Store.Task(ctx, at.namespace, at.task)
	var events []task.Event
	if err == nil && at.after.Before(t.Cursor) {
		events, err = p.node.cfg.Store.Events(ctx, at.namespace, at.task, at.after, pageEvents)
	}
	msg.task, msg.err, msg.frames = &t, err, make([]*task.Frame, len(events))
	for i, e := range events {
		msg.frames[i] = frameOf(e)
	}
	return msg
}
