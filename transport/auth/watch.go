package auth

import (
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

const (
	expireEvery   = time.Second
	reloadEvery   = 2 * time.Second
	reloadTimeout = 2 * time.Second // of a batch; what has expired waits for it
	reloadBatch   = 500
)

// Pass is for a stream that outlives the request it began with. Whoever has one is
// told when the credential ends.
type Pass struct {
	all    *passes
	closed func(reason *transport.Problem)

	// The lock of all is theirs too.
	p    access.Principal
	at   int // in the queue of those that expire; noPlace: it is not there
	over bool
}

const noPlace = -1

// Watch has closed called, once, within five seconds of when a principal's credential
// expires or is revoked, as long as [Door.Run] runs. It must return soon. While the
// store cannot be read, nobody learns of a revocation, and nobody is closed for it.
func (d *Door) Watch(p access.Principal, closed func(reason *transport.Problem)) *Pass {
	return d.passes.add(p, closed)
}

// Renew goes on with a newer credential, which must be of the same namespace. Its
// error is a [transport.Problem].
func (pass *Pass) Renew(p access.Principal) error { return pass.all.renew(pass, p) }

// Release ends the watching; closed is not called any more, unless it is just being.
func (pass *Pass) Release() { pass.all.release(pass) }

// passes are all that are watched.
type passes struct {
	mu    sync.Mutex
	byKey map[task.ID]map[*Pass]struct{}
	queue expiries

	again chan struct{} // holds one: reload now
}

func newPasses() *passes {
	return &passes{byKey: make(map[task.ID]map[*Pass]struct{}), again: make(chan struct{}, 1)}
}

func (s *passes) add(p access.Principal, closed func(*transport.Problem)) *Pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	pass := &Pass{all: s, closed: closed, p: p, at: noPlace}
	s.insert(pass)
	return pass
}

func (s *passes) renew(pass *Pass, p access.Principal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pass.over {
		return Unauthorized()
	}
	if p.Namespace != pass.p.Namespace {
		return Forbidden("The credential is of another namespace than the session.")
	}
	s.remove(pass)
	pass.p = p
	s.insert(pass)
	return nil
}

func (s *passes) release(pass *Pass) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(pass)
}

func (s *passes) insert(pass *Pass) {
	if !pass.p.Expires.IsZero() {
		heap.Push(&s.queue, pass)
	}
	if pass.p.Key.IsZero() {
		return
	}
	with := s.byKey[pass.p.Key]
	if with == nil {
		with = make(map[*Pass]struct{})
		s.byKey[pass.p.Key] = with
	}
	with[pass] = struct{}{}
}

func (s *passes) remove(pass *Pass) {
	if pass.at != noPlace {
		heap.Remove(&s.queue, pass.at)
	}
	with := s.byKey[pass.p.Key]
	if delete(with, pass); len(with) == 0 {
		delete(s.byKey, pass.p.Key)
	}
}

func (s *passes) end(pass *Pass) {
	if !pass.over {
		s.remove(pass)
		pass.over = true
	}
}

// expire ends those whose time is over and gives them.
func (s *passes) expire(now time.Time) []*Pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ended []*Pass
	for len(s.queue) > 0 && !now.Before(s.queue[0].p.Expires) {
		ended = append(ended, s.queue[0])
		s.end(s.queue[0])
	}
	return ended
}

// revoke ends those that came with a key and gives them.
func (s *passes) revoke(id task.ID) []*Pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := slices.Collect(maps.Keys(s.byKey[id]))
	for _, pass := range ended {
		s.end(pass)
	}
	return ended
}

// keys are those that any came with.
func (s *passes) keys() []task.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.byKey))
}

// reload asks for the keys to be looked up now.
func (s *passes) reload() {
	select {
	case s.again <- struct{}{}:
	default: // they are about to be
	}
}

// watch closes what has come to its end, until ctx does.
func (d *Door) watch(ctx context.Context) {
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	reload := time.NewTicker(reloadEvery)
	defer reload.Stop()
	for {
		d.closeExpired() // first, so that reading that takes long never comes twice before it
		select {
		case <-ctx.Done():
			return
		case <-expire.C:
		case <-reload.C:
			d.closeRevoked(ctx)
		case <-d.passes.again:
			d.closeRevoked(ctx)
		}
	}
}

func (d *Door) closeExpired() { shut(d.passes.expire(d.cfg.Now())) }

// closeRevoked looks up all keys that let anybody in who is still here.
func (d *Door) closeRevoked(ctx context.Context) {
	for batch := range slices.Chunk(d.passes.keys(), reloadBatch) {
		valid, err := d.valid(ctx, batch)
		if ctx.Err() != nil {
			return
		}
		if d.known.reads.note(ctx, err); err != nil {
			return
		}
		for _, id := range batch {
			if !valid[id] {
				shut(d.passes.revoke(id))
			}
		}
		d.closeExpired() // many batches take long
	}
}

// valid says which of some keys open anything. A key that is not there any more does
// not.
func (d *Door) valid(ctx context.Context, ids []task.ID) (map[task.ID]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	keys, err := d.cfg.Accounts.Keys(ctx, access.KeyFilter{IDs: ids, Limit: len(ids)})
	if err != nil {
		return nil, fmt.Errorf("look up %d keys that are in use: %w", len(ids), err)
	}
	valid := make(map[task.ID]bool, len(keys))
	for _, k := range keys {
		valid[k.ID] = k.Valid(d.cfg.Now())
	}
	return valid, nil
}

func shut(ended []*Pass) {
	for _, pass := range ended {
		pass.closed(Unauthorized())
	}
}

// expiries is a heap of passes, the one that expires next first.
type expiries []*Pass

func (e *expiries) Len() int           { return len(*e) }
func (e *expiries) Less(i, j int) bool { return (*e)[i].p.Expires.Before((*e)[j].p.Expires) }

func (e *expiries) Swap(i, j int) {
	q := *e
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push implements [heap.Interface].
func (e *expiries) Push(x any) {
	pass := x.(*Pass)
	pass.at = len(*e)
	*e = append(*e, pass)
}

// Pop implements [heap.Interface].
func (e *expiries) Pop() any {
	last := len(*e) - 1
	pass := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	pass.at = noPlace
	return pass
}
