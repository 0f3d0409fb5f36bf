package httpcall

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Allowed are private addresses and names that tasks may reach. The zero value
// is none.
type Allowed struct {
	prefixes []netip.Prefix
	names    []string // host:port, in lower case
}

// ParseAllowed reads a list of networks (10.1.0.0/16), addresses (10.1.2.3,
// [::1]) and names with a port (registry.internal:5000). An address is allowed on
// all its ports and whatever name leads to it; a name on the one port, whatever
// address it has.
func ParseAllowed(list []string) (a Allowed, err error) {
	for _, entry := range list {
		bare := strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")
		if address, err := netip.ParseAddr(bare); err == nil && address.Zone() == "" {
			if address = plain(address); bare == entry || address.Is6() {
				a.prefixes = append(a.prefixes, netip.PrefixFrom(address, address.BitLen()))
				continue
			}
		}
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			// Addresses are compared as what they wrap, so such a network would match nothing.
			if plain(prefix.Addr()) != prefix.Addr() {
				return Allowed{}, fmt.Errorf("%q: want the IPv4 network itself", entry)
			}
			a.prefixes = append(a.prefixes, prefix.Masked())
			continue
		}
		name, ok := canonical(entry)
		if !ok {
			return Allowed{}, fmt.Errorf("%q: want a network such as 10.1.0.0/16, an address, or a name with its port such as registry.internal:5000", entry)
		}
		a.names = append(a.names, name)
	}
	return a, nil
}

// canonical is the one spelling of host:port that is compared.
func canonical(address string) (string, bool) {
	host, port, err := net.SplitHostPort(address)
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if err != nil || host == "" || !isPort(port) || strings.ContainsAny(host, "/%@*? \t\r\n") {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}
