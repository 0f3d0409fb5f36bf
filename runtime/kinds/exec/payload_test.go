//go:build unix

package exec

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestArgumentsAreNotInterpreted(t *testing.T) {
	args := []string{
		"; touch /tmp/x", "$(id)", "`id`", "a && b", "| cat", "> /dev/null", "*", "~", "$HOME", "-n", "--version",
		"new\nline", "", " ", `"`, `'`, `\`, "é😀", "%s", "a=b", "#", "!", "{a,b}", "<(id)", "\x1b[31m",
	}
	r := newRecorder()
	argv := append([]string{"sh", "-c", `for a in "$@"; do printf '<%s>\n' "$a"; done`, "sh"}, args...)
	if _, err := newRunner(Config{}).run(t.Context(), r, command(argv...)); err != nil {
		t.Fatal(err)
	}
	want := "<" + strings.Join(args, ">\n<") + ">\n"
	if diff := cmp.Diff(want, r.output()); diff != "" {
		t.Error(diff)
	}
}

func TestStandardInput(t *testing.T) {
	text := strings.Repeat("0123456789\n", 100_000)
	r := newRecorder()
	if _, err := newRunner(Config{}).run(t.Context(), r, encode(payload{Command: []string{"cat"}, Stdin: text})); err != nil {
		t.Fatal(err)
	}
	if r.output() != text {
		t.Errorf("got %d bytes back of %d", len(r.output()), len(text))
	}
	for _, script := range []string{"true", "exec <&-; echo gone", "head -n1 >/dev/null"} {
		p := payload{Command: []string{"sh", "-c", script}, Stdin: text}
		if _, err := newRunner(Config{}).run(t.Context(), newRecorder(), encode(p)); err != nil {
			t.Errorf("%s does not read it all: %v", script, err)
		}
	}
	if _, err := newRunner(Config{}).run(t.Context(), newRecorder(), command("cat")); err != nil {
		t.Errorf("without an input: %v", err)
	}
}

func TestOnlyWhatIsHarmlessIsInherited(t *testing.T) {
	t.Setenv("TROUPE_KEY", "secret")
	t.Setenv("LC_TIME", "C")
	t.Setenv("PATH", "/usr/bin:/bin")
	tests := []struct {
		inherit bool
		has     []string
		not     []string
	}{
		{false, []string{"LC_TIME=C", "ADDED=1", "PATH=/usr/bin:/bin"}, []string{"TROUPE_KEY=secret"}},
		{true, []string{"LC_TIME=C", "ADDED=1", "TROUPE_KEY=secret"}, nil},
	}
	for _, tt := range tests {
		r := newRecorder()
		p := payload{Command: []string{"env"}, Env: map[string]string{"ADDED": "1"}}
		if _, err := newRunner(Config{InheritEnv: tt.inherit}).run(t.Context(), r, encode(p)); err != nil {
			t.Fatal(err)
		}
		got := strings.Split(r.output(), "\n")
		for _, want := range tt.has {
			if !slices.Contains(got, want) {
				t.Errorf("inherit %v: %s is missing", tt.inherit, want)
			}
		}
		for _, not := range tt.not {
			if slices.Contains(got, not) {
				t.Errorf("inherit %v: %s is there", tt.inherit, not)
			}
		}
	}
}

func TestEnvironment(t *testing.T) {
	node := []string{"PATH=/a", "HOME=/h", "SECRET=s", "LC_ALL=C", "=odd", "alone", "LANG=C"}
	p := payload{Dir: "/d", Env: map[string]string{"HOME": "/other", "X": "a=b"}}
	want := []string{"HOME=/other", "LANG=C", "LC_ALL=C", "PATH=/a", "PWD=/d", "X=a=b"}
	if diff := cmp.Diff(want, environment(node, false, p)); diff != "" {
		t.Error(diff)
	}
	if got := environment(nil, false, payload{}); !slices.Equal(got, []string{"PATH=" + pathIfNone}) {
		t.Errorf("of nothing: %q", got)
	}
}

func TestAProgramIsLookedForInThePathItGets(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "tool")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0 in $(pwd)\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []payload{
		{Command: []string{"tool"}, Env: map[string]string{"PATH": "relative::" + dir + ":/bin"}},
		{Command: []string{"./tool"}},
	} {
		p.Dir = real
		r := newRecorder()
		if _, err := newRunner(Config{}).run(t.Context(), r, encode(p)); err != nil {
			t.Error(err)
		}
		if !strings.HasSuffix(r.output(), "tool in "+real+"\n") {
			t.Errorf("wrote %q", r.output())
		}
	}
	// Not where the command happens to run.
	_, err = newRunner(Config{}).run(t.Context(), newRecorder(),
		encode(payload{Command: []string{"tool"}, Dir: real, Env: map[string]string{"PATH": ".:"}}))
	wantFailure(t, err, "exec_not_found", `{"exit_status":127}`, false)
}

func TestAWrongPayloadIsNotTriedAgain(t *testing.T) {
	tests := []struct{ payload, message string }{
		{`null`, `command: want a program and its arguments, such as ["ls", "-l"]`},
		{`{"command":[]}`, `command: want a program and its arguments, such as ["ls", "-l"]`},
		{`{"command":[""]}`, `command: want a program and its arguments, such as ["ls", "-l"]`},
		{`{"command":"ls -l"}`, "command: cannot be a string"},
		{`["ls"]`, "want an object, got array"},
		{`{"command":["ls"],"shell":true}`, `unknown field "shell"`},
		{`{"command":["ls"],"dir":"src"}`, "dir: want an absolute path"},
		{`{"command":["ls"],"dir":"/a\u0000b"}`, "dir: has a NUL character"},
		{`{"command":["ls","a\u0000b"]}`, "command[1]: has a NUL character"},
		{`{"command":["ls"],"env":{"":"x"}}`, `env: "" cannot be a name`},
		{`{"command":["ls"],"env":{"A=B":"x"}}`, `env: "A=B" cannot be a name`},
		{`{"command":["ls"],"env":{"A":"x\u0000"}}`, "env.A: has a NUL character"},
		{`{"command":["ls"` + strings.Repeat(`,""`, 4096) + `]}`, "command: want at most 4096 arguments"},
	}
	for _, tt := range tests {
		_, err := newRunner(Config{}).run(t.Context(), newRecorder(), json.RawMessage(tt.payload))
		f, ok := errors.AsType[*task.Failure](err)
		if !ok || f.Code != task.CodeInvalidPayload || f.Retryable || f.Message != tt.message {
			t.Errorf("%.60s: %v, want %q", tt.payload, err, tt.message)
		}
	}
}
