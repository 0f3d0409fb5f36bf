package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/troupe-run/troupe/transport/client"
	"github.com/troupe-run/troupe/transport/ws"
)

// everywhere is an address that others can reach.
const everywhere = "0.0.0.0:0"

func TestNobodyIsServedWhereOthersComeAndNoKeyIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve := func(args ...string) outcome {
		return troupe(t, "", false, "", append([]string{"serve", "--data", dir, "--listen", everywhere}, args...)...)
	}
	wantStatus(t, serve(), exitUsage, "no credentials", "troupe keys create --local --data "+dir)
	first := troupe(t, "", false, "", "keys", "create", "--local", "--data", dir, "--name", "first", "--scope", "admin", "--expires-in", "1h")
	wantStatus(t, first, 0)
	server := serveAt(t, "", http.DefaultClient, "--data", dir, "--listen", everywhere)
	if status := statusOf(t, server+"/v1/tasks", ""); status != http.StatusUnauthorized {
		t.Errorf("nobody gets %d", status)
	}
	if status := statusOf(t, server+"/metrics", ""); status != http.StatusUnauthorized {
		t.Errorf("nobody gets metrics: %d", status)
	}
	key := strings.TrimSpace(first.out)
	for _, path := range []string{"/v1/tasks", "/metrics"} {
		if status := statusOf(t, server+path, key); status != http.StatusOK {
			t.Errorf("the first key gets %d of %s", status, path)
		}
	}
	if status := statusOf(t, server+"/readyz", ""); status != http.StatusOK {
		t.Errorf("a probe gets %d", status)
	}
}

