package dashboard_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/transport/dashboard"
)

func ask(method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, http.NoBody)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	dashboard.Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestEveryFileIsServedWithItsPolicy(t *testing.T) {
	err := fs.WalkDir(os.DirFS("."), "ui", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		path := "/" + name
		if name == "ui/index.html" {
			path = "/"
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		got := ask(http.MethodGet, path)
		defer got.Body.Close()
		if got.StatusCode != http.StatusOK || got.ContentLength != int64(len(content)) {
			t.Errorf("%s: status %d with %d bytes, want 200 with %d", path, got.StatusCode, got.ContentLength, len(content))
		}
		for _, h := range []string{"Content-Security-Policy", "ETag", "Content-Type"} {
			if got.Header.Get(h) == "" {
				t.Errorf("%s: no %s", path, h)
			}
		}
		for h, want := range map[string]string{
			"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if v := got.Header.Get(h); v != want {
				t.Errorf("%s: %s is %q, want %q", path, h, v, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPolicyAllowsNothingInlineAndNothingFromElsewhere(t *testing.T) {
	got := ask(http.MethodGet, "/")
	defer got.Body.Close()
	policy := got.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'self'", "connect-src 'self'", "style-src 'self'", "script-src 'self'", "frame-ancestors 'none'",
		"base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'", "trusted-types 'none'",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q has no %q", policy, want)
		}
	}
	for _, never := range []string{"unsafe", "*", "http:", "https:", "data:"} {
		if strings.Contains(policy, never) {
			t.Errorf("the policy %q has %q", policy, never)
		}
	}
}

func TestKnownTagIsAnsweredWithNotModified(t *testing.T) {
	first := ask(http.MethodGet, "/ui/app.js")
	defer first.Body.Close()
	again := ask(http.MethodGet, "/ui/app.js", "If-None-Match", first.Header.Get("ETag"))
	defer again.Body.Close()
	if again.StatusCode != http.StatusNotModified || again.Header.Get("ETag") != first.Header.Get("ETag") {
		t.Errorf("got %d with tag %q", again.StatusCode, again.Header.Get("ETag"))
	}
	other := ask(http.MethodGet, "/ui/app.js", "If-None-Match", `"another"`)
	defer other.Body.Close()
	if other.StatusCode != http.StatusOK {
		t.Errorf("another tag: got %d", other.StatusCode)
	}
}

func TestHeadSendsNoBody(t *testing.T) {
	r := httptest.NewRequest(http.MethodHead, "/", http.NoBody)
	w := httptest.NewRecorder()
	dashboard.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("got %d, %d bytes, length %q", w.Code, w.Body.Len(), w.Header().Get("Content-Length"))
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	for _, path := range []string{"/ui", "/ui/", "/ui/index.html", "/index.html", "/ui/../dashboard.go", "/ui/none.js", "/v1/tasks", "//"} {
		got := ask(http.MethodGet, path)
		_ = got.Body.Close()
		if got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, got.StatusCode)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		got := ask(method, "/")
		_ = got.Body.Close()
		if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: got %d, Allow %q", method, got.StatusCode, got.Header.Get("Allow"))
		}
	}
}

// What a module imports must be served, and what would make markup of text must
// not be there. The browser's own refusal is tested too, but only on the paths
// that the test takes.
func TestModulesAreWholeAndMakeNoMarkup(t *testing.T) {
	imports := regexp.MustCompile(`(?m)^import .* from "\./([a-z]+\.js)";`)
	sinks := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|"style",`)
	files, err := fs.Glob(os.DirFS("ui"), "*.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile("ui/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range imports.FindAllSubmatch(content, -1) {
			if _, err := os.Stat("ui/" + string(m[1])); err != nil {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
		}
		if found := sinks.Find(content); found != nil {
			t.Errorf("%s has %s", name, found)
		}
	}
}
