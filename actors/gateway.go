package actors

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/troupe-run/troupe/runtime/task"
)

// PeerConfig says how a process speaks with others that share its store.
type PeerConfig struct {
	Listen    string // host:port; port 0 takes any
	Advertise string // host:port under which others reach it; Listen's if empty
	// TLS holds the node's certificate and, as RootCAs and ClientCAs, who may be a
	// node. Nil: the node makes a key of its own and puts its fingerprint into its
	// row, so that whoever may write there is a node.
	TLS *tls.Config
}

// Between two nodes. A batch of messages that grows beyond the size ends the
// connection, so batches are small and the size is not.
const (
	messageBytes = 64 << 20
	messageBatch = 50
	messageQueue = 1024
	aliveEvery   = 10 * time.Second
	aliveWithin  = 2 * time.Second
)

// Line carries messages between the nodes of a store. They may be lost.
type Line interface {
	// Peer is for the node's row: an address that Send takes, and behind a space
	// the key that the node proves itself with, if any.
	Peer() string
	// Attach gives the line to a node, for what others send and for who they are.
	Attach(deliver func(*anypb.Any), nodes func(context.Context) ([]task.Node, error))
	// Learn hears which nodes there are.
	Learn(nodes []task.Node)
	Send(address string, packed *anypb.Any)
}

// Gateway is the line of a server: where a process speaks with the others of its store, through all its
// lives. It is an actor system of its own, so that others reach this one actor of
// it and none of the node's; around the actor library's remote it puts what that
// lacks: TLS, and that a message it cannot digest costs the connection and not
// the process.
type Gateway struct {
	log    *slog.Logger
	system *actor.ActorSystem
	remote *remote.Remote
	peer   string // for the node's row
	node   atomic.Pointer[attached]

	mu   sync.Mutex
	keys map[string]bool // of the nodes that live, from their rows
}

var _ Line = (*Gateway)(nil)

// attached is the node that has the gateway.
type attached struct {
	deliver func(*anypb.Any)
	nodes   func(context.Context) ([]task.Node, error)
}

// gatewayName is what the actor is called that others reach.
const gatewayName = "peers"

// OpenGateway begins to listen for other nodes. Nobody is let in before a node is
// given the gateway in its [Config].
func OpenGateway(cfg PeerConfig, log *slog.Logger) (*Gateway, error) {
	host, portText, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for other nodes: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("listen for other nodes: port %q is no number", portText)
	}
	g := &Gateway{log: log, system: actor.NewActorSystem(
		// That a node cannot be reached is nothing to alarm anybody: it is told of
		// by its row.
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(murmur{log.Handler()}) }),
		actor.WithDeadLetterRequestLogging(false),
		actor.WithDeadLetterThrottleCount(0),
	)}
	var server, client *tls.Config
	key := ""
	if cfg.TLS != nil {
		server, client = byAuthority(cfg.TLS)
	} else if server, client, key, err = g.ownKey(); err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	g.remote = remote.NewRemote(g.system, remote.Configure(host, port,
		remote.WithAdvertisedHost(cfg.Advertise),
		remote.WithServerOptions(
			grpc.Creds(credentials.NewTLS(server)), grpc.MaxRecvMsgSize(messageBytes),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: aliveEvery, Timeout: aliveWithin}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: aliveEvery / 2, PermitWithoutStream: true}),
			grpc.ChainStreamInterceptor(g.survive),
		),
		remote.WithDialOptions(
			grpc.WithTransportCredentials(credentials.NewTLS(client)),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytes), grpc.MaxCallSendMsgSize(messageBytes)),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveEvery, Timeout: aliveWithin, PermitWithoutStream: true}),
		),
		remote.WithEndpointWriterBatchSize(messageBatch), remote.WithEndpointWriterQueueSize(messageQueue),
	))
	if err := begin(g.remote); err != nil {
		return nil, err
	}
	g.peer = strings.TrimSpace(g.system.Address() + " " + key)
	if _, err := g.system.Root.SpawnNamed(actor.PropsFromFunc(g.receive), gatewayName); err != nil {
		return nil, fmt.Errorf("listen for other nodes: %w", err)
	}
	return g, nil
}

