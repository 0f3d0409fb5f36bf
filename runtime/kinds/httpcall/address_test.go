package httpcall

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/troupe-run/troupe/runtime/task"
)

// spellings are hosts that lead to this machine, or might somewhere.
var spellings = []string{
	// as they are
	"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
	"[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0001]", "[0::1]",
	// IPv4 in IPv6
	"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:7f00:0001]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::FFFF:127.0.0.1]",
	"[::ffff:0.0.0.0]", "[::127.0.0.1]", "[::7f00:1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]",
	"[64:ff9b:1::127.0.0.1]", "[2002:7f00:1::]", "[2002:7f00:1::1]", "[2001:0:7f00:1::]", "[fe80::5efe:127.0.0.1]",
	"[2606:4700::5efe:127.0.0.1]", "[2606:4700::200:5efe:127.0.0.1]", "[::1%25lo]", "[fe80::1%25lo]", "[fe80::1]",
	// numbers as C reads them
	"2130706433", "2130706434", "0x7f000001", "0X7F000001", "017700000001", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1", "0177.0.0.1",
	"0177.0.0.01", "00000177.0.0.1", "127.1", "127.0.1", "0x7f.1", "0177.1", "127.65537", "0", "0x0", "00", "000.0.0.0",
	"127.0.0.01", "127.0.0.001", "127.00.0.1", "0127.0.0.1", "4294967295", "127.0.0.1.", "2130706433.", "0x7f000001.",
	// signs that look like digits and dots
	"１２７.０.０.１", "127。0。0。1", "①②⑦.⓪.⓪.①", "127.0.0.¹", "１２７．０．０．１", "127%2e0%2e0%2e1", "%31%32%37.0.0.1",
	// names
	"localhost", "LOCALHOST", "localhost.", "LocalHost", "loopback.test", "LOOPBACK.test", "loopback.test.",
	"loopback6.test", "mapped.test", "unspecified.test", "unspecified6.test", "nat64.test", "both.test", "private.test",
	"metadata.test", "metadata.google.internal", "127.0.0.1.nip.test", "sub.localhost", "ｌｏｃａｌｈｏｓｔ",
	// other networks
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.1.1", "169.254.169.254",
	"169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "192.0.2.1",
	"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "[fc00::1]", "[fd00:ec2::254]",
	"[fd20:ce::254]", "[ff02::1]", "[fec0::1]", "[2001:db8::1]", "[100::1]", "[64:ff9b::a9fe:a9fe]", "[::ffff:169.254.169.254]",
	"2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662",
	// what reads as something else
	"127.0.0.1\\@example.test", "example.test@127.0.0.1", "example.test:80@127.0.0.1", "127.0.0.1#@example.test",
	"example.test%00.127.0.0.1", "127.0.0.1%0d%0a", "127.0.0.1%20", " 127.0.0.1", "127.0.0.1%09",
}

