package api

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// wire is a connection from an address.
type wire struct {
	net.Conn
	from   string
	closed bool
}

func (w *wire) RemoteAddr() net.Addr {
	at := netip.MustParseAddrPort(w.from)
	return net.TCPAddrFromAddrPort(at)
}

func (w *wire) Close() error {
	w.closed = true
	return nil
}

func TestConnectionsAreBounded(t *testing.T) {
	l := &connections{
		most: 6, each: 2, proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		open: map[net.Conn]netip.Addr{}, from: map[netip.Addr]int{},
	}
	come := func(from string) *wire {
		w := &wire{from: from}
		if l.changed(w, http.StateNew); w.closed {
			l.changed(w, http.StateClosed)
		}
		return w
	}
	one, two := come("1.2.3.4:1"), come("[::ffff:1.2.3.4]:2")
	if one.closed || two.closed || !come("1.2.3.4:3").closed {
		t.Error("an address may have two")
	}
	l.changed(one, http.StateHijacked)
	if three := come("1.2.3.4:4"); three.closed {
		t.Error("a WebSocket is counted on")
	}
	come("[2001:db8::1]:1")
	come("[2001:db8::2]:1")
	if !come("[2001:db8::3]:1").closed {
		t.Error("a network of IPv6 is many addresses")
	}
	if come("10.0.0.1:1").closed || come("127.0.0.1:1").closed || !come("10.0.0.1:2").closed {
		t.Error("a proxy and this machine are bounded by all there are, which are six")
	}
	for c := range l.open {
		l.changed(c, http.StateActive)
		l.changed(c, http.StateClosed)
		l.changed(c, http.StateClosed)
	}
	if len(l.open) != 0 || len(l.from) != 0 {
		t.Errorf("%d and %d are left", len(l.open), len(l.from))
	}
}
