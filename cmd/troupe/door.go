package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
)

// entry is what a node is told about who may come in.
type entry struct {
	issuers         []auth.Issuer
	cert, key, ca   string
	proxies         []string
	hosts, origins  []string
	credential, per task.Rate // requests of a credential, of an address
	openMetrics     bool
}

// readEntry checks the settings of it.
func (c *config) readEntry(refuse func(name, format string, args ...any)) {
	e, texts := &c.entry, c.texts
	list := func(name string) []string {
		return strings.FieldsFunc(texts[name], func(c rune) bool { return c == ',' })
	}
	if c.secret != "" && len(c.secret) < minSecret {
		refuse("secret", "must have at least %d characters", minSecret)
	}
	if path := texts["jwt"]; path != "" {
		raw, err := os.ReadFile(path) //nolint:gosec // the settings name it
		if err == nil {
			e.issuers, err = auth.ParseIssuers(raw)
		}
		if err != nil {
			refuse("jwt", "%s", err)
		}
	}
	if e.cert, e.key, e.ca = texts["tls-cert"], texts["tls-key"], texts["tls-client-ca"]; (e.cert == "") != (e.key == "") {
		refuse("tls-cert", "tls-cert and tls-key belong together")
	}
	if e.ca != "" && e.cert == "" {
		refuse("tls-client-ca", "needs tls-cert and tls-key")
	}
	e.proxies, e.hosts, e.origins = list("trusted-proxy"), list("host"), list("origin")
	for _, p := range e.proxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			refuse("trusted-proxy", "%q is no network such as 10.0.0.0/8", p)
		}
	}
	for _, o := range e.origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || o != u.Scheme+"://"+u.Host {
			refuse("origin", "%q is no origin such as https://app.example", o)
		}
	}
	for name, to := range map[string]*task.Rate{"credential-rate": &e.credential, "address-rate": &e.per} {
		var err error
		if *to, err = task.ParseRate(texts[name]); err != nil {
			refuse(name, `must be such as "100/s"`)
		}
	}
	if e.openMetrics = onLoopback(c.listen); texts["open-metrics"] != "auto" {
		open, err := strconv.ParseBool(texts["open-metrics"])
		if e.openMetrics = open; err != nil {
			refuse("open-metrics", "must be true, false or auto")
		}
	}
}

// onLoopback says whether only this machine can reach an address.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

const minSecret = 32

// openSecret is what all is signed with: what the settings say or, beside the
// embedded store, what a file in its directory says, which is made if it is not there.
func (c *config) openSecret() (auth.Secret, error) {
	text := c.secret
	if text == "" {
		if c.shared() {
			return auth.Secret{}, usage("nodes that share a store need the same --secret, to know each other's keys by; in a file: TROUPE_SECRET_FILE")
		}
		var err error
		if text, err = secretIn(c.store); err != nil {
			return auth.Secret{}, err
		}
	}
	return auth.NewSecret([]byte(text))
}

// shared says that the store is not this node's own.
func (c *config) shared() bool { return strings.HasPrefix(c.store, "postgres") }

// secretIn reads the secret in a directory, or makes it.
func secretIn(store string) (string, error) {
	dir := strings.TrimPrefix(store, "sqlite:")
	if dir == "memory:" {
		return rand.Text() + rand.Text(), nil
	}
	path := filepath.Join(dir, "secret")
	raw, err := os.ReadFile(path) //nolint:gosec // the settings name it
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecret(path)
	}
	text := strings.TrimSpace(string(raw))
	if err == nil && len(text) < minSecret {
		err = fmt.Errorf("%s is too short; without the one that was there, API keys are lost: delete it to begin anew", path)
	}
	return text, err
}

// makeSecret keeps a new one, whole or not at all, for the owner's eyes only.
func makeSecret(path string) (text string, err error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // it never fails
	text = hex.EncodeToString(raw)
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // with mode 0600
	if err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path) // fails where one has come meanwhile
	}
	err = errors.Join(err, os.Remove(f.Name()))
	if dir, openErr := os.Open(filepath.Dir(path)); openErr == nil { // a key that is known by it must not outlive it
		err = errors.Join(err, dir.Sync(), dir.Close())
	}
	if err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return text, nil
}

// accountsOf is where the store keeps keys.
func accountsOf(store task.Store) (access.Accounts, error) {
	accounts, ok := store.(access.Accounts)
	if !ok {
		return nil, errors.New("the store keeps no keys")
	}
	return accounts, nil
}

// doorway is the door with what belongs to it.
type doorway struct {
	door     *auth.Door
	accounts access.Accounts
	keyless  bool // no other node would know the keys that this one made
	rates    *auth.Limiter
	crowd    *auth.Crowd
	secret   auth.Secret
}