var fakeNames = names{
	"loopback.test":            {netip.MustParseAddr("127.0.0.1")},
	"loopback6.test":           {netip.IPv6Loopback()},
	"mapped.test":              {netip.MustParseAddr("::ffff:127.0.0.1")},
	"unspecified.test":         {netip.IPv4Unspecified()},
	"unspecified6.test":        {netip.IPv6Unspecified()},
	"nat64.test":               {netip.MustParseAddr("64:ff9b::7f00:1")},
	"both.test":                {netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1")},
	"private.test":             {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.168.0.1")},
	"metadata.test":            {netip.MustParseAddr("169.254.169.254")},
	"metadata.google.internal": {netip.MustParseAddr("169.254.169.254")},
	"127.0.0.1.nip.test":       {netip.MustParseAddr("127.0.0.1")},
}

// canary listens on every address of this machine, and counts who comes.
func canary(t *testing.T) (port string, hits *atomic.Int64) {
	t.Helper()
	hits = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	_ = s.Listener.Close()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = listener
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			hits.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, hits
}

// resolveNumbers has the fake DNS know numbers as the C library does.
func resolveNumbers(n names) names {
	all := maps.Clone(n)
	for _, host := range spellings {
		if strings.Trim(host, "0123456789abcdefxABCDEFX.") == "" {
			all[strings.ToLower(strings.TrimSuffix(host, "."))] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		}
	}
	return all
}

func TestNoSpellingReachesThisMachine(t *testing.T) {
	port, hits := canary(t)
	if len(spellings) < 100 {
		t.Errorf("only %d spellings", len(spellings))
	}
	c := closed(t, resolveNumbers(fakeNames), "")
	for _, host := range spellings {
		for _, scheme := range []string{"http", "https", "HTTP"} {
			url := fmt.Sprintf("%s://%s:%s/", scheme, host, port)
			_, err := get(t, c, url)
			f, ok := errors.AsType[*task.Failure](err)
			if !ok {
				t.Errorf("%s: %v", url, err)
				continue
			}
			if f.Code != "address_refused" && f.Code != task.CodeInvalidPayload && !strings.Contains(f.Message, "no such name") {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}

	// With the resolver of this system, which may know other spellings.
	own := newCaller(Config{})
	t.Cleanup(own.client.CloseIdleConnections)
	for _, host := range []string{"2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.1", "0177.0.0.1", "localhost", "0", "[::1]"} {
		url := "http://" + host + ":" + port
		if got, err := get(t, own, url); err == nil {
			t.Errorf("%s: %+v", url, got)
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}

	// And the canary is alive.
	if _, err := get(t, open(t, Config{}), "http://127.0.0.1:"+port); err != nil || hits.Load() != 1 {
		t.Errorf("the canary: %v, %d", err, hits.Load())
	}
}

func TestNoRedirectReachesThisMachine(t *testing.T) {
	port, hits := canary(t)
	front := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	c := closed(t, resolveNumbers(fakeNames), strings.TrimPrefix(front, "http://"))
	targets := []string{
		"//127.0.0.1:" + port, "//loopback.test:" + port, "file:///etc/passwd", "gopher://127.0.0.1:" + port, "ftp://127.0.0.1",
		"http:127.0.0.1:" + port, "http:///x", "http://user:secret@127.0.0.1:" + port, "data:,x", "unix:///x", "http://",
		"javascript:1", "http://127.0.0.1:99999",
	}
	for _, host := range spellings {
		targets = append(targets, "http://"+host+":"+port+"/", "https://"+host+":"+port+"/")
	}
	for _, target := range targets {
		query := url.Values{"to": {target}}
		_, err := get(t, c, front+"?"+query.Encode())
		f, ok := errors.AsType[*task.Failure](err)
		if !ok {
			t.Errorf("%s: %v", target, err)
			continue
		}
		switch f.Code {
		case "address_refused", "http_redirect":
			if f.Retryable {
				t.Errorf("%s: %v may be retried", target, err)
			}
		case "http_error", "http_status": // no such name, or no URL at all
		default:
			t.Errorf("%s: %v", target, err)
		}
		if strings.Contains(f.Message, "secret") {
			t.Errorf("%s: %v", target, err)
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

func TestEveryAnswerOfDNSIsChecked(t *testing.T) {
	port, hits := canary(t)
	n := names{"turns.test": nil}
	c := closed(t, n, "")
	for range 3 {
		for _, to := range []string{"127.0.0.1", "192.0.2.1", "::1"} {
			n["turns.test"] = []netip.Addr{netip.MustParseAddr(to)}
			_, err := get(t, c, "http://turns.test:"+port)
			f := wantFailure(t, err, "address_refused", false)
			if strings.Contains(f.Message, to) {
				t.Errorf("%v names the address", err)
			}
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

func TestThePolicy(t *testing.T) {
	own := []net.Addr{&net.IPNet{IP: net.ParseIP("93.184.216.34"), Mask: net.CIDRMask(24, 32)}}
	strict := policy{own: func() ([]net.Addr, error) { return own, nil }}
	loose := policy{allowPrivate: true, own: strict.own}
	tests := []struct {
		address       string
		strict, loose bool // whether it may be reached
	}{
		{"8.8.8.8", true, true},
		{"1.1.1.1", true, true},
		{"100.63.255.255", true, true},
		{"100.128.0.1", true, true},
		{"172.15.255.255", true, true},
		{"172.32.0.1", true, true},
		{"198.17.255.255", true, true},
		{"223.255.255.255", true, true},
		{"2606:4700:4700::1111", true, true},
		{"2a00:1450:4001::200e", true, true},
		{"64:ff9b::8.8.8.8", true, true},
		{"::ffff:8.8.8.8", true, true},
		{"93.184.216.35", true, true},
		{"93.184.216.34", false, true}, // this machine's own
		{"::ffff:93.184.216.34", false, true},
		{"127.0.0.1", false, true},
		{"::1", false, true},
		{"10.1.2.3", false, true},
		{"192.168.1.1", false, true},
		{"100.64.0.1", false, true},
		{"fd12:3456::1", false, true},
		{"0.0.0.0", false, true},
		{"::ffff:10.0.0.1", false, true},
		{"64:ff9b::10.0.0.1", false, true},
		{"2001:db8::1", false, true},
		{"2001::1", false, true},
		{"2002:a00:1::", false, true},
		{"3fff::1", false, true},
		{"4000::1", false, true},
		{"5f00::1", false, true},
		{"255.255.255.255", false, true},
		{"198.19.255.255", false, true},
		{"169.254.169.254", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"64:ff9b::169.254.169.254", false, false},
		{"fe80::1%eth0", false, false},
		{"fd00:ec2::254", false, false},
		{"168.63.129.16", false, false},
		{"100.100.100.200", false, false},
		{"192.0.0.192", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
	}
	for _, tt := range tests {
		a := netip.MustParseAddr(tt.address)
		if got := strict.check(a) == nil; got != tt.strict {
			t.Errorf("%s: reached %v, want %v", tt.address, got, tt.strict)
		}
		if got := loose.check(a) == nil; got != tt.loose {
			t.Errorf("%s with private ones allowed: reached %v, want %v", tt.address, got, tt.loose)
		}
	}
}

func TestInDoubtAnAddressIsRefused(t *testing.T) {
	blind := policy{own: func() ([]net.Addr, error) { return nil, errors.New("no interfaces") }}
	if err := blind.check(netip.MustParseAddr("8.8.8.8")); !errors.Is(err, errRefused) {
		t.Errorf("without knowing its own addresses: %v", err)
	}
	odd := policy{own: func() ([]net.Addr, error) { return []net.Addr{&net.UnixAddr{Name: "x"}}, nil }}
	if err := odd.check(netip.MustParseAddr("8.8.8.8")); !errors.Is(err, errRefused) {
		t.Errorf("with an odd address of its own: %v", err)
	}
	for _, dial := range [][2]string{{"tcp4", "example.test:80"}, {"udp4", "8.8.8.8:53"}, {"unix", "/x"}, {"tcp", ""}} {
		if err := (policy{allowPrivate: true}).control(dial[0], dial[1], nil); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", dial, err)
		}
	}
}
