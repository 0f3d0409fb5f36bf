package auth

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
)

// mostStreams is how many WebSockets and streams a credential may have open on a node.
const mostStreams = 1000

// Crowd counts what lasts, WebSockets and streams, by whose it is. Whoever is let in
// without a credential is not counted as one.
type Crowd struct {
	// Quota is how many a namespace may have; 0 is no bound. nil: none has one.
	Quota func(namespace string) int

	mu    sync.Mutex
	count map[string]int // by actor, and by namespace: neither looks like the other
}

// Enter counts one more until leave is called, or says that there are too many. Its
// error is a [transport.Problem].
func (c *Crowd) Enter(p access.Principal) (leave func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	actor, namespace := "actor "+p.Actor, "namespace "+p.Namespace
	most := 0
	if c.Quota != nil {
		most = c.Quota(p.Namespace)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.Actor != Nobody && c.count[actor] >= mostStreams:
		return nil, tooMany(fmt.Sprintf("The credential has %d WebSockets and streams open, which is as many as it may.", mostStreams))
	case most > 0 && c.count[namespace] >= most:
		return nil, tooMany(fmt.Sprintf("The namespace has %d WebSockets and streams open, which is as many as it may.", most))
	}
	if c.count == nil {
		c.count = map[string]int{}
	}
	c.count[actor]++
	c.count[namespace]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range []string{actor, namespace} {
			if c.count[of]--; c.count[of] == 0 {
				delete(c.count, of)
			}
		}
	}), nil
}

func tooMany(detail string) *transport.Problem {
	return transport.NewProblem(http.StatusTooManyRequests, "too_many_streams", detail)
}