// openDoor makes the door of a node. Where others can reach the address, there must
// be somebody whom it lets in.
func openDoor(ctx context.Context, cfg *config, address string, log *slog.Logger, registry prometheus.Registerer, store task.Store, shared auth.Shared) (*doorway, error) {
	accounts, err := accountsOf(store)
	if err != nil {
		return nil, err
	}
	w := &doorway{accounts: accounts, crowd: &auth.Crowd{}}
	if w.keyless = cfg.secret == "" && cfg.shared(); w.keyless {
		w.secret, err = auth.NewSecret([]byte(rand.Text()))
	} else {
		w.secret, err = cfg.openSecret()
	}
	if err != nil {
		return nil, err
	}
	open, err := admits(ctx, cfg, address, accounts)
	if err != nil {
		return nil, err
	}
	if w.keyless && !open && len(cfg.entry.issuers) == 0 {
		return nil, usage("there are API keys in the store, and none would be known here: give the node the --secret that the others have; in a file: TROUPE_SECRET_FILE")
	}
	w.door, err = auth.New(auth.Config{ //nolint:contextcheck // what it starts is started by Run
		Log: log, Registerer: registry, Secret: w.secret, Accounts: accounts, JWT: cfg.entry.issuers, Open: open,
		Address: func(r *http.Request) netip.Addr { return middleware.GetClientIPAddr(r.Context()) },
	})
	if err != nil {
		return nil, err
	}
	if e := cfg.entry; e.credential.Count > 0 || e.per.Count > 0 {
		w.rates, err = auth.NewLimiter(auth.LimiterConfig{Registerer: registry, Credential: quota(e.credential), Address: quota(e.per), Shared: shared})
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// quota is a rate as the limiter takes it: so many requests in a time, also at once.
func quota(r task.Rate) auth.Quota { return auth.Quota{Requests: r.Count, Window: r.Per} }

// admits says whether everybody is let in, and refuses to where others than this
// machine could be. There must be somebody then who can come in.
func admits(ctx context.Context, cfg *config, address string, accounts access.Accounts) (open bool, err error) {
	if len(cfg.entry.issuers) > 0 {
		return false, nil
	}
	if onLoopback(address) {
		guarded, err := auth.Guarded(ctx, accounts)
		return !guarded, err
	}
	peopled, err := auth.Peopled(ctx, accounts, time.Now())
	if err == nil && !peopled {
		err = usage(`%s can be reached by others, and there are no credentials. Make the first key:
  troupe keys create --local%s --name admin --scope admin
or listen on loopback, such as 127.0.0.1:8080`, address, cfg.whereFlags())
	}
	return false, err
}

// whereFlags name the store as the settings do, without a password.
func (c *config) whereFlags() string {
	if c.shared() {
		return " --store …"
	}
	if c.data != "troupe-data" {
		return " --data " + c.data
	}
	return ""
}

// openTLS is how the server speaks TLS; nil: not. The files are looked at again
// every so often, so that a certificate is renewed without a restart.
func (e entry) openTLS(log *slog.Logger) (*tls.Config, error) {
	if e.cert == "" {
		return nil, nil
	}
	files := &certificate{entry: e, log: log}
	if _, err := files.get(nil); err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get, NextProtos: []string{"h2", "http/1.1"}}
	if e.ca != "" {
		raw, err := os.ReadFile(e.ca)
		if err != nil {
			return nil, usage("tls-client-ca: %v", err)
		}
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(raw) {
			return nil, usage("tls-client-ca: %s has no certificate", e.ca)
		}
	}
	return config, nil
}

// certificate is read from files, and read again when they have changed.
type certificate struct {
	entry
	log *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	looked time.Time
	seen   [2]time.Time // when the files were changed that it was read from
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil && time.Since(c.looked) < lookAgain {
		return c.loaded, nil
	}
	c.looked = time.Now()
	var changed [2]time.Time
	for i, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			changed[i] = info.ModTime()
		}
	}
	if c.loaded != nil && changed == c.seen {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	switch {
	case err == nil:
		c.loaded, c.seen = &pair, changed
	case c.loaded == nil:
		return nil, usage("tls-cert: %v", err)
	default: // such as between the writing of one file and of the other
		c.log.Warn("cannot read the certificate again; the one there is goes on", "error", err)
	}
	return c.loaded, nil
}

// lookAgain is how often the files are looked at.
const lookAgain = 10 * time.Second

// url is how a person on this machine reaches the node.
func (e entry) url(listening net.Addr) string {
	address := listening.String()
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsUnspecified() {
		address = "localhost:" + strconv.Itoa(int(at.Port()))
	}
	if e.cert != "" {
		return "https://" + address
	}
	return "http://" + address
}
