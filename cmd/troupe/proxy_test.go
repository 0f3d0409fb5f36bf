package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands before an address, and does to what passes whatever it is told.
type proxy struct {
	address, target string

	mu       sync.Mutex
	up, down way // to the target, and back
	refusing bool
	links    map[net.Conn]context.CancelFunc // what ends each
	changed  chan struct{}                   // closed with the next change
}

// way is what becomes of bytes in one direction.
type way struct {
	lost bool          // they are swallowed, and the connection stays
	late time.Duration // they wait before they go on
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		address: l.Addr().String(), target: target, links: map[net.Conn]context.CancelFunc{}, changed: make(chan struct{}),
	}
	ctx, end := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() {
		end()
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(ctx, in) })
		}
	})
	return p
}

// spoil has bytes in each direction fare so from now on.
func (p *proxy) spoil(up, down way) { p.set(up, down, false) }

// hole swallows all that goes either way.
func (p *proxy) hole() { p.spoil(way{lost: true}, way{lost: true}) }

// refuse cuts all connections, and those that come at once.
func (p *proxy) refuse() { p.set(way{}, way{}, true) }

// heal lets everything pass. A connection that lost bytes stays silent that way:
// no more can come behind a hole in the middle.
func (p *proxy) heal() { p.spoil(way{}, way{}) }

func (p *proxy) set(up, down way, refusing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down, p.refusing = up, down, refusing
	close(p.changed)
	p.changed = make(chan struct{})
	if refusing {
		for _, cut := range p.links {
			cut()
		}
	}
}

func (p *proxy) ways() (up, down way, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down, p.changed
}

// enter takes in a connection unless none is wanted.
func (p *proxy) enter(in net.Conn, cut context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing {
		return false
	}
	p.links[in] = cut
	return true
}

func (p *proxy) leave(in net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, in)
}

func (p *proxy) serve(ctx context.Context, in net.Conn) {
	defer in.Close()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	if !p.enter(in, cut) {
		return
	}
	defer p.leave(in)
	// Whoever comes while something is lost gets no connection before it is over.
	if !p.until(ctx, func(up, down way) bool { return !up.lost && !down.lost }) {
		return
	}
	out, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	defer context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })()
	var both sync.WaitGroup
	both.Go(func() { p.carry(ctx, cut, out, in, func(up, _ way) way { return up }) })
	both.Go(func() { p.carry(ctx, cut, in, out, func(_, down way) way { return down }) })
	both.Wait()
}

// until waits for the ways to be as wanted, and says whether they came to be.
func (p *proxy) until(ctx context.Context, wanted func(up, down way) bool) bool {
	for {
		up, down, changed := p.ways()
		if wanted(up, down) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// carry moves bytes one way until there are no more. An end gets through no
// sooner than bytes do.
func (p *proxy) carry(ctx context.Context, cut func(), to, from net.Conn, which func(up, down way) way) {
	buf := make([]byte, 256<<10)
	for holed := false; ; {
		n, err := from.Read(buf)
		up, down, _ := p.ways()
		now := which(up, down)
		if now.late > 0 {
			wait := time.NewTimer(now.late)
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
			}
		}
		// Cut, it is closed in a moment; what comes in between was sent after the cut.
		holed = holed || now.lost && n > 0 || ctx.Err() != nil
		if !holed && n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				cut()
				return
			}
		}
		if err == nil {
			continue
		}
		if !p.until(ctx, func(up, down way) bool { return !which(up, down).lost }) {
			return
		}
		if !errors.Is(err, io.EOF) || holed {
			cut()
		}
		_ = to.(*net.TCPConn).CloseWrite()
		return
	}
}
