package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"
)

// clientAddress finds out from where a request comes: over proxies that are known,
// and never from what anybody else says of it.
func clientAddress(proxies []string) func(http.Handler) http.Handler {
	if len(proxies) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	return middleware.ClientIPFromXFF(proxies...)
}

// crossOrigin lets pages of other origins use the API. They send their credential
// in a header, so cookies stay out.
func crossOrigin(origins []string) func(http.Handler) http.Handler {
	return cors.Handler(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-Id"},
		ExposedHeaders: []string{"Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"},
		MaxAge:         600,
	})
}

// connections bounds how many a server has, in all and of each address. One that is
// too many is closed at once. WebSockets are not counted any more once they are
// that: they are bounded by whose they are. Connections are not wrapped, since
// what writes to them should see what they are.
type connections struct {
	most, each int
	proxies    []netip.Prefix

	mu   sync.Mutex
	open map[net.Conn]netip.Addr // the zero address: counted in all only
	from map[netip.Addr]int
}

// changed is a server's ConnState.
func (l *connections) changed(c net.Conn, state http.ConnState) {
	if state == http.StateNew && !l.enter(c) {
		_ = c.Close()
	}
	if state == http.StateClosed || state == http.StateHijacked {
		l.leave(c)
	}
}

func (l *connections) enter(c net.Conn) bool {
	from := addressOf(c)
	if from.IsLoopback() || slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(from) }) {
		from = netip.Addr{} // it stands for many, or could do worse
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.most || from.IsValid() && l.from[from] >= l.each {
		return false
	}
	l.open[c] = from
	if from.IsValid() {
		l.from[from]++
	}
	return true
}

func (l *connections) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, counted := l.open[c]
	delete(l.open, c)
	if !counted || !from.IsValid() {
		return
	}
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
}

// addressOf is where a connection comes from; of IPv6 the network, since whoever
// has one has all its addresses.
func addressOf(c net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	from := at.Addr().Unmap().WithZone("")
	if from.Is6() && !from.IsLoopback() {
		const network = 64
		p, _ := from.Prefix(network) // it is an IPv6 address
		return p.Addr()
	}
	return from
}
