package actors

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/actors/wire"
	"github.com/troupe-run/troupe/runtime/task"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, form, form, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	return a
}

// node gives TLS for a node of the authority.
func (a *authority) node(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, form, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}},
	}
}

// shout sends one message to a gateway as another node would, or says why it
// cannot. It returns once the gateway has ended the connection.
func shout(t *testing.T, address string, as *tls.Config, typeName string, message []byte) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(as)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := remote.NewRemotingClient(conn).Receive(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: &remote.MessageBatch{
		TypeNames: []string{typeName}, Targets: []*actor.PID{{Address: address, Id: gatewayName}},
		Envelopes: []*remote.MessageEnvelope{{MessageData: message}},
	}}}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err // io.EOF where all is well
		}
	}
}

// TestGatewayLetsNodesInAndNobodyElse has one gateway for all its parts: the
// library sets a logger for all of gRPC with each.
func TestGatewayLetsNodesInAndNobodyElse(t *testing.T) {
	g, err := OpenGateway(PeerConfig{Listen: "127.0.0.1:0"}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	address, own := splitPeer(g.Peer())
	if len(own) != 64 {
		t.Fatalf("the row says %q", g.Peer())
	}
	packed, err := wire.Pack(1, 2, wire.Pulse{Follows: true})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(packed)
	if err != nil {
		t.Fatal(err)
	}
	const name = "google.protobuf.Any"
	friend := newAuthority(t).node(t)
	friend.InsecureSkipVerify = true
	leaf, err := x509.ParseCertificate(friend.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := shout(t, address, friend, name, raw); isEOF(err) {
		t.Error("it lets somebody in before there is a node")
	}
	heard := make(chan *anypb.Any, 10)
	var rows []task.Node
	var broken error
	g.Attach(func(m *anypb.Any) { heard <- m }, func(context.Context) ([]task.Node, error) { return rows, broken })
	rows = []task.Node{{Peer: "somewhere 1234"}, {Peer: "elsewhere " + keyOf(leaf), Left: true}}
	if err := shout(t, address, friend, name, raw); isEOF(err) {
		t.Error("it lets in who is no node any more")
	}
	broken = errors.New("no store")
	if err := shout(t, address, friend, name, raw); isEOF(err) {
		t.Error("it lets in who may be no node")
	}
	broken, rows[1].Left = nil, false
	if err := shout(t, address, friend, name, raw); !isEOF(err) {
		t.Errorf("it does not let a node in: %v", err)
	}
	from, to, m, err := wire.Unpack(<-heard)
	if err != nil || from != 1 || to != 2 || !reflect.DeepEqual(m, wire.Pulse{Follows: true}) {
		t.Errorf("heard %v from %d to %d: %v", m, from, to, err)
	}
	if err := shout(t, address, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}, name, raw); isEOF(err) {
		t.Error("it lets in who has no key")
	}
	// What the library cannot digest costs the connection, and not the process.
	if err := shout(t, address, friend, "troupe.Unheard", raw); isEOF(err) {
		t.Error("a message of no known type went through")
	}
	if err := shout(t, address, friend, name, raw); !isEOF(err) {
		t.Errorf("afterwards it does not let a node in: %v", err)
	}
	<-heard
	// A message to itself stays in the process.
	g.Send(address, packed)
	<-heard
}

func isEOF(err error) bool { return err != nil && err.Error() == "EOF" }

func TestAuthoritySaysWhoIsANode(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	server, client := byAuthority(ours.node(t))
	for name, c := range map[string]struct {
		server, client *tls.Config
		good           bool
	}{
		"two of ours":          {server, client, true},
		"a stranger comes":     {server, func() *tls.Config { _, c := byAuthority(theirs.node(t)); c.VerifyConnection = nil; return c }(), false},
		"a stranger is called": {func() *tls.Config { s, _ := byAuthority(theirs.node(t)); s.ClientAuth = tls.NoClientCert; return s }(), client, false},
		"nobody comes":         {server, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", c.server)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			accepted := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					err = conn.(*tls.Conn).HandshakeContext(t.Context())
					_ = conn.Close()
				}
				accepted <- err
			}()
			conn, err := tls.Dial("tcp", l.Addr().String(), c.client)
			if err == nil {
				_ = conn.Close()
			}
			if got := <-accepted == nil && err == nil; got != c.good {
				t.Errorf("the handshake: %v", err)
			}
		})
	}
}

func TestGatewayThatCannotListenSaysSo(t *testing.T) {
	for _, listen := range []string{"nowhere", "127.0.0.1:http", "203.0.113.1:1"} {
		if g, err := OpenGateway(PeerConfig{Listen: listen}, slog.New(slog.DiscardHandler)); err == nil {
			g.Close()
			t.Errorf("it listens on %s", listen)
		}
	}
}
