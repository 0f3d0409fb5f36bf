package auth

import (
	"net/http"
	"net/netip"
)

// subscriber is whom an address counts for: one who has an IPv6 address has a whole
// /64 of them.
func subscriber(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for no address alone: all of these count as one
	return p
}

// peer is the address at the other end of the connection.
func peer(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // as above
	return at.Addr()
}
