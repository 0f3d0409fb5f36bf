package actors

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/troupe-run/troupe/runtime/access"
)

// voices paces what the handlers of a namespace say here, where so many events a
// second are set of it. There is one for each namespace with such a bound.
type voices struct {
	mu sync.Mutex
	of map[string]*voice
}

// voice lets a second's worth through at once, and the rest evenly.
type voice struct {
	*rate.Limiter

	changed chan struct{} // closed when another rate holds
}

// learn takes new bounds. Who waits for a turn is given one by the new rate.
func (v *voices) learn(tenants map[string]access.Tenant) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, old := range v.of {
		if most := tenants[name].Events; most != old.Burst() {
			close(old.changed)
			delete(v.of, name)
		}
	}
	for name, t := range tenants {
		if t.Events > 0 && v.of[name] == nil {
			if v.of == nil {
				v.of = map[string]*voice{}
			}
			v.of[name] = &voice{Limiter: rate.NewLimiter(rate.Limit(t.Events), t.Events), changed: make(chan struct{})}
		}
	}
}

func (v *voices) voice(namespace string) *voice {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.of[namespace]
}

// wait waits until a namespace may say one thing more, or until ctx ends and then
// gives its cause.
func (v *voices) wait(ctx context.Context, namespace string) error {
	for {
		of := v.voice(namespace)
		if of == nil {
			return nil
		}
		turn := of.Reserve()
		if turn.Delay() == 0 {
			return nil
		}
		until := time.NewTimer(turn.Delay())
		select {
		case <-until.C:
			return nil
		case <-of.changed:
		case <-ctx.Done():
			turn.Cancel()
			until.Stop()
			return context.Cause(ctx)
		}
		until.Stop()
	}
}
