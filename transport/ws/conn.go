package ws

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

// Close codes, see docs/websocket.md.
const (
	closeGoingAway    = 4101
	closeHeartbeat    = 4108
	closeTooMany      = 4229
	closeUnauthorized = 4401
	closeForbidden    = 4403
)

// conn is one connection and its outbox, whatever is spoken on it.
type conn struct {
	handler *Handler
	socket  *websocket.Conn
	id      string
	who     access.Principal
	watched *auth.Pass // the watch over the credential; nil: there is none
	from    netip.Addr
	leave   func() // the crowd; nil: it did not get in
	party   party

	heard    atomic.Int64 // when the peer last said anything, unix nanoseconds
	busy     atomic.Bool  // what it said is being done, and nothing read meanwhile
	pinged   atomic.Int64 // when it was last asked for a pong
	reached  atomic.Int64 // when it was asked for the last one that came
	silent   atomic.Bool  // it did not answer in time
	controls atomic.Int64 // control frames since the last heartbeat

	// Of the heartbeat goroutine.
	nextPing time.Time
	stood    time.Duration // for how long this node stood still since the last ping

	mu      sync.Mutex
	queue   []item
	bytes   int
	full    bool // refused a frame since the queue was last empty
	writing bool
	closing bool      // the last frame is queued; nothing comes behind it
	room    sync.Cond // something has been written, or never will be
}

// item is a frame that waits to be written: either there already, or the place
// kept for the answers of a batch.
type item struct {
	frame []byte
	batch *batchReply
	last  bool // the close frame
}

func newConn(h *Handler, socket *websocket.Conn) *conn {
	c := &conn{handler: h, socket: socket, id: uuid.NewString()}
	c.room.L = &c.mu
	now := time.Now()
	c.heard.Store(now.UnixNano())
	c.nextPing = now.Add(spread(h.bounds.Heartbeat))
	return c
}

// watch has the connection closed when its credential ends.
func (c *conn) watch(r *http.Request) {
	door := c.handler.cfg.Door
	if door == nil {
		return
	}
	c.from = door.Address(r)
	c.watched = door.Watch(c.who, func(*transport.Problem) { c.close(closeUnauthorized, "the credential has expired or was revoked") })
}

// unwatch gives up what the connection has of others.
func (c *conn) unwatch() {
	if c.watched != nil {
		c.watched.Release()
	}
	if c.leave != nil {
		c.leave()
	}
}

// goodbye says that the node goes, and closes after a while.
func (c *conn) goodbye(delay time.Duration) {
	c.notify("goodbye", goodbyeParams{Delay: delay.String()})
	time.AfterFunc(delay, func() { c.close(closeGoingAway, "going away") })
}

// offer queues a frame unless the outbox is full. taken is called, with the lock held,
// if it is not.
func (c *conn) offer(frame []byte, taken func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.handler.bounds
	if c.closing {
		return true // nobody will read it
	}
	if len(c.queue) >= b.OutboxFrames || c.bytes >= b.OutboxBytes {
		if !c.full {
			c.handler.metrics.slow.Inc()
		}
		c.full = true
		return false
	}
	taken()
	c.push(item{frame: frame})
	return true
}

// put queues an answer or a notice, which is never refused: the reader, which
// causes them, waits where too many do not get through.
func (c *conn) put(i item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.push(i)
	}
}

// push queues a frame and sees to it that somebody writes. mu is held.
func (c *conn) push(i item) {
	c.queue = append(c.queue, i)
	c.bytes += len(i.frame)
	c.wake()
}

func (c *conn) wake() {
	if !c.writing {
		c.writing = true
		go c.write()
	}
}

// take removes what can be written now: all up to a batch whose answers are not
// complete.
func (c *conn) take() (frames net.Buffers, last bool) {
	n := 0
	for n < len(c.queue) {
		i := c.queue[n]
		if i.batch != nil {
			if i.batch.missing > 0 {
				break
			}
			i.frame = i.batch.frame()
			c.bytes += len(i.frame)
		}
		frames = append(frames, i.frame)
		c.bytes -= len(i.frame)
		last = i.last
		n++
	}
	c.room.Broadcast()
	if n == len(c.queue) {
		c.queue = nil
	} else {
		c.queue = append([]item(nil), c.queue[n:]...)
	}
	return frames, last
}

// write writes what is queued until nothing is left to write.
func (c *conn) write() {
	for {
		c.mu.Lock()
		frames, last := c.take()
		if len(frames) == 0 {
			c.writing = false
			drained := c.full && len(c.queue) == 0
			if drained {
				c.full = false
			}
			c.mu.Unlock()
			if drained {
				c.party.drained()
			}
			return
		}
		c.mu.Unlock()
		n := len(frames)
		if err := c.socket.NetConn().SetWriteDeadline(time.Now().Add(c.handler.bounds.Write)); err == nil {
			var sent int64
			sent, err = frames.WriteTo(c.socket.NetConn())
			c.handler.metrics.frames.Add(float64(n))
			c.handler.metrics.bytes.Add(float64(sent))
			if err != nil {
				c.abandon()
				return
			}
		}
		if last {
			// The peer may answer the close; the reader ends either way.
			_ = c.socket.SetReadDeadline(time.Now().Add(time.Second))
		}
	}
}

// abandon gives up a connection that does not take anything.
func (c *conn) abandon() {
	c.mu.Lock()
	c.closing, c.queue, c.bytes = true, nil, 0
	c.room.Broadcast()
	c.mu.Unlock()
	_ = c.socket.Close()
}

// close says why, behind all that is queued, and ends the connection.
func (c *conn) close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.handler.metrics.closed(code)
	c.push(item{frame: rawFrame(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason)), last: true})
	c.closing = true
}

// beat is called a few times in every heartbeat. Where it comes late, this node stood
// still, and what it has been told meanwhile is not read yet: that is nobody's silence.
func (c *conn) beat(now time.Time, late time.Duration) {
	b := c.handler.bounds
	c.stood += max(0, late)
	if c.busy.Load() {
		c.heard.Store(now.UnixNano()) // it is not read, so nothing can be heard of it
	}
	pinged := c.pinged.Load()
	switch {
	case pinged != 0 && c.heard.Load() < pinged:
		if now.Sub(time.Unix(0, pinged))-c.stood > b.Pong {
			c.silent.Store(true)
			c.close(closeHeartbeat, "no pong")
			// It does not answer, so it may not read either.
			_ = c.socket.SetReadDeadline(now.Add(time.Second))
		}
	case now.After(c.nextPing):
		c.nextPing = now.Add(spread(b.Heartbeat))
		c.controls.Store(0)
		c.stood = 0
		c.pinged.Store(now.UnixNano())
		c.put(item{frame: rawFrame(websocket.PingMessage, nil)})
		c.party.beat()
	}
}
