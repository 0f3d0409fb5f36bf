package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/persistence/redis/redistest"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// serveUnder is serve in this process, with an environment and whatever it says. stop
// ends it.
func serveUnder(t *testing.T, env map[string]string, args ...string) (server string, said *tty, stop func()) {
	t.Helper()
	address := ownAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	said = &tty{}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--listen", address, "--drain-timeout", "2s"}, args...), terminal{
			in: strings.NewReader(""), out: said, err: said, width: func() int { return 80 },
			env: func(name string) string { return env[name] },
		})
		close(ended)
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	server = "http://" + address
	c, err := client.New(server, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !comes(ctx, func() bool { return c.Ready(ctx) == nil }) {
		t.Fatalf("a server that does not come up: %s", said.String())
	}
	return server, said, stop
}

// TestNoSecretComesToLight puts secrets wherever the server takes one, has things go
// well and badly, and looks for them in all that it says and keeps.
func TestNoSecretComesToLight(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-7c41f0"
	key := base64.StdEncoding.EncodeToString([]byte(canary + strings.Repeat("k", 32-len(canary))))
	db, beside := pgtest.New(t), redistest.New(t, "--requirepass", canary)
	env := map[string]string{
		"TROUPE_STORE":           strings.Replace(db.Database(t), "troupe@", "troupe:"+canary+"@", 1),
		"TROUPE_REDIS":           beside.URL(":" + canary),
		"TROUPE_ENCRYPTION_KEYS": "2026 " + key,
	}
	nodeHere(t)
	server, said, stop := serveUnder(t, env, "--log-level", "debug", "--log-format", "json", "--redact", "$..token", "--lease", noDeath)
	say := `{"say":"` + canary + `"}`
	wantStatus(t, troupe(t, server, false, "", "submit", "demo.echo", say, "--cache", "1h", "--wait"), exitOK, canary)
	wantStatus(t, troupe(t, server, false, "", "submit", "demo.echo", say, "--cache", "1h", "--wait"), exitOK, canary)
	for _, bad := range [][2]string{
		{"demo.panic", `{"message":"` + canary + `"}`},
		{"demo.flaky", `{"` + canary + `":1}`},
		{"http", `{"url":"http://127.0.0.1:1/` + canary + `","headers":{"authorization":"` + canary + `"}}`},
	} {
		if got := troupe(t, server, false, "", "submit", bad[0], bad[1], "--max-attempts", "1", "--wait"); got.status != exitFailed {
			t.Errorf("%v: %+v", bad, got)
		}
	}
	for _, body := range []string{`{"kind":"` + canary + ` !","payload":1}`, `{"kind":"demo.echo","` + canary, `{"` + canary + `":1}`} {
		resp, err := http.Post(server+"/v1/tasks", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	metrics := fetch(t, server+"/metrics")
	awaitKept(t, beside, canary)
	keys := beside.Do(t, "-a", canary, "--no-auth-warning", "KEYS", "*")
	for name := range strings.Lines(keys) {
		keys += beside.Do(t, "-a", canary, "--no-auth-warning", "--raw", "DUMP", strings.TrimSpace(name))
	}
	dir := t.TempDir()
	db.Shell(t, dir, env["TROUPE_STORE"], `pg_dump "$TROUPE_STORE" > dump`)
	dump, err := os.ReadFile(filepath.Join(dir, "dump"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(dump), hex.EncodeToString([]byte("trp1:2026:"))) || !strings.Contains(metrics, "troupe_") {
		t.Error("what was looked at is not what the server keeps")
	}

	// And when all is gone, and it complains.
	beside.Kill()
	db.Kill()
	for range 2 {
		_ = troupe(t, server, false, "", "submit", "demo.echo", say)
	}
	stop()
	for where, text := range map[string]string{"log": said.String(), "metrics": metrics, "Redis": keys, "database": string(dump)} {
		for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), key, key[:12]} {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s: …%s…", where, text[max(0, at-200):min(len(text), at+100)])
			}
		}
	}
}