func statusOf(t *testing.T, url, key string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// A server on loopback is open until there is a key that may make others; then it is
// closed, also after a restart, and the door does not open again by revoking it.
func TestTheFirstAdminKeyClosesTheDoor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	do := func(server string, args ...string) outcome { return troupe(t, server, false, "", args...) }
	v := newVictim(t, buildTroupe(t), "--data", dir)
	server := "http://" + v.address
	serve := func() {
		t.Helper()
		v.start(t)
		await(t.Context(), t, "the server", func() bool { return newClient(t, server, "").Ready(t.Context()) == nil })
	}
	serve()
	wantStatus(t, do(server, "keys", "create", "--name", "reader", "--scope", "tasks:read"), 0)
	wantStatus(t, do(server, "ls"), 0)
	made := do(server, "keys", "create", "--name", "admin", "--scope", "admin")
	wantStatus(t, made, 0)
	key := strings.TrimSpace(made.out)
	wantStatus(t, do(server, "ls"), 1, "credential")
	wantStatus(t, do(server, "keys", "--key", key), 0, "reader", "admin", key[:8])
	wantStatus(t, do(server, "audit", "--key", key), 0, "key.create", "open")
	if listed := do(server, "keys", "--key", key, "--json"); strings.Contains(listed.out, key) {
		t.Error("the list shows the key")
	}
	c, err := client.New(server, client.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	me, err := c.Me(t.Context())
	if err != nil || me.Namespace != "default" || me.Open {
		t.Errorf("%+v, %v", me, err)
	}
	keys, err := c.Keys(t.Context(), nil)
	if err != nil || len(keys.Keys) != 2 {
		t.Fatalf("%+v, %v", keys, err)
	}
	rotated := do(server, "keys", "rotate", keys.Keys[0].ID, "--overlap", "0s", "--key", key)
	wantStatus(t, rotated, 0)
	next := strings.TrimSpace(rotated.out)
	await(t.Context(), t, "the old key goes on", func() bool { return statusOf(t, server+"/v1/tasks", key) == http.StatusUnauthorized })
	me, err = newClient(t, server, next).Me(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, do(server, "keys", "revoke", strings.TrimPrefix(me.Actor, "key:"), "--key", next), 0, "revoked")
	v.kill()
	serve()
	if status := statusOf(t, server+"/v1/tasks", ""); status != http.StatusUnauthorized {
		t.Errorf("revoking the last key opened the door: %d", status)
	}
}

func newClient(t *testing.T, server, key string) *client.Client {
	t.Helper()
	c, err := client.New(server, client.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSecretIsMadeOnceAndForItsOwner(t *testing.T) {
	dir := t.TempDir()
	first, err := secretIn(dir)
	if err != nil || len(first) < minSecret {
		t.Fatalf("%d characters, %v", len(first), err)
	}
	again, err := secretIn("sqlite:" + dir)
	if err != nil || again != first {
		t.Errorf("another one, %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "secret"))
	if err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secretIn(dir); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("a short one: %v", err)
	}
	if _, err := secretIn(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("made where there is no directory")
	}
}

func TestTheServerSpeaksTLS(t *testing.T) {
	t.Parallel()
	dir, certs := t.TempDir(), t.TempDir()
	certificates(t, certs, "one")
	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "one", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	address := ownAddress(t)
	server := serveAt(t, "https://"+address, https, "--listen", address, "--data", dir, "--tls-cert", certs+"/one.pem", "--tls-key", certs+"/one-key.pem")
	resp, err := https.Get(server + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d by %s with %v", resp.StatusCode, resp.Proto, resp.Header)
	}
	if resp, err := http.Get("http://" + address + "/readyz"); err == nil {
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("it speaks without TLS too")
		}
	}
}

func TestACertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	dir := t.TempDir()
	certificates(t, dir, "one")
	certificates(t, dir, "two")
	move := func(from string) {
		for _, end := range []string{".pem", "-key.pem"} {
			raw, err := os.ReadFile(filepath.Join(dir, from+end))
			if err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(dir, "used"+end)
			if err := os.WriteFile(at, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	move("one")
	synctest.Test(t, func(t *testing.T) {
		files := &certificate{entry: entry{cert: dir + "/used.pem", key: dir + "/used-key.pem"}, log: slog.New(slog.DiscardHandler)}
		get := func() string {
			c, err := files.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Leaf.SerialNumber.String()
		}
		one := get()
		move("two")
		touch(t, dir, time.Now())
		time.Sleep(lookAgain)
		two := get()
		if one == two {
			t.Error("the old one goes on")
		}
		if err := os.WriteFile(dir+"/used.pem", []byte("half a certificate"), 0o600); err != nil {
			t.Fatal(err)
		}
		touch(t, dir, time.Now().Add(time.Hour))
		time.Sleep(lookAgain)
		if get() != two {
			t.Error("what cannot be read took the place of what was good")
		}
	})
}

// certificates makes some, and an authority of their own.
func certificates(t *testing.T, dir string, names ...string) {
	t.Helper()
	wantStatus(t, troupe(t, "", false, "", append([]string{"cluster", "certs", "--dir", dir}, names...)...), 0)
}

func touch(t *testing.T, dir string, at time.Time) {
	t.Helper()
	for _, name := range []string{"/used.pem", "/used-key.pem"} {
		if err := os.Chtimes(dir+name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadSettingsOfTheEntry(t *testing.T) {
	for want, args := range map[string][]string{
		"secret":        {"--secret", "short"},
		"jwt":           {"--jwt", "/nowhere"},
		"tls-cert":      {"--tls-cert", "x"},
		"tls-client-ca": {"--tls-client-ca", "x"},
		"trusted-proxy": {"--trusted-proxy", "10.0.0.1"},
		"origin":        {"--origin", "https://app.example/path"},
		"address-rate":  {"--address-rate", "many"},
		"open-metrics":  {"--open-metrics=perhaps"},
	} {
		wantStatus(t, troupe(t, "", false, "", append([]string{"serve", "--print-config"}, args...)...), exitUsage, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := (entry{cert: "nowhere", key: "nowhere"}).openTLS(nil); err == nil || ctx.Err() != nil {
		t.Error("there is no such certificate")
	}
}

func TestANodeSaysWhereAPersonReachesIt(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", "[::]:81": "http://localhost:81", "0.0.0.0:82": "http://localhost:82",
	} {
		at, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := (entry{}).url(at); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Where workers have to show a certificate, a key alone makes nobody a worker; others
// need none.
func TestWorkersShowACertificate(t *testing.T) {
	t.Parallel()
	dir, certs := t.TempDir(), t.TempDir()
	certificates(t, certs, "node", "worker")
	first := troupe(t, "", false, "", "keys", "create", "--local", "--data", dir, "--name", "first", "--scope", "admin")
	wantStatus(t, first, 0)
	key := strings.TrimSpace(first.out)
	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	trusting := &tls.Config{RootCAs: pool, ServerName: "node", MinVersion: tls.VersionTLS12}
	address := ownAddress(t)
	serveAt(t, "https://"+address, &http.Client{Transport: &http.Transport{TLSClientConfig: trusting}}, "--listen", address, "--data", dir,
		"--tls-cert", certs+"/node.pem", "--tls-key", certs+"/node-key.pem", "--tls-client-ca", certs+"/ca.pem")
	open := func(path, subprotocol string, with *tls.Config) (said string, code int) {
		t.Helper()
		d := websocket.Dialer{Subprotocols: []string{subprotocol}, TLSClientConfig: with}
		c, resp, err := d.DialContext(t.Context(), "wss://"+address+path, http.Header{"Authorization": {"Bearer " + key}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer resp.Body.Close()
		_, raw, err := c.ReadMessage()
		if end, ok := errors.AsType[*websocket.CloseError](err); ok {
			return "", end.Code
		}
		return string(raw), 0
	}
	if said, code := open("/v1/worker", ws.WorkerSubprotocol, trusting); code != 4403 {
		t.Errorf("without a certificate: %q, %d", said, code)
	}
	if said, code := open("/v1/ws", ws.Subprotocol, trusting); !strings.Contains(said, "hello") {
		t.Errorf("a watcher without one: %q, %d", said, code)
	}
	pair, err := tls.LoadX509KeyPair(certs+"/worker.pem", certs+"/worker-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	certified := trusting.Clone()
	certified.Certificates = []tls.Certificate{pair}
	if said, code := open("/v1/worker", ws.WorkerSubprotocol, certified); !strings.Contains(said, "hello") {
		t.Errorf("with one: %q, %d", said, code)
	}
}

// A node that has no secret makes no keys, and does not start where none of those
// there are would open anything. Namespaces and the audit log it has all the same.
func TestANodeOfASharedStoreNeedsTheSecretForKeys(t *testing.T) {
	t.Parallel()
	url := database(t)
	nodeHere(t)
	server := serveIn(t, "--store", url, "--lease", noDeath)
	wantStatus(t, troupe(t, server, false, "", "namespaces", "set", "acme", "--max-running", "3"), 0, `"max_running":3`)
	wantStatus(t, troupe(t, server, false, "", "audit"), 0, "namespace.change")
	wantStatus(t, troupe(t, server, false, "", "keys", "create", "--name", "k"), 1, "no such path")
	secret := strings.Repeat("s", minSecret)
	wantStatus(t, troupe(t, "", false, "", "keys", "create", "--local", "--store", url, "--secret", secret, "--name", "k", "--scope", "admin"), 0)
	wantStatus(t, troupe(t, "", false, "", "serve", "--store", url, "--listen", "127.0.0.1:0"), exitUsage, "--secret")
}
