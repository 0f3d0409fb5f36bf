package httpcall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// errRefused says that a task may not reach an address; not which, for that
// would tell how a private network is laid out.
var errRefused = errors.New("tasks may not reach that address")

// credentials are where clouds give a machine its keys, and what leads nowhere
// but to neighbours on the wire. Nobody may reach them.
var credentials = prefixes(
	"169.254.0.0/16", "fe80::/10", // link-local: nearly every cloud's metadata
	"fd00:ec2::/32", "fd20:ce::/32", // metadata of AWS and Google over IPv6
	"168.63.129.16/32",   // Azure's wire server
	"100.100.100.200/32", // Alibaba's metadata
	"192.0.0.192/32",     // Oracle's metadata
)

// private are addresses that mean something else on every network, or nothing:
// the registries of special-purpose addresses that IANA keeps.
var private = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
)

// special are the same within 2000::/3, all that IPv6 has given out of public
// addresses. Teredo (in 2001::/23) and 6to4 wrap an IPv4 address that somebody
// else unwraps.
var special = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")

var (
	publicIPv6 = netip.MustParsePrefix("2000::/3")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // of a site's own, with prefixes of many lengths in it
	mostlyZero = netip.MustParsePrefix("::/8")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// policy decides which addresses a dialler may reach.
type policy struct {
	allowPrivate bool
	allowed      []netip.Prefix             // what may be reached though it is private
	own          func() ([]net.Addr, error) // the addresses of this machine
}

// control is a [net.Dialer]'s: it sees every address as it is dialled, whatever
// was in the URL and in DNS.
func (p policy) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return fmt.Errorf("dial %s: %w", network, errRefused)
	}
	return p.check(to.Addr())
}

func (p policy) check(a netip.Addr) error {
	a = plain(a)
	if a.IsMulticast() || slices.ContainsFunc(append(wrapped(a), a), isCredential) {
		return errRefused
	}
	if p.allowPrivate || within(a, p.allowed) {
		return nil
	}
	if a.Is4() && within(a, private) {
		return errRefused
	}
	if a.Is6() && (!publicIPv6.Contains(a) || within(a, special) || isatap(a)) {
		return errRefused
	}
	// A service on this machine may trust whoever comes from this machine.
	own, err := p.own()
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	for _, addr := range own {
		if prefix, err := netip.ParsePrefix(addr.String()); err != nil || plain(prefix.Addr()) == a {
			return errRefused
		}
	}
	return nil
}

// plain is the address that packets to a will reach, where a wraps one.
func plain(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// wrapped are the IPv4 addresses that a translator or a tunnel on the way may
// find in a. Who allows a private network does not mean what hides in it.
func wrapped(a netip.Addr) (inside []netip.Addr) {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	at := func(i, j, k, l int) {
		inside = append(inside, netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}))
	}
	if mostlyZero.Contains(a) || isatap(a) {
		at(12, 13, 14, 15) // IPv4-compatible, translated, NAT64 with prefixes of 96 bits
	}
	if localNAT64.Contains(a) {
		at(6, 7, 9, 10) // prefixes of 48, 56 and 64 bits leave out the ninth byte: RFC 6052
		at(7, 9, 10, 11)
		at(9, 10, 11, 12)
	}
	if sixToFour.Contains(a) {
		at(2, 3, 4, 5)
	}
	if teredo.Contains(a) {
		at(4, 5, 6, 7)
		inside = append(inside, netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	return inside
}

// isatap says whether a wraps an IPv4 address the way that a site's routers
// unwrap: 0:5efe and the address as its second half.
func isatap(a netip.Addr) bool {
	b := a.As16()
	return b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

func isCredential(a netip.Addr) bool { return within(a, credentials) }

func within(a netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, s := range list {
		parsed[i] = netip.MustParsePrefix(s)
	}
	return parsed
}
