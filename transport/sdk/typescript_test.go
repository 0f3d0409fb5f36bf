package sdk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the TypeScript client's types anew from the server's OpenAPI document")

// typescript is the folder of the TypeScript client.
const typescript = "typescript"

// node is a command in that folder.
func node(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = typescript
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "NO_UPDATE_NOTIFIER=1")
	ownGroup(cmd)
	return cmd
}

// installed has in node_modules what the lock file names.
var installed = sync.OnceValue(func() error {
	lock, err := os.ReadFile(filepath.Join(typescript, "package-lock.json"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(lock)
	want, stamp := hex.EncodeToString(sum[:]), filepath.Join(typescript, "node_modules", ".lock-sha256")
	if has, err := os.ReadFile(stamp); err == nil && string(has) == want {
		return nil
	}
	cache, err := filepath.Abs("../../.cache/npm")
	if err != nil {
		return err
	}
	// Of a package's own scripts nothing here has need.
	cmd := node(context.Background(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--cache", cache)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.WriteFile(stamp, []byte(want), 0o600)
})

// compiled is the client and its tests in JavaScript.
var compiled = sync.OnceValue(func() error {
	if err := installed(); err != nil {
		return err
	}
	// What an earlier version left must not be taken for this one's.
	for _, folder := range []string{"dist", "build"} {
		if err := os.RemoveAll(filepath.Join(typescript, folder)); err != nil {
			return err
		}
	}
	cmd := node(context.Background(), "node", "node_modules/typescript/bin/tsc", "-b", "test")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile: %w\n%s", err, out)
	}
	return nil
})

func TestTypeScriptInNode(t *testing.T) {
	t.Parallel()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	s, control := serve(t)
	cmd := node(t.Context(), "node", "--test-reporter=./test/reporter.mjs", "build/node.test.js")
	cmd.Env = append(cmd.Env, append(s.env(), "TROUPE_TEST_CONTROL="+control)...)
	judge(t, cmd)
}

func TestTypeScriptReadme(t *testing.T) {
	t.Parallel()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t)
	// Beside the compiled tests it finds the package under its own name.
	writeExample(t, "typescript/README.md", "js", 0, "typescript/build/example.mjs")
	cmd := node(t.Context(), "node", "build/example.mjs")
	cmd.Env = append(cmd.Env, s.env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantFollowed(t, string(out))
}

func TestTypeScriptReadmeWorker(t *testing.T) {
	t.Parallel()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t)
	writeExample(t, "typescript/README.md", "js", 1, "typescript/build/greet.mjs")
	cmd := node(t.Context(), "node", "build/greet.mjs")
	cmd.Env = append(cmd.Env, s.env()...)
	greets(t, s, cmd)
}

// The declarations that users compile against say what each thing is.
func TestTypeScriptHasNoAny(t *testing.T) {
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	anyType := regexp.MustCompile(`: any[;,)\[|&>]|<any>|=> any[;,)]`)
	err := filepath.WalkDir("typescript/dist", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".ts" {
			return err
		}
		text, err := os.ReadFile(path)
		if anyType.Match(text) {
			t.Errorf("%s has an any", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The committed types are those of the server's own description.
func TestTypeScriptTypesAreOfTheAPI(t *testing.T) {
	if err := installed(); err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t)
	resp, err := http.Get(s.url() + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	document, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source, made := filepath.Join(dir, "openapi.json"), filepath.Join(dir, "openapi.ts")
	if err := os.WriteFile(source, document, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := node(t.Context(), "node", "node_modules/openapi-typescript/bin/cli.js", source, "-o", made,
		"--default-non-nullable=false", "--root-types", "--root-types-no-schema-prefix").CombinedOutput()
	if err != nil {
		t.Fatalf("openapi-typescript: %v\n%s", err, out)
	}
	got, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	const committed = "typescript/src/openapi.ts"
	if *update {
		if err := os.WriteFile(committed, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the API says: run make sdk", committed)
	}
}

// A lock file that names addresses would send everybody to one machine's registry.
func TestTypeScriptLockNamesNoRegistry(t *testing.T) {
	lock, err := os.ReadFile("typescript/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var locked struct {
		Packages map[string]struct{ Resolved, Integrity string }
	}
	if err := json.Unmarshal(lock, &locked); err != nil {
		t.Fatal(err)
	}
	for name, p := range locked.Packages {
		if p.Resolved != "" || p.Integrity == "" && name != "" {
			t.Errorf("%s: resolved %q, integrity %q", name, p.Resolved, p.Integrity)
		}
	}
}

const page = `<!doctype html><title>Tests</title><meta name="key" content="%s">
<script type="importmap">{"imports":{"@troupe/client":"/dist/index.js","openapi-fetch":"/node_modules/openapi-fetch/dist/index.mjs"}}</script>
<script type="module" src="/build/page.js"></script>`

// The page, the control and the server are of one origin, as the dashboard is.
func TestTypeScriptInChromium(t *testing.T) {
	t.Parallel()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	s, control := serve(t)
	verdicts := make(chan verdict)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, page, s.key)
	})
	files := http.FileServer(http.Dir(typescript))
	for _, folder := range []string{"/build/", "/dist/", "/node_modules/openapi-fetch/"} {
		mux.Handle("GET "+folder, files)
	}
	mux.Handle("/v1/", passTo(t, s.url(), ""))
	mux.Handle("POST /control/", passTo(t, control, "/control"))
	mux.HandleFunc("POST /verdicts", func(_ http.ResponseWriter, r *http.Request) {
		var v verdict
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
			t.Error(err)
		}
		select {
		case verdicts <- v:
		case <-t.Context().Done():
		}
	})
	front := httptest.NewServer(mux)
	defer front.Close()
	defer front.CloseClientConnections() // sockets that the page still has

	said := browse(t, front.URL)
	tests := 0
	for late := time.NewTimer(patience); ; {
		select {
		case v := <-verdicts:
			late.Reset(patience)
			if v.Outcome == "done" {
				if tests == 0 {
					t.Error("no test ran")
				}
				return
			}
			tests++
			t.Run(v.Test, func(t *testing.T) {
				if v.Outcome != "passed" {
					t.Errorf("%s: %s", v.Outcome, v.Text)
				}
			})
		case <-late.C:
			t.Fatalf("the page does not come on after %d tests; Chromium said:\n%s", tests, said())
		}
	}
}

// passTo hands requests on, and names the host that the page asked for.
func passTo(t *testing.T, target, prefix string) http.Handler {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return http.StripPrefix(prefix, &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
}

// browse has a headless Chromium open a page for as long as the test runs.
func browse(t *testing.T, address string) (said func() string) {
	t.Helper()
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		t.Fatal("no Chromium in PATH: run .ci/services, or install it your own way")
	}
	profile := t.TempDir()
	log, err := os.Create(filepath.Join(profile, "said"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it outlives the test until its clean-up
	cmd := exec.CommandContext(ctx, chromium,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--enable-logging=stderr", "--user-data-dir="+profile, "--remote-debugging-port=0", address)
	cmd.Env = append(os.Environ(), "HOME="+profile)
	cmd.Stderr = log
	cmd.WaitDelay = 5 * time.Second
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		_ = log.Close()
	})
	return func() string {
		raw, err := os.ReadFile(log.Name())
		return fmt.Sprintf("%s%v", raw, err)
	}
}
