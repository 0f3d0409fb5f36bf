package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/troupe-run/troupe/runtime/task"
)

const (
	gatherFor  = 2 * time.Millisecond
	maxKinds   = 256
	beat       = 2 * time.Second
	reconnects = time.Second // at most this long after a connection was lost
)

// Hints tells other nodes that there is work.
//
// A hint may be lost or come twice, so whoever listens still looks by itself now
// and then. After each new connection it is told to look, as nobody knows what was
// said meanwhile.
type Hints struct {
	c       *Client
	channel string
	from    string // who we are
	wake    chan struct{}

	mu      sync.Mutex
	pending map[string]struct{} // one more than maxKinds means: any
}

func newHints(c *Client, database int) *Hints {
	return &Hints{
		c: c, channel: prefix + "hints:" + strconv.Itoa(database), // channels are of all databases
		from: strings.ToLower(rand.Text()),
		wake: make(chan struct{}, 1), pending: map[string]struct{}{},
	}
}

// Tell tells the other nodes that there is work of these kinds. It does not wait:
// what comes within a few milliseconds is sent as one.
func (h *Hints) Tell(kinds []string) {
	h.mu.Lock()
	for _, kind := range kinds {
		if len(h.pending) <= maxKinds && task.ValidName(kind) {
			h.pending[kind] = struct{}{}
		}
	}
	isPending := len(h.pending) > 0
	h.mu.Unlock()
	if !isPending {
		return
	}
	select {
	case h.wake <- struct{}{}:
	default: // it is awake
	}
}

// publish sends what was told, until ctx ends.
func (h *Hints) publish(ctx context.Context) {
	gathered := time.NewTimer(gatherFor)
	defer gathered.Stop()
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		gathered.Reset(gatherFor)
		select {
		case <-gathered.C:
		case <-ctx.Done():
			return
		}
		hint := h.take()
		if hint == "" {
			continue
		}
		err := h.c.ask(ctx, func(ctx context.Context) error {
			return h.c.redis.Publish(ctx, h.channel, hint).Err()
		})
		if err != nil {
			h.c.metrics.count("hints", failure(err))
			continue
		}
		h.c.metrics.count("hints", sent)
	}
}

// take is what is to be sent: who says it, and the kinds. Without a kind, it means
// any.
func (h *Hints) take() string {
	h.mu.Lock()
	kinds := slices.Sorted(maps.Keys(h.pending))
	clear(h.pending)
	h.mu.Unlock()
	switch {
	case len(kinds) == 0:
		return ""
	case len(kinds) > maxKinds:
		return h.from
	}
	return h.from + " " + strings.Join(kinds, " ")
}

// Listen calls told for each hint of another node, with nil for "anything may have
// happened; look", until ctx ends or the client is closed. It connects by itself,
// again and again. While told runs, hints wait.
func (h *Hints) Listen(ctx context.Context, told func(kinds []string)) {
	for {
		err := h.listen(ctx, told)
		if ctx.Err() != nil {
			return
		}
		h.c.metrics.count("hints", lost)
		if _, isAnswer := errors.AsType[redis.Error](err); isAnswer {
			h.c.complain(ctx, err)
		}
		// Nodes that lost Redis together do not come back together.
		pause := time.NewTimer(mathrand.N(reconnects)) //nolint:gosec // nothing to guess
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		case <-h.c.closed:
			pause.Stop()
			return
		}
	}
}

// listen listens on one connection until it breaks.
func (h *Hints) listen(ctx context.Context, told func(kinds []string)) error {
	channel := h.c.redis.Subscribe(ctx, h.channel)
	defer channel.Close()
	defer context.AfterFunc(ctx, func() { _ = channel.Close() })() // as reading does not end with ctx

	for isAsked := false; ; {
		got, err := channel.ReceiveTimeout(ctx, beat)
		switch {
		case isTimeout(err) && !isAsked:
			// Silence, or a connection that leads nowhere any more. If this cut a
			// hint in two, what follows is garbage: the hint is lost, as hints may be.
			if err := channel.Ping(ctx); err != nil {
				return err
			}
			isAsked = true
			continue
		case err != nil:
			return err
		}
		isAsked = false
		switch got := got.(type) {
		case *redis.Subscription:
			h.c.metrics.count("hints", connected)
			told(nil)
		case *redis.Message:
			h.hear(got.Payload, told)
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func (h *Hints) hear(hint string, told func(kinds []string)) {
	from, kinds, ok := read(hint)
	switch {
	case !ok:
		h.c.metrics.count("hints", unreadable)
	case from == h.from:
		h.c.metrics.count("hints", own)
	default:
		h.c.metrics.count("hints", heard)
		told(kinds)
	}
}

// read takes a hint apart; it may come from anybody.
func read(hint string) (from string, kinds []string, ok bool) {
	words := strings.SplitN(hint, " ", maxKinds+2)
	isForeign := func(word string) bool { return !task.ValidName(word) }
	if len(words) > 1+maxKinds || slices.ContainsFunc(words, isForeign) {
		return "", nil, false
	}
	if len(words) > 1 {
		kinds = words[1:]
	}
	return words[0], kinds, true
}
