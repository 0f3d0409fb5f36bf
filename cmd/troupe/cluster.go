package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/runtime"
)

// peersOf reads how the node speaks with others.
func peersOf(texts map[string]string) (*runtime.Peers, error) {
	p := &runtime.Peers{Listen: texts["cluster-listen"], Advertise: texts["cluster-advertise"]}
	host, _, err := net.SplitHostPort(p.Listen)
	if err != nil {
		return nil, fmt.Errorf("%q is no address such as 10.0.0.1:7070", p.Listen)
	}
	if ip := net.ParseIP(host); p.Advertise == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		return nil, errors.New("it listens everywhere: name the address for others with --cluster-advertise")
	}
	if p.Advertise != "" {
		if _, _, err := net.SplitHostPort(p.Advertise); err != nil {
			return nil, fmt.Errorf("cluster-advertise %q is no address such as 10.0.0.1:7070", p.Advertise)
		}
	}
	ca, cert, key := texts["cluster-ca"], texts["cluster-cert"], texts["cluster-key"]
	if ca == "" && cert == "" && key == "" {
		return p, nil
	}
	if ca == "" || cert == "" || key == "" {
		return nil, errors.New("cluster-ca, cluster-cert and cluster-key belong together; troupe cluster certs makes them")
	}
	authority, err := os.ReadFile(ca) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	own, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", cert, key, err)
	}
	p.TLS = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ClientCAs: pool, Certificates: []tls.Certificate{own}}
	return p, nil
}

func clusterCommand(t terminal) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Set up several nodes over one PostgreSQL", Args: exactly(0, "a command: certs")}
	cmd.AddCommand(certsCommand(t))
	return cmd
}

// How long what certs makes is valid.
const (
	authorityYears = 10
	nodeYears      = 2
)

func certsCommand(t terminal) *cobra.Command {
	dir := "troupe-certs"
	cmd := &cobra.Command{
		Use:   "certs NODE…",
		Short: "Make a small authority and a certificate for each node",
		Long: `Make a small authority and a certificate for each node.

Nodes need none of this: unless told otherwise, each makes a key of its own and
trusts those that stand in the rows of the nodes, so whoever may write into the
database may be a node. With an authority, only who has a certificate of it.

Writes DIR/ca.pem and DIR/ca-key.pem, unless they are there, and DIR/NODE.pem and
DIR/NODE-key.pem for each node. A node needs ca.pem and its own two files; keep
ca-key.pem where no node is.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, nodes []string) error {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			authority, key, err := loadAuthority(dir)
			if err != nil {
				return err
			}
			for _, node := range nodes {
				if filepath.Base(node) != node || node == "ca" || node == "." || node == ".." {
					return usage("%q is no name for a node's files", node)
				}
				if err := makeCert(dir, node, authority, key); err != nil {
					return err
				}
				fmt.Fprintf(t.out, "%s: --cluster-ca %s --cluster-cert %s --cluster-key %s\n", node,
					filepath.Join(dir, "ca.pem"), filepath.Join(dir, node+".pem"), filepath.Join(dir, node+"-key.pem"))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dir, "where the files are")
	return cmd
}

// loadAuthority reads the authority in a directory, or makes one.
func loadAuthority(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"))
	if err == nil {
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return nil, nil, fmt.Errorf("%s holds a key of another kind than ours", filepath.Join(dir, "ca-key.pem"))
		}
		return pair.Leaf, key, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the authority: %w", err)
	}
	form := template("troupe authority", authorityYears)
	form.IsCA, form.BasicConstraintsValid, form.MaxPathLenZero = true, true, true
	form.KeyUsage = x509.KeyUsageCertSign
	return sign(dir, "ca", form, nil, nil)
}

func makeCert(dir, node string, authority *x509.Certificate, key *ecdsa.PrivateKey) error {
	form := template(node, nodeYears)
	form.KeyUsage = x509.KeyUsageDigitalSignature
	form.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	form.DNSNames = []string{node}
	_, _, err := sign(dir, node, form, authority, key)
	return err
}

func template(name string, years int) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(years, 0, 0),
	}
}

// sign makes a key and a certificate, by an authority or, without one, by
// itself, and writes both. Files that are there are not written over.
func sign(dir, name string, form, by *x509.Certificate, with *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if by == nil {
		by, with = form, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, form, by, &key.PublicKey, with)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	for suffix, block := range map[string]*pem.Block{
		"-key.pem": {Type: "PRIVATE KEY", Bytes: secret}, ".pem": {Type: "CERTIFICATE", Bytes: raw},
	} {
		f, err := os.OpenFile(filepath.Join(dir, name+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator names it
		if err != nil {
			return nil, nil, err
		}
		if err := errors.Join(pem.Encode(f, block), f.Close()); err != nil {
			return nil, nil, err
		}
	}
	made, err := x509.ParseCertificate(raw)
	return made, key, err
}
