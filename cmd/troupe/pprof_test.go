package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProfilesAreForThisMachine(t *testing.T) {
	t.Parallel()
	front := httptest.NewServer(profiles())
	defer front.Close()
	get := func(host, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, front.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		resp, err := front.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for path, want := range map[string]string{
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/goroutine?debug=1": "goroutine profile:",
		"/debug/pprof/profile?seconds=1": "",
		"/debug/pprof/trace?seconds=0.1": "go 1.",
	} {
		if status, body := get("", path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.40q", path, status, body)
		}
	}
	if status, _ := get("evil.example:6060", "/debug/pprof/"); status != http.StatusMisdirectedRequest {
		t.Errorf("another's name: %d", status)
	}

	for _, address := range []string{"0.0.0.0:6060", ":6060", "[::]:6060", "192.0.2.1:6060", "example.com:6060", "6060", "127.0.0.1"} {
		if _, err := readTest(t, nil, false, "--pprof", address); err == nil || !strings.Contains(err.Error(), "pprof") {
			t.Errorf("%s: %v", address, err)
		}
	}
	c, err := readTest(t, map[string]string{"TROUPE_PPROF": "127.0.0.1:0"}, false)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	stop, err := serveProfiles(t.Context(), c.pprof, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	taken := strings.TrimPrefix(front.URL, "http://")
	if _, err := serveProfiles(t.Context(), taken, log); err == nil {
		t.Errorf("%s was free", taken)
	}
}

func TestServeServesProfilesWhereTold(t *testing.T) {
	t.Parallel()
	serveIn(t, "--pprof", "127.0.0.1:0")
}
