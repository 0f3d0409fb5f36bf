package httpcall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// refused are addresses that a task may not reach, with all their spellings below.
var refused = []string{
	"127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
}

// plainly are hosts that lead to this machine or to what is private, as they are.
var plainly = []string{
	"127.0.0.2", "127.255.255.254", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]",
	"[::0001]", "[0::1]", "[::ffff:0:0]", "[::FFFF:127.0.0.1]", "[0:0:0:0:0:FFFF:7F00:1]",
	"10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "169.254.170.2", "100.64.0.1", "100.127.255.254",
	"168.63.129.16", "192.0.0.192", "192.0.0.1", "192.88.99.1", "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1",
	"224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "[fc00::1]", "[fd00::1]", "[fd00:ec2::254]",
	"[fd20:ce::254]", "[ff02::1]", "[ff01::1]", "[ff0e::1]", "[fec0::1]", "[2001:db8::1]", "[2001:2::1]", "[2001:10::1]",
	"[3fff::1]", "[5f00::1]", "[4000::1]", "[100::1]", "[2620:4f:8000::1]", "[fe80::1]", "[febf::1]",
	// with a zone
	"[::1%25lo]", "[fe80::1%25lo]", "[fe80::1%251]", "[::1%25]", "[::1%lo]", "[::ffff:127.0.0.1%25lo]", "[fe80::%25eth0]",
}

// numbers are those that C reads as addresses, beside the ones below.
var numbers = []string{
	"0", "0x0", "00", "000.0.0.0", "0x", "0.0", "0.0.0", "4294967295", "0xffffffff", "037777777777", "127.0.0.01", "127.0.0.001",
	"127.00.0.1", "0127.0.0.1", "00000177.0.0.1", "0x000000007f.0.0.1", "0x7f.0.0.0x1", "0177.0x0.0.1", "127.0x0.00.1",
	"0x7f.00000000001", "127.65537", "4294967296", "6425673729", "0x17f000001", "127.0.0.256", "127.256.0.1", "383.0.0.1",
	"127.0.0.1.", "2130706433.", "0x7f000001.", "0x7f.1.", "127.0.0.1..", ".127.0.0.1", "127..0.1", "127.0.0.1.0",
	"-2130706433", "+2130706433", "2130706433e0", "0b1111111000000000000000000000001", "0o17700000001", "127,0,0,1",
}

// disguised reads as one host and might be taken for another.
var disguised = []string{
	// signs that look like digits and dots
	"１２７.０.０.１", "127。0。0。1", "127｡0｡0｡1", "①②⑦.⓪.⓪.①", "127.0.0.¹", "１２７．０．０．１", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "𝟙𝟚𝟟.𝟘.𝟘.𝟙",
	"¹²⁷.⁰.⁰.¹", "₁₂₇.₀.₀.₁", "١٢٧.٠.٠.١", "१२७.०.०.१", "1²7.0.0.1", "127.0.0.1\u200b", "\u200b127.0.0.1", "127.0\u00ad.0.1",
	"127․0․0․1", "127.0.0.1\ufeff", "２１３０７０６４３３", "０ｘ7f000001", "0×7f000001", "[：：1]", "[::１]",
	// names
	"localhost", "LOCALHOST", "localhost.", "LocalHost", "localhost..", "loopback.test", "LOOPBACK.test", "loopback.test.",
	"loopback6.test", "mapped.test", "unspecified.test", "unspecified6.test", "nat64.test", "local-nat64.test", "both.test",
	"private.test", "metadata.test", "metadata.google.internal", "metadata.google.internal.", "127.0.0.1.nip.test",
	"sub.localhost", "a.b.localhost.", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback",
	"ｌｏｃａｌｈｏｓｔ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ℓocalhost", "loca\u00adlhost", "localhoſt", "LOCALHOST。", "xn--localhost-",
	strings.Repeat("a", 63) + ".loopback.test", strings.Repeat("a.", 120) + "loopback.test",
	strings.Repeat("a", 64) + ".test", strings.Repeat("a.", 200) + "test", strings.Repeat("0", 300) + "2130706433",
	strings.Repeat("0", 60) + "177.0.0.1", "[" + strings.Repeat("0", 200) + "::1]", "[" + strings.Repeat("0:", 7) + "1]",
	// percent-encodings
	"127%2e0%2e0%2e1", "%31%32%37.0.0.1", "%31%32%37%2e%30%2e%30%2e%31", "%6c%6f%63%61%6c%68%6f%73%74", "localhos%74", "127.0.0.1%2f",
	"%5b::1%5d", "[%3a%3a1]", "%e2%91%a0%e2%91%a1%e2%91%a6.0.0.1", "127%252e0%252e0%252e1", "127.0.0.%31", "127.0.0.1%3a80", "127.0.0.1%23",
	"127.0.0.1%3f", "127.0.0.1%40example.test", "example.test%40127.0.0.1", "127.0.0.1%5c",
	// users and passwords
	"127.0.0.1\\@example.test", "example.test@127.0.0.1", "example.test:80@127.0.0.1", "example.test@localhost", ":@127.0.0.1",
	"@127.0.0.1", "a:b@c:d@127.0.0.1", "example.test@@127.0.0.1", "example.test%20@127.0.0.1", "example.test#@127.0.0.1",
	"example.test?@127.0.0.1", "example.test\\@127.0.0.1", "example.test;@127.0.0.1", "%00@127.0.0.1", "example.test%2f@127.0.0.1",
	"127.0.0.1#@example.test", "127.0.0.1?@example.test", "example.test&@127.0.0.1", "user@[::1]", "user:pass@[::ffff:7f00:1]",
	// line ends, blanks, NUL
	"127.0.0.1%0d%0a", "127.0.0.1%0d%0aHost:%20example.test", "127.0.0.1\r\n", "127.0.0.1\r\nX: y", "\r\n127.0.0.1", "127.0.0.1\n",
	"example.test%0d%0a127.0.0.1", "example.test%00.127.0.0.1", "127.0.0.1%00", "127.0.0.1%00.example.test", "127.0.0.1\x00",
	"127.0.0.1%20", " 127.0.0.1", "127.0.0.1 ", "127.0.0.1%09", "127.0.0.1\t", "\t127.0.0.1", "127.0.0.1\x7f", "127.0.0.1\v",
	// brackets and slashes
	"[127.0.0.1]", "[[::1]]", "[::1", "::1", "[::1].test", "[::1]%2etest", "[localhost]", "[::1]@example.test", "example.test[::1]",
	"\\\\127.0.0.1", "\\127.0.0.1", "/127.0.0.1", "//127.0.0.1", "///127.0.0.1", "127.0.0.1\\", "127.0.0.1/@example.test", "127.0.0.1:80\\",
	"[v1.127.0.0.1]", "[::127.0.0.1.]", "[::ffff:127.1]", "[::ffff:0x7f.0.0.1]", "[::ffff:2130706433]", "[0177::1]", "[::1:0:0:0:0:0:0:0]",
}