// awaitKept waits for a result in Redis, which comes a moment after its task has ended.
func awaitKept(t *testing.T, beside *redistest.Server, password string) {
	t.Helper()
	await(t.Context(), t, "a result in Redis", func() bool {
		return strings.Contains(beside.Do(t, "-a", password, "--no-auth-warning", "KEYS", "*"), "result")
	})
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestWhatIsWrongWithASecretDoesNotShowIt starts servers that cannot start.
func TestWhatIsWrongWithASecretDoesNotShowIt(t *testing.T) {
	t.Parallel()
	const canary = "CANARY7c41f0"
	for name, env := range map[string]map[string]string{
		"no such store":       {"TROUPE_STORE": "mysql://user:" + canary + "@host/db"},
		"a port that is none": {"TROUPE_STORE": "postgres://user:" + canary + "@host:port/db"},
		"a password with a /": {"TROUPE_STORE": "postgres://user:a/" + canary + "@host/db"},
		"settings of it":      {"TROUPE_STORE": "postgres://host/db?sslmode=odd&password=" + canary},
		"Redis":               {"TROUPE_STORE": database(t), "TROUPE_REDIS": "redis://:" + canary + "@host:port"},
		"Redis alone":         {"TROUPE_REDIS": "redis://:" + canary + "@host:1"},
		"a key":               {"TROUPE_ENCRYPTION_KEYS": "2026 " + canary},
		"a key without name":  {"TROUPE_ENCRYPTION_KEYS": canary},
	} {
		for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--log-level", "debug"}, {"serve", "--print-config"}} {
			var said tty
			ctx, cancel := within(t)
			status := run(ctx, args, terminal{
				in: strings.NewReader(""), out: &said, err: &said, width: func() int { return 80 }, env: func(name string) string { return env[name] },
			})
			cancel()
			if len(args) > 2 && status == exitOK {
				t.Errorf("%s: it started", name)
			}
			if strings.Contains(said.String(), canary) {
				t.Errorf("%s: %s", name, said.String())
			}
		}
	}
}

// TestRedactedIsNowhere has a task say what a path names.
func TestRedactedIsNowhere(t *testing.T) {
	t.Parallel()
	server := serveIn(t, "--redact", "$.data,$..secret", "--redact", "$.more")
	got := troupe(t, server, false, "", "submit", "demo.stream", `{"chunks":2,"size":20}`, "--follow")
	wantStatus(t, got, exitOK, `"data":"[redacted]"`, `"i":1`)
}

