package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCertsMakesWhatNodesNeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	wantStatus(t, troupe(t, "", false, "", "cluster", "certs", "--dir", dir, "a", "b"), exitOK,
		"a: --cluster-ca "+dir+"/ca.pem --cluster-cert "+dir+"/a.pem")
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	// A third node later has the same authority; a second of a name is refused.
	wantStatus(t, troupe(t, "", false, "", "cluster", "certs", "--dir", dir, "c"), exitOK)
	if again, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(again) != string(ca) {
		t.Errorf("the authority changed: %v", err)
	}
	wantStatus(t, troupe(t, "", false, "", "cluster", "certs", "--dir", dir, "c"), exitFailed, "exists")
	for _, bad := range []string{"ca", "../x", "."} {
		wantStatus(t, troupe(t, "", false, "", "cluster", "certs", "--dir", dir, bad), exitUsage)
	}
	texts := func(node string) map[string]string {
		return map[string]string{
			"cluster-listen": "127.0.0.1:0", "cluster-ca": dir + "/ca.pem",
			"cluster-cert": dir + "/" + node + ".pem", "cluster-key": dir + "/" + node + "-key.pem",
		}
	}
	a, err := peersOf(texts("a"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := peersOf(texts("c"))
	if err != nil {
		t.Fatal(err)
	}
	server := a.TLS.Clone()
	server.ClientAuth = tls.RequireAndVerifyClientCert
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Write([]byte("!"))
			_ = conn.Close()
		}
	}()
	caller := c.TLS.Clone()
	caller.ServerName = "a"
	conn, err := tls.Dial("tcp", l.Addr().String(), caller)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("c is not let in by a: %v", err)
	}
	if info, err := os.Stat(dir + "/ca-key.pem"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the authority's key: %v %v", info, err)
	}
}

func TestWhatNodesCannotUseIsRefused(t *testing.T) {
	for says, texts := range map[string]map[string]string{
		"is no address":       {"cluster-listen": "here"},
		"--cluster-advertise": {"cluster-listen": "0.0.0.0:7070"},
		"cluster-advertise":   {"cluster-listen": "0.0.0.0:7070", "cluster-advertise": "here"},
		"belong together":     {"cluster-listen": "127.0.0.1:0", "cluster-ca": "x"},
		"no such file":        {"cluster-listen": "127.0.0.1:0", "cluster-ca": "x", "cluster-cert": "y", "cluster-key": "z"},
	} {
		if _, err := peersOf(texts); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", texts, err)
		}
	}
	wantStatus(t, troupe(t, "", false, "", "serve", "--store", "postgres://u:hidden@127.0.0.1:1/x", "--cluster-listen", "here", "--print-config"),
		exitUsage, "cluster-listen (from --cluster-listen)")
	c := &config{store: "postgres://u:hidden@db/x"}
	if place := c.place(); place != "postgres://db/x" {
		t.Error(place)
	}
	c.store = "postgres://u:hidden%zz@db/x"
	if place := c.place(); strings.Contains(place, "hidden") {
		t.Error(place)
	}
}