// spellings is every one of them.
func spellings() []string {
	all := slices.Concat(plainly, numbers, disguised)
	for _, address := range refused {
		all = append(all, inC(address)...)
		all = append(all, inIPv6(address)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inC spells an address in one to four numbers, each decimal, octal or hex.
func inC(address string) (all []string) {
	b := netip.MustParseAddr(address).As4()
	for parts := 1; parts <= 4; parts++ {
		last := uint64(0)
		for _, octet := range b[parts-1:] {
			last = last<<8 | uint64(octet)
		}
		for _, form := range []string{"%d", "0%o", "0x%x", "0X%X", "000%o", "0x00%x"} {
			var s []string
			for _, octet := range b[:parts-1] {
				s = append(s, fmt.Sprintf(form, octet))
			}
			all = append(all, strings.Join(append(s, fmt.Sprintf(form, last)), "."))
		}
		// And of every radix one.
		mixed := []string{"0x%x", "%d", "0%o", "0x%x"}
		var s []string
		for i, octet := range b[:parts-1] {
			s = append(s, fmt.Sprintf(mixed[i], octet))
		}
		all = append(all, strings.Join(append(s, fmt.Sprintf("0%o", last)), "."))
	}
	return all
}

// inIPv6 wraps an address in all that translators, tunnels and old rules unwrap.
func inIPv6(address string) []string {
	b := netip.MustParseAddr(address).As4()
	hi, lo := strconv.FormatUint(uint64(b[0])<<8|uint64(b[1]), 16), strconv.FormatUint(uint64(b[2])<<8|uint64(b[3]), 16)
	hex := hi + ":" + lo
	all := []string{
		"::ffff:" + address, "::ffff:" + hex, "0:0:0:0:0:ffff:" + address, "0000:0000:0000:0000:0000:FFFF:" + address,
		"::" + address, "::" + hex, // IPv4-compatible
		"::ffff:0:" + address, "::ffff:0:" + hex, // IPv4-translated
		"64:ff9b::" + address, "64:ff9b::" + hex, "0064:ff9b:0:0:0:0:" + address, // NAT64
		"64:ff9b:1::" + address, "64:ff9b:1:ffff:ffff:ffff:" + hex, // NAT64 of a site: 96 bits
		fmt.Sprintf("64:ff9b:1:%x%02x:%x:%x::", b[0], b[1], b[2], uint(b[3])<<8), // 48 bits
		"2002:" + hex + "::", "2002:" + hex + "::1", "2002:" + hex + "::" + hex, // 6to4
		"2001:0:" + hex + "::", fmt.Sprintf("2001::%x:%x", ^(uint16(b[0])<<8 | uint16(b[1])), ^(uint16(b[2])<<8 | uint16(b[3]))), // Teredo
		"fe80::5efe:" + address, "2606:4700::5efe:" + address, "2606:4700::200:5efe:" + hex, // ISATAP
	}
	for i, a := range all {
		all[i] = "[" + a + "]"
	}
	return all
}