func TestEncryptionSettings(t *testing.T) {
	const one, two = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "6162636465666768696a6b6c6d6e6f707172737475767778797a616263646566"
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# ours\n2026 "+one+"\n2025 "+two+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, env := range []map[string]string{
		{"TROUPE_ENCRYPTION_KEYS_FILE": file},
		{"TROUPE_ENCRYPTION_KEYS": "2026 " + one + ",2025 " + two},
	} {
		c, err := readTest(t, env, false, "--encryption-strict")
		if err != nil || strings.Join(c.keys.Names(), " ") != "2026 2025" || !c.strict {
			t.Fatalf("%+v, %v", c, err)
		}
		var out tty
		if err := c.print(&out); err != nil {
			t.Fatal(err)
		}
		if said := out.String(); strings.Contains(said, one) || strings.Contains(said, two) || !strings.Contains(said, `"2026,2025"`) {
			t.Error(said)
		}
	}
	for _, args := range [][]string{{"--encryption-strict"}, {"--encryption-keys", "x"}, {"--redact", "password"}} {
		if _, err := readTest(t, nil, false, args...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

// TestATaskWaitsForItsKey stops a server under a task that waits, and starts it without
// the key, with another, and with both.
func TestATaskWaitsForItsKey(t *testing.T) {
	t.Parallel()
	const one, two = "2025 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "2026 YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
	dir := t.TempDir()
	start := func(keys string) (server string, said *tty, stop func()) {
		return serveUnder(t, map[string]string{"TROUPE_ENCRYPTION_KEYS": keys}, "--data", dir)
	}
	server, _, stop := start(one)
	wantStatus(t, troupe(t, server, false, "", "queues", "pause", "default"), exitOK)
	submitted := troupe(t, server, false, "", "submit", "demo.echo", `{"a":1.50}`)
	wantStatus(t, submitted, exitOK)
	id := strings.TrimSpace(submitted.out)
	stop()
	for _, keys := range []string{"", two} {
		server, said, stop := start(keys)
		wantStatus(t, troupe(t, server, false, "", "queues", "resume", "default"), exitOK)
		await(t.Context(), t, "a word on the key in the log", func() bool {
			return strings.Contains(said.String(), id) && strings.Contains(said.String(), "key 2025")
		})
		// Others are not held up.
		wantStatus(t, troupe(t, server, false, "", "submit", "demo.echo", `"another"`, "--wait"), exitOK, "another")
		stop()
	}
	server, _, _ = start(two + "," + one)
	ctx, cancel := within(t)
	defer cancel()
	c, err := client.New(server, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "the task", func() bool {
		v, err := c.Get(ctx, id)
		return err == nil && v.State.Terminal() && string(v.Result) == `{"a":1.50}` && v.Attempt == 1
	})
}

// TestNoCredentialComesToLight shows good credentials and bad ones wherever one may be
// shown, and looks for them in all that the server says and keeps.
func TestNoCredentialComesToLight(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-7c41f0-"
	dir, secret := t.TempDir(), canary+strings.Repeat("s", 32)
	first := troupe(t, "", false, "", "keys", "create", "--local", "--data", dir, "--secret", secret, "--name", "first", "--scope", "admin")
	wantStatus(t, first, exitOK)
	key := strings.TrimSpace(first.out)
	hmac := filepath.Join(t.TempDir(), "hmac.json")
	if err := os.WriteFile(hmac, []byte(`{"keys":[{"kty":"oct","kid":"one","alg":"HS256","k":"`+
		base64.RawURLEncoding.EncodeToString([]byte(canary+strings.Repeat("j", 32)))+`"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	issuers := filepath.Join(t.TempDir(), "issuers.yaml")
	if err := os.WriteFile(issuers, []byte("- issuer: https://id.example\n  audience: troupe\n  keys_file: "+hmac+"\n  algorithms: [HS256]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TROUPE_SECRET": secret, "TROUPE_SQL_SOURCE": "away=postgres://u:" + canary + "@127.0.0.1:1/db"}
	server, said, stop := serveUnder(t, env, "--data", dir, "--log-level", "debug", "--log-format", "json", "--jwt", issuers, "--open-metrics")
	c := newClient(t, server, key)
	made, err := c.CreateKey(t.Context(), transport.KeyBody{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := c.Ticket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, troupe(t, server, false, "", "submit", "sql", `{"source":"away","query":"SELECT 1"}`, "--max-attempts", "1", "--wait", "--key", key), exitFailed)
	for _, shown := range []string{
		key, made.Secret, key + canary, "trp_" + canary, canary, "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ." + canary,
	} {
		_ = statusOf(t, server+"/v1/tasks", shown)
		_ = statusOf(t, server+"/v1/tasks?ticket="+canary, shown)
		_ = statusOf(t, server+"/v1/ws?ticket="+canary, "")
	}
	_ = statusOf(t, server+"/v1/ws?ticket="+ticket.Ticket, "")
	metrics := fetch(t, server+"/metrics")
	var answers strings.Builder
	for _, path := range []string{"/v1/keys", "/v1/audit", "/v1/tasks", "/v1/me", "/v1/kinds", "/v1/nodes", "/v1/workers"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
		}
		answers.Write(raw)
	}
	stop()
	places := map[string]string{"log": said.String(), "metrics": metrics, "answers": answers.String()}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		places[filepath.Base(name)] = string(raw)
	}
	for where, text := range places {
		for _, form := range []string{canary, key, key[12:], made.Secret[12:], ticket.Ticket, hex.EncodeToString([]byte(key[12:]))} {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s: …%s…", where, text[max(0, at-200):min(len(text), at+100)])
			}
		}
	}
}
