package httpcall

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := leaked(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// leaked is what is left running when the tests are over. A node's dead letters
// keep a goroutine of the actor library for a second, longer than one look takes.
func leaked() (err error) {
	for range 5 {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	return err
}

// recorder keeps what a handler said; heard gets each piece of a body when it comes.
type recorder struct {
	mu     sync.Mutex
	head   string
	body   []byte
	pieces int
	heard  chan string
	refuse error
}

func newRecorder() *recorder { return &recorder{heard: make(chan string, 10_000)} }

func (r *recorder) Emit(v any) error {
	b, err := json.Marshal(v)
	r.head = string(b)
	return errors.Join(err, r.refuse)
}

func (r *recorder) EmitBytes(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return r.refuse
	}
	r.body = append(r.body, b...)
	r.pieces++
	r.heard <- string(b)
	return nil
}

// open is a caller that may reach the servers of these tests.
func open(t *testing.T, cfg Config) *caller {
	t.Helper()
	cfg.AllowPrivate = true
	c := newCaller(cfg)
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newTLSServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of who does not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, c *caller, url string) (result, error) {
	t.Helper()
	return c.run(t.Context(), newRecorder(), encode(map[string]string{"url": url}))
}

func wantFailure(t *testing.T, err error, code string, retryable bool) *task.Failure {
	t.Helper()
	f, ok := errors.AsType[*task.Failure](err)
	if !ok || f.Code != code || f.Retryable != retryable {
		t.Fatalf("got %v (%+v), want %s", err, f, code)
	}
	return f
}

// names are what a DNS server knows: what is not among them does not exist.
type names map[string][]netip.Addr

func (n names) lookup(host string) (addresses []netip.Addr, known bool) {
	addresses, known = n[host]
	return addresses, known
}

// dns is a DNS server in memory. It is asked for names in lower case, and for
// each kind of address.
type dns func(host string) (addresses []netip.Addr, known bool)

func (n dns) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go n.answer(ours) // ends when the resolver closes its end
		return theirs, nil
	}}
}

// answer speaks DNS as over TCP, with one question a message.
func (n dns) answer(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		reply := n.reply(query)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (n dns) reply(query []byte) []byte {
	var labels []string
	at := 12
	for query[at] != 0 {
		size := int(query[at])
		labels = append(labels, string(query[at+1:at+1+size]))
		at += 1 + size
	}
	kind := binary.BigEndian.Uint16(query[at+1:])
	question := query[12 : at+5]
	var answers []byte
	count := uint16(0)
	known, ok := n(strings.ToLower(strings.Join(labels, ".")))
	for _, a := range known {
		if (kind == 1) != a.Is4() || kind != 1 && kind != 28 {
			continue
		}
		answers = append(answers, 0xc0, 12)
		answers = binary.BigEndian.AppendUint16(answers, kind)
		answers = append(answers, 0, 1, 0, 0, 0, 0)
		answers = binary.BigEndian.AppendUint16(answers, uint16(len(a.AsSlice())))
		answers = append(answers, a.AsSlice()...)
		count++
	}
	flags := uint16(0x8180)
	if !ok {
		flags |= 3 // no such name
	}
	reply := append([]byte{}, query[:2]...)
	for _, v := range []uint16{flags, 1, count, 0, 0} {
		reply = binary.BigEndian.AppendUint16(reply, v)
	}
	return append(append(reply, question...), answers...)
}

// closed is a caller with the rules on, but for one address: a server that
// stands for the public net.
func closed(t *testing.T, n dns, except string) *caller {
	t.Helper()
	d := newDialler(Config{})
	rules := d.strict.Control
	d.strict.Control = func(network, address string, conn syscall.RawConn) error {
		if address == except {
			return nil
		}
		return rules(network, address, conn)
	}
	d.strict.Resolver = n.resolver()
	c := &caller{config: Config{}.withDefaults(), client: newClient(d.dial)}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}
