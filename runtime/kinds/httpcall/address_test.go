package httpcall

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/troupe-run/troupe/runtime/task"
)

var fakeNames = names{
	"loopback.test":            {netip.MustParseAddr("127.0.0.1")},
	"loopback6.test":           {netip.IPv6Loopback()},
	"mapped.test":              {netip.MustParseAddr("::ffff:127.0.0.1")},
	"unspecified.test":         {netip.IPv4Unspecified()},
	"unspecified6.test":        {netip.IPv6Unspecified()},
	"nat64.test":               {netip.MustParseAddr("64:ff9b::7f00:1")},
	"local-nat64.test":         {netip.MustParseAddr("64:ff9b:1::7f00:1")},
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

// resolvingNumbers has the fake DNS answer for numbers as the C library does,
// and for everything that ends in a name it knows: no resolver gives more away.
func resolvingNumbers(n names) dns {
	return func(host string) ([]netip.Addr, bool) {
		if addresses, ok := n.lookup(host); ok {
			return addresses, ok
		}
		for name, addresses := range n {
			if strings.HasSuffix(host, "."+name) {
				return addresses, true
			}
		}
		if strings.Trim(host, "0123456789abcdefx.-+") == "" || strings.HasPrefix(host, "localhost") || strings.HasSuffix(host, "localhost") {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, true
		}
		return nil, false
	}
}

func TestNoSpellingReachesThisMachine(t *testing.T) {
	port, hits := canary(t)
	all := spellings()
	if len(all) < 500 {
		t.Errorf("only %d spellings", len(all))
	}
	c := closed(t, resolvingNumbers(fakeNames), "")
	for _, host := range all {
		for _, scheme := range []string{"http", "https", "HTTP"} {
			url := scheme + "://" + host + ":" + port + "/"
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
	for _, host := range append(inC("127.0.0.1"), "localhost", "LOCALHOST.", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]") {
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
		q := r.URL.Query()
		w.Header().Set("Location", q.Get("to"))
		if hops, _ := strconv.Atoi(q.Get("hops")); hops > 0 {
			q.Set("hops", strconv.Itoa(hops-1))
			w.Header().Set("Location", "/?"+q.Encode())
		}
		status, err := strconv.Atoi(q.Get("status"))
		if err != nil {
			status = http.StatusNotFound // the target led back here
		}
		w.WriteHeader(status)
	})
	c := closed(t, resolvingNumbers(fakeNames), strings.TrimPrefix(front, "http://"))
	targets := []string{
		"//127.0.0.1:" + port, "//loopback.test:" + port, "file:///etc/passwd", "gopher://127.0.0.1:" + port, "ftp://127.0.0.1",
		"http:127.0.0.1:" + port, "http:///x", "http://user:secret@127.0.0.1:" + port, "data:,x", "unix:///x", "http://",
		"javascript:1", "http://127.0.0.1:99999", "\\\\127.0.0.1:" + port, "/\\127.0.0.1:" + port, "HTTP://127.0.0.1:" + port,
		"dict://127.0.0.1:" + port, "ldap://127.0.0.1:" + port, "ws://127.0.0.1:" + port, "http+unix://127.0.0.1:" + port,
	}
	for _, host := range spellings() {
		targets = append(targets, "http://"+host+":"+port+"/", "https://"+host+":"+port+"/")
	}
	statuses := []int{301, 302, 303, 307, 308}
	for i, target := range targets {
		// Each target by one status, from afar; each class of address by all, below.
		refusedRedirect(t, c, front, target, statuses[i%len(statuses)], i%9)
	}
	for _, status := range statuses {
		for _, host := range append(plainly, refused...) {
			refusedRedirect(t, c, front, "http://"+host+":"+port+"/", status, 0)
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

// refusedRedirect has front send c to a target, after so many other hops.
func refusedRedirect(t *testing.T, c *caller, front, target string, status, hops int) {
	t.Helper()
	query := url.Values{"to": {target}, "status": {strconv.Itoa(status)}, "hops": {strconv.Itoa(hops)}}
	_, err := c.run(t.Context(), newRecorder(), encode(map[string]any{"url": front + "?" + query.Encode(), "body": 1}))
	f, ok := errors.AsType[*task.Failure](err)
	if !ok {
		t.Errorf("%s: %v", target, err)
		return
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

func TestEveryAnswerOfDNSIsChecked(t *testing.T) {
	port, hits := canary(t)
	n := names{"turns.test": nil}
	c := closed(t, n.lookup, "")
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

// A name is public when it is looked up first, and this machine from then on.
func TestADNSAnswerThatChangesIsRefused(t *testing.T) {
	const stranger = "203.0.113.77"
	local, far := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr(stranger)
	port, hits := canary(t)
	for name, first := range map[string][]netip.Addr{
		"the next request":            {far},
		"the other address of a dead": {far, local},
		"the other one first":         {local, far},
		"both kinds":                  {netip.IPv6Loopback(), far},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			public := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close") // so that the next hop is dialled
				http.Redirect(w, r, "http://rebind.test:"+port+"/", http.StatusTemporaryRedirect)
			})
			d := newDialler(Config{})
			d.strict.Resolver = dns(func(string) ([]netip.Addr, bool) {
				if asked.Add(1) <= 2 { // both kinds of address are asked for
					return first, true
				}
				return []netip.Addr{local}, true
			}).resolver()
			rules := d.strict.Control
			d.strict.Control = func(network, address string, conn syscall.RawConn) error {
				if host, _, _ := net.SplitHostPort(address); host == stranger {
					return errStranger // nobody can reach it from here: see below
				}
				return rules(network, address, conn)
			}
			// What dials the stranger is answered by the server that stands for it.
			c := &caller{config: Config{}.withDefaults(), client: newClient(func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := d.dial(ctx, network, address)
				if errors.Is(err, errStranger) && len(first) == 1 {
					return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(public, "http://"))
				}
				return conn, err
			})}
			t.Cleanup(c.client.CloseIdleConnections)
			_, err := get(t, c, "http://rebind.test:"+port+"/")
			if f, ok := errors.AsType[*task.Failure](err); !ok || f.Code != "address_refused" && f.Code != "http_error" {
				t.Errorf("got %v", err)
			}
			if len(first) == 1 {
				_ = wantFailure(t, err, "address_refused", false)
			}
		})
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

var errStranger = errors.New("no route to the stranger")

func TestWhatIsAllowedByName(t *testing.T) {
	port, hits := canary(t)
	n := names{
		"friend.test":   {netip.MustParseAddr("127.0.0.1")},
		"stranger.test": {netip.MustParseAddr("127.0.0.1")},
		"traitor.test":  {netip.MustParseAddr("169.254.169.254")},
	}
	tests := []struct {
		allow []string
		host  string
		want  bool
	}{
		{nil, "friend.test", false},
		{[]string{"friend.test:" + port}, "friend.test", true},
		{[]string{"Friend.TEST.:" + port}, "FRIEND.test.", true},
		{[]string{"friend.test:1"}, "friend.test", false},
		{[]string{"friend.test:" + port}, "stranger.test", false},
		{[]string{"friend.test:" + port}, "127.0.0.1", false},
		{[]string{"traitor.test:" + port}, "traitor.test", false},
		{[]string{"127.0.0.1:" + port}, "127.0.0.1", true},
		{[]string{"127.0.0.1:" + port}, "friend.test", false},
		{[]string{"127.0.0.0/8"}, "friend.test", true},
		{[]string{"127.0.0.1"}, "friend.test", true},
		{[]string{"127.0.0.1"}, "[::ffff:127.0.0.1]", true},
		{[]string{"127.0.0.2/32", "10.0.0.0/8"}, "friend.test", false},
		{[]string{"[::1]"}, "[::1]", true},
		{[]string{"::1"}, "127.0.0.1", false},
		{[]string{"0.0.0.0/0", "::/0"}, "traitor.test", false},
	}
	for _, tt := range tests {
		allowed, err := ParseAllowed(tt.allow)
		if err != nil {
			t.Fatal(err)
		}
		d := newDialler(Config{Allow: allowed})
		d.strict.Resolver, d.generous.Resolver = dns(n.lookup).resolver(), dns(n.lookup).resolver()
		c := &caller{config: Config{}.withDefaults(), client: newClient(d.dial)}
		before := hits.Load()
		_, err = get(t, c, "http://"+tt.host+":"+port)
		c.client.CloseIdleConnections()
		if tt.want != (err == nil) || tt.want != (hits.Load() > before) {
			t.Errorf("%s with %q: %v", tt.host, tt.allow, err)
		}
		if !tt.want {
			_ = wantFailure(t, err, "address_refused", false)
		}
	}
	for _, odd := range []string{
		"", "friend.test", "friend.test:", ":80", "friend.test:0", "friend.test:65536", "http://friend.test:80", "a/b:80", "*.test:80",
		"10.0.0.0/33", "::ffff:10.0.0.0/104", "64:ff9b::a00:0/104", "10.0.0", "user@friend.test:80", "[127.0.0.1]", "fe80::1%eth0/64",
	} {
		if got, err := ParseAllowed([]string{odd}); err == nil {
			t.Errorf("%q was taken: %+v", odd, got)
		}
	}
}

func TestThePolicy(t *testing.T) {
	own := []net.Addr{&net.IPNet{IP: net.ParseIP("93.184.216.34"), Mask: net.CIDRMask(24, 32)}}
	strict := policy{own: func() ([]net.Addr, error) { return own, nil }}
	loose := policy{allowPrivate: true, own: strict.own}
	listed := policy{allowed: prefixes("0.0.0.0/0", "::/0"), own: strict.own}
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
		{"64:ff9b:1::a9fe:a9fe", false, false},
		{"64:ff9b:1:a9fe:a9:fe00::", false, false}, // 48 bits of prefix
		{"64:ff9b:1:a9:fe:a9fe::", false, false},   // 56
		{"64:ff9b:1:0:a9:fea9:fe00::", false, false},
		{"64:ff9b:1::a00:1", false, true},
		{"2002:a9fe:a9fe::1", false, false},
		{"2001:0:a9fe:a9fe::1", false, false},
		{"2001::5601:5601", false, false},
		{"::a9fe:a9fe", false, false},
		{"::ffff:0:a9fe:a9fe", false, false},
		{"fc00::5efe:a9fe:a9fe", false, false},
		{"fc00::a9fe:a9fe", false, true},
		{"2606:4700::a9fe:a9fe", true, true},
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
		if got := listed.check(a) == nil; got != tt.loose {
			t.Errorf("%s with all networks listed: reached %v, want %v", tt.address, got, tt.loose)
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