// murmur takes whatever is said for a detail.
type murmur struct{ slog.Handler }

func (h murmur) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h murmur) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

func (h murmur) WithAttrs(attrs []slog.Attr) slog.Handler { return murmur{h.Handler.WithAttrs(attrs)} }

func (h murmur) WithGroup(name string) slog.Handler { return murmur{h.Handler.WithGroup(name)} }

// begin starts the library's server, which panics where it cannot listen.
func begin(r *remote.Remote) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("listen for other nodes: %v", p)
		}
	}()
	r.Start()
	return nil
}

// Close lets nobody in any more.
func (g *Gateway) Close() {
	g.remote.Shutdown(false)
	g.system.Shutdown()
}

// receive passes what others say on to the node.
func (g *Gateway) receive(ctx actor.Context) {
	if packed, ok := ctx.Message().(*anypb.Any); ok {
		if n := g.node.Load(); n != nil {
			n.deliver(packed)
		}
	}
}

// Peer implements [Line].
func (g *Gateway) Peer() string { return g.peer }

// Attach implements [Line].
func (g *Gateway) Attach(deliver func(*anypb.Any), nodes func(context.Context) ([]task.Node, error)) {
	g.node.Store(&attached{deliver, nodes})
}

// Send implements [Line].
func (g *Gateway) Send(address string, packed *anypb.Any) {
	g.system.Root.Send(actor.NewPID(address, gatewayName), packed)
}

// survive keeps a message that the library cannot digest from ending the process.
func (g *Gateway) survive(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("a message of another node could not be read", "panic", p)
			err = status.Error(codes.InvalidArgument, "unreadable")
		}
	}()
	return handler(srv, stream)
}

// splitPeer reads what a node's row says of where and who it is.
func splitPeer(peer string) (address, key string) {
	address, key, _ = strings.Cut(peer, " ")
	return address, key
}

// byAuthority is TLS where an authority says who is a node. Whatever host a
// certificate is for: nodes move, and the authority makes them for nodes only.
func byAuthority(given *tls.Config) (server, client *tls.Config) {
	server = given.Clone()
	server.ClientAuth, server.MinVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS13
	client = given.Clone()
	client.MinVersion = tls.VersionTLS13
	client.InsecureSkipVerify = true // of the host's name alone: the chain is verified below
	client.VerifyConnection = func(s tls.ConnectionState) error {
		between := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: given.RootCAs, Intermediates: between})
		return err
	}
	return server, client
}

// ownKey makes the node's key, and TLS with whoever has one that is in a row.
func (g *Gateway) ownKey() (server, client *tls.Config, fingerprint string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, "", err
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "troupe node"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), // it goes with the process
	}
	raw, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return nil, nil, "", err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, nil, "", err
	}
	base := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}},
		ClientAuth:   tls.RequireAnyClientCert,
		// No authority vouches for these certificates: the rows do.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection looks the key up
		VerifyConnection:   g.verify,
	}
	return base, base, keyOf(leaf), nil
}

func keyOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

var errStranger = errors.New("the other side is no node of this store")

// verify lets in who has a key that is in a node's row. One that is newer than
// our list is looked for in the store.
func (g *Gateway) verify(s tls.ConnectionState) error {
	n := g.node.Load()
	if len(s.PeerCertificates) == 0 || n == nil {
		return errStranger
	}
	key := keyOf(s.PeerCertificates[0])
	if g.knows(key) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	nodes, err := n.nodes(ctx)
	if err != nil {
		return fmt.Errorf("look for the other node: %w", err)
	}
	g.Learn(nodes)
	if !g.knows(key) {
		return errStranger
	}
	return nil
}

func (g *Gateway) knows(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keys[key]
}

// Learn implements [Line].
func (g *Gateway) Learn(nodes []task.Node) {
	keys := map[string]bool{}
	for _, n := range nodes {
		if _, key := splitPeer(n.Peer); key != "" && !n.Left {
			keys[key] = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = keys
}
