package sdk_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/troupe-run/troupe/transport"
)

// verdict is a line in which a test of another language says how it ended.
type verdict struct {
	Test    string `json:"test"`
	Outcome string `json:"outcome"` // passed, failed or skipped
	Text    string `json:"text"`    // why
}

// judge runs tests of another language and makes each one of ours.
func judge(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var other strings.Builder
	tests, failed := 0, false
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var v verdict
		if json.Unmarshal(lines.Bytes(), &v) != nil || v.Test == "" {
			other.WriteString(lines.Text() + "\n")
			continue
		}
		tests++
		t.Run(v.Test, func(t *testing.T) {
			if v.Outcome != "passed" {
				failed = true
				t.Errorf("%s: %s", v.Outcome, v.Text)
			}
		})
	}
	err = cmd.Wait()
	switch {
	case lines.Err() != nil:
		t.Errorf("read what the tests said: %v", lines.Err())
	case tests == 0:
		t.Errorf("no test ran: %v", err)
	case err != nil && !failed:
		t.Errorf("all passed, and yet: %v", err)
	}
	if t.Failed() {
		t.Logf("%s%s", other.String(), errs.String())
	}
}

// python is a command in the Python client's folder.
func python(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", args...)
	cmd.Dir = "python"
	cmd.Env = append(os.Environ(), append(env, "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=.")...)
	return cmd
}

func TestPython(t *testing.T) {
	t.Parallel()
	s, control := serve(t)
	address, certificate := secure(t, s.url())
	env := append(s.env(), "TROUPE_TEST_CONTROL="+control, "TROUPE_TEST_TLS="+address, "TROUPE_TEST_CA="+certificate)
	judge(t, python(t, env, "-W", "error", "-m", "tests"))
}

func TestPythonReadme(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	example := filepath.Join(t.TempDir(), "example.py")
	writeExample(t, "python/README.md", "python", 0, example)
	out, err := python(t, s.env(), "-W", "error", example).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantFollowed(t, string(out))
}

func TestPythonReadmeWorker(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	example := filepath.Join(t.TempDir(), "example.py")
	writeExample(t, "python/README.md", "python", 1, example)
	greets(t, s, python(t, s.env(), "-W", "error", example))
}

// greets runs a worker that says hello, and has it end as one should.
func greets(t *testing.T, s *server, worker *exec.Cmd) {
	t.Helper()
	var said bytes.Buffer
	worker.Stdout, worker.Stderr = &said, &said
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	c := s.client(t)
	task, _, err := c.Submit(t.Context(), transport.Submission{Kind: "greet", Payload: json.RawMessage(`"Ada"`)})
	if err != nil {
		t.Fatal(err)
	}
	result, err := c.Result(t.Context(), task.ID, patience)
	if err != nil || string(result) != `"hello, Ada"` {
		t.Errorf("got %s, %v", result, err)
	}
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := worker.Wait(); err != nil {
		t.Errorf("it did not end as it should: %v", err)
	}
	if t.Failed() {
		t.Logf("the worker said:\n%s", said.String())
	}
}

// writeExample writes the n-th example in a language that a text has.
func writeExample(t *testing.T, text, language string, n int, file string) {
	t.Helper()
	raw, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(raw, -1)
	if n >= len(found) {
		t.Fatalf("%s has %d examples in %s, want one more than %d", text, len(found), language, n)
	}
	code := found[n][1]
	if lines := bytes.Count(code, []byte("\n")); lines > 15 {
		t.Errorf("example %d of %s has %d lines, and 15 were promised", n, text, lines)
	}
	if err := os.WriteFile(file, code, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantFollowed checks what an example prints that follows demo.stream with five
// chunks, stops and goes on.
func wantFollowed(t *testing.T, out string) {
	t.Helper()
	var cursors []string
	for line := range strings.Lines(out) {
		if cursor := regexp.MustCompile(`^\d+\.\d+ `).FindString(line); cursor != "" {
			cursors = append(cursors, strings.TrimSpace(cursor))
		}
	}
	if got, want := strings.Join(cursors, " "), "0.1 1.1 1.2 1.3 1.4 1.5 1.6 1.7"; got != want {
		t.Errorf("it printed the events %s, want %s\n%s", got, want, out)
	}
	if !regexp.MustCompile(`\{\W*chunks\W+5\W*\}\n$`).MatchString(out) {
		t.Errorf("it did not print the result last:\n%s", out)
	}
}

// secure stands before a server with TLS, and writes the certificate to trust.
func secure(t *testing.T, server string) (address, certificate string) {
	t.Helper()
	front := httptest.NewTLSServer(passTo(t, server, ""))
	t.Cleanup(front.Close)
	t.Cleanup(front.CloseClientConnections)
	certificate = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(certificate, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return front.URL, certificate
}
